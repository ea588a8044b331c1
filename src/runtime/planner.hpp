// Making a plan; reached through plan() only.
#pragma once

#include <memory>

#include "runtime/plan.hpp"

namespace lc {

/// Checks the call and decides everything about it. Throws Error; touches no data.
[[nodiscard]] std::unique_ptr<Plan> make_plan(const OpCall& call);

/// True if a pinned name ("packed", "matmul:packed", "cpu/matmul:packed@avx512") speaks of this op.
[[nodiscard]] bool pin_names_op(std::string_view pin, std::string_view op);
/// True if it names this candidate ("cpu/matmul:packed@avx512").
[[nodiscard]] bool pin_matches(std::string_view pin, std::string_view candidate);

}  // namespace lc
