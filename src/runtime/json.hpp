// Writing JSON for reports: commas, nesting, escapes. Reading is not needed here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace lc {

class Json {
 public:
  Json& object() { return open('{', '}'); }
  Json& array() { return open('[', ']'); }
  /// Closes the innermost object or array.
  Json& end() {
    text_ += closers_.back();
    closers_.pop_back();
    fresh_ = false;
    return *this;
  }
  Json& key(std::string_view name) {
    comma();
    quote(name);
    text_ += ':';
    fresh_ = true;
    return *this;
  }
  Json& string(std::string_view s) {
    comma();
    quote(s);
    return *this;
  }
  Json& boolean(bool b) { return raw(b ? "true" : "false"); }
  Json& number(int64_t v) { return raw(std::to_string(v)); }
  Json& number(uint64_t v) { return raw(std::to_string(v)); }
  /// Infinities and NaN, which JSON lacks, become null.
  Json& number(double v) {
    if (!std::isfinite(v)) return raw("null");
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.17g", v);
    return raw(buffer);
  }
  /// Text that is JSON already.
  Json& raw(std::string_view json) {
    comma();
    text_ += json;
    return *this;
  }
  [[nodiscard]] const std::string& str() const { return text_; }

 private:
  Json& open(char opener, char closer) {
    comma();
    text_ += opener;
    closers_ += closer;
    fresh_ = true;
    return *this;
  }
  void comma() {
    if (!fresh_ && !text_.empty()) text_ += ',';
    fresh_ = false;
  }
  void quote(std::string_view s) {
    text_ += '"';
    for (const char c : s) {
      if (c == '"' || c == '\\') {
        text_ += '\\';
        text_ += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        char buffer[8];
        std::snprintf(buffer, sizeof buffer, "\\u%04x", c);
        text_ += buffer;
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }
  std::string text_;
  std::string closers_;
  bool fresh_ = true;
};

}  // namespace lc
