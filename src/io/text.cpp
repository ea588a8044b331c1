#include "io/text.hpp"

#include "lightning_core/error.hpp"

namespace lc::io {

size_t utf8_length(std::string_view text, size_t at) noexcept {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(at);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() - at < length) return 0;
  // The second byte's range is what rules out overlong forms, surrogates and the numbers past
  // U+10FFFF.
  const unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (byte(at + 1) < low || byte(at + 1) > high) return 0;
  for (size_t i = 2; i < length; ++i)
    if ((byte(at + i) & 0xc0u) != 0x80) return 0;
  return length;
}

void append_utf8(std::string& text, uint32_t code_point) {
  const auto tail = [&](int shift) {
    text += static_cast<char>(0x80u | ((code_point >> shift) & 0x3fu));
  };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xc0u | (code_point >> 6));
    tail(0);
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xe0u | (code_point >> 12));
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xf0u | (code_point >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string shown(std::string_view text, size_t most) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  size_t at = 0;
  while (at < text.size()) {
    if (out.size() >= most) return out + "...";
    const auto byte = static_cast<unsigned char>(text[at]);
    size_t length = utf8_length(text, at);
    const bool c1_control =
        byte == 0xc2 && length == 2 && static_cast<unsigned char>(text[at + 1]) < 0xa0;
    if (length == 0 || byte < 0x20 || byte == 0x7f || c1_control) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15u];
      length = 1;
    } else {
      out.append(text, at, length);
    }
    at += length;
  }
  return out;
}

void refuse_file(std::string_view path, std::string_view expected, std::string_view found) {
  throw_arg("safetensors", "path", expected, cat(found, " in ", shown(path, path.npos)),
            "the file is damaged or none of the format: download or write it again");
}

}  // namespace lc::io
