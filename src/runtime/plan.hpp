// Plan: what one call does, decided once. Read by run(), explain() and the bindings.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backends/backend.hpp"
#include "lightning_core/dispatch.hpp"
#include "lightning_core/kernel.hpp"
#include "tensor/reach.hpp"

namespace lc {

enum class PlanKind : uint8_t {
  kKernel,     ///< one launch
  kView,       ///< no work: output 0 is a window on input 0
  kComposed,   ///< steps_, each a plan of its own
  kReference,  ///< float64 loops on the host
  kEmpty,      ///< every output is empty: no work
};

/// Copy of an operand into workspace, row-major and in the dtype the kernel wants.
struct ConvertStep {
  int operand;
  DType dtype;
  int64_t offset;  ///< into the plan's workspace
};

/// One step of a composed plan. Values index ComposedValue.
struct ComposedStep {
  PlanPtr plan;
  std::vector<int> inputs;  ///< -1: absent
  int output;
};

struct ComposedValue {
  enum class Where : uint8_t { kInput, kOutput, kWorkspace };
  Where where;
  int operand = 0;     ///< kInput, kOutput
  int64_t offset = 0;  ///< bytes from the operand's or the workspace's start
  View view;           ///< shape, strides and dtype; data is filled by run()
};

struct Candidate {
  std::string name;
  std::string refusal;  ///< empty: would run
};

class Plan {
 public:
  uint64_t id = 0;  ///< unique in the process; traces refer to it
  const OpDef* op = nullptr;
  PlanKind kind = PlanKind::kKernel;
  Device requested;
  Device selected;
  bool fallback = false;  ///< another device than requested, or the reference
  std::string fallback_reason;
  Backend* backend = nullptr;         ///< of the selected device
  const KernelDef* kernel = nullptr;  ///< kKernel
  std::string kernel_name;            ///< "cpu/matmul:packed@avx512"
  std::string call_text;              ///< OpCall::str()
  Policy policy;
  Prepared prepared;
  std::vector<AttrValue> attrs;  ///< the call's, for the reference
  View out[kMaxOutputs];         ///< dtype, shape, strides where the caller gives none
  int n_in = 0;
  int n_out = 0;
  std::vector<Reach> reach;            ///< of the call's inputs, then its outputs
  int64_t view_offset = 0;             ///< kView: bytes from input 0's data
  std::vector<ConvertStep> converts;   ///< of inputs
  std::vector<ConvertStep> out_temps;  ///< outputs computed in workspace, then copied
  uint32_t discard_outputs = 0;        ///< bit i: the policy keeps output i from the caller
  int64_t workspace_bytes = 0;         ///< all of it; the kernel's part comes first
  std::vector<ComposedValue> values;
  std::vector<ComposedStep> steps;
  std::vector<std::pair<int, double>> constants;  ///< composed: value index, number
  Cost cost;
  int64_t workload = 0;       ///< the reference's size hint
  int64_t convert_bytes = 0;  ///< read and written by implicit copies, a run
  std::vector<Candidate> considered;
  std::vector<uint64_t> key;

  [[nodiscard]] bool is_view() const { return kind == PlanKind::kView; }
};

/// Throws kNotSupported where the policy keeps an output from the caller that the callee would have
/// to allocate.
void refuse_kept_outputs(const Plan& plan, const OpCall& call);

/// Runs a plan on operands; `out[i].data` set. The part of run() that composed plans share.
void run_plan(const Plan& plan, const View* in, const View* out);

}  // namespace lc
