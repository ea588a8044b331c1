// How a plan is made, in the order of this file: check the operands, decide conversions, infer the
// outputs, select the device, walk the candidates, and where none takes the call, lower it to other
// ops or to the float64 reference. Every refusal is kept for explain().
#include "runtime/planner.hpp"

#include <atomic>
#include <cstring>

#include "runtime/trace_names.hpp"

namespace lc {
namespace {

std::string input_name(const OpDef& op, int i) {
  if (op.variadic) return cat(op.inputs[0].name, "[", i, "]");
  return op.inputs[static_cast<size_t>(i)].name;
}

const ArgSpec& arg_spec(const OpDef& op, int i) {
  return op.inputs[op.variadic ? 0 : static_cast<size_t>(i)];
}

/// Narrowest float that holds both.
DType wider(DType a, DType b) {
  if (a == b || b == DType::kNone) return a;
  if (a == DType::kNone) return b;
  if (a == DType::kFloat64 || b == DType::kFloat64) return DType::kFloat64;
  return DType::kFloat32;  // of float32, float16 and bfloat16, any two that differ
}

void check_arity(const OpCall& call) {
  const OpDef& op = *call.op;
  if (op.variadic && call.n_in == 0)
    throw_arg(op.name, op.inputs[0].name, "at least one input", "none");
  for (int i = 0; i < call.n_in; ++i) {
    const View& v = call.in[i];
    if (!v.present()) {
      if (!arg_spec(op, i).optional)
        throw_arg(ErrorCode::kInvalidType, op.name, input_name(op, i), "an array", "none");
      continue;
    }
    (void)checked_numel(op.name, input_name(op, i), v.shape, v.dtype);
  }
}

/// Dtype each input is computed in; throws where an input's dtype is not accepted.
void decide_dtypes(const OpCall& call, DType* want) {
  const OpDef& op = *call.op;
  DType common = DType::kNone;
  if (op.promote)
    for (int i = 0; i < call.n_in; ++i) {
      const DType d = call.in[i].dtype;
      if (dtype_is_float(d) && (arg_spec(op, i).dtypes & kFloatTypes) != 0)
        common = wider(common, d);
    }
  for (int i = 0; i < call.n_in; ++i) {
    const DType have = call.in[i].dtype;
    const DTypeSet accepted = arg_spec(op, i).dtypes;
    want[i] = have;
    if (have == DType::kNone) continue;
    const bool is_mask = have == DType::kBool && (accepted & dtype_bit(DType::kBool)) != 0;
    if (call.compute_dtype != DType::kNone && (accepted & dtype_bit(call.compute_dtype)) != 0 &&
        !is_mask)
      want[i] = call.compute_dtype;
    else if (dtype_is_float(have) && common != DType::kNone)
      want[i] = common;
    if ((accepted & dtype_bit(want[i])) == 0)
      throw_arg(ErrorCode::kInvalidType, op.name, input_name(op, i), dtype_set_names(accepted),
                dtype_name(have), "convert it with cast()");
  }
}

void check_given_output(const OpCall& call, int i, const View& inferred) {
  const View& given = call.out[i];
  const OpDef& op = *call.op;
  if (given.dtype != inferred.dtype)
    throw_arg(op.name, "out", cat("dtype ", dtype_name(inferred.dtype)), dtype_name(given.dtype));
  if (!(given.shape == inferred.shape))
    throw_arg(op.name, "out", cat("shape ", inferred.shape.str()),
              cat("shape ", given.shape.str()));
  if (self_overlaps(given))
    throw_arg(op.name, "out", "memory with one element for each index",
              cat("strides ", given.strides.str(), " that name elements more than once"),
              "write into an array that is not broadcast");
}

int64_t workload_of(const OpCall& call, const Cost& cost) {
  const std::string_view op = call.op->name;
  if (op == "matmul" || op == "linear" || op == "conv2d")
    return static_cast<int64_t>(cost.flops / 2);
  if (op == "attention" && call.in[0].rank() >= 2 && call.in[1].rank() >= 2)
    return call.in[0].numel() * call.in[1].shape.back(1);
  return call.out[0].numel();
}

/// The device that runs the call, and why it is not the requested one.
void select_device(const OpCall& call, Plan& plan) {
  plan.requested = call.device;
  plan.selected = call.device;
  const DeviceKind kind = call.device.kind;
  if (!device_available(kind)) {
    plan.selected = Device{};
    plan.fallback = true;
    plan.fallback_reason =
        cat(device_name(kind), device_built(kind) ? ": no such device on this machine"
                                                  : ": not built into this library");
    if (call.policy.strict) {
      std::string have;
      for (const std::string& name : available_devices())
        have += cat(have.empty() ? "" : ", ", name);
      throw_arg(ErrorCode::kNotSupported, call.op->name, "device",
                cat("an available device (", have, ") under a strict policy"), device_name(kind),
                plan.fallback_reason);
    }
  }
  plan.backend = backend(plan.selected.kind);
}

std::string candidate_name(const Plan& plan, const KernelDef& kernel) {
  std::string name = cat(device_name(plan.selected), "/", plan.op->name, ":", kernel.name);
  if (kernel.isa[0] != '\0') name += cat("@", kernel.isa);
  return name;
}

/// prepare(), and row-major copies of the operands it asks for, until it asks for no more.
void prepare_kernel(const KernelDef& kernel, OpCall& call, Plan& plan) {
  const DeviceInfo& info = plan.backend->info(plan.selected.index);
  for (;;) {
    plan.prepared = Prepared{};
    if (kernel.prepare != nullptr) kernel.prepare(call, info, plan.prepared);
    bool changed = false;
    for (int i = 0; i < call.n_in; ++i) {
      View& v = call.in[i];
      if (!(plan.prepared.contiguous_inputs >> i & 1u) || !v.present() || v.is_contiguous())
        continue;
      v.strides = contiguous_strides(v.shape);
      plan.converts.push_back({i, v.dtype, 0});
      changed = true;
    }
    for (int i = 0; i < call.n_out; ++i) {
      View& v = call.out[i];
      if (!(plan.prepared.contiguous_outputs >> i & 1u) || v.is_contiguous()) continue;
      v.strides = contiguous_strides(v.shape);
      plan.out_temps.push_back({i, v.dtype, 0});
      changed = true;
    }
    if (!changed) break;
  }
  plan.kind = PlanKind::kKernel;
  plan.kernel = &kernel;
  plan.kernel_name = candidate_name(plan, kernel);
  plan.workspace_bytes = plan.prepared.workspace_bytes;
}

bool is_half(DType dtype) { return (kHalfTypes & dtype_bit(dtype)) != 0; }

bool takes_floats(const KernelDef& kernel, const OpCall& call) {
  const auto refuses = [&](DType d) {
    return dtype_is_float(d) && (kernel.floats & dtype_bit(d)) == 0;
  };
  for (int i = 0; i < call.n_in; ++i)
    if (refuses(call.in[i].dtype)) return false;
  for (int i = 0; i < call.n_out; ++i)
    if (refuses(call.out[i].dtype)) return false;
  return true;
}

/// Turns float16 and bfloat16 operands into float32 ones of workspace; false if there are none.
/// With `plan`, notes the conversions.
bool widen_halves(OpCall& call, Plan* plan) {
  bool changed = false;
  const auto widen = [&](View& v, int i, std::vector<ConvertStep>* steps) {
    if (!is_half(v.dtype)) return;
    v = View(v.data, DType::kFloat32, v.shape, v.device);
    if (steps != nullptr) steps->push_back({i, DType::kFloat32, 0});
    changed = true;
  };
  for (int i = 0; i < call.n_in; ++i)
    widen(call.in[i], i, plan != nullptr ? &plan->converts : nullptr);
  for (int i = 0; i < call.n_out; ++i)
    widen(call.out[i], i, plan != nullptr ? &plan->out_temps : nullptr);
  return changed;
}

/// Walks the device's candidates: the first that takes the call as it is, else the first that takes
/// it in float32 where it has halves. False if there is none.
bool choose_kernel(OpCall& call, Plan& plan, std::string_view pin) {
  const DeviceInfo& info = plan.backend->info(plan.selected.index);
  OpCall wide = call;
  const bool has_halves = widen_halves(wide, nullptr);
  const KernelDef* chosen = nullptr;
  const KernelDef* converting = nullptr;
  bool pin_seen = pin.empty();
  for (const KernelDef& kernel : plan.backend->kernels()) {
    if (std::strcmp(kernel.op, plan.op->name) != 0) continue;
    Candidate candidate{candidate_name(plan, kernel), {}};
    const bool pinned = !pin.empty() && pin_matches(pin, candidate.name);
    pin_seen = pin_seen || pinned;
    if (!pin.empty() && !pinned) {
      candidate.refusal = cat("the policy pins ", pin);
    } else {
      const auto supports = [&](const OpCall& c) {
        return kernel.supports != nullptr ? kernel.supports(c, info) : Support::yes();
      };
      const bool takes = !has_halves || takes_floats(kernel, call);
      Support support = takes ? supports(call) : supports(wide);
      const bool native = takes && support;
      // The call's own refusal stands where there are two.
      if (!native && takes && has_halves && supports(wide)) support = Support::yes();
      if (!support) {
        candidate.refusal = support.reason();
        if (pinned)
          throw_arg(ErrorCode::kNotSupported, plan.op->name, "policy.kernel",
                    "a candidate that takes this call", pin, candidate.refusal);
      } else {
        const KernelDef*& first = native ? chosen : converting;
        if (first == nullptr) first = &kernel;
      }
    }
    plan.considered.push_back(std::move(candidate));
  }
  if (!pin_seen) {
    std::string names;
    for (const Candidate& c : plan.considered) names += cat(names.empty() ? "" : ", ", c.name);
    if (plan.op->compose != nullptr) names += names.empty() ? "composed" : ", composed";
    names += names.empty() ? "reference" : ", reference";
    throw_arg(plan.op->name, "policy.kernel", cat("one of ", names), pin);
  }
  if (chosen == nullptr && converting != nullptr) {
    widen_halves(call, &plan);
    chosen = converting;
  }
  if (chosen == nullptr) return false;
  prepare_kernel(*chosen, call, plan);
  return true;
}

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

/// Lowers the call to other ops; each node gets a plan of its own.
void compose_plan(OpCall& call, Plan& plan) {
  widen_halves(call, &plan);  // else every step would round to the narrow dtype
  Composer composer(call);
  plan.op->compose(composer);
  std::vector<int> index_of;  // composer value -> plan value
  const auto place = [&](int value, ComposedValue v) {
    if (index_of.size() <= static_cast<size_t>(value))
      index_of.resize(static_cast<size_t>(value) + 1, -1);
    index_of[static_cast<size_t>(value)] = static_cast<int>(plan.values.size());
    plan.values.push_back(std::move(v));
  };
  for (int i = 0; i < call.n_in; ++i)
    if (call.in[i].present()) place(i, {ComposedValue::Where::kInput, i, 0, call.in[i]});
  int64_t bytes = 0;
  for (const Composer::Constant& c : composer.constants()) {
    place(c.output, {ComposedValue::Where::kWorkspace, 0, bytes, View(nullptr, c.dtype, Shape{})});
    plan.constants.emplace_back(static_cast<int>(plan.values.size()) - 1, c.value);
    bytes += 64;
  }
  const auto output_of = [&](int value) {
    for (int i = 0; i < call.n_out; ++i)
      if (composer.outputs()[static_cast<size_t>(i)] == value) return i;
    return -1;
  };
  // A non-null address for views whose memory exists only when the plan runs.
  static char somewhere[64];
  const auto add_step = [&](const OpDef& op, const std::vector<int>& inputs,
                            const std::vector<std::pair<int, AttrValue>>& attrs, int output) {
    OpCall sub(op);
    sub.device = plan.selected;
    sub.policy = call.policy;
    sub.policy.kernel = 0;
    sub.policy.upload = sub.policy.download = ~0u;
    for (size_t i = 0; i < inputs.size(); ++i) {
      View v;
      if (inputs[i] >= 0) {
        v = plan.values[static_cast<size_t>(inputs[i])].view;
        v.data = somewhere;
      }
      if (op.variadic)
        sub.push_input(v);
      else
        sub.in[i] = v;
    }
    for (const auto& [k, value] : attrs) sub.attr[k] = value;
    if (output >= 0) {
      sub.out[0] = call.out[output];
      sub.out[0].data = somewhere;
    }
    return std::pair{plan_shared(sub), sub.out[0]};
  };
  for (const Composer::Node& node : composer.nodes()) {
    std::vector<int> inputs;
    for (const int v : node.inputs)
      inputs.push_back(v == Composer::kAbsent ? -1 : index_of[static_cast<size_t>(v)]);
    const int output = node.op->view == nullptr ? output_of(node.output) : -1;
    auto [sub_plan, view] = add_step(*node.op, inputs, node.attrs, output);
    ComposedValue value{ComposedValue::Where::kWorkspace, 0, bytes, view};
    if (sub_plan->is_view()) {
      value = plan.values[static_cast<size_t>(inputs[0])];
      value.view = view;
      value.offset += sub_plan->view_offset;
      place(node.output, value);
      continue;
    }
    if (output >= 0)
      value = {ComposedValue::Where::kOutput, output, 0, call.out[output]};
    else
      bytes += aligned(std::max<int64_t>(view.nbytes(), 1));
    place(node.output, value);
    plan.steps.push_back({std::move(sub_plan), inputs, static_cast<int>(plan.values.size()) - 1});
  }
  for (int i = 0; i < call.n_out; ++i) {
    const int source = index_of[static_cast<size_t>(composer.outputs()[static_cast<size_t>(i)])];
    const ComposedValue& v = plan.values[static_cast<size_t>(source)];
    if (v.where == ComposedValue::Where::kOutput && v.operand == i && v.offset == 0) continue;
    auto [sub_plan, view] = add_step(get_op("copy"), {source}, {}, i);
    plan.values.push_back({ComposedValue::Where::kOutput, i, 0, call.out[i]});
    plan.steps.push_back({std::move(sub_plan), {source}, static_cast<int>(plan.values.size()) - 1});
  }
  for (const ComposedStep& step : plan.steps) {  // what a step copies or falls back, the whole does
    plan.convert_bytes += step.plan->convert_bytes;
    if (!step.plan->fallback || plan.fallback) continue;
    plan.fallback = true;
    plan.fallback_reason = cat(step.plan->op->name, ": ", step.plan->fallback_reason);
  }
  plan.kind = PlanKind::kComposed;
  plan.kernel_name = cat(device_name(plan.selected), "/", plan.op->name, ":composed");
  plan.workspace_bytes = bytes;
}

void reference_plan(const OpCall& call, Plan& plan) {
  plan.kind = PlanKind::kReference;
  plan.kernel_name = cat("cpu/", plan.op->name, ":reference");
  std::string reasons;
  for (const Candidate& c : plan.considered)
    reasons += cat(reasons.empty() ? "" : "; ", c.name, ": ", c.refusal);
  if (reasons.empty()) reasons = "no kernel on this device";
  if (call.policy.strict)
    throw_arg(ErrorCode::kNotSupported, plan.op->name, "policy",
              "a kernel for this call under a strict policy", "only the reference", reasons);
  plan.fallback = true;
  plan.fallback_reason += cat(plan.fallback_reason.empty() ? "" : "; ", reasons);
}

/// Room in the workspace for converted operands, behind the kernel's own.
void place_conversions(const OpCall& original, const OpCall& call, Plan& plan) {
  int64_t bytes = aligned(plan.workspace_bytes);
  for (auto* steps : {&plan.converts, &plan.out_temps})
    for (ConvertStep& step : *steps) {
      const bool is_input = steps == &plan.converts;
      const View& to = is_input ? call.in[step.operand] : call.out[step.operand];
      const View& from = is_input ? original.in[step.operand] : original.out[step.operand];
      const int64_t size = to.numel() * dtype_size(step.dtype);
      step.offset = bytes;
      bytes += aligned(size);
      if (is_input || !(plan.discard_outputs >> step.operand & 1u))
        plan.convert_bytes +=
            size + (from.present() ? from.nbytes() : plan.out[step.operand].nbytes());
    }
  plan.workspace_bytes = bytes;
}

}  // namespace

bool pin_names_op(std::string_view pin, std::string_view op) {
  const size_t slash = pin.find('/');
  if (slash != std::string_view::npos) pin.remove_prefix(slash + 1);
  const size_t colon = pin.find(':');
  return colon == std::string_view::npos || pin.substr(0, colon) == op;
}

bool pin_matches(std::string_view pin, std::string_view candidate) {
  const auto drop_isa = [](std::string_view s) { return s.substr(0, s.find('@')); };
  if (pin.find('@') == std::string_view::npos) candidate = drop_isa(candidate);
  if (pin == candidate) return true;
  candidate.remove_prefix(candidate.find('/') + 1);
  if (pin == candidate) return true;
  candidate.remove_prefix(candidate.find(':') + 1);
  return pin == candidate;
}

std::unique_ptr<Plan> make_plan(const OpCall& original) {
  static std::atomic<uint64_t> next_id{1};
  const OpDef& op = *original.op;
  check_arity(original);
  DType want[kMaxInputs];
  decide_dtypes(original, want);

  OpCall call = original;
  auto plan = std::make_unique<Plan>();
  plan->op = &op;
  plan->policy = call.policy;
  plan->n_in = call.n_in;
  plan->n_out = call.n_out;
  plan->attrs.assign(call.attr, call.attr + op.attrs.size());
  plan->call_text = original.str();
  for (int i = 0; i < call.n_in; ++i) {
    if (want[i] == call.in[i].dtype) continue;
    call.in[i] = View(call.in[i].data, want[i], call.in[i].shape, call.in[i].device);
    plan->converts.push_back({i, want[i], 0});
  }
  for (int i = 0; i < call.n_out; ++i) call.out[i] = View{};
  op.infer(call);
  bool given = false;
  for (int i = 0; i < call.n_out; ++i) {
    View& out = call.out[i];
    (void)checked_numel(op.name, "out", out.shape, out.dtype);
    out.strides = contiguous_strides(out.shape);
    plan->out[i] = out;
    if (original.out[i].data != nullptr) {
      check_given_output(original, i, out);
      out = original.out[i];
      plan->out[i] = out;
      given = true;
    }
  }

  for (int i = 0; i < call.n_in; ++i) plan->reach.push_back(reach_of(original.in[i]));
  for (int i = 0; i < call.n_out; ++i) plan->reach.push_back(reach_of(call.out[i]));

  select_device(original, *plan);
  plan->cost = op.cost(call);
  plan->workload = workload_of(call, plan->cost);
  const uint32_t all_outputs = (1u << call.n_out) - 1;
  plan->discard_outputs = all_outputs & ~call.policy.download;

  std::string pin = call.policy.kernel != 0 ? kernel_pin_name(call.policy.kernel) : std::string();
  if (!pin.empty() && !pin_names_op(pin, op.name)) pin.clear();
  const std::string variant =
      pin.substr(pin.find(':') == std::string::npos ? 0 : pin.find(':') + 1);

  bool empty = true;
  for (int i = 0; i < call.n_out; ++i) empty = empty && call.out[i].numel() == 0;
  View window;
  // A window cannot convert: then the kernel copies from the converted operand.
  if (op.view != nullptr && !given && plan->discard_outputs == 0 && plan->converts.empty() &&
      op.view(call, &window)) {
    plan->kind = PlanKind::kView;
    plan->kernel_name = cat("view/", op.name);
    plan->out[0] = window;
    plan->view_offset =
        static_cast<const char*>(window.data) - static_cast<const char*>(call.in[0].data);
    plan->out[0].data = nullptr;
  } else if (empty) {
    plan->kind = PlanKind::kEmpty;
    plan->kernel_name = cat(device_name(plan->selected), "/", op.name, ":empty");
    plan->converts.clear();
  } else {
    if (plan->discard_outputs != 0)
      for (int i = 0; i < call.n_out; ++i)
        if (plan->discard_outputs >> i & 1u) {
          call.out[i].strides = contiguous_strides(call.out[i].shape);
          plan->out_temps.push_back({i, call.out[i].dtype, 0});
        }
    if (variant == "reference") {
      reference_plan(call, *plan);
    } else if (variant == "composed") {
      if (op.compose == nullptr)
        throw_arg(op.name, "policy.kernel", "an op that is composed of others", pin);
      compose_plan(call, *plan);
    } else if (!choose_kernel(call, *plan, pin)) {
      if (op.compose != nullptr)
        compose_plan(call, *plan);
      else
        reference_plan(call, *plan);
    }
    place_conversions(original, call, *plan);
  }
  if (call.policy.strict && plan->convert_bytes > 0) {
    std::string which;
    for (const ConvertStep& step : plan->converts)
      which += cat(which.empty() ? "" : ", ", input_name(op, step.operand));
    if (which.empty()) which = "out";
    throw_arg(ErrorCode::kNotSupported, op.name, which,
              "operands the kernel reads in place under a strict policy",
              cat("an implicit copy for ", plan->kernel_name),
              "pass a row-major array of the kernel's dtype, or allow copies");
  }
  plan->id = next_id.fetch_add(1, std::memory_order_relaxed);
  register_plan_text(plan->id, plan->kernel_name, plan->call_text,
                     call.policy == Policy{} ? std::string() : call.policy.str());
  return plan;
}

}  // namespace lc
