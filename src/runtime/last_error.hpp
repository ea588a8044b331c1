// The message of this thread's last refused call, for surfaces that return codes.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "lightning_core/error.hpp"

namespace lc {

void set_last_error(std::string_view message) noexcept;
/// "" before the first refusal. Valid until this thread's next refusal.
[[nodiscard]] const char* last_error() noexcept;

/// Runs f and turns what it throws into a code, keeping the message.
template <typename F>
[[nodiscard]] ErrorCode guarded(F&& f) noexcept {
  try {
    f();
    return ErrorCode::kSuccess;
  } catch (const Error& e) {
    set_last_error(e.what());
    return e.code();
  } catch (const std::bad_alloc&) {
    set_last_error("out of memory");
    return ErrorCode::kOutOfMemory;
  } catch (const std::exception& e) {
    set_last_error(e.what());
    return ErrorCode::kUnknown;
  } catch (...) {
    set_last_error("an exception that is not a std::exception");
    return ErrorCode::kUnknown;
  }
}

}  // namespace lc
