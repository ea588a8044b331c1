// The generated typed wrappers: every attribute arrives, outputs given are written, mistakes throw.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "lightning_core/lightning_core.hpp"

namespace lc {
namespace {

std::vector<double> values(const Tensor& t) {
  std::vector<double> v;
  for (int64_t i = 0; i < t.numel(); ++i) v.push_back(t.item(i));
  return v;
}

Tensor tensor(std::initializer_list<float> v, const Shape& shape) {
  return Tensor::from(std::span<const float>(v.begin(), v.size()), shape);
}

using V = std::vector<double>;

TEST(Wrappers, ElementwiseAndInto) {
  const Tensor a = tensor({1, -2, 3, -4}, {2, 2}), b = tensor({1, 2}, {2});
  EXPECT_EQ(values(add(a, b)), (V{2, 0, 4, -2}));
  EXPECT_EQ(values(relu(a)), (V{1, 0, 3, 0}));
  const Tensor out = Tensor::empty({2, 2});
  mul_into(a, b, out);
  EXPECT_EQ(values(out), (V{1, -4, 3, -8}));
  neg_into(out, out);  // in place
  EXPECT_EQ(values(out), (V{-1, 4, -3, 8}));
  EXPECT_EQ(greater(a, b).dtype(), DType::kBool);
  EXPECT_EQ(values(where(greater(a, b), a, b)), (V{1, 2, 3, 2}));
}

TEST(Wrappers, MatmulOptions) {
  const Tensor a = tensor({1, 2, 3, 4, 5, 6}, {3, 2}), b = tensor({1, 0, 0, 1, 1, 1}, {3, 2});
  const Tensor bias = tensor({-10, 0}, {2});
  EXPECT_EQ(values(matmul(a, b, bias,
                          {.trans_a = true, .alpha = 2, .activation = ActivationKind::kRelu})),
            (V{2, 16, 6, 20}));
  EXPECT_EQ(matmul(a, b, {}, {.trans_b = true}).shape(), (Shape{3, 3}));
  const Tensor out = Tensor::empty({2, 2});
  matmul_into(a, b, out, {}, {.trans_a = true});
  EXPECT_EQ(values(out), (V{6, 8, 8, 10}));
  EXPECT_EQ(values(linear(a, b, {}, {})).size(), 9u);
}

TEST(Wrappers, ReductionsAxesAndShapes) {
  const Tensor x = tensor({1, 5, 2, 4, 3, 6}, {2, 3});
  EXPECT_EQ(values(sum(x)), (V{21}));
  EXPECT_EQ(values(sum(x, {.axes = Dims{0}})), (V{5, 8, 8}));
  EXPECT_EQ(max(x, {.axes = Dims{1}, .keepdims = true}).shape(), (Shape{2, 1}));
  EXPECT_EQ(values(argmax(x)), (V{5}));
  EXPECT_EQ(values(argmax(x, {.axis = 1})), (V{1, 2}));
  EXPECT_EQ(argmax(x).dtype(), DType::kInt64);
  EXPECT_EQ(values(reshape(x, {3, -1})).size(), 6u);
  EXPECT_EQ(reshape(x, {6}).data<float>(), x.data<float>());  // a window
  EXPECT_EQ(values(transpose(x)), (V{1, 4, 5, 3, 2, 6}));
  EXPECT_EQ(values(slice(x, {.axis = 1, .start = 1})), (V{5, 2, 3, 6}));
  EXPECT_EQ(values(slice(x, {.axis = 1, .start = 2, .stop = INT64_MIN, .step = -2})),
            (V{2, 1, 6, 4}));
  EXPECT_EQ(broadcast_to(tensor({1, 2, 3}, {3}), {4, 3}).shape(), (Shape{4, 3}));
  EXPECT_EQ(values(concat({x, x}, {.axis = 1})).size(), 12u);
  EXPECT_EQ(cast(x, DType::kFloat64).dtype(), DType::kFloat64);
  const Tensor copied = Tensor::empty({3, 2});
  transpose_into(x, copied);
  EXPECT_EQ(values(copied), (V{1, 4, 5, 3, 2, 6}));
}

TEST(Wrappers, NetworksOfOps) {
  const Tensor image = tensor({1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 1, 3, 3}),
               w = tensor({1, 0, 0, 1}, {1, 1, 2, 2});
  EXPECT_EQ(values(conv2d(image, w)), (V{6, 8, 12, 14}));
  EXPECT_EQ(conv2d(image, w, {}, {.stride = {2, 2}, .padding = {1, 1}}).shape(),
            (Shape{1, 1, 2, 2}));
  EXPECT_EQ(values(max_pool2d(image, {2, 2}, {.stride = Dims{1, 1}})), (V{5, 6, 8, 9}));
  EXPECT_EQ(values(max_pool2d(image, {2, 2})), (V{5}));
  const Tensor indices = Tensor::from(std::vector<int64_t>{2, 0}, {2});
  EXPECT_EQ(values(embedding(indices, tensor({0, 1, 2, 3, 4, 5}, {3, 2}))), (V{4, 5, 0, 1}));
  const Tensor q = Tensor::full({2, 4, 8}, 0.5);
  EXPECT_EQ(attention(q, q, q, {}, {.causal = true, .scale = 0.1}).shape(), (Shape{2, 4, 8}));
  EXPECT_NEAR(layer_norm(tensor({1, 2, 3}, {1, 3}), {}, {}, {.eps = 0}).item(2), 1.2247449, 1e-5);
  EXPECT_NEAR(softmax(tensor({0, 0}, {2})).item(0), 0.5, 1e-7);
}

TEST(Wrappers, CallOptions) {
  const Tensor x = tensor({1, 2}, {2});
  set_trace_enabled(true);
  clear_trace();
  (void)add(x, x, {.device = Device{DeviceKind::kMetal, 0}});
  set_trace_enabled(false);
  const auto events = trace_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].requested, DeviceKind::kMetal);
  Policy strict;
  strict.strict = true;
  if (!device_available(DeviceKind::kMetal)) {
    EXPECT_THROW((void)add(x, x, {.device = Device{DeviceKind::kMetal, 0}, .policy = strict}),
                 Error);
  }
}

#ifdef LC_SOURCE_DIR
// `tools/gen_ops.py --check` compares the whole file; this finds an op or attribute it lacks.
TEST(Wrappers, HeaderHasEveryOpAndAttribute) {
  std::ifstream file(LC_SOURCE_DIR "/include/lightning_core/ops.hpp");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  for (const OpDef* op : all_ops()) {
    EXPECT_NE(text.find(cat("get_op(\"", op->name, "\")")), std::string::npos) << op->name;
    for (const AttrSpec& attr : op->attrs)
      EXPECT_NE(text.find(cat(" ", attr.name)), std::string::npos) << op->name << " " << attr.name;
  }
}
#endif

TEST(Wrappers, BadArguments) {
  const Tensor x = tensor({1, 2, 3, 4}, {2, 2}), y = tensor({1, 2, 3}, {3});
  EXPECT_THROW((void)add(x, y), Error);
  EXPECT_THROW((void)add(x, Tensor{}), Error);
  EXPECT_THROW((void)matmul(x, y), Error);
  EXPECT_THROW((void)reshape(x, {3}), Error);
  EXPECT_THROW((void)sum(x, {.axes = Dims{5}}), Error);
  EXPECT_THROW((void)concat({}), Error);
  EXPECT_THROW((void)max_pool2d(x, {2, 2}), Error);
  EXPECT_THROW((void)embedding(Tensor::from(std::vector<int64_t>{9}, {1}), x), Error);
  EXPECT_THROW((void)conv2d(x, x, {}, {.activation = static_cast<ActivationKind>(99)}), Error);
  EXPECT_THROW((void)cast(x, static_cast<DType>(99)), Error);
  EXPECT_THROW((void)cast(x, DType::kNone), Error);
  const Tensor small = Tensor::zeros({1, 2});
  EXPECT_THROW(add_into(x, x, small), Error);
  EXPECT_THROW(add_into(x, x, Tensor{}), Error);
  EXPECT_THROW(matmul_into(x, x, x), Error);  // out overlaps its inputs
  EXPECT_EQ(values(small), (V{0, 0}));
  EXPECT_EQ(values(x), (V{1, 2, 3, 4}));
}

}  // namespace
}  // namespace lc
