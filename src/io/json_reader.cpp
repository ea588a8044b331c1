#include "io/json_reader.hpp"

#include "io/text.hpp"
#include "lightning_core/error.hpp"

namespace lc::io {

void JsonReader::fail(std::string_view expected) const {
  const std::string found = at_ < text_.size()
                                ? cat('\'', shown(text_.substr(at_, 1)), "' at byte ", at_)
                                : cat("the end at byte ", at_);
  refuse_file(path_, expected, cat(found, " of the header"));
}

void JsonReader::skip_space() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
    ++at_;
}

void JsonReader::expect(char c, std::string_view expected) {
  skip_space();
  if (at_ >= text_.size() || text_[at_] != c) fail(expected);
  ++at_;
}

bool JsonReader::closes(char c) {
  skip_space();
  if (at_ >= text_.size() || text_[at_] != c) return false;
  ++at_;
  return true;
}

bool JsonReader::more(char close) {
  if (closes(',')) return true;
  expect(close, close == '}' ? "',' or '}'" : "',' or ']'");
  return false;
}

std::string JsonReader::string() {
  expect('"', "a string");
  std::string out;
  while (true) {
    if (at_ >= text_.size()) fail("a string's closing quote");
    const auto byte = static_cast<unsigned char>(text_[at_]);
    if (byte == '"') {
      ++at_;
      return out;
    }
    if (byte == '\\') {
      escape(out);
      continue;
    }
    if (byte < 0x20) fail("a string without control characters");
    const size_t length = utf8_length(text_, at_);
    if (length == 0) fail("a string in UTF-8");
    out.append(text_, at_, length);
    at_ += length;
  }
}

void JsonReader::escape(std::string& to) {
  ++at_;
  static constexpr std::string_view kEscapes = "\"\\/bfnrt";
  static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  const size_t which = at_ < text_.size() ? kEscapes.find(text_[at_]) : kEscapes.npos;
  if (which != kEscapes.npos) {
    to += kMeanings[which];
    ++at_;
    return;
  }
  if (at_ >= text_.size() || text_[at_] != 'u') fail("an escape of JSON");
  ++at_;
  static constexpr std::string_view kPair = "surrogates in pairs, the high one first";
  uint32_t code = hex4();
  if (code >= 0xd800 && code < 0xdc00) {
    if (text_.substr(at_, 2) != "\\u") fail(kPair);
    at_ += 2;
    const uint32_t low = hex4();
    if (low < 0xdc00 || low > 0xdfff) fail(kPair);
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  } else if (code >= 0xdc00 && code < 0xe000) {
    fail(kPair);
  } else if (code == 0) {
    fail("a string without NUL");
  }
  append_utf8(to, code);
}

uint32_t JsonReader::hex4() {
  uint32_t code = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    uint32_t digit = 0;
    if (c >= '0' && c <= '9')
      digit = static_cast<uint32_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      digit = static_cast<uint32_t>(c - 'a' + 10);
    else if (c >= 'A' && c <= 'F')
      digit = static_cast<uint32_t>(c - 'A' + 10);
    else
      fail("four hexadecimal digits after \\u");
    code = code * 16 + digit;
  }
  return code;
}

int64_t JsonReader::integer() {
  skip_space();
  static constexpr std::string_view kExpected = "a whole number in [0, 2^63)";
  const auto digit = [this] {
    return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9';
  };
  if (!digit()) fail(kExpected);
  const size_t first = at_;
  int64_t value = 0;
  for (; digit(); ++at_)
    if (__builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, text_[at_] - '0', &value))
      fail(kExpected);
  if (text_[first] == '0' && at_ - first > 1) fail("a number without leading zeros");
  if (at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E'))
    fail(kExpected);
  return value;
}

void JsonReader::finish() {
  const size_t end = text_.find_first_not_of(' ', at_);
  if (end == text_.npos) return;
  at_ = end;
  fail("nothing but spaces after the object");
}

}  // namespace lc::io
