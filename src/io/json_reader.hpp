// Reading JSON as safetensors headers have it: objects, arrays, strings, whole numbers. The caller
// says what comes next, so nesting is as deep as its code and no input makes it deeper.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace lc::io {

/// Every member throws kInvalidValue, naming the file and the byte, where the text is something
/// else than asked for. Keys may repeat here: who collects them tells.
class JsonReader {
 public:
  /// `text` and `path`, the file it is from, must outlive the reader.
  JsonReader(std::string_view text, std::string_view path) : text_(text), path_(path) {}

  /// member(std::string key) must read the member's value.
  template <typename F>
  void object(F&& member) {
    expect('{', "an object");
    if (closes('}')) return;
    do {
      std::string key = string();
      expect(':', "':' after a key");
      member(std::move(key));
    } while (more('}'));
  }
  /// element() must read one element.
  template <typename F>
  void array(F&& element) {
    expect('[', "an array");
    if (closes(']')) return;
    do element();
    while (more(']'));
  }
  /// Well-formed UTF-8, escapes resolved. NUL is refused, so that C programs see whole names.
  [[nodiscard]] std::string string();
  /// A number in [0, 2^63) in plain digits.
  [[nodiscard]] int64_t integer();
  /// Only spaces, the format's padding, are left.
  void finish();

  /// Refuses the text at the byte that is read next.
  [[noreturn]] void fail(std::string_view expected) const;

 private:
  void skip_space();
  void expect(char c, std::string_view expected);
  bool closes(char c);
  /// After a value: true on ',', false on `close`.
  bool more(char close);
  void escape(std::string& to);
  uint32_t hex4();

  std::string_view text_;
  std::string_view path_;
  size_t at_ = 0;
};

}  // namespace lc::io
