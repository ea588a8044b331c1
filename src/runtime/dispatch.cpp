// run(): the one way work reaches a kernel. A plan says everything; what is left to do here is to
// check what depends on addresses, take workspace, convert operands the plan names, launch, and
// write one trace event.
#include "lightning_core/dispatch.hpp"

#include "backends/cpu/convert.hpp"
#include "lightning_core/trace.hpp"
#include "runtime/capabilities.hpp"
#include "runtime/memory.hpp"
#include "runtime/plan.hpp"
#include "runtime/reference.hpp"
#include "tensor/scalar.hpp"

namespace lc {
namespace {

using cpu::strided_convert;

/// Workspace of one run, back to the pool at the end of the scope.
class Workspace {
 public:
  Workspace(int64_t bytes, Device device)
      : bytes_(bytes), device_(device), data_(bytes > 0 ? pool_alloc(bytes, device) : nullptr) {}
  ~Workspace() {
    if (data_ != nullptr) pool_free(data_, bytes_, device_);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  [[nodiscard]] char* at(int64_t offset) const { return static_cast<char*>(data_) + offset; }

 private:
  int64_t bytes_;
  Device device_;
  void* data_;
};

void run_reference(const Plan& plan, const View* in, const View* out) {
  OpCall call(*plan.op);
  call.n_in = 0;
  for (int i = 0; i < plan.n_in; ++i) call.push_input(in[i]);
  for (int i = 0; i < plan.n_out; ++i) call.out[i] = out[i];
  for (size_t k = 0; k < plan.attrs.size(); ++k) call.attr[k] = plan.attrs[k];
  const std::vector<RefArray> results = reference_outputs(call);
  for (int i = 0; i < plan.n_out; ++i) store_ref_array(results[static_cast<size_t>(i)], out[i]);
}

void run_steps(const Plan& plan, const View* in, const View* out, const Workspace& workspace) {
  const auto resolve = [&](int index) {
    View v;
    if (index < 0) return v;
    const ComposedValue& value = plan.values[static_cast<size_t>(index)];
    v = value.view;
    switch (value.where) {
      case ComposedValue::Where::kInput:
        v.data = static_cast<char*>(in[value.operand].data) + value.offset;
        break;
      case ComposedValue::Where::kOutput:
        v.data = static_cast<char*>(out[value.operand].data) + value.offset;
        break;
      case ComposedValue::Where::kWorkspace:
        v.data = workspace.at(value.offset);
        break;
    }
    return v;
  };
  for (const auto& [index, number] : plan.constants) {
    const View v = resolve(index);
    store_scalar(v.data, v.dtype, number);
  }
  View step_in[kMaxInputs];
  for (const ComposedStep& step : plan.steps) {
    for (size_t i = 0; i < step.inputs.size(); ++i) step_in[i] = resolve(step.inputs[i]);
    const View step_out = resolve(step.output);
    run_plan(*step.plan, step_in, &step_out);
  }
}

void execute(const Plan& plan, const View* in, const View* out, const Workspace& workspace) {
  switch (plan.kind) {
    case PlanKind::kKernel:
      plan.kernel->launch(
          Launch{in, out, plan.n_in, plan.prepared, workspace.at(0), plan.backend->encoder()});
      break;
    case PlanKind::kComposed:
      run_steps(plan, in, out, workspace);
      break;
    case PlanKind::kReference:
      run_reference(plan, in, out);
      break;
    case PlanKind::kView:
    case PlanKind::kEmpty:
      break;
  }
}

[[noreturn]] void throw_missing(const OpCall& call, int i, bool resident) {
  const OpDef& op = *call.op;
  const char* name = op.inputs[op.variadic ? 0 : static_cast<size_t>(i)].name;
  if (resident)
    throw_arg(op.name, name, "a resident operand, as the policy asks (upload is off)", "none",
              "upload it first, or use a session that holds it");
  throw_arg(op.name, name, "memory", "a null pointer");
}

/// Input i and output o reach into the same bytes: it may be one array for both, or interleaved.
[[gnu::noinline]] void check_overlap(const OpCall& call, int i, int o) {
  const View& out = call.out[o];
  const View& v = call.in[i];
  if (!v.present() || !may_overlap(out, v)) return;
  if (call.op->inplace && out.data == v.data && out.dtype == v.dtype && out.shape == v.shape &&
      out.strides == v.strides)
    return;
  throw_arg(
      call.op->name, "out", "memory that no input shares",
      cat("an overlap with ", call.op->inputs[call.op->variadic ? 0 : static_cast<size_t>(i)].name),
      "write into another array");
}

void check_operands(const Plan& plan, const OpCall& call) {
  for (int i = 0; i < call.n_in; ++i)
    if (call.in[i].data == nullptr && call.in[i].present() && call.in[i].numel() > 0) [[unlikely]]
      throw_missing(call, i, !(plan.policy.upload >> i & 1u));
  if (plan.kind == PlanKind::kView) return;
  for (int o = 0; o < call.n_out; ++o) {
    const View& out = call.out[o];
    if (plan.discard_outputs >> o & 1u) continue;
    if (out.data == nullptr && out.numel() > 0) [[unlikely]]
      throw_arg(call.op->name, "out", "memory", "a null pointer");
    const Reach* reach = plan.reach.data();
    const auto at = reinterpret_cast<intptr_t>(out.data);
    const intptr_t low = at + reach[call.n_in + o].low;
    const intptr_t high = at + reach[call.n_in + o].high;
    for (int i = 0; i < call.n_in; ++i) {
      const auto in = reinterpret_cast<intptr_t>(call.in[i].data);
      if (low < in + reach[i].high && in + reach[i].low < high) [[unlikely]]
        check_overlap(call, i, o);
    }
  }
}

}  // namespace

void run_plan(const Plan& plan, const View* in, const View* out) {
  if (!plan.backend->computes()) return;
  if (plan.workspace_bytes == 0) {
    execute(plan, in, out, Workspace(0, plan.selected));
    return;
  }
  const Workspace workspace(plan.workspace_bytes, plan.selected);
  if (plan.converts.empty() && plan.out_temps.empty()) {
    execute(plan, in, out, workspace);
    return;
  }
  View converted_in[kMaxInputs];
  View converted_out[kMaxOutputs];
  for (int i = 0; i < plan.n_in; ++i) converted_in[i] = in[i];
  for (int i = 0; i < plan.n_out; ++i) converted_out[i] = out[i];
  for (const ConvertStep& step : plan.converts) {
    View& v = converted_in[step.operand];
    const View to(workspace.at(step.offset), step.dtype, v.shape);
    strided_convert(v, to);
    v = to;
  }
  for (const ConvertStep& step : plan.out_temps) {
    View& v = converted_out[step.operand];
    v = View(workspace.at(step.offset), step.dtype, v.shape);
  }
  execute(plan, converted_in, converted_out, workspace);
  for (const ConvertStep& step : plan.out_temps)
    if (!(plan.discard_outputs >> step.operand & 1u))
      strided_convert(converted_out[step.operand], out[step.operand]);
}

namespace {

/// The boundary behind a call, where the policy asks for one.
void synchronise(const Plan& plan) {
  if (plan.policy.sync == SyncMode::kAlways || plan.policy.trace_sync_boundary) [[unlikely]]
    apply_sync_policy({plan.policy.sync, plan.policy.trace_sync_boundary});
}

}  // namespace

void run(const Plan& plan, const OpCall& call) {
  check_operands(plan, call);
  if (call.bytes_copied != 0 && plan.policy.strict) [[unlikely]]
    throw_arg(ErrorCode::kNotSupported, call.op->name, "policy.strict",
              "arrays that are read where they lie", "an implicit copy",
              "give aligned arrays of the runtime's dtypes in native byte order");
  if (call.op->check_data != nullptr) call.op->check_data(call);
  if (!trace_enabled()) [[likely]] {
    run_plan(plan, call.in, call.out);
    synchronise(plan);
    return;
  }
  TraceEvent event;
  event.timestamp_ns = monotonic_ns();
  run_plan(plan, call.in, call.out);
  synchronise(plan);
  event.duration_ns = monotonic_ns() - event.timestamp_ns;
  event.type = TraceType::kOpDispatch;
  event.op = call.trace_as != nullptr ? call.trace_as : call.op->name;
  event.requested = plan.requested.kind;
  event.selected = plan.selected.kind;
  event.fallback = plan.fallback;
  event.size_bytes = static_cast<uint64_t>(plan.workload);
  event.detail0 = trace_op_code(event.op);
  event.detail1 = static_cast<int64_t>(plan.requested.kind) |
                  static_cast<int64_t>(plan.selected.kind) << 4 |
                  static_cast<int64_t>(plan.fallback) << 8;
  event.bytes_copied = static_cast<uint64_t>(plan.convert_bytes + call.bytes_copied);
  event.plan_id = plan.id;
  trace(event);
}

void refuse_kept_outputs(const Plan& plan, const OpCall& call) {
  for (int i = 0; i < call.n_out; ++i)
    if ((plan.discard_outputs >> i & 1u) != 0)
      throw_arg(ErrorCode::kNotSupported, call.op->name, "policy.download",
                "an output to keep from, or a session that keeps the result",
                "a call whose result would be nowhere", "give `out`, use a session, or download");
}

std::vector<Tensor> call_op(OpCall& call, const Storage* owner) {
  bool given = true;
  for (int i = 0; i < call.n_out; ++i) given = given && call.out[i].data != nullptr;
  const PlanPtr held = plan_shared(call);
  const Plan* p = held.get();
  if (!given) refuse_kept_outputs(*p, call);
  std::vector<Tensor> results;
  PlanPtr copying;
  if (p->is_view()) {
    if (owner != nullptr) {
      run(*p, call);
      results.emplace_back(*owner, call.out[0]);
      return results;
    }
    // No owner to share with: the window is copied out, by the plan for a given output.
    results.push_back(Tensor::empty(call.out[0].shape, call.out[0].dtype, p->selected));
    call.out[0] = results[0].view();
    copying = plan_shared(call);
    p = copying.get();
  } else {
    for (int i = 0; i < call.n_out; ++i) {
      if (call.out[i].data != nullptr) {
        results.push_back(Tensor::wrap(call.out[i]));
        continue;
      }
      results.push_back(Tensor::empty(call.out[i].shape, call.out[i].dtype, p->selected));
      call.out[i] = results.back().view();
    }
  }
  run(*p, call);
  return results;
}

Tensor call_op1(OpCall& call, const Storage* owner) { return std::move(call_op(call, owner)[0]); }

}  // namespace lc
