// What the tests that pin a kernel share.
#pragma once

#include "lightning_core/dispatch.hpp"

namespace lc {

/// Runs the call on the kernel; false if it refuses.
inline bool run_pinned(OpCall& call, const char* kernel) {
  call.policy.kernel = intern_kernel(kernel);
  try {
    const Plan& p = plan(call);
    run(p, call);
  } catch (const Error&) {
    return false;
  }
  return true;
}

}  // namespace lc
