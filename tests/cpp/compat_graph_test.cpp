// The reference's graph: specs, registry, reports, plans, groups, and runs of every op. Like a
// program written for the reference, it includes the one header and may call the namespace `lc`.
#include "lightning_core/graph.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace lc = lightning_core;

namespace {

namespace graph = lc::graph;
namespace rt = lc::runtime;
using graph::DType, graph::OpKind, graph::ValidationPass, rt::Device, rt::Status;
using enum OpKind;
using Ids = std::vector<std::size_t>;
using Shape = std::vector<std::int64_t>;

constexpr Device kDevices[] = {Device::kMetal, Device::kCUDA, Device::kCPU};

/// Where a step that prefers `device` runs on this machine.
Device assigned(Device device) {
  for (const Device d : {device, Device::kMetal, Device::kCUDA})
    if (rt::backendCapabilities(d).available) return d;
  return Device::kCPU;
}

/// The global registry, for a test to change; afterwards it is as it was.
struct Registry {
  graph::OperatorRegistry saved = graph::globalOperatorRegistry();
  graph::OperatorRegistry& global = graph::globalOperatorRegistry();
  ~Registry() { global = saved; }
  Status put(const graph::OperatorSchema& schema) { return global.registerSchema(schema); }
};

bool names(const graph::ValidationIssue& issue, ValidationPass pass, int node, int tensor) {
  return issue.pass == pass && issue.node_id == node && issue.tensor_id == tensor;
}

/// A graph, by default of tensors of T, and what goes into and comes out of its runs.
template <typename T = float>
struct Case : graph::GraphIR {
  using Values = std::unordered_map<std::size_t, std::vector<T>>;
  using Other = std::conditional_t<sizeof(T) == 4, double, float>;
  static constexpr DType kType = sizeof(T) == 4 ? DType::kFloat32 : DType::kFloat64;
  static constexpr DType kOther = sizeof(T) == 4 ? DType::kFloat64 : DType::kFloat32;
  Values feeds, values;
  graph::GraphPlannerOptions options;
  std::vector<graph::GraphExecutionGroup> groups;
  std::vector<graph::GraphPlanStep> steps;

  std::size_t tensor(const Shape& shape, DType dtype = kType, bool constant = false) {
    std::size_t id = SIZE_MAX;
    EXPECT_EQ(addTensorSpec({shape, dtype}, &id, "t", constant), Status::kSuccess);
    return id;
  }
  std::size_t feed(const Shape& shape, std::vector<T> data) {
    const std::size_t id = tensor(shape);
    feeds[id] = std::move(data);
    return id;
  }
  void node(OpKind op, const Ids& inputs, const Ids& outputs) {
    EXPECT_EQ(addNode(op, inputs, outputs), Status::kSuccess) << rt::lastErrorMessage();
  }
  std::size_t apply(OpKind op, const Ids& inputs, const Shape& shape) {
    const std::size_t id = tensor(shape);
    node(op, inputs, {id});
    return id;
  }
  Status execute(const Values& in, Values* out) {
    if constexpr (sizeof(T) == 4)
      return executeF32(options, in, out, &groups, &steps);
    else
      return executeF64(options, in, out, &groups, &steps);
  }
  Status execute() { return execute(feeds, &values); }
  void expect(std::size_t id, const std::vector<double>& want) const {
    const std::vector<T>& got = values.at(id);
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i)
      EXPECT_NEAR(static_cast<double>(got[i]), want[i], sizeof(T) == 4 ? 1e-5 : 1e-13) << i;
  }
};

TEST(CompatGraph, Names) {
  EXPECT_STREQ(graph::dtypeName(DType::kFloat32), "float32");
  EXPECT_STREQ(graph::dtypeName(DType::kFloat64), "float64");
  EXPECT_STREQ(graph::dtypeName(static_cast<DType>(2)), "unknown");
  const char* passes[] = {"tensor_spec", "schema_arity", "tensor_reference", "control_dependency",
                          "backend_capability"};
  for (int i = 0; i < 5; ++i)
    EXPECT_STREQ(graph::validationPassName(static_cast<ValidationPass>(i)), passes[i]);
  for (const int number : {-1, 6, 1 << 30}) {
    EXPECT_STREQ(graph::opKindName(static_cast<OpKind>(number)), "unknown");
    EXPECT_STREQ(graph::validationPassName(static_cast<ValidationPass>(number)), "unknown");
  }
}

TEST(CompatGraph, TensorSpecs) {
  graph::GraphIR g;
  std::size_t id = 77;
  constexpr std::int64_t kHuge = std::int64_t{1} << 32;
  const Shape bad[] = {
      {}, {0}, {2, -1}, {INT64_MAX}, {INT64_MIN, 2}, {kHuge, kHuge / 2}, {kHuge, kHuge}};
  for (const Shape& shape : bad) {
    EXPECT_EQ(graph::validateTensorSpec({shape}), Status::kInvalidValue);
    EXPECT_EQ(g.addTensorSpec({shape}, &id), Status::kInvalidValue);
  }
  for (const int number : {-1, 2}) {
    EXPECT_EQ(g.addTensorSpec({{2}, static_cast<DType>(number)}, &id), Status::kInvalidValue);
    const auto layout = static_cast<lc::Layout>(number);
    EXPECT_EQ(g.addTensorSpec({{2}, DType::kFloat32, layout}, &id), Status::kInvalidValue);
  }
  EXPECT_EQ(g.addTensorSpec({{2}}, nullptr), Status::kInvalidValue);
  EXPECT_TRUE(id == 77 && g.numTensors() == 0);
  EXPECT_EQ(g.addTensorSpec({{2, 3}, DType::kFloat64}, &id, "a", true), Status::kSuccess);
  EXPECT_EQ(g.addTensorSpec({{2}, DType::kFloat32, lc::Layout::kStrided}, &id), Status::kSuccess);
  EXPECT_EQ(id, 1u);
  ASSERT_EQ(g.numTensors(), 2u);
  const graph::GraphTensorValue& first = g.tensors()[0];
  EXPECT_TRUE(first.name == "a" && first.constant && first.spec.dtype == DType::kFloat64);
  EXPECT_TRUE(g.tensors()[1].name.empty() && !g.tensors()[1].constant);
}

TEST(CompatGraph, RegistryOfSchemas) {
  Registry registry;
  EXPECT_EQ(graph::OperatorRegistry().size(), 6u);
  const char* names[] = {"matmul",     "vector_add",        "matrix_sub",
                         "matrix_div", "attention_forward", "conv2d_nchw3x3s1p1"};
  for (const graph::OperatorSchema& schema : registry.global.schemas()) {
    const OpKind op = schema.kind;
    EXPECT_EQ(schema.name, names[static_cast<int>(op)]);
    EXPECT_TRUE(schema.name == graph::opKindName(op) && registry.global.find(op) == &schema);
    const std::size_t least = op == kAttentionForward ? 3 : 2;
    EXPECT_TRUE(schema.min_inputs == least && schema.min_outputs == 1 && schema.max_outputs == 1);
    EXPECT_EQ(schema.max_inputs, op == kConv2dNchw3x3s1p1 ? 3 : least);
    for (const Device d : kDevices)
      EXPECT_EQ(schema.supportsDevice(d), rt::backendCapabilities(d).built);
    EXPECT_FALSE(schema.supportsDevice(static_cast<Device>(9)));
  }
  for (const auto no_op : {static_cast<OpKind>(6), static_cast<OpKind>(-1)}) {
    EXPECT_EQ(registry.put({no_op, "m", 2, 2, 1, 1}), Status::kInvalidValue);
    EXPECT_EQ(registry.global.find(no_op), nullptr);
  }
  EXPECT_EQ(registry.put({kMatMul, "", 2, 2, 1, 1}), Status::kInvalidValue);
  EXPECT_EQ(registry.put({kMatMul, "m", 3, 2, 1, 1}), Status::kInvalidValue);
  EXPECT_EQ(registry.put({kMatMul, "m", 2, 2, 2, 1}), Status::kInvalidValue);
  EXPECT_EQ(registry.global.find(kMatMul)->name, "matmul");
  EXPECT_EQ(registry.put({kMatMul, "m", 0, 40, 0, 3}), Status::kSuccess);
  EXPECT_EQ(registry.global.size(), 6u);
  EXPECT_EQ(registry.global.find(kMatMul)->name, "m");
  EXPECT_FALSE(registry.global.find(kMatMul)->supportsDevice(Device::kCUDA));

  // A schema may allow what the op cannot run; the graph then says so.
  Case g;
  const std::size_t a = g.tensor({2, 2}), b = g.tensor({2, 2}), c = g.tensor({2, 2});
  g.node(kMatMul, {}, {});
  g.node(kMatMul, Ids(40, a), {b});
  g.node(kMatMul, {a, a}, {c, c});
  graph::ValidationReport report;
  EXPECT_EQ(g.validateWithReport(&report), Status::kInvalidValue);
  ASSERT_EQ(report.issues.size(), 3u);
  for (const auto& issue : report.issues) EXPECT_EQ(issue.pass, ValidationPass::kSchemaArity);
}

TEST(CompatGraph, BadNodesChangeNothing) {
  Case g;
  const std::size_t a = g.tensor({2, 2}), b = g.tensor({2, 2}), c = g.tensor({2, 2});
  for (const int number : {6, -1})
    EXPECT_EQ(g.addNode(static_cast<OpKind>(number), {a, b}, {c}), Status::kNotSupported);
  for (const graph::OperatorSchema& schema : graph::globalOperatorRegistry().schemas()) {
    const OpKind op = schema.kind;
    const Ids in(op == kAttentionForward ? 3 : 2, a);
    EXPECT_EQ(g.addNode(op, {a}, {c}), Status::kInvalidValue);
    EXPECT_EQ(g.addNode(op, {a, b, a, b}, {c}), Status::kInvalidValue);
    EXPECT_EQ(g.addNode(op, in, {}), Status::kInvalidValue);
    EXPECT_EQ(g.addNode(op, in, {b, c}), Status::kInvalidValue);
    EXPECT_EQ(g.addNode(op, in, {3}), Status::kInvalidValue);
    EXPECT_EQ(g.addNode(op, Ids(in.size(), SIZE_MAX), {c}), Status::kInvalidValue);
    EXPECT_EQ(g.addNode(op, in, {c}, {0}), Status::kInvalidValue);  // itself
  }
  EXPECT_TRUE(g.numNodes() == 0 && g.validateWithReport(nullptr) == Status::kSuccess);
  EXPECT_EQ(g.addNode(kMatMul, {a, b}, {c}, {}, "first"), Status::kSuccess);
  const std::size_t d = g.tensor({2, 2});
  EXPECT_EQ(g.addNode(kVectorAdd, {a, b}, {d}, {0, 1}), Status::kInvalidValue);
  EXPECT_EQ(g.addNode(kVectorAdd, {a, b}, {d}, {0}), Status::kSuccess);
  ASSERT_EQ(g.numNodes(), 2u);
  const graph::GraphNode& node = g.nodes()[1];
  EXPECT_TRUE(g.nodes()[0].name == "first" && node.id == 1 && node.op == kVectorAdd);
  EXPECT_TRUE(node.inputs == (Ids{a, b}) && node.outputs == Ids{d} && node.control_deps == Ids{0});
}

template <typename T>
class CompatGraphRuns : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CompatGraphRuns, Types);

TYPED_TEST(CompatGraphRuns, EveryOpOnEveryDevice) {
  for (const Device device : kDevices) {
    Case<TypeParam> r;
    r.options.preferred_device = device;
    const std::size_t a = r.feed({2, 3}, {1, 2, 3, 4, 5, 6}), bias = r.feed({2}, {1, -2});
    const std::size_t b = r.feed({3, 2}, {7, 8, 9, 10, 11, 12});
    const std::size_t c = r.feed({2, 3}, {2, -2, 2, -2, 2, -2});
    const std::size_t q = r.feed({2, 2}, {1, 0, 0, 1}), v = r.feed({2, 2}, {10, 0, 0, 20});
    const std::size_t x = r.feed({1, 2, 2, 2}, {1, -2, 3, -4, 5, 6, 7, 8});
    // Channels: x's first, moved down; twice x's second, moved left, less its first.
    const std::size_t w =
        r.feed({2, 2, 3, 3}, {0, 1, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                              0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0});
    std::map<std::size_t, std::vector<double>> wanted;
    const auto op = [&](OpKind kind, const Ids& in, const Shape& shape, std::vector<double> want) {
      wanted[r.apply(kind, in, shape)] = std::move(want);
    };
    const double p = 1 / (1 + std::exp(-1 / std::sqrt(2.0)));
    op(kMatMul, {a, b}, {2, 2}, {58, 64, 139, 154});
    op(kVectorAdd, {a, b}, {1, 1, 1, 1, 1, 1, 1, 3, 2}, {8, 10, 12, 14, 16, 18});
    op(kMatrixSub, {a, c}, {2, 3}, {-1, 4, 1, 6, 3, 8});
    op(kMatrixDiv, {a, c}, {2, 3}, {0.5, -1, 1.5, -2, 2.5, -3});
    op(kAttentionForward, {q, q, v}, {2, 2}, {10 * p, 20 * (1 - p), 10 * (1 - p), 20 * p});
    op(kConv2dNchw3x3s1p1, {x, w}, {1, 2, 2, 2}, {0, 0, 1, -2, 11, 2, 13, 4});
    op(kConv2dNchw3x3s1p1, {x, w, bias}, {1, 2, 2, 2}, {1, 1, 2, -1, 9, 0, 11, 2});
    ASSERT_EQ(r.execute(), Status::kSuccess) << rt::lastErrorMessage();
    EXPECT_EQ(r.values.size(), r.numTensors());
    for (const auto& [id, fed] : r.feeds) EXPECT_EQ(r.values.at(id), fed);
    for (const auto& [id, want] : wanted) r.expect(id, want);
    ASSERT_EQ(r.steps.size(), 7u);
    for (std::size_t i = 0; i < 7; ++i) {
      EXPECT_TRUE(r.steps[i].node_id == i && r.steps[i].op == r.nodes()[i].op);
      EXPECT_TRUE(r.steps[i].assigned_device == assigned(device) &&
                  r.steps[i].fallback == (assigned(device) != device));
    }
  }
}

TYPED_TEST(CompatGraphRuns, ChainsInOrderOfInsertion) {
  Case<TypeParam> r;
  const std::size_t a = r.feed({2, 2}, {1, 2, 3, 4}), eye = r.feed({2, 2}, {1, 0, 0, 1});
  const std::size_t spare = r.feed({3}, {7, 8, 9});
  (void)r.tensor({5}, r.kOther);
  const std::size_t m = r.apply(kMatMul, {a, eye}, {2, 2});
  const std::size_t s = r.apply(kVectorAdd, {m, a}, {2, 2}),
                    square = r.apply(kMatMul, {s, s}, {2, 2});
  const std::size_t d = r.apply(kMatrixSub, {square, m}, {2, 2}), out = r.tensor({2, 2});
  ASSERT_EQ(r.addNode(kMatrixDiv, {d, a}, {out}, {0, 2}), Status::kSuccess);
  r.values[99] = {1};  // replaced, not added to
  ASSERT_EQ(r.execute(), Status::kSuccess) << rt::lastErrorMessage();
  EXPECT_EQ(r.values.size(), 8u);  // all but the tensor nobody uses
  EXPECT_EQ(r.values.at(spare), (std::vector<TypeParam>{7, 8, 9}));
  r.expect(square, {28, 40, 60, 88});
  r.expect(out, {27, 19, 19, 21});
  typename Case<TypeParam>::Values both = r.feeds;  // results may replace the feeds
  EXPECT_EQ(r.execute(both, &both), Status::kSuccess);
  EXPECT_EQ(both, r.values);
  Case<TypeParam> empty;
  EXPECT_TRUE(empty.execute() == Status::kSuccess && empty.values.empty() && empty.groups.empty());
}

TYPED_TEST(CompatGraphRuns, RefusalsWriteNothing) {
  Case<TypeParam> r;
  const std::size_t a = r.feed({2, 2}, {1, 2, 3, 4}), b = r.feed({2, 2}, {5, 6, 7, 8});
  const std::size_t c = r.apply(kMatMul, {a, b}, {2, 2});
  const std::size_t other = r.tensor({1}, r.kOther);
  const auto good = r.feeds;
  const typename Case<TypeParam>::Values kept = {{42, {4, 2}}};
  r.values = kept;
  r.groups.resize(3);
  r.steps.resize(5);
  const auto refused = [&](const auto& change, const char* message,
                           Status status = Status::kInvalidValue) {
    change();
    EXPECT_EQ(r.execute(), status);
    EXPECT_NE(std::string(rt::lastErrorMessage()).find(message), std::string::npos) << message;
    EXPECT_TRUE(r.values == kept && r.groups.size() == 3 && r.steps.size() == 5);
    r.feeds = good;
    r.options = {};
  };
  refused([&] { r.feeds.erase(b); }, "feeds[1]");
  refused([&] { r.feeds[a].pop_back(); }, "found 3");
  refused([&] { r.feeds[b].push_back(1); }, "found 5");
  refused([&] { r.feeds[b].clear(); }, "found 0");
  refused([&] { r.feeds[c] = good.at(a); }, "no node writes");
  refused([&] { r.feeds[other] = {1}; }, "tensor 3");
  refused([&] { r.feeds[SIZE_MAX] = {1}; }, "below 4");
  refused([&] { r.options.preferred_device = static_cast<Device>(9); }, "device");
  refused([&] { r.options.sync_policy.mode = static_cast<rt::SyncMode>(9); }, "sync_policy.mode");
  EXPECT_EQ(r.execute(good, nullptr), Status::kInvalidValue);
  Case<typename Case<TypeParam>::Other> wrong;
  static_cast<graph::GraphIR&>(wrong) = r;
  wrong.feeds = {{a, {1, 2, 3, 4}}, {b, {1, 2, 3, 4}}};
  EXPECT_EQ(wrong.execute(), Status::kInvalidValue);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they end the process
  constexpr std::int64_t kSide = std::int64_t{1} << 23;  // the product: past the address space
  const std::size_t tall = r.feed({kSide, 1}, std::vector<TypeParam>(kSide));
  const std::size_t wide = r.feed({1, kSide}, std::vector<TypeParam>(kSide));
  r.apply(kMatMul, {tall, wide}, {kSide, kSide});
  refused([] {}, "memory", Status::kOutOfMemory);
#endif
}

TEST(CompatGraph, PlansAndGroups) {
  Case r;
  const std::size_t a = r.feed({2, 2}, {1, 2, 3, 4});
  r.apply(kVectorAdd, {a, r.apply(kMatMul, {a, a}, {2, 2})}, {2, 2});
  const Device d = assigned(Device::kMetal);
  const int detail = rt::encodeRuntimeTraceDispatchDetail(Device::kMetal, d, d != Device::kMetal);
  for (const auto mode : {rt::SyncMode::kAuto, rt::SyncMode::kAlways, rt::SyncMode::kNever})
    for (const bool trace : {false, true}) {
      const bool always = mode == rt::SyncMode::kAlways;
      r.options.sync_policy = {mode, trace};
      ASSERT_EQ(r.planExecutionGroups(r.options, &r.groups), Status::kSuccess);
      ASSERT_EQ(r.groups.size(), always ? 2u : 1u);
      const bool last = always || (trace && mode == rt::SyncMode::kAuto);
      EXPECT_EQ(r.groups.back().sync_boundary_after, last);
      const graph::GraphExecutionGroup& first = r.groups[0];
      EXPECT_EQ(first.node_ids, always ? Ids{0} : (Ids{0, 1}));
      EXPECT_TRUE(first.assigned_device == d && first.fallback == (d != Device::kMetal));
      EXPECT_TRUE(first.group_id == 0 && !first.sync_boundary_before);
      for (std::size_t i = 1; i < r.groups.size(); ++i)
        EXPECT_TRUE(r.groups[i - 1].sync_boundary_after && r.groups[i].sync_boundary_before &&
                    r.groups[i].group_id == i && r.groups[i].node_ids == Ids{i});
      rt::clearRuntimeTraceEvents();
      rt::setRuntimeTraceEnabled(true);
      EXPECT_EQ(r.execute(), Status::kSuccess);
      rt::setRuntimeTraceEnabled(false);
      int syncs = 0, nodes = 0;
      for (const rt::RuntimeTraceEvent& e : rt::runtimeTraceEvents()) {
        syncs += e.type == rt::RuntimeTraceEventType::kApplySyncPolicy;
        nodes += e.type == rt::RuntimeTraceEventType::kOpDispatch && e.detail1 == detail;
      }
      EXPECT_TRUE(nodes == 2 && syncs == (always ? 3 : last ? 1 : 0));
    }
  Registry registry;  // a step goes where its schema says
  EXPECT_EQ(registry.put({kMatMul, "m", 2, 2, 1, 1}), Status::kSuccess);
  EXPECT_EQ(r.planForDevice(Device::kMetal, &r.steps), Status::kSuccess);
  EXPECT_TRUE(r.steps[0].assigned_device == Device::kCPU && r.steps[0].fallback);
  EXPECT_EQ(r.planForDevice(Device::kCPU, nullptr), Status::kInvalidValue);
  EXPECT_EQ(r.planForDevice(static_cast<Device>(3), &r.steps), Status::kInvalidValue);
  EXPECT_EQ(r.planExecutionGroups({}, nullptr, &r.steps), Status::kInvalidValue);
  EXPECT_EQ(registry.put({kMatMul, "m", 2, 2, 1, 1, false}), Status::kSuccess);
  EXPECT_EQ(r.planForDevice(Device::kCPU, &r.steps), Status::kNotSupported);
  EXPECT_EQ(r.planExecutionGroups({}, &r.groups, &r.steps), Status::kNotSupported);
  EXPECT_TRUE(r.steps.size() == 2 && r.groups.size() == 1);
  graph::ValidationReport report;
  EXPECT_EQ(r.validateWithReport(&report), Status::kNotSupported);
  ASSERT_EQ(report.issues.size(), 1u);
  EXPECT_TRUE(names(report.issues[0], ValidationPass::kBackendCapability, 0, -1));
}

TEST(CompatGraph, ReportsNameNodesAndTensors) {
  const std::tuple<OpKind, std::vector<Shape>, Shape, int> bad[] = {
      {kMatMul, {{2, 3}, {2, 3}}, {2, 2}, -1},
      {kMatMul, {{2, 3}, {3}}, {2}, 1},
      {kMatMul, {{2, 3}, {3, 2}}, {4}, 2},
      {kVectorAdd, {{1}, {6}}, {6}, 1},
      {kVectorAdd, {{6}, {6}}, {7}, 2},
      {kMatrixSub, {{2, 2}, {1, 2}}, {2, 2}, 1},
      {kMatrixDiv, {{4}, {4}}, {4}, 0},
      {kAttentionForward, {{2, 3}, {2, 3}, {2, 4}}, {2, 4}, 2},
      {kConv2dNchw3x3s1p1, {{1, 2, 4, 4}, {3, 2, 3, 2}}, {1, 3, 4, 5}, 1},
      {kConv2dNchw3x3s1p1, {{1, 2, 4, 4}, {3, 1, 3, 3}}, {1, 3, 4, 4}, -1},
      {kConv2dNchw3x3s1p1, {{1, 2, 4, 4}, {3, 2, 3, 3}, {4}}, {1, 3, 4, 4}, -1}};
  graph::ValidationReport report;
  for (const auto& [op, inputs, output, at] : bad) {
    Case g;
    Ids ids;
    for (const Shape& shape : inputs) ids.push_back(g.tensor(shape));
    g.node(op, ids, {g.tensor(output)});
    EXPECT_EQ(g.validateWithReport(&report), Status::kInvalidValue);
    ASSERT_FALSE(report.ok());
    const graph::ValidationIssue& issue = report.issues[0];
    EXPECT_TRUE(names(issue, ValidationPass::kSchemaArity, 0, at)) << issue.message;
    EXPECT_TRUE(issue.status == Status::kInvalidValue && issue.message == rt::lastErrorMessage());
  }
  Case g;
  const std::size_t a = g.tensor({2, 2}), b = g.tensor({2, 2}), c = g.tensor({2, 2});
  const std::size_t fixed = g.tensor({2, 2}, g.kType, true), wide = g.tensor({2, 2}, g.kOther);
  g.node(kMatMul, {a, fixed}, {b});
  EXPECT_TRUE(g.validateWithReport(&report) == Status::kSuccess && report.ok());
  g.node(kMatMul, {a, a}, {fixed});  // constant
  g.node(kMatMul, {c, a}, {c});      // in place
  g.node(kMatMul, {a, a}, {b});      // again
  g.node(kMatMul, {c, c}, {a});      // after it was read
  EXPECT_EQ(g.validate(), Status::kInvalidValue);
  EXPECT_EQ(g.validateWithReport(&report), Status::kInvalidValue);
  ASSERT_EQ(report.issues.size(), 4u);
  for (const int node : {1, 2, 3, 4})  // the tensors: 3, 2, 1, 0
    EXPECT_TRUE(names(report.issues[static_cast<std::size_t>(node - 1)],
                      ValidationPass::kTensorReference, node, 4 - node));
  g.node(kVectorAdd, {b, wide}, {g.tensor({2, 2})});
  EXPECT_EQ(g.validateWithReport(&report), Status::kInvalidValue);
  EXPECT_TRUE(names(report.issues.back(), ValidationPass::kSchemaArity, 5, 4));
  report.clear();
  EXPECT_TRUE(report.ok());
}

}  // namespace
