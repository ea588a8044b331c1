#include "runtime/last_error.hpp"

namespace lc {
namespace {

std::string& message_slot() {
  thread_local std::string message;
  return message;
}

}  // namespace

void set_last_error(std::string_view message) noexcept {
  try {
    message_slot() = message;
  } catch (...) {
    message_slot().clear();  // no memory even for the message: the code still tells
  }
}

const char* last_error() noexcept { return message_slot().c_str(); }

}  // namespace lc
