#include "lightning_core/error.hpp"

namespace lc {

const char* error_code_name(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kSuccess:
      return "success";
    case ErrorCode::kNotInitialized:
      return "not initialized";
    case ErrorCode::kInvalidValue:
      return "invalid value";
    case ErrorCode::kOutOfMemory:
      return "out of memory";
    case ErrorCode::kNotSupported:
      return "not supported";
    case ErrorCode::kDriverError:
      return "driver error";
    case ErrorCode::kUnknown:
      return "unknown error";
    case ErrorCode::kInvalidType:
      return "invalid type";
  }
  return "unknown error";
}

void throw_arg(std::string_view op, std::string_view arg, std::string_view expected,
               std::string_view found, std::string_view hint) {
  throw_arg(ErrorCode::kInvalidValue, op, arg, expected, found, hint);
}

void throw_arg(ErrorCode code, std::string_view op, std::string_view arg, std::string_view expected,
               std::string_view found, std::string_view hint) {
  std::string message = cat('[', op, "] ", arg, ": expected ", expected, ", found ", found);
  if (!hint.empty()) message += cat("; ", hint);
  throw Error(code, message);
}

}  // namespace lc
