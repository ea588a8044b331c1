// What each op means: its reference against values worked out by hand, its refusals, its gradient
// against differences of the reference. Kernels are compared with the references in case_test.cpp.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "case_files.hpp"
#include "lightning_core/dispatch.hpp"
#include "ops/activation.hpp"
#include "runtime/case.hpp"
#include "runtime/reference.hpp"
#include "tensor/scalar.hpp"

namespace lc {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
using Values = std::vector<double>;

/// Float64 reference of a line, its inputs (in order, absent ones left out) filled with `values`.
Values reference(const std::string& line, const std::vector<Values>& values) {
  std::vector<Tensor> storage;
  OpCall call = make_call(parse_case(line), storage);
  size_t next = 0;
  for (int i = 0; i < call.n_in; ++i) {
    if (!call.in[i].present()) continue;
    const Values& from = values[next++];
    EXPECT_EQ(static_cast<int64_t>(from.size()), call.in[i].numel()) << line;
    for_each_element(call.in[i], [&](char* p, int64_t k) {
      store_scalar(p, call.in[i].dtype, from[static_cast<size_t>(k)]);
    });
  }
  call.op->infer(call);
  return reference_outputs(call)[0].v;
}

void expect_near(const Values& got, const Values& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(want[i]))
      EXPECT_TRUE(std::isnan(got[i])) << "element " << i;
    else if (std::isinf(want[i]))
      EXPECT_EQ(got[i], want[i]) << "element " << i;
    else
      EXPECT_NEAR(got[i], want[i], 1e-12) << "element " << i;
  }
}

OpCall shapes_of(const std::string& line) { return lc::shapes_of(parse_case(line)); }

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

Shape shape_of(const std::string& line) {
  OpCall call = shapes_of(line);
  call.op->infer(call);
  return call.out[0].shape;
}

TEST(Ops, EveryOpIsComplete) {
  std::set<std::string> names;
  std::string previous;
  for (const OpDef* op : all_ops()) {
    SCOPED_TRACE(op->name);
    EXPECT_TRUE(names.insert(op->name).second) << "two ops of one name";
    EXPECT_LT(previous, op->name) << "sorted by name";
    previous = op->name;
    EXPECT_EQ(find_op(op->name), op);
    EXPECT_EQ(all_ops()[static_cast<size_t>(op->id)], op);
    EXPECT_NE(op->infer, nullptr);
    EXPECT_NE(op->cost, nullptr);
    EXPECT_NE(op->reference, nullptr);
    const std::string doc = op->doc;
    EXPECT_GT(doc.size(), 3u);
    EXPECT_EQ(doc.back(), '.');
    EXPECT_GE(op->tolerance.coef, 0);
    EXPECT_LE(op->inputs.size(), static_cast<size_t>(kMaxInputs));
    EXPECT_EQ(op->outputs.size(), 1u);
    EXPECT_LE(op->attrs.size(), static_cast<size_t>(kMaxAttrs));
    std::set<std::string> words;  // inputs and attributes share a line, and Python's keywords
    for (const ArgSpec& in : op->inputs) {
      EXPECT_TRUE(words.insert(in.name).second) << in.name;
      EXPECT_NE(in.dtypes, 0u);
      EXPECT_NE(std::string(in.doc), "") << in.name;
    }
    for (const AttrSpec& attr : op->attrs) {
      EXPECT_TRUE(words.insert(attr.name).second) << attr.name;
      EXPECT_NE(std::string(attr.doc), "") << attr.name;
      EXPECT_EQ(attr.kind == AttrKind::kEnum, !attr.words.empty()) << attr.name;
    }
    EXPECT_EQ(words.count("out"), 0u);
  }
  for (const char* name :
       {"add", "attention", "cast", "concat", "conv2d", "copy", "embedding", "gelu", "layer_norm",
        "linear", "matmul", "max_pool2d", "softmax", "where"})
    EXPECT_EQ(names.count(name), 1u) << name;
}

TEST(Ops, NearNamesAreOffered) {
  const std::string message = error_of([] { (void)get_op("matmull"); });
  EXPECT_NE(message.find("matmul"), std::string::npos) << message;
  EXPECT_NE(message.find("matmull"), std::string::npos) << message;
}

TEST(Ops, Unary) {
  expect_near(reference("relu x=f64:4", {{-1, 0, 2, kNan}}), {0, 0, 2, kNan});
  expect_near(reference("sign x=f64:4", {{-3, 0, 5, kNan}}), {-1, 0, 1, kNan});
  expect_near(reference("sqrt x=f64:3", {{4, 0, -1}}), {2, 0, kNan});
  expect_near(reference("rsqrt x=f64:2", {{4, 0}}), {0.5, kInf});
  expect_near(reference("log x=f64:3", {{1, 0, -1}}), {0, -kInf, kNan});
  expect_near(reference("sigmoid x=f64:3", {{0, kInf, -kInf}}), {0.5, 1, 0});
  expect_near(reference("tanh x=f64:2", {{0.5, -kInf}}), {std::tanh(0.5), -1});
  expect_near(reference("gelu x=f64:3", {{0, 1, -1}}),
              {0, 0.8413447460685429, -0.15865525393145707});
  expect_near(reference("gelu_tanh x=f64:2", {{1, -1}}),
              {0.8411919906082768, -0.15880800939172324});
  expect_near(reference("silu x=f64:2", {{0, 1}}), {0, 0.7310585786300049});
  expect_near(reference("softplus x=f64:3", {{0, 1000, -1000}}), {std::log(2), 1000, 0});
  expect_near(reference("expm1 x=f64:1", {{1e-10}}), {1.00000000005e-10});
  expect_near(reference("floor x=f64:2", {{-1.5, 1.5}}), {-2, 1});
  expect_near(reference("ceil x=f64:2", {{-1.5, 1.5}}), {-1, 2});
}

TEST(Ops, Activations) {
  EXPECT_EQ(activate(Activation::kNone, -3.0), -3.0);
  EXPECT_EQ(activate(Activation::kRelu, -3.0), 0.0);
  EXPECT_NEAR(activate(Activation::kGelu, 1.0), 0.8413447460685429, 1e-15);
  EXPECT_NEAR(activate(Activation::kGeluTanh, 1.0), 0.8411919906082768, 1e-15);
  EXPECT_NEAR(activate(Activation::kSilu, 1.0), 0.7310585786300049, 1e-15);
  EXPECT_EQ(activate(Activation::kSigmoid, 0.0), 0.5);
  EXPECT_EQ(activate(Activation::kTanh, 0.5), std::tanh(0.5));
}

TEST(Ops, BinaryAndComparisons) {
  expect_near(reference("add a=f64:2x1 b=f64:3", {{1, 2}, {10, 20, 30}}), {11, 21, 31, 12, 22, 32});
  expect_near(reference("div a=f64:3 b=f64:3", {{1, -1, 0}, {0, 0, 0}}), {kInf, -kInf, kNan});
  expect_near(reference("pow a=f64:3 b=f64:3", {{2, 0, -8}, {-1, 0, 1.0 / 3}}), {0.5, 1, kNan});
  expect_near(reference("maximum a=f64:3 b=f64:3", {{1, kNan, 0}, {2, 0, kNan}}), {2, kNan, kNan});
  expect_near(reference("minimum a=f64:3 b=f64:3", {{1, kNan, 0}, {2, 0, kNan}}), {1, kNan, kNan});
  expect_near(reference("less a=f64:3 b=f64:", {{1, 2, kNan}, {2}}), {1, 0, 0});
  expect_near(reference("not_equal a=f64:2 b=f64:2", {{1, kNan}, {1, kNan}}), {0, 1});
  expect_near(reference("where condition=bool:2 a=f64:2x1 b=f64:", {{1, 0}, {5, 6}, {9}}),
              {5, 9, 6, 9});
  EXPECT_EQ(shape_of("add a=f32:4x1x3 b=f32:2x1"), (Shape{4, 2, 3}));
}

TEST(Ops, Matmul) {
  const Values a = {1, 2, 3, 4, 5, 6};
  const Values b = {1, 0, 2, 1, 0, 3};
  expect_near(reference("matmul a=f64:2x3 b=f64:3x2", {a, b}), {5, 11, 14, 23});
  expect_near(reference("matmul a=f64:3x2 b=f64:3x2 trans_a=1", {a, b}), {7, 18, 10, 22});
  expect_near(
      reference("matmul a=f64:2x3 b=f64:2x3 trans_b=1 alpha=2 bias=f64:2", {a, b, {1, -100}}),
      {15, -80, 33, -56});
  expect_near(reference("matmul a=f64:2x3 b=f64:3x2 bias=f64:2 activation=relu", {a, b, {-10, 0}}),
              {0, 11, 4, 23});
  expect_near(reference("matmul a=f64:3 b=f64:3", {{1, 2, 3}, {4, 5, 6}}), {32});
  expect_near(reference("matmul a=f64:2x0 b=f64:0x1 bias=f64:1", {{}, {}, {7}}), {7, 7});
  EXPECT_EQ(shape_of("matmul a=f32:2x1x5x7 b=f32:3x7x4"), (Shape{2, 3, 5, 4}));
  EXPECT_EQ(shape_of("matmul a=f32:7 b=f32:3x7x4"), (Shape{3, 4}));
  EXPECT_EQ(shape_of("matmul a=f32:3x5x7 b=f32:7"), (Shape{3, 5}));
  EXPECT_EQ(shape_of("matmul a=f32:7 b=f32:7"), (Shape{}));
}

TEST(Ops, Linear) {
  expect_near(reference("linear x=f64:1x2 weight=f64:3x2 bias=f64:3",
                        {{1, 2}, {1, 0, 0, 1, 1, 1}, {0, 0, 10}}),
              {1, 2, 13});
  EXPECT_EQ(shape_of("linear x=f32:2x3x4 weight=f32:5x4"), (Shape{2, 3, 5}));
}

TEST(Ops, SoftmaxAndNorms) {
  const double e = std::exp(1);
  expect_near(reference("softmax x=f64:2", {{1000, 999}}), {e / (1 + e), 1 / (1 + e)});
  expect_near(reference("softmax x=f64:2x1 axis=0", {{0, 0}}), {0.5, 0.5});
  expect_near(reference("softmax x=f64:2", {{0, -kInf}}), {1, 0});
  expect_near(reference("softmax x=f64:2", {{-kInf, -kInf}}), {kNan, kNan});
  expect_near(reference("log_softmax x=f64:2", {{1000, 1000}}), {-std::log(2), -std::log(2)});

  expect_near(
      reference("layer_norm x=f64:2 weight=f64:2 bias=f64:2 eps=0", {{1, 3}, {2, 2}, {0, 5}}),
      {-2, 7});
  expect_near(reference("rms_norm x=f64:2 eps=0", {{3, 4}}),
              {3 / std::sqrt(12.5), 4 / std::sqrt(12.5)});
}

TEST(Ops, Reductions) {
  const Values x = {1, 2, 3, 4, 5, 6};
  expect_near(reference("sum x=f64:2x3 axes=0", {x}), {5, 7, 9});
  expect_near(reference("mean x=f64:2x3", {x}), {3.5});
  expect_near(reference("max x=f64:2x3 axes=-1", {x}), {3, 6});
  expect_near(reference("min x=f64:3", {{1, kNan, -1}}), {kNan});
  expect_near(reference("sum x=f64:2x0 axes=1", {{}}), {0, 0});
  expect_near(reference("mean x=f64:0", {{}}), {kNan});
  expect_near(reference("sum x=f64:2x3 axes=", {x}), x);
  expect_near(reference("argmax x=f64:4", {{1, 7, 7, 2}}), {1});
  expect_near(reference("argmax x=f64:4", {{1, kNan, 7, kNan}}), {1});
  expect_near(reference("argmin x=f64:2x3 axis=0", {{3, 0, 3, 2, 0, 4}}), {1, 0, 0});
  EXPECT_EQ(shape_of("sum x=f32:2x3x4 axes=0,2 keepdims=1"), (Shape{1, 3, 1}));
  EXPECT_EQ(shape_of("argmax x=f32:2x3 keepdims=1"), (Shape{1, 1}));
}

TEST(Ops, Attention) {
  const Values one = {1, 2, 3};  // k is 0: every key weighs the same
  expect_near(reference("attention q=f64:1x1 k=f64:3x1 v=f64:3x1", {{5}, {0, 0, 0}, one}), {2});
  expect_near(reference("attention q=f64:3x1 k=f64:3x1 v=f64:3x1 causal=1", {one, {0, 0, 0}, one}),
              {1, 1.5, 2});
  const double w = std::exp(0.5) / (std::exp(0.5) + 1);
  expect_near(reference("attention q=f64:1x4 k=f64:2x4 v=f64:2x1",
                        {{1, 0, 0, 0}, {1, 0, 0, 0, 0, 0, 0, 0}, {1, 0}}),
              {w});
  expect_near(reference("attention q=f64:1x1 k=f64:3x1 v=f64:3x1 mask=bool:3",
                        {{5}, {0, 0, 0}, one, {1, 0, 1}}),
              {2});
  expect_near(reference("attention q=f64:1x1 k=f64:3x1 v=f64:3x1 mask=f64:1x3",
                        {{5}, {0, 0, 0}, one, {-kInf, 0, -kInf}}),
              {2});
  // A query that may attend nothing gives zeros; a masked NaN does not spread.
  expect_near(reference("attention q=f64:2x1 k=f64:2x1 v=f64:2x1 mask=bool:2x2",
                        {{1, 1}, {0, 0}, {7, kNan}, {0, 0, 1, 0}}),
              {0, 7});
  // Query heads 0 and 1 share key head 0.
  expect_near(
      reference("attention q=f64:4x1x1 k=f64:2x1x1 v=f64:2x1x1", {{1, 1, 1, 1}, {0, 0}, {3, 8}}),
      {3, 3, 8, 8});
  EXPECT_EQ(shape_of("attention q=f32:2x4x5x8 k=f32:2x2x6x8 v=f32:2x2x6x3"), (Shape{2, 4, 5, 3}));
}

TEST(Ops, Conv2d) {
  const Values x = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const Values ones(9, 1.0);
  expect_near(reference("conv2d x=f64:1x1x3x3 weight=f64:1x1x3x3", {x, ones}), {45});
  expect_near(
      reference("conv2d x=f64:1x1x3x3 weight=f64:1x1x3x3 padding=1,1 stride=2,2", {x, ones}),
      {12, 16, 24, 28});
  expect_near(
      reference("conv2d x=f64:1x1x3x3 weight=f64:1x1x2x2 dilation=2,2", {x, {1, 10, 100, 1000}}),
      {9731});
  expect_near(
      reference("conv2d x=f64:1x2x1x1 weight=f64:2x1x1x1 bias=f64:2 groups=2 activation=relu",
                {{1, 2}, {3, -5}, {1, 1}}),
      {4, 0});
  EXPECT_EQ(shape_of("conv2d x=f32:2x3x224x224 weight=f32:64x3x7x7 stride=2,2 padding=3,3"),
            (Shape{2, 64, 112, 112}));
}

TEST(Ops, Pooling) {
  const Values x = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  expect_near(reference("max_pool2d x=f64:1x1x3x3 kernel=2,2", {x}), {5});
  expect_near(reference("max_pool2d x=f64:1x1x3x3 kernel=2,2 ceil_mode=1", {x}), {5, 6, 8, 9});
  expect_near(reference("max_pool2d x=f64:1x1x1x2 kernel=1,2", {{1, kNan}}), {kNan});
  expect_near(reference("avg_pool2d x=f64:1x1x3x3 kernel=2,2 stride=1,1", {x}), {3, 4, 6, 7});
  // Windows that hang over the end divide by what lies inside the padded input (PyTorch).
  expect_near(reference("avg_pool2d x=f64:1x1x3x3 kernel=2,2 ceil_mode=1", {x}), {3, 4.5, 7.5, 9});
  expect_near(reference("avg_pool2d x=f64:1x1x1x2 kernel=1,2 stride=1,2 padding=0,1", {{4, 8}}),
              {2, 4});
  expect_near(
      reference("avg_pool2d x=f64:1x1x1x2 kernel=1,2 stride=1,2 padding=0,1 count_include_pad=0",
                {{4, 8}}),
      {4, 8});
}

TEST(Ops, Embedding) {
  expect_near(reference("embedding indices=i64:2 weight=f64:3x2", {{2, 0}, {1, 2, 3, 4, 5, 6}}),
              {5, 6, 1, 2});
  EXPECT_EQ(shape_of("embedding indices=i32:2x3 weight=f32:5x4"), (Shape{2, 3, 4}));
  for (const char* layout : {"", ":s"})
    for (const int64_t wrong : {int64_t{-1}, int64_t{5}}) {
      std::vector<Tensor> storage;
      OpCall call =
          make_call(parse_case(cat("embedding indices=i64:3", layout, " weight=f32:5x4")), storage);
      for_each_element(call.in[0], [&](char* p, int64_t i) {
        store_scalar(p, DType::kInt64, i == 2 ? static_cast<double>(wrong) : 1.0);
      });
      const std::string message = error_of([&] { (void)call_op1(call); });
      EXPECT_NE(message.find("[embedding] indices"), std::string::npos) << message;
      EXPECT_NE(message.find("[0, 5)"), std::string::npos) << message;
      EXPECT_NE(message.find(cat("found ", wrong)), std::string::npos) << message;
    }
}

TEST(Ops, Shapes) {
  const Values x = {0, 1, 2, 3, 4, 5};
  expect_near(reference("transpose x=f64:2x3", {x}), {0, 3, 1, 4, 2, 5});
  expect_near(reference("slice x=f64:6 start=-1 stop=-9223372036854775808 step=-2", {x}),
              {5, 3, 1});
  expect_near(reference("slice x=f64:2x3 axis=1 start=1", {x}), {1, 2, 4, 5});
  expect_near(reference("broadcast_to x=f64:2x1 shape=2,3", {{1, 2}}), {1, 1, 1, 2, 2, 2});
  EXPECT_EQ(shape_of("reshape x=f32:2x3 shape=3,-1"), (Shape{3, 2}));
  EXPECT_EQ(shape_of("transpose x=f32:2x3x4 axes=-1,0,1"), (Shape{4, 2, 3}));
  EXPECT_EQ(shape_of("slice x=f32:7 start=9 stop=-100"), (Shape{0}));
}

TEST(Ops, Concat) {
  expect_near(reference("concat xs0=f64:2x1 xs1=f64:2x2 axis=1", {{1, 2}, {3, 4, 5, 6}}),
              {1, 3, 4, 2, 5, 6});
  OpCall none(get_op("concat"));
  EXPECT_NE(error_of([&] { plan(none); }).find("at least one"), std::string::npos);
}

TEST(Ops, Casts) {
  const auto cast = [](double x, const char* from, const char* to) {
    std::vector<Tensor> storage;
    OpCall call = make_call(parse_case(cat("cast x=", from, ":1 dtype=", to)), storage);
    store_scalar(call.in[0].data, call.in[0].dtype, x);
    return call_op1(call).item();
  };
  EXPECT_EQ(cast(-2.9, "f64", "i32"), -2);
  EXPECT_EQ(cast(2.9, "f32", "i8"), 2);
  EXPECT_EQ(cast(1e10, "f32", "i32"), 2147483647);
  EXPECT_EQ(cast(-5, "f32", "u8"), 0);
  EXPECT_EQ(cast(kNan, "f32", "i64"), 0);
  EXPECT_EQ(cast(0.5, "f32", "bool"), 1);
  EXPECT_EQ(cast(2049, "f32", "f16"), 2048);  // halfway: to even
  EXPECT_EQ(cast(70000, "f32", "f16"), kInf);
  EXPECT_EQ(cast(257, "f32", "bf16"), 256);
  EXPECT_EQ(cast(-3, "i8", "f64"), -3);
  EXPECT_EQ(cast(300, "i32", "u8"), 44);  // low bits
  EXPECT_EQ(cast(-1, "i64", "u8"), 255);
  EXPECT_EQ(cast(129, "i32", "i8"), -127);
  EXPECT_EQ(cast(256, "i32", "bool"), 1);
}

// --- gradients -------------------------------------------------------------------------------

/// Runs a composition eagerly on float64 tensors.
std::vector<Tensor> run_composition(const Composer& c, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> values(64);
  const auto at = [&](int i) -> Tensor& {
    if (values.size() <= static_cast<size_t>(i)) values.resize(static_cast<size_t>(i) + 1);
    return values[static_cast<size_t>(i)];
  };
  for (size_t i = 0; i < inputs.size(); ++i) at(static_cast<int>(i)) = inputs[i];
  for (const Composer::Constant& k : c.constants())
    at(k.output) = Tensor::full({}, k.value, k.dtype);
  for (const Composer::Node& node : c.nodes()) {
    OpCall call(*node.op);
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == Composer::kAbsent) continue;
      if (node.op->variadic)
        call.push_input(at(node.inputs[i]).view());
      else
        call.in[i] = at(node.inputs[i]).view();
    }
    for (const auto& [k, value] : node.attrs) call.attr[k] = value;
    at(node.output) = call_op1(call);
  }
  std::vector<Tensor> outputs;
  for (const int v : c.outputs()) outputs.push_back(v == Composer::kAbsent ? Tensor() : at(v));
  return outputs;
}

/// The vjp of a float64 line against central differences of its reference.
void check_gradient(const std::string& line) {
  SCOPED_TRACE(line);
  std::vector<Tensor> storage;
  OpCall call = make_call(parse_case(line), storage, 3);
  ASSERT_NE(call.op->vjp, nullptr);
  call.op->infer(call);
  const RefArray y = reference_outputs(call)[0];
  RefArray g = y;
  for (size_t i = 0; i < g.v.size(); ++i) g.v[i] = std::sin(1.7 * static_cast<double>(i) + 0.3);

  OpCall backward = call;
  std::vector<Tensor> operands;
  for (int i = 0; i < call.n_in; ++i)
    operands.push_back(call.in[i].present() ? Tensor::wrap(call.in[i]) : Tensor());
  for (const RefArray& a : {y, g}) {
    operands.push_back(Tensor::from(std::span<const double>(a.v), a.shape));
    backward.push_input(operands.back().view());
  }
  Composer composer(backward);
  call.op->vjp(composer);
  const std::vector<Tensor> gradients = run_composition(composer, operands);

  for (int i = 0; i < call.n_in; ++i) {
    if (!call.in[i].present()) continue;
    ASSERT_LT(static_cast<size_t>(i), gradients.size());
    const Tensor& gradient = gradients[static_cast<size_t>(i)];
    ASSERT_EQ(gradient.shape(), call.in[i].shape);
    for (int64_t k = 0; k < call.in[i].numel(); ++k) {
      double* x = call.in[i].ptr<double>() + k;  // the lines are row-major
      const double kept = *x;
      const double h = 1e-5;
      double slope = 0;
      for (const double sign : {1.0, -1.0}) {
        *x = kept + sign * h;
        const RefArray moved = reference_outputs(call)[0];
        for (size_t j = 0; j < moved.v.size(); ++j) slope += sign * moved.v[j] * g.v[j] / (2 * h);
      }
      *x = kept;
      EXPECT_NEAR(gradient.item(k), slope, 1e-6 * std::max(1.0, std::fabs(slope)))
          << "input " << i << ", element " << k;
    }
  }
}

TEST(Ops, GradientsAreThoseOfTheReference) {
  for (const OpDef* op : all_ops())
    if (op->vjp != nullptr && op->inputs.size() == 1 && op->attrs.empty())
      check_gradient(cat(op->name, " x=f64:2x5"));
  for (const char* op : {"add", "sub", "mul", "div"})
    for (const char* shapes :
         {"a=f64:2x3 b=f64:2x3", "a=f64:2x3 b=f64:3", "a=f64:2x1 b=f64:1x3", "a=f64: b=f64:2x3"})
      check_gradient(cat(op, " ", shapes));
  for (const char* line :
       {"matmul a=f64:2x3 b=f64:3x4", "matmul a=f64:3x2 b=f64:3x4 trans_a=1 alpha=0.5",
        "matmul a=f64:2x3 b=f64:4x3 trans_b=1 bias=f64:4",
        "matmul a=f64:3x2 b=f64:4x3 trans_a=1 trans_b=1",
        "matmul a=f64:2x2x3 b=f64:2x3x4 bias=f64:4", "linear x=f64:2x3 weight=f64:4x3 bias=f64:4",
        "linear x=f64:2x2x3 weight=f64:4x3", "linear x=f64:3 weight=f64:4x3 bias=f64:4",
        "softmax x=f64:3x4", "softmax x=f64:3x4 axis=0", "log_softmax x=f64:3x4",
        "sum x=f64:2x3 axes=1", "sum x=f64:2x3 keepdims=1", "mean x=f64:2x3x2 axes=0,2",
        "reshape x=f64:2x3 shape=3,2", "transpose x=f64:2x3x4 axes=1,2,0", "transpose x=f64:2x3",
        "broadcast_to x=f64:2x1 shape=4,2,3"})
    check_gradient(line);
}

TEST(Ops, GradientsThatAreNotThereSaySo) {
  std::vector<Tensor> storage;
  OpCall call = make_call(parse_case("matmul a=f64:2x3 b=f64:3x4 activation=gelu"), storage);
  call.op->infer(call);
  call.push_input(call.out[0]);
  call.push_input(call.out[0]);
  Composer composer(call);
  EXPECT_NE(error_of([&] { call.op->vjp(composer); }).find("activation"), std::string::npos);
}

}  // namespace
}  // namespace lc
