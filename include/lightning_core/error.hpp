// Errors: one exception type, thrown by argument checks before anything is written.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace lc {

/// Why a call was refused. The C API returns the same values as `lcError_t`.
enum class ErrorCode : int {
  kSuccess = 0,
  kNotInitialized = 1,
  kInvalidValue = 2,  ///< shape, size, attribute, overlap: the arguments are wrong
  kOutOfMemory = 3,
  kNotSupported = 4,  ///< a device, dtype or candidate that this build or machine lacks
  kDriverError = 5,
  kUnknown = 6,
  kInvalidType = 7,  ///< dtype or kind of an argument
};

/// The reference's status words: "success", "invalid value", "out of memory", ...
[[nodiscard]] const char* error_code_name(ErrorCode code) noexcept;

/// Thrown by every C++ entry point; `what()` reads
/// "[op] argument: expected ..., found ...; what to do".
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

/// Concatenates printable values; only ever called on the way to an error or a report.
template <typename... Parts>
[[nodiscard]] std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws kInvalidValue as "[op] arg: expected E, found F" with "; hint" when a hint is given.
[[noreturn]] void throw_arg(std::string_view op, std::string_view arg, std::string_view expected,
                            std::string_view found, std::string_view hint = {});

/// As throw_arg, with a code of the caller's choice.
[[noreturn]] void throw_arg(ErrorCode code, std::string_view op, std::string_view arg,
                            std::string_view expected, std::string_view found,
                            std::string_view hint = {});

}  // namespace lc
