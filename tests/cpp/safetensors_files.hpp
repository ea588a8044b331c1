// Safetensors files for tests: whole ones, and one for every way to be wrong.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace lc::testing_files {

/// A file that is gone when the test is over.
class TempFile {
 public:
  explicit TempFile(const std::string& bytes = {}) {
    static int made = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("lc_" + std::to_string(::getpid()) + "_" + std::to_string(made++) + ".safetensors");
    write(bytes);
  }
  ~TempFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  void write(const std::string& bytes) const {
    std::ofstream out(path_, std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  [[nodiscard]] std::string bytes() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::string name() const { return path_.filename().string(); }

 private:
  std::filesystem::path path_;
};

inline std::string with_length(uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

inline std::string file_bytes(const std::string& header, const std::string& data = {}) {
  return with_length(header.size(), header + data);
}

inline std::string entry(const std::string& name, const std::string& dtype,
                         const std::string& shape, const std::string& range) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + range + "]}";
}

/// "{first}" or "{first,second}".
inline std::string object(const std::string& first, const std::string& second = {}) {
  std::string text = "{";
  text += first;
  if (!second.empty()) text += ",";
  text += second;
  text += "}";
  return text;
}

struct HostileFile {
  const char* name;
  std::string bytes;
  const char* says;  ///< part of the message
};

inline std::ostream& operator<<(std::ostream& out, const HostileFile& f) { return out << f.name; }

inline std::vector<HostileFile> hostile_files() {
  const std::string four(4, '\1');
  const std::string eight(8, '\1');
  const auto one = [&](const std::string& shape, const std::string& range,
                       const std::string& dtype = "F32") {
    return file_bytes(object(entry("a", dtype, shape, range)), four);
  };
  const auto two = [&](const std::string& first, const std::string& second) {
    return file_bytes(object(entry("a", "U8", "4", first), entry("b", "U8", "4", second)), eight);
  };
  const auto text = [](const std::string& header) { return file_bytes(header); };
  const std::string no_dtype = R"({"a":{"shape":[1],"data_offsets":[0,4]}})";
  const std::string no_shape = R"({"a":{"dtype":"F32","data_offsets":[0,4]}})";
  const std::string no_range = R"({"a":{"dtype":"F32","shape":[1]}})";
  std::string many(69, '1');
  for (size_t i = 1; i < many.size(); i += 2) many[i] = ',';
  many += "," + many + "," + many;
  return {
      // The frame.
      {"Empty", "", "at least 8 bytes"},
      {"LengthCutOff", std::string(7, '\0'), "at least 8 bytes"},
      {"NoHeader", with_length(0, ""), "'{'"},
      {"HeaderCutOff", with_length(100, "{}"), "a header of 100 bytes"},
      {"HeaderPastTheLimit", with_length(100'000'001, "{}"), "at most 100000000 bytes"},
      {"HeaderPastTheFileAtTheLimit", with_length(100'000'000, "{}"), "2 bytes after its length"},
      {"LengthOf2To63", with_length(uint64_t{1} << 63, "{}"), "9223372036854775808"},
      {"LengthOf2To64", with_length(UINT64_MAX, "{}"), "18446744073709551615"},
      {"DataCutOff", file_bytes(object(entry("a", "F32", "2", "0,8")), four),
       "within 4 bytes of data"},
      {"DataLeftOver", file_bytes(object(entry("a", "F32", "1", "0,4")), eight), "4 bytes of data"},
      {"DataOfNoTensor", file_bytes("{}", four), "0 bytes of data"},
      // JSON.
      {"NotJson", text("not json"), "'{'"},
      {"Array", text("[]"), "'{'"},
      {"SpaceFirst", text(" {}"), "'{'"},
      {"ObjectCutOff", text("{"), "the end at byte 1"},
      {"KeyCutOff", text("{\"a"), "closing quote"},
      {"KeyOfNoString", text("{1:2}"), "a string, found '1'"},
      {"NoColon", text("{\"a\" 1}"), "':'"},
      {"NoComma", text(R"({"__metadata__":{"a":"b" "c":"d"}})"), "',' or '}'"},
      {"CommaLast", text(R"({"__metadata__":{"a":"b",}})"), "a string, found '}'"},
      {"SingleQuotes", text("{'a':1}"), "a string, found '''"},
      {"TextAfter", text("{}x"), "nothing but spaces"},
      {"ObjectAfter", text("{}{}"), "nothing but spaces"},
      {"NewlineAfter", text("{}\n"), "nothing but spaces"},
      {"NulAfter", text(std::string("{}\0", 3)), "nothing but spaces"},
      {"ByteOrderMark", text("\xef\xbb\xbf{}"), "'{'"},
      {"Null", text(R"({"a":null})"), "an object, found 'n'"},
      {"True", text(R"({"__metadata__":{"a":true}})"), "a string, found 't'"},
      {"MetadataOfNoObject", text(R"({"__metadata__":"x"})"), "an object"},
      {"MetadataNull", text(R"({"__metadata__":null})"), "an object"},
      {"MetadataNumber", text(R"({"__metadata__":{"a":1}})"), "a string, found '1'"},
      {"MetadataTooDeep", text(R"({"__metadata__":{"a":{"b":"c"}}})"), "a string, found '{'"},
      {"ShapeTooDeep", one("[1]", "0,4"), "a whole number"},
      {"DepthOf100000", text("{\"a\":" + std::string(100'000, '[')), "an object"},
      {"DepthOf100000InShape", text(R"({"a":{"shape":)" + std::string(100'000, '[')),
       "a whole number"},
      {"ControlCharacter", text("{\"a\nb\":1}"), "control characters"},
      {"NotUtf8", text("{\"a\xff\":1}"), "UTF-8, found '\\xff'"},
      {"Utf8CutOff", text("{\"\xe2\x82\":1}"), "UTF-8"},
      {"Utf8CutOffByTheEnd", text("{\"\xf0\x9f\x98"), "UTF-8"},
      {"Utf8Overlong", text("{\"\xc0\xaf\":1}"), "UTF-8"},
      {"Utf8OverlongOfThree", text("{\"\xe0\x80\xaf\":1}"), "UTF-8"},
      {"Utf8Surrogate", text("{\"\xed\xa0\x80\":1}"), "UTF-8"},
      {"Utf8PastTheLast", text("{\"\xf4\x90\x80\x80\":1}"), "UTF-8"},
      {"UnknownEscape", text(R"({"\x":1})"), "an escape of JSON"},
      {"EscapeCutOff", text("{\"\\"), "an escape of JSON"},
      {"HexCutOff", text(R"({"\u12)"), "hexadecimal"},
      {"HexOfNoDigits", text(R"({"\u12g4":1})"), "hexadecimal"},
      {"LoneHighSurrogate", text(R"({"\ud800":1})"), "surrogates in pairs"},
      {"LoneLowSurrogate", text(R"({"\udc00":1})"), "surrogates in pairs"},
      {"HighThenHighSurrogate", text(R"({"\ud800\ud800":1})"), "surrogates in pairs"},
      {"EscapedNul", text(R"({"a\u0000b":1})"), "without NUL"},
      // Numbers.
      {"Negative", one("-1", "0,4"), "a whole number in [0, 2^63), found '-'"},
      {"Fraction", one("1.0", "0,4"), "a whole number"},
      {"Exponent", one("1e0", "0,4"), "a whole number"},
      {"LeadingZero", one("01", "0,4"), "leading zeros"},
      {"TwoZeros", one("00", "0,4"), "leading zeros"},
      {"Hexadecimal", one("0x1", "0,4"), "',' or ']'"},
      {"Extent2To63", one("9223372036854775808", "0,4"), "[0, 2^63)"},
      {"Extent2To64AndOne", one("18446744073709551617", "0,4"), "[0, 2^63)"},
      {"ExtentOfText", one("\"1\"", "0,4"), "a whole number"},
      {"End2To63", one("1", "0,9223372036854775808"), "[0, 2^63)"},
      // Entries.
      {"NoDtype", file_bytes(no_dtype, four), "no dtype for tensor \"a\""},
      {"NoShape", file_bytes(no_shape, four), "no shape for tensor \"a\""},
      {"NoOffsets", file_bytes(no_range, four), "no data_offsets for tensor \"a\""},
      {"EmptyEntry", text(R"({"a":{}})"), "no dtype"},
      {"UnknownKey", text(R"({"a":{"strides":[1]}})"), "the key \"strides\""},
      {"UnknownDtype", one("1", "0,4", "F31"), "\"F31\" for tensor \"a\""},
      {"DtypeOfAnotherCase", one("1", "0,4", "f32"), "\"f32\""},
      {"DtypeOfNoText", text(R"({"a":{"dtype":32}})"), "a string"},
      {"ShapeOfNoArray", text(R"({"a":{"shape":4}})"), "an array"},
      {"OneOffset", one("1", "0"), "two data_offsets"},
      {"ThreeOffsets", one("1", "0,4,4"), "two data_offsets"},
      {"NoOffsetsInTheArray", one("1", ""), "two data_offsets"},
      {"BeginPastEnd", one("1", "4,0"), "do not fall"},
      {"EndPastTheData", one("2", "0,8"), "within 4 bytes"},
      {"EndFarPastTheData", one("1", "0,9223372036854775807"), "within 4 bytes"},
      {"BothPastTheData", one("1", "9223372036854775803,9223372036854775807"), "within 4 bytes"},
      {"SizeTooSmall", one("2", "0,4"), "8 bytes for its shape"},
      {"SizeTooLarge", one("", "0,4", "F16"), "2 bytes for its shape"},
      {"SizeOfEmptyShape", one("0", "0,4"), "0 bytes for its shape"},
      {"ProductOverflows", one("4294967296,4294967296", "0,4"), "2^60 bytes"},
      {"ProductOverflowsToTheSize", one("9223372036854775807,9223372036854775807", "0,4", "U8"),
       "2^60 bytes"},
      {"BytesOverflow", one("4611686018427387904", "0,4"), "2^60 bytes"},
      {"ZeroHidesTheOverflow", one("0,4294967296,4294967296", "0,0"), "2^60 bytes"},
      {"HalfAByte", one("3", "0,2", "F4"), "whole bytes"},
      {"RankOf105", one(many, "0,4"), "at most 64 extents"},
      // Between entries.
      {"NameTwice",
       file_bytes(object(entry("a", "U8", "4", "0,4"), entry("a", "U8", "4", "4,8")), eight),
       "\"a\" twice"},
      {"NameTwiceByEscape",
       file_bytes(object(entry("a", "U8", "4", "0,4"), entry("\\u0061", "U8", "4", "4,8")), eight),
       "\"a\" twice"},
      {"FieldTwice", text(R"({"a":{"dtype":"F32","dtype":"F32"}})"), "dtype once"},
      {"ShapeTwice", text(R"({"a":{"shape":[],"shape":[]}})"), "shape once"},
      {"OffsetsTwice", text(R"({"a":{"data_offsets":[0,0],"data_offsets":[0,0]}})"),
       "data_offsets once"},
      {"MetadataTwice", text(R"({"__metadata__":{},"__metadata__":{}})"), "\"__metadata__\" twice"},
      {"MetadataKeyTwice", text(R"({"__metadata__":{"k":"1","k":"2"}})"), "\"k\" twice"},
      {"SameRange", two("0,4", "0,4"), "overlaps"},
      {"Overlap", two("0,4", "2,6"), "overlaps"},
      {"HoleBetween",
       file_bytes(object(entry("a", "U8", "2", "0,2"), entry("b", "U8", "4", "4,8")), eight),
       "holes"},
      {"HoleFirst", file_bytes(object(entry("a", "U8", "4", "4,8")), eight), "holes"},
      {"EmptyTensorInside",
       file_bytes(object(entry("a", "U8", "8", "0,8"), entry("b", "U8", "0", "4,4")), eight),
       "overlaps"},
  };
}

}  // namespace lc::testing_files
