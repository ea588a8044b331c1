// What the trace needs from others: the texts of plans, and LC_TRACE.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lc {

/// Plans whose texts are kept; the oldest are forgotten first.
inline constexpr size_t kPlanTexts = 16384;

/// Called when a plan is made: events carry its id, lines and reports print its texts: the kernel
/// ("cpu/matmul:packed@avx512"), the call (OpCall::str()), the policy (Policy::str()).
void register_plan_text(uint64_t id, std::string kernel, std::string call, std::string policy = {});
/// False for an id that is unknown or forgotten.
bool plan_text(uint64_t id, std::string* kernel, std::string* call, std::string* policy = nullptr);

/// Does what LC_TRACE says, once; throws kInvalidValue where its file cannot be opened. Backends
/// call it before the first plan, so that the error comes before anything is written.
void apply_trace_config();
/// LC_TRACE may have changed; it is applied again at the next look. While its text stays the same,
/// what set_trace_enabled() and set_trace_sink() chose stays too.
void forget_trace_config() noexcept;

}  // namespace lc
