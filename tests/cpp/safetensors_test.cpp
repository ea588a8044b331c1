// The safetensors reader: what it gives, every file it refuses, and mutations of a good one.
#include "lightning_core/safetensors.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cctype>
#include <random>

#include "safetensors_files.hpp"

namespace lc {
namespace {

using testing_files::entry;
using testing_files::file_bytes;
using testing_files::hostile_files;
using testing_files::HostileFile;
using testing_files::object;
using testing_files::TempFile;
using testing_files::with_length;

template <typename T>
std::string raw_bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string padded(std::string header) {
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

/// Two tensors and one without elements, metadata, padding, in an order that is not the names'.
std::string good_file() {
  return file_bytes(
      padded("{\"__metadata__\":{\"format\":\"pt\",\"\":\"empty key\"}, " +
             entry("weight", "F32", "2,3", "0,24") + ",\n\t" + entry("ids", "I64", "2", "24,40") +
             "," + entry("none", "F64", "0,5", "40,40") + "}"),
      raw_bytes<float>({1, 2, 3, 4, 5, 6}) + raw_bytes<int64_t>({-7, 8}));
}

/// "" where the file opens, else why not. What is no Error fails the test.
std::string refusal(const std::string& path, ErrorCode* code = nullptr) {
  try {
    (void)SafetensorsFile(path);
  } catch (const Error& error) {
    if (code != nullptr) *code = error.code();
    return error.what();
  }
  return "";
}

/// Reads every byte that the file promises.
int64_t read_all(const SafetensorsFile& file) {
  int64_t sum = 0;
  for (const SafetensorsEntry& e : file.entries()) {
    const Tensor bytes = file.raw(e.name);
    for (int64_t i = 0; i < bytes.numel(); ++i) sum += bytes.data<uint8_t>()[i];
    if (e.dtype == DType::kNone || e.shape.size() > kMaxRank) continue;
    const Tensor tensor = file.tensor(e.name);
    EXPECT_EQ(tensor.view().nbytes(), e.nbytes);
    for (int64_t i = 0; i < tensor.numel(); ++i) sum += tensor.item(i) > 0 ? 1 : 0;
  }
  return sum;
}

TEST(Safetensors, GivesBackWhatWasWritten) {
  const TempFile file(good_file());
  const SafetensorsFile opened(file.path());
  EXPECT_EQ(opened.path(), file.path());
  ASSERT_EQ(opened.entries().size(), 3u);
  EXPECT_EQ(opened.entries()[0].name, "ids");
  EXPECT_EQ(opened.entries()[1].name, "none");
  EXPECT_EQ(opened.entries()[2].name, "weight");
  ASSERT_EQ(opened.metadata().size(), 2u);
  EXPECT_EQ(opened.metadata()[0].second, "empty key");
  EXPECT_EQ(opened.metadata()[1].first, "format");
  const SafetensorsEntry& e = opened.entry("weight");
  EXPECT_STREQ(e.dtype_name, "F32");
  EXPECT_EQ(e.dtype, DType::kFloat32);
  EXPECT_EQ(e.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(e.nbytes, 24);
  EXPECT_EQ(e.offset, static_cast<int64_t>(file.bytes().size()) - 40);
  const Tensor weight = opened.tensor("weight");
  EXPECT_EQ(weight.shape(), Shape({2, 3}));
  EXPECT_TRUE(weight.is_contiguous());
  for (int i = 0; i < 6; ++i) EXPECT_EQ(weight.item(i), i + 1);
  EXPECT_EQ(opened.tensor("ids").data<int64_t>()[0], -7);
  EXPECT_EQ(opened.tensor("none").shape(), Shape({0, 5}));
  EXPECT_EQ(opened.find("Weight"), nullptr);
}

TEST(Safetensors, TensorsShareTheMappingAndKeepIt) {
  const TempFile file(good_file());
  Tensor weight, again;
  {
    const SafetensorsFile opened(file.path());
    weight = opened.tensor("weight");
    const SafetensorsFile other = opened;
    again = other.tensor("weight");
    EXPECT_EQ(weight.view().data, opened.raw("weight").view().data);
  }
  EXPECT_EQ(weight.view().data, again.view().data);
  std::filesystem::remove(file.path());
  EXPECT_EQ(weight.item(5), 6);
}

TEST(Safetensors, WritingNeverReachesTheFile) {
  const TempFile file(good_file());
  const SafetensorsFile opened(file.path());
  opened.tensor("weight").data<float>()[0] = 99;
  EXPECT_EQ(opened.tensor("weight").item(0), 99);
  EXPECT_EQ(file.bytes(), good_file());
  EXPECT_EQ(SafetensorsFile(file.path()).tensor("weight").item(0), 1);
}

TEST(Safetensors, CopiesWhatIsMisaligned) {
  for (int spaces = 0; spaces < 8; ++spaces) {
    const std::string header =
        padded(object(entry("a", "F32", "2", "0,8"))) + std::string(spaces, ' ');
    const TempFile file(file_bytes(header, raw_bytes<float>({1.5f, -2})));
    const SafetensorsFile opened(file.path());
    const Tensor a = opened.tensor("a");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.view().data) % sizeof(float), 0u);
    EXPECT_EQ(a.view().data == opened.raw("a").view().data, spaces % 4 == 0) << spaces;
    EXPECT_EQ(a.item(0), 1.5);
    EXPECT_EQ(a.item(1), -2);
  }
}

TEST(Safetensors, EveryDtypeIsListed) {
  struct Row {
    const char* word;
    int bits;
    DType dtype;
  };
  const Row rows[] = {
      {"BOOL", 8, DType::kBool},        {"F4", 4, DType::kNone},
      {"F6_E2M3", 6, DType::kNone},     {"F6_E3M2", 6, DType::kNone},
      {"U8", 8, DType::kUInt8},         {"I8", 8, DType::kInt8},
      {"F8_E5M2", 8, DType::kNone},     {"F8_E4M3", 8, DType::kNone},
      {"F8_E8M0", 8, DType::kNone},     {"F8_E4M3FNUZ", 8, DType::kNone},
      {"F8_E5M2FNUZ", 8, DType::kNone}, {"I16", 16, DType::kNone},
      {"U16", 16, DType::kNone},        {"F16", 16, DType::kFloat16},
      {"BF16", 16, DType::kBFloat16},   {"I32", 32, DType::kInt32},
      {"U32", 32, DType::kNone},        {"F32", 32, DType::kFloat32},
      {"C64", 64, DType::kNone},        {"F64", 64, DType::kFloat64},
      {"I64", 64, DType::kInt64},       {"U64", 64, DType::kNone},
  };
  for (const Row& row : rows) {
    const int bytes = 4 * row.bits / 8;
    const TempFile file(
        file_bytes(padded(object(entry("a", row.word, "2,2", "0," + std::to_string(bytes)))),
                   std::string(static_cast<size_t>(bytes), '\1')));
    const SafetensorsFile opened(file.path());
    const SafetensorsEntry& e = opened.entry("a");
    EXPECT_STREQ(e.dtype_name, row.word);
    EXPECT_EQ(e.dtype, row.dtype) << row.word;
    EXPECT_EQ(e.nbytes, bytes) << row.word;
    EXPECT_EQ(opened.raw("a").numel(), bytes);
    if (row.dtype != DType::kNone) {
      EXPECT_EQ(opened.tensor("a").dtype(), row.dtype) << row.word;
      continue;
    }
    try {
      (void)opened.tensor("a");
      ADD_FAILURE() << row.word;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotSupported);
      EXPECT_NE(std::string(error.what()).find(std::string("found ") + row.word + " for tensor"),
                std::string::npos)
          << error.what();
    }
  }
}

TEST(Safetensors, TensorRefusesUnknownNamesAndRankNine) {
  const TempFile file(file_bytes(object(entry("nine", "U8", "1,1,1,1,1,1,1,1,2", "0,2")), "ab"));
  const SafetensorsFile opened(file.path());
  EXPECT_EQ(opened.entry("nine").shape.size(), 9u);
  EXPECT_EQ(opened.raw("nine").data<char>()[1], 'b');
  try {
    (void)opened.tensor("nine");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotSupported);
    EXPECT_NE(std::string(error.what()).find("at most 8 dimensions, found 9"), std::string::npos);
  }
  for (const std::string& name : {std::string("ten"), std::string("nine\0", 5), std::string()}) {
    try {
      (void)opened.tensor(name);
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidValue);
      EXPECT_NE(std::string(error.what()).find(file.name()), std::string::npos) << error.what();
    }
    EXPECT_THROW((void)opened.raw(name), Error);
  }
}

TEST(Safetensors, NamesOfAnyScript) {
  const TempFile file(file_bytes("{" + entry("\\u00e9\\\"\\n\\/", "U8", "", "0,1") + "," +
                                     entry("\xf0\x9f\x98\x80", "U8", "", "1,2") + "," +
                                     entry("\\uD83D\\ude01", "U8", "", "2,3") + "," +
                                     entry("", "U8", "", "3,4") + "}",
                                 "abcd"));
  const SafetensorsFile opened(file.path());
  EXPECT_EQ(opened.tensor("\xc3\xa9\"\n/").item(), 'a');
  EXPECT_EQ(opened.tensor("\xf0\x9f\x98\x80").item(), 'b');
  EXPECT_EQ(opened.tensor("\xf0\x9f\x98\x81").item(), 'c');
  EXPECT_EQ(opened.tensor("").item(), 'd');
}

TEST(Safetensors, AFileWithoutTensorsIsWhole) {
  for (const char* header : {"{}", "{}      ", "{ }", "{\"__metadata__\":{}}"}) {
    const TempFile file(file_bytes(header));
    EXPECT_EQ(refusal(file.path()), "") << header;
    EXPECT_TRUE(SafetensorsFile(file.path()).entries().empty());
  }
}

TEST(Safetensors, WhatIsNoFileIsRefused) {
  ErrorCode code = ErrorCode::kSuccess;
  const std::string missing = TempFile().path();
  EXPECT_NE(refusal(missing, &code).find("found none at " + missing), std::string::npos);
  EXPECT_EQ(code, ErrorCode::kInvalidValue);
  const TempFile file(good_file());
  EXPECT_NE(refusal(file.path() + "/x").find("found none at"), std::string::npos);
  const std::string folder = std::filesystem::temp_directory_path().string();
  EXPECT_NE(refusal(folder, &code).find("a directory at " + folder), std::string::npos);
  EXPECT_EQ(code, ErrorCode::kInvalidValue);
  EXPECT_NE(refusal("").find("an empty path"), std::string::npos);
  EXPECT_NE(refusal(file.path() + std::string("\0x", 2)).find("a NUL in the path"),
            std::string::npos);
  EXPECT_NE(refusal("/dev/zero").find("no regular file at /dev/zero"), std::string::npos);
  const TempFile pipe;
  std::filesystem::remove(pipe.path());
  ASSERT_EQ(::mkfifo(pipe.path().c_str(), 0600), 0);
  EXPECT_NE(refusal(pipe.path()).find("no regular file at"), std::string::npos);
  if (::geteuid() != 0) {  // root may read everything
    ASSERT_EQ(::chmod(file.path().c_str(), 0), 0);
    EXPECT_NE(refusal(file.path()).find("does not open"), std::string::npos);
  }
}

TEST(Safetensors, MessagesAreShortAndPrintable) {
  const std::string hostile = "\\u001b[2J" + std::string(5000, 'x');
  const TempFile file(file_bytes(object(entry(hostile, "F31", "1", "0,4")), "abcd"));
  const std::string message = refusal(file.path());
  EXPECT_LT(message.size(), 800u) << message;
  EXPECT_NE(message.find("\\x1b[2J"), std::string::npos) << message;
  for (const char c : message) EXPECT_FALSE(std::iscntrl(static_cast<unsigned char>(c)));
  EXPECT_NE(refusal("no\xffsuch").find("no\\xffsuch"), std::string::npos);
}

class SafetensorsHostile : public testing::TestWithParam<HostileFile> {};

TEST_P(SafetensorsHostile, IsRefusedByNameAndReason) {
  const TempFile file(GetParam().bytes);
  ErrorCode code = ErrorCode::kSuccess;
  const std::string message = refusal(file.path(), &code);
  EXPECT_EQ(code, ErrorCode::kInvalidValue);
  EXPECT_NE(message.find(file.name()), std::string::npos) << message;
  EXPECT_NE(message.find(GetParam().says), std::string::npos) << message;
  EXPECT_EQ(message.rfind("[safetensors] path: expected ", 0), 0u) << message;
}

INSTANTIATE_TEST_SUITE_P(Files, SafetensorsHostile, testing::ValuesIn(hostile_files()),
                         [](const auto& file) { return std::string(file.param.name); });

TEST(SafetensorsFuzz, EveryTruncationIsRefused) {
  const std::string whole = good_file();
  const TempFile file;
  for (size_t n = 0; n < whole.size(); ++n) {
    file.write(whole.substr(0, n));
    EXPECT_NE(refusal(file.path()).find(file.name()), std::string::npos) << n;
  }
}

TEST(SafetensorsFuzz, MutationsOpenOrAreRefused) {
  constexpr int kRounds = 2000;
  static constexpr std::string_view kPieces[] = {"{",
                                                 "}",
                                                 "[",
                                                 "]",
                                                 ",",
                                                 ":",
                                                 "\"",
                                                 "\\",
                                                 "\\u",
                                                 "0",
                                                 "9",
                                                 "-",
                                                 "18446744073709551615",
                                                 " ",
                                                 "\xff",
                                                 "__metadata__",
                                                 "data_offsets",
                                                 "F64",
                                                 "BOOL"};
  std::mt19937_64 random(20240229);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const std::string whole = good_file();
  const TempFile file;
  int opened = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes = whole;
    for (size_t edits = 1 + below(3); edits > 0; --edits) {
      const size_t at = below(bytes.size());
      switch (below(6)) {
        case 0:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
          break;
        case 1:
          bytes.erase(at, 1 + below(8));
          break;
        case 2:
          bytes.insert(at, kPieces[below(std::size(kPieces))]);
          break;
        case 3:
          bytes.insert(below(bytes.size()), bytes.substr(at, below(64)));
          break;
        case 4:  // another digit keeps the JSON whole, and most of what is left to check
          if (std::isdigit(static_cast<unsigned char>(bytes[at])) != 0)
            bytes[at] = static_cast<char>('0' + below(10));
          break;
        default:
          bytes.resize(at);
      }
      if (bytes.empty()) break;
    }
    if (below(2) == 0 && bytes.size() > 8)  // so that the frame does not catch most of them
      bytes = with_length(whole.size() - 48, bytes.substr(8));
    file.write(bytes);
    ErrorCode code = ErrorCode::kSuccess;
    const std::string message = refusal(file.path(), &code);
    if (message.empty()) {
      ++opened;
      EXPECT_GE(read_all(SafetensorsFile(file.path())), 0);
      continue;
    }
    EXPECT_EQ(code, ErrorCode::kInvalidValue) << message;
    EXPECT_NE(message.find(file.name()), std::string::npos) << message;
  }
  EXPECT_GT(opened, 0);  // data and padding may change
  EXPECT_LT(opened, kRounds / 2);
}

}  // namespace
}  // namespace lc
