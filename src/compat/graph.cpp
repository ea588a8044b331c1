#include "lightning_core/core/graph.hpp"

#include <algorithm>
#include <iterator>
#include <optional>
#include <span>
#include <utility>

#include "compat/bridge.hpp"
#include "lightning_core/dispatch.hpp"

namespace lightning_core::graph {
namespace {

using lc::cat;
using lc::ErrorCode;
using lc::OpCall;
using lc::throw_arg;
using lc::compat::device_of;
using lc::compat::guard;
using lc::compat::status_of;
using lightning_core::detail::Extents;
using lightning_core::detail::tensorNumel;
using runtime::Device;
using runtime::Status;

constexpr const char* kWhere = "graph";
constexpr const char* kOpNames[] = {"matmul",     "vector_add",        "matrix_sub",
                                    "matrix_div", "attention_forward", "conv2d_nchw3x3s1p1"};
// As the dispatcher knows them, and as the reference's traces do.
constexpr const char* kOps[] = {"matmul", "add", "sub", "div", "attention", "conv2d"};
constexpr const char* kTraced[] = {"matmul",     "vector_add",        "matrix_sub",
                                   "matrix_div", "attention_forward", "conv2d_nchw"};
constexpr const char* kPassNames[] = {"tensor_spec", "schema_arity", "tensor_reference",
                                      "control_dependency", "backend_capability"};

template <typename E, size_t kN>
const char* name_of(E value, const char* const (&names)[kN]) {
  const auto i = static_cast<size_t>(value);
  return i < kN ? names[i] : "unknown";
}

lc::DType dtype_of(DType dtype) {
  return dtype == DType::kFloat32 ? lc::DType::kFloat32 : lc::DType::kFloat64;
}

std::string text_of(const Extents& shape) {
  std::string text;
  for (const int64_t extent : shape) text += cat(text.empty() ? "" : ", ", extent);
  return cat("(", text, ")");
}

void check_spec(const TensorSpec& spec) {
  if (spec.dtype != DType::kFloat32 && spec.dtype != DType::kFloat64)
    throw_arg(kWhere, "dtype", "kFloat32 or kFloat64", cat(static_cast<int>(spec.dtype)));
  if (spec.layout != Layout::kContiguous && spec.layout != Layout::kStrided)
    throw_arg(kWhere, "layout", "kContiguous or kStrided", cat(static_cast<int>(spec.layout)));
  if (tensorNumel(spec.shape) == 0)
    throw_arg(kWhere, "shape", "one or more extents, all above 0, that memory can hold",
              text_of(spec.shape));
}

/// As the op runs it: what vector_add takes has any rank, and one size.
lc::View view_of(OpKind op, const TensorSpec& spec, void* data) {
  const auto n = static_cast<int64_t>(tensorNumel(spec.shape));
  return lc::View(
      data, dtype_of(spec.dtype),
      op == OpKind::kVectorAdd ? lc::Shape{n} : lc::Shape(std::span<const int64_t>(spec.shape)));
}

/// A call of the node; `data(id)` gives an operand's memory.
template <typename Data>
OpCall call_of(const GraphNode& node, const std::vector<GraphTensorValue>& tensors,
               const Data& data) {
  const auto i = static_cast<size_t>(node.op);
  OpCall call(lc::get_op(kOps[i]));
  call.trace_as = kTraced[i];
  for (size_t k = 0; k < node.inputs.size(); ++k)
    call.in[k] = view_of(node.op, tensors[node.inputs[k]].spec, data(node.inputs[k]));
  if (node.op == OpKind::kConv2dNchw3x3s1p1) {
    constexpr int64_t kOne[2] = {1, 1};
    call.attr_ref("padding") = lc::AttrValue::list(kOne);
  }
  return call;
}

/// Shapes that the dispatcher would broadcast or otherwise take, and the reference's op does not.
void check_input(const GraphNode& node, size_t i, const std::vector<GraphTensorValue>& tensors) {
  constexpr size_t kRanks[][3] = {{2, 2}, {}, {2, 2}, {2, 2}, {2, 2, 2}, {4, 4, 1}};
  const char* op = opKindName(node.op);
  const std::string arg = cat("input ", i);
  const TensorSpec& spec = tensors[node.inputs[i]].spec;
  const TensorSpec& first = tensors[node.inputs[0]].spec;
  const TensorSpec& out = tensors[node.outputs[0]].spec;
  if (spec.dtype != out.dtype)
    throw_arg(op, arg, cat(dtypeName(out.dtype), ", as the output"), dtypeName(spec.dtype));
  const size_t rank = kRanks[static_cast<size_t>(node.op)][i];
  if (rank != 0 && spec.shape.size() != rank)
    throw_arg(op, arg, cat("rank ", rank), text_of(spec.shape));
  switch (node.op) {
    case OpKind::kVectorAdd: {
      const size_t n = tensorNumel(first.shape);
      if (tensorNumel(spec.shape) != n)
        throw_arg(op, arg, cat(n, " elements, as input 0"), text_of(spec.shape));
      return;
    }
    case OpKind::kMatrixSub:
    case OpKind::kMatrixDiv:
    case OpKind::kAttentionForward:
      if (spec.shape != first.shape)
        throw_arg(op, arg, cat("shape ", text_of(first.shape), ", as input 0"),
                  text_of(spec.shape));
      return;
    case OpKind::kConv2dNchw3x3s1p1:
      if (i == 1 && (spec.shape[2] != 3 || spec.shape[3] != 3))
        throw_arg(op, arg, "a 3x3 kernel", text_of(spec.shape));
      return;
    case OpKind::kMatMul:
      return;
  }
}

/// What the op computes from its inputs is what the output's spec says.
void check_output(const GraphNode& node, const std::vector<GraphTensorValue>& tensors,
                  const lc::Shape& computed) {
  const TensorSpec& out = tensors[node.outputs[0]].spec;
  const bool same = node.op == OpKind::kVectorAdd ? computed == view_of(node.op, out, nullptr).shape
                                                  : std::equal(computed.begin(), computed.end(),
                                                               out.shape.begin(), out.shape.end());
  if (!same)
    throw_arg(opKindName(node.op), "output", cat("shape ", computed.str()), text_of(out.shape));
}

void check_arity(const OperatorSchema& schema, size_t inputs, size_t outputs) {
  const auto count = [&](const char* what, size_t n, size_t least, size_t most) {
    if (n < least || n > most)
      throw_arg(schema.name, what,
                least == most ? cat(least, " tensors") : cat(least, " to ", most, " tensors"),
                cat(n));
  };
  count("inputs", inputs, schema.min_inputs, schema.max_inputs);
  count("outputs", outputs, schema.min_outputs, schema.max_outputs);
}

/// What the ops take, whatever the schemas that a program registered say.
const OperatorRegistry& own_schemas() {
  static const auto* registry = new OperatorRegistry;  // never destroyed, as the ops it speaks of
  return *registry;
}

constexpr Device kDevices[] = {Device::kMetal, Device::kCUDA, Device::kCPU};  // in this order

/// The issues of a graph. addNode() refuses ids that do not exist and dependencies that are not
/// earlier, for good: neither tensors nor nodes can be taken back.
class Validator {
 public:
  explicit Validator(const GraphIR& graph) : tensors_(graph.tensors()) {
    for (size_t id = 0; id < tensors_.size(); ++id)
      check(ValidationPass::kTensorSpec, -1, id, [&] { check_spec(tensors_[id].spec); });
    reader_.assign(tensors_.size(), kNone);
    writer_.assign(tensors_.size(), kNone);
    for (const GraphNode& node : graph.nodes()) visit(node);
  }

  std::vector<ValidationIssue> issues;

 private:
  static constexpr size_t kNone = SIZE_MAX;  // -1 in a report

  template <typename F>
  bool check(ValidationPass pass, int64_t node, size_t tensor, const F& body) {
    try {
      body();
      return true;
    } catch (const lc::Error& e) {
      issues.push_back({pass, status_of(e.code()), node, static_cast<int64_t>(tensor), e.what()});
      return false;
    }
  }

  void visit(const GraphNode& node) {
    const auto id = static_cast<int64_t>(node.id);
    const OperatorSchema& schema = *globalOperatorRegistry().find(node.op);
    const bool countable = check(ValidationPass::kSchemaArity, id, kNone, [&] {
      check_arity(schema, node.inputs.size(), node.outputs.size());
      check_arity(*own_schemas().find(node.op), node.inputs.size(), node.outputs.size());
    });
    for (const size_t out : node.outputs)
      check(ValidationPass::kTensorReference, id, out, [&] { check_written(node, out); });
    for (const size_t in : node.inputs) reader_[in] = node.id;
    for (const size_t out : node.outputs) writer_[out] = node.id;
    if (countable) check_operands(node);
    check(ValidationPass::kBackendCapability, id, kNone, [&] {
      for (const Device device : kDevices)
        if (schema.supportsDevice(device) && lc::device_built(device_of(device).kind)) return;
      throw_arg(ErrorCode::kNotSupported, kWhere, cat("node ", id),
                cat("a device of this build for ", schema.name), "none");
    });
  }

  void check_written(const GraphNode& node, size_t tensor) {
    const char* op = opKindName(node.op);
    const std::string arg = cat("output tensor ", tensor);
    if (tensors_[tensor].constant)
      throw_arg(op, arg, "a tensor that is not constant", "a constant one");
    if (std::find(node.inputs.begin(), node.inputs.end(), tensor) != node.inputs.end())
      throw_arg(op, arg, "another tensor than the inputs", "an input");
    if (writer_[tensor] != kNone)
      throw_arg(op, arg, "a tensor that no earlier node writes", cat("node ", writer_[tensor]));
    if (reader_[tensor] != kNone)
      throw_arg(op, arg, "a tensor that no earlier node reads", cat("node ", reader_[tensor]));
  }

  void check_operands(const GraphNode& node) {
    const auto id = static_cast<int64_t>(node.id);
    bool good = true;
    for (size_t i = 0; i < node.inputs.size(); ++i)
      good &= check(ValidationPass::kSchemaArity, id, node.inputs[i],
                    [&] { check_input(node, i, tensors_); });
    if (!good) return;
    OpCall call = call_of(node, tensors_, [](size_t) { return nullptr; });
    call.device = lc::Device{};
    if (check(ValidationPass::kSchemaArity, id, kNone, [&] { (void)lc::plan(call); }))
      check(ValidationPass::kSchemaArity, id, node.outputs[0],
            [&] { check_output(node, tensors_, call.out[0].shape); });
  }

  const std::vector<GraphTensorValue>& tensors_;
  std::vector<size_t> reader_;  // last node so far, by tensor
  std::vector<size_t> writer_;
};

/// Throws kNotSupported if an issue is that, else as the first one; nothing without issues.
void throw_worst(const std::vector<ValidationIssue>& issues) {
  if (issues.empty()) return;
  const auto at = std::find_if(issues.begin(), issues.end(), [](const ValidationIssue& issue) {
    return issue.status == Status::kNotSupported;
  });
  const ValidationIssue& worst = at == issues.end() ? issues.front() : *at;
  throw lc::Error(static_cast<ErrorCode>(worst.status), worst.message);
}

struct Choice {
  Device device;
  bool fallback;
};
std::optional<Choice> choose(OpKind op, Device preferred) {
  const OperatorSchema& schema = *globalOperatorRegistry().find(op);
  const auto takes = [&](Device d) {
    return schema.supportsDevice(d) && lc::device_available(device_of(d).kind);
  };
  if (takes(preferred)) return Choice{preferred, false};
  for (const Device d : kDevices)
    if (takes(d)) return Choice{d, true};
  return std::nullopt;
}

/// The dispatcher's own fallback is the CPU; asked for the absent device, its trace shows both.
lc::Device request_of(Device assigned, Device preferred) {
  const lc::Device wanted = device_of(preferred);
  const bool absent = !lc::device_available(wanted.kind);
  return assigned == Device::kCPU && absent ? wanted : device_of(assigned);
}

std::vector<GraphPlanStep> make_steps(const std::vector<GraphNode>& nodes, Device preferred) {
  (void)device_of(preferred);  // refuses a number that names no device
  std::vector<GraphPlanStep> steps;
  for (const GraphNode& node : nodes) {
    const std::optional<Choice> choice = choose(node.op, preferred);
    if (!choice)
      throw_arg(ErrorCode::kNotSupported, kWhere, cat("node ", node.id),
                cat("a device for ", opKindName(node.op)), "none");
    steps.push_back({node.id, node.op, choice->device, choice->fallback});
  }
  return steps;
}

std::vector<GraphExecutionGroup> make_groups(const std::vector<GraphPlanStep>& steps,
                                             const GraphPlannerOptions& options) {
  const runtime::SyncPolicy& sync = options.sync_policy;
  if (sync.mode != runtime::SyncMode::kAuto && sync.mode != runtime::SyncMode::kAlways &&
      sync.mode != runtime::SyncMode::kNever)
    throw_arg(kWhere, "sync_policy.mode", "kAuto, kAlways or kNever",
              cat(static_cast<int>(sync.mode)));
  const bool always = sync.mode == runtime::SyncMode::kAlways;
  const bool never = sync.mode == runtime::SyncMode::kNever;
  std::vector<GraphExecutionGroup> groups;
  for (const GraphPlanStep& step : steps) {
    if (groups.empty() || always || groups.back().assigned_device != step.assigned_device) {
      GraphExecutionGroup group;
      group.group_id = groups.size();
      group.assigned_device = step.assigned_device;
      group.fallback = step.fallback;
      if (!groups.empty() && !never) {
        const bool changes = groups.back().assigned_device != step.assigned_device;
        group.sync_boundary_before =
            always || sync.trace_sync_boundary || (options.insert_sync_on_device_change && changes);
        groups.back().sync_boundary_after = group.sync_boundary_before;
      }
      groups.push_back(std::move(group));
    }
    groups.back().node_ids.push_back(step.node_id);
  }
  if (!groups.empty() && !never && (always || sync.trace_sync_boundary))
    groups.back().sync_boundary_after = true;
  return groups;
}

template <typename T>
using Values = std::unordered_map<std::size_t, std::vector<T>>;

template <typename T>
void execute(const GraphIR& graph, const GraphPlannerOptions& options, const Values<T>& feeds,
             Values<T>* values, std::vector<GraphExecutionGroup>* groups_out,
             std::vector<GraphPlanStep>* steps_out) {
  constexpr DType kType = sizeof(T) == 4 ? DType::kFloat32 : DType::kFloat64;
  if (values == nullptr) throw_arg(kWhere, "values", "a map to write to", "a null pointer");
  throw_worst(Validator(graph).issues);
  std::vector<GraphPlanStep> steps = make_steps(graph.nodes(), options.preferred_device);
  std::vector<GraphExecutionGroup> groups = make_groups(steps, options);
  const std::vector<GraphTensorValue>& tensors = graph.tensors();
  const auto numel = [&](size_t id) { return tensorNumel(tensors[id].spec.shape); };
  const auto check_type = [&](size_t id) {
    if (tensors[id].spec.dtype != kType)
      throw_arg(kWhere, cat("tensor ", id), dtypeName(kType), dtypeName(tensors[id].spec.dtype));
  };
  std::vector<bool> written(tensors.size());
  for (const GraphNode& node : graph.nodes()) {
    written[node.outputs[0]] = true;
    check_type(node.outputs[0]);  // and so the inputs, or the graph was not valid
  }
  Values<T> all;
  for (const auto& [id, feed] : feeds) {
    const std::string arg = cat("feeds[", id, "]");
    if (id >= tensors.size())
      throw_arg(kWhere, arg, cat("a tensor below ", tensors.size()), cat(id));
    check_type(id);
    if (written[id]) throw_arg(kWhere, arg, "a tensor that no node writes", "an output");
    if (feed.size() != numel(id))
      throw_arg(kWhere, arg, cat(numel(id), " values"), cat(feed.size()));
    all.emplace(id, feed);
  }
  for (const GraphNode& node : graph.nodes())
    for (const size_t id : node.inputs)
      if (!written[id] && all.find(id) == all.end())
        throw_arg(kWhere, cat("feeds[", id, "]"), "values of a tensor that no node writes", "none");

  const auto synchronize = [&](const GraphExecutionGroup& group, bool boundary) {
    if (!boundary) return;
    const Status status = runtime::deviceSynchronizeWithPolicy(options.sync_policy);
    if (status != Status::kSuccess)
      throw lc::Error(static_cast<ErrorCode>(status),
                      cat("[", kWhere, "] group ", group.group_id, ": ", lc::last_error()));
  };
  for (const GraphExecutionGroup& group : groups) {
    synchronize(group, group.sync_boundary_before);
    for (const size_t node_id : group.node_ids) {
      const GraphNode& node = graph.nodes()[node_id];
      const size_t out = node.outputs[0];
      all[out].resize(numel(out));
      OpCall call = call_of(node, tensors, [&](size_t id) { return all.at(id).data(); });
      call.device = request_of(group.assigned_device, options.preferred_device);
      call.out[0] = view_of(node.op, tensors[out].spec, all[out].data());
      lc::run(lc::plan(call), call);
    }
    synchronize(group, group.sync_boundary_after);
  }
  *values = std::move(all);
  if (groups_out != nullptr) *groups_out = std::move(groups);
  if (steps_out != nullptr) *steps_out = std::move(steps);
}

}  // namespace

const char* dtypeName(DType dtype) {
  static constexpr const char* kNames[] = {"float32", "float64"};
  return name_of(dtype, kNames);
}
const char* opKindName(OpKind op) { return name_of(op, kOpNames); }
const char* validationPassName(ValidationPass pass) { return name_of(pass, kPassNames); }

Status validateTensorSpec(const TensorSpec& spec) {
  return guard([&] { check_spec(spec); });
}

bool OperatorSchema::supportsDevice(Device device) const {
  switch (device) {
    case Device::kCPU:
      return supports_cpu;
    case Device::kCUDA:
      return supports_cuda;
    case Device::kMetal:
      return supports_metal;
  }
  return false;
}

OperatorRegistry::OperatorRegistry() {
  for (size_t i = 0; i < std::size(kOpNames); ++i) {
    OperatorSchema schema;
    schema.kind = static_cast<OpKind>(i);
    schema.name = kOpNames[i];
    schema.min_inputs = schema.kind == OpKind::kAttentionForward ? 3 : 2;
    schema.max_inputs = schema.kind == OpKind::kConv2dNchw3x3s1p1 ? 3 : schema.min_inputs;
    schema.min_outputs = schema.max_outputs = 1;
    schema.supports_cuda = lc::device_built(lc::DeviceKind::kCuda);
    schema.supports_metal = lc::device_built(lc::DeviceKind::kMetal);
    schemas_.push_back(std::move(schema));
  }
}

Status OperatorRegistry::registerSchema(const OperatorSchema& schema) {
  return guard([&] {
    const auto kind = static_cast<size_t>(schema.kind);
    if (kind >= schemas_.size())
      throw_arg(kWhere, "kind", "an op of the enum", cat(static_cast<int>(schema.kind)));
    if (schema.name.empty()) throw_arg(kWhere, "name", "a name", "none");
    if (schema.min_inputs > schema.max_inputs || schema.min_outputs > schema.max_outputs)
      throw_arg(kWhere, "schema", "at least no more than at most", schema.name);
    OperatorSchema copy = schema;
    schemas_[kind] = std::move(copy);
  });
}

const OperatorSchema* OperatorRegistry::find(OpKind kind) const {
  const auto i = static_cast<size_t>(kind);
  return i < schemas_.size() ? &schemas_[i] : nullptr;
}

OperatorRegistry& globalOperatorRegistry() {
  static auto* registry = new OperatorRegistry;  // never destroyed, as the ops it speaks of
  return *registry;
}

Status GraphIR::addTensorSpec(const TensorSpec& spec, std::size_t* id_out, const std::string& name,
                              bool constant) {
  return guard([&] {
    if (id_out == nullptr) throw_arg(kWhere, "id_out", "memory for a number", "a null pointer");
    check_spec(spec);
    tensors_.push_back({spec, name, constant});
    *id_out = tensors_.size() - 1;
  });
}

Status GraphIR::addNode(OpKind op, const std::vector<std::size_t>& inputs,
                        const std::vector<std::size_t>& outputs,
                        const std::vector<std::size_t>& control_deps, const std::string& name) {
  return guard([&] {
    const OperatorSchema* schema = globalOperatorRegistry().find(op);
    if (schema == nullptr)
      throw_arg(ErrorCode::kNotSupported, kWhere, "op", "a registered op",
                cat(static_cast<int>(op)));
    check_arity(*schema, inputs.size(), outputs.size());
    for (const auto* ids : {&inputs, &outputs})
      for (const size_t id : *ids)
        if (id >= tensors_.size())
          throw_arg(schema->name, "tensor", cat("a number below ", tensors_.size()), cat(id));
    for (const size_t dep : control_deps)
      if (dep >= nodes_.size())
        throw_arg(schema->name, "control_deps", cat("nodes below ", nodes_.size()), cat(dep));
    nodes_.push_back({nodes_.size(), op, inputs, outputs, control_deps, name});
  });
}

Status GraphIR::validate() const { return validateWithReport(nullptr); }

Status GraphIR::validateWithReport(ValidationReport* report) const {
  return guard([&] {
    ValidationReport unused;
    ValidationReport& to = report == nullptr ? unused : *report;
    to.issues = Validator(*this).issues;
    throw_worst(to.issues);
  });
}

Status GraphIR::planForDevice(Device preferred, std::vector<GraphPlanStep>* steps) const {
  return guard([&] {
    if (steps == nullptr) throw_arg(kWhere, "steps", "a list to fill", "a null pointer");
    throw_worst(Validator(*this).issues);
    *steps = make_steps(nodes_, preferred);
  });
}

Status GraphIR::planExecutionGroups(const GraphPlannerOptions& options,
                                    std::vector<GraphExecutionGroup>* groups,
                                    std::vector<GraphPlanStep>* steps) const {
  return guard([&] {
    if (groups == nullptr) throw_arg(kWhere, "groups", "a list to fill", "a null pointer");
    throw_worst(Validator(*this).issues);
    std::vector<GraphPlanStep> made = make_steps(nodes_, options.preferred_device);
    *groups = make_groups(made, options);
    if (steps != nullptr) *steps = std::move(made);
  });
}

Status GraphIR::executeF32(const GraphPlannerOptions& options, const Values<float>& feeds,
                           Values<float>* values, std::vector<GraphExecutionGroup>* groups,
                           std::vector<GraphPlanStep>* steps) const {
  return guard([&] { execute(*this, options, feeds, values, groups, steps); });
}

Status GraphIR::executeF64(const GraphPlannerOptions& options, const Values<double>& feeds,
                           Values<double>* values, std::vector<GraphExecutionGroup>* groups,
                           std::vector<GraphPlanStep>* steps) const {
  return guard([&] { execute(*this, options, feeds, values, groups, steps); });
}

}  // namespace lightning_core::graph
