// The reference's graph: tensors and nodes by number, checked, placed on devices, run in the order
// of insertion. Every node goes through the same dispatcher as an eager call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "lightning_core/core/attention.hpp"
#include "lightning_core/core/ops.hpp"
#include "lightning_core/core/runtime.hpp"
#include "lightning_core/core/tensor.hpp"

namespace lightning_core::graph {

enum class DType { kFloat32 = 0, kFloat64 };
/// matmul (m, k) (k, n); vector_add of equal sizes; matrix_sub, matrix_div of equal (rows, cols);
/// attention_forward of q, k, v (seq_len, head_dim); conv2d_nchw3x3s1p1 of x, w and optionally
/// bias, without ReLU.
enum class OpKind {
  kMatMul = 0,
  kVectorAdd,
  kMatrixSub,
  kMatrixDiv,
  kAttentionForward,
  kConv2dNchw3x3s1p1
};

const char* dtypeName(DType dtype);  ///< "float32", "float64"; "unknown" for another number
const char* opKindName(OpKind op);   ///< "matmul"; "unknown" for another number

struct TensorSpec {
  std::vector<std::int64_t> shape;
  DType dtype{DType::kFloat32};
  Layout layout{Layout::kContiguous};  ///< kept for its name: values are row-major
};

/// kInvalidValue for an empty shape, an extent below 1, more elements than memory can hold, or an
/// unknown dtype or layout.
runtime::Status validateTensorSpec(const TensorSpec& spec);

struct OperatorSchema {
  OpKind kind{OpKind::kMatMul};
  std::string name;
  std::size_t min_inputs{0};
  std::size_t max_inputs{0};
  std::size_t min_outputs{0};
  std::size_t max_outputs{0};
  bool supports_cpu{true};
  bool supports_cuda{false};
  bool supports_metal{false};
  [[nodiscard]] bool supportsDevice(runtime::Device device) const;
};

/// Schemas by op, from the start those of the six ops above, on every device that this build has.
/// Not safe to change while graphs are used.
class OperatorRegistry {
 public:
  OperatorRegistry();
  /// kInvalidValue for a schema without a name, one that takes more at least than at most, or one
  /// of no op. A schema of the same op is replaced.
  runtime::Status registerSchema(const OperatorSchema& schema);
  [[nodiscard]] const OperatorSchema* find(OpKind kind) const;  ///< null if there is none
  [[nodiscard]] const std::vector<OperatorSchema>& schemas() const { return schemas_; }
  [[nodiscard]] std::size_t size() const { return schemas_.size(); }

 private:
  std::vector<OperatorSchema> schemas_;
};

/// The one that graphs use.
OperatorRegistry& globalOperatorRegistry();

struct GraphTensorValue {
  TensorSpec spec;
  std::string name;
  bool constant{false};
};

struct GraphNode {
  std::size_t id{0};
  OpKind op{OpKind::kMatMul};
  std::vector<std::size_t> inputs;
  std::vector<std::size_t> outputs;
  std::vector<std::size_t> control_deps;  ///< nodes that come first
  std::string name;
};

struct GraphPlanStep {
  std::size_t node_id{0};
  OpKind op{OpKind::kMatMul};
  runtime::Device assigned_device{runtime::Device::kCPU};
  bool fallback{false};  ///< not the preferred device
};

/// Steps in a row on one device. At each boundary that is set the sync policy is applied once.
struct GraphExecutionGroup {
  std::size_t group_id{0};
  runtime::Device assigned_device{runtime::Device::kCPU};
  bool fallback{false};
  bool sync_boundary_before{false};
  bool sync_boundary_after{false};
  std::vector<std::size_t> node_ids;
};

enum class ValidationPass {
  kTensorSpec = 0,
  kSchemaArity,        ///< numbers of operands, their dtypes and shapes
  kTensorReference,    ///< an output that is constant, or that this or an earlier node uses
  kControlDependency,  ///< never reported: addNode() refuses what it would find
  kBackendCapability
};
const char* validationPassName(ValidationPass pass);  ///< "tensor_spec"

struct ValidationIssue {
  ValidationPass pass{ValidationPass::kTensorSpec};
  runtime::Status status{runtime::Status::kInvalidValue};
  std::int64_t node_id{-1};    ///< -1: no node
  std::int64_t tensor_id{-1};  ///< -1: no tensor
  std::string message;
};

struct ValidationReport {
  std::vector<ValidationIssue> issues;
  [[nodiscard]] bool ok() const { return issues.empty(); }
  void clear() { issues.clear(); }
};

struct GraphPlannerOptions {
  /// Where it is absent, Metal, CUDA and CPU are tried in this order, as a fallback.
  runtime::Device preferred_device{runtime::Device::kMetal};
  /// auto: boundaries where the device changes, and with trace_sync_boundary between all groups and
  /// after the last; always: a group a node, with boundaries between and after; never: none.
  runtime::SyncPolicy sync_policy{};
  /// Kept for its name: steps on one device are fallbacks all or none, so groups never mix them.
  bool separate_fallback_segments{true};
  bool insert_sync_on_device_change{true};
};

class GraphIR {
 public:
  /// The tensor's number, counted from 0, goes to `id_out`. Fails as validateTensorSpec() does, and
  /// with kInvalidValue for a null pointer.
  runtime::Status addTensorSpec(const TensorSpec& spec, std::size_t* id_out,
                                const std::string& name = "", bool constant = false);
  /// kNotSupported for an op without a schema; kInvalidValue for a wrong number of operands, a
  /// tensor that does not exist, or a dependency that is no earlier node. The graph is then as
  /// before.
  runtime::Status addNode(OpKind op, const std::vector<std::size_t>& inputs,
                          const std::vector<std::size_t>& outputs,
                          const std::vector<std::size_t>& control_deps = {},
                          const std::string& name = "");

  [[nodiscard]] runtime::Status validate() const;
  /// Every pass on every tensor and node. kSuccess without issues, kNotSupported if one is that,
  /// else kInvalidValue. `report` may be null.
  runtime::Status validateWithReport(ValidationReport* report) const;

  // These three validate first, and write nothing unless they succeed.

  /// kNotSupported where no device has a node's op.
  runtime::Status planForDevice(runtime::Device preferred, std::vector<GraphPlanStep>* steps) const;
  runtime::Status planExecutionGroups(const GraphPlannerOptions& options,
                                      std::vector<GraphExecutionGroup>* groups,
                                      std::vector<GraphPlanStep>* steps = nullptr) const;

  /// Runs the graph on tensors of this dtype. `feeds` holds every tensor that a node reads and none
  /// writes, row-major; `values` receives feeds and results. kInvalidValue for a missing feed, one
  /// of a wrong size, an unknown or written tensor, or another dtype.
  runtime::Status executeF32(const GraphPlannerOptions& options,
                             const std::unordered_map<std::size_t, std::vector<float>>& feeds,
                             std::unordered_map<std::size_t, std::vector<float>>* values,
                             std::vector<GraphExecutionGroup>* groups = nullptr,
                             std::vector<GraphPlanStep>* steps = nullptr) const;
  runtime::Status executeF64(const GraphPlannerOptions& options,
                             const std::unordered_map<std::size_t, std::vector<double>>& feeds,
                             std::unordered_map<std::size_t, std::vector<double>>* values,
                             std::vector<GraphExecutionGroup>* groups = nullptr,
                             std::vector<GraphPlanStep>* steps = nullptr) const;

  [[nodiscard]] const std::vector<GraphTensorValue>& tensors() const { return tensors_; }
  [[nodiscard]] const std::vector<GraphNode>& nodes() const { return nodes_; }
  [[nodiscard]] std::size_t numTensors() const { return tensors_.size(); }
  [[nodiscard]] std::size_t numNodes() const { return nodes_.size(); }

 private:
  std::vector<GraphTensorValue> tensors_;
  std::vector<GraphNode> nodes_;
};

}  // namespace lightning_core::graph
