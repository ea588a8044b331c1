// plan() and run(): the only way to reach a kernel.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lightning_core/op_def.hpp"

namespace lc {

class Plan;
using PlanPtr = std::shared_ptr<const Plan>;

/// Makes or finds the plan of `call` and fills the outputs' dtype, shape and strides. A warm
/// look-up takes no lock, allocates nothing and builds no string. Throws Error for bad arguments:
/// arity, dtypes, shapes, attributes, given outputs (dtype, shape, writability is the binding's),
/// overlap. The reference stays valid until this thread's next plan() call; keep `plan_shared` to
/// hold it.
const Plan& plan(OpCall& call);
[[nodiscard]] PlanPtr plan_shared(OpCall& call);

/// Runs a plan on the call's views: transfers, copies, kernel, one trace event. Every output's
/// `data` must be set. Throws kOutOfMemory if workspace cannot be had, before anything is written.
void run(const Plan& plan, const OpCall& call);

/// plan(), allocate missing outputs, run(); the C++ eager call. Output i of the call afterwards
/// points into the returned tensor i. Ops that only change metadata (reshape, transpose, slice)
/// return a window on input 0 when `owner`, its storage, is given, else a copy.
std::vector<Tensor> call_op(OpCall& call, const Storage* owner = nullptr);
/// For the ops with one output.
Tensor call_op1(OpCall& call, const Storage* owner = nullptr);

/// Why the plan of this call is what it is: device requested and selected, candidates with their
/// refusals, conversions, workspace, cost. As text, or as JSON for tools.
[[nodiscard]] std::string explain(OpCall& call);
[[nodiscard]] std::string explain_json(OpCall& call);

struct PlanCacheStats {
  uint64_t hits = 0;  ///< per-thread table hits of the calling thread
  uint64_t shared_hits = 0;
  uint64_t misses = 0;
  size_t entries = 0;
};
[[nodiscard]] PlanCacheStats plan_cache_stats();
void clear_plan_cache();

}  // namespace lc
