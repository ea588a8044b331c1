#include "lightning_core/tensor.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tensor/scalar.hpp"

namespace lc {
namespace {

View strided(void* data, Shape shape, Strides strides, DType dtype = DType::kFloat32) {
  return View(data, dtype, shape, strides);
}

TEST(Dims, RefusesRankNine) {
  const std::vector<int64_t> nine(9, 1);
  EXPECT_THROW(Dims{std::span<const int64_t>(nine)}, Error);
}

TEST(Dims, PrintsAsPython) {
  EXPECT_EQ(Shape({2, 3}).str(), "(2, 3)");
  EXPECT_EQ(Shape({4}).str(), "(4,)");
  EXPECT_EQ(Shape({}).str(), "()");
}

TEST(CheckedNumel, RefusesNegativeAndOverflow) {
  EXPECT_THROW((void)checked_numel("op", "x", Shape{-1, 2}, DType::kFloat32), Error);
  EXPECT_THROW((void)checked_numel("op", "x", Shape{INT64_MAX, 2}, DType::kFloat32), Error);
  EXPECT_THROW((void)checked_numel("op", "x", Shape{int64_t{1} << 61, 4}, DType::kFloat64), Error);
  // An empty shape with huge other extents must not overflow the strides either.
  EXPECT_THROW((void)checked_numel("op", "x", Shape{0, INT64_MAX, INT64_MAX}, DType::kFloat32),
               Error);
  EXPECT_EQ(checked_numel("op", "x", Shape{0, 5}, DType::kFloat32), 0);
  EXPECT_EQ(checked_numel("op", "x", Shape{2, 3, 4}, DType::kFloat32), 24);
}

TEST(Broadcast, FollowsNumpy) {
  EXPECT_EQ(broadcast_shapes("add", {3, 1}, {4}), Shape({3, 4}));
  EXPECT_EQ(broadcast_shapes("add", {}, {2, 2}), Shape({2, 2}));
  EXPECT_EQ(broadcast_shapes("add", {0, 1}, {1, 5}), Shape({0, 5}));
  EXPECT_THROW((void)broadcast_shapes("add", {3}, {4}), Error);
}

TEST(View, ContiguityIgnoresExtentsOfOneAndEmptyViews) {
  float data[24] = {};
  EXPECT_TRUE(strided(data, {2, 3}, {3, 1}).is_contiguous());
  EXPECT_FALSE(strided(data, {2, 3}, {1, 2}).is_contiguous());
  EXPECT_TRUE(strided(data, {2, 1, 3}, {3, 99, 1}).is_contiguous());
  EXPECT_TRUE(strided(data, {2, 0}, {7, 7}).is_contiguous());
  EXPECT_FALSE(strided(data, {3}, {-1}).is_contiguous());
}

TEST(Overlap, SeesSharedAndInterleavedMemory) {
  float data[24] = {};
  const View whole(data, DType::kFloat32, {4, 6});
  const View left = strided(data, {4, 3}, {6, 1});
  const View right = strided(data + 3, {4, 3}, {6, 1});
  EXPECT_TRUE(may_overlap(whole, left));
  EXPECT_FALSE(may_overlap(left, right));
  EXPECT_FALSE(may_overlap(right, left));
  EXPECT_TRUE(may_overlap(left, strided(data + 2, {4, 3}, {6, 1})));
  EXPECT_FALSE(may_overlap(View(data, DType::kFloat32, {6}), View(data + 6, DType::kFloat32, {6})));
  // Columns that wrap around the pitch overlap the next row's.
  EXPECT_TRUE(may_overlap(left, strided(data + 5, {3, 3}, {6, 1})));
  // Reversed rows cover the same memory.
  EXPECT_TRUE(may_overlap(left, strided(data + 18, {4, 3}, {-6, 1})));
}

TEST(Overlap, FindsSelfOverlap) {
  float data[24] = {};
  EXPECT_TRUE(self_overlaps(strided(data, {4, 3}, {0, 1})));
  EXPECT_TRUE(self_overlaps(strided(data, {4, 3}, {2, 1})));
  EXPECT_FALSE(self_overlaps(strided(data, {4, 3}, {1, 4})));
  EXPECT_FALSE(self_overlaps(strided(data + 23, {4, 3}, {-6, -1})));
  EXPECT_FALSE(self_overlaps(strided(data, {1, 3}, {0, 1})));
}

// Every reshape that reshape_view() allows must name the same elements in the same order.
TEST(ReshapeView, KeepsTheElementsInOrder) {
  std::vector<float> data(120);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
  const View base(data.data(), DType::kFloat32, {2, 3, 4, 5});
  const View transposed = strided(data.data(), {4, 2, 3, 5}, {5, 60, 20, 1});
  const View sliced = strided(data.data(), {2, 3, 2, 5}, {60, 20, 10, 1});
  const Shape targets[] = {{120},      {6, 20},   {2, 60}, {4, 6, 5}, {24, 5},         {4, 30},
                           {2, 3, 10}, {6, 2, 5}, {60},    {12, 5},   {2, 3, 2, 5, 1}, {8, 15}};
  int allowed = 0;
  for (const View& view : {base, transposed, sliced})
    for (const Shape& target : targets) {
      if (target.numel() != view.numel()) continue;
      View out;
      if (!reshape_view(view, target, &out)) continue;
      ++allowed;
      std::vector<double> want;
      for_each_element(view, [&](char* p, int64_t) { want.push_back(load_scalar(p, view.dtype)); });
      for_each_element(out, [&](char* p, int64_t i) {
        EXPECT_EQ(load_scalar(p, out.dtype), want[static_cast<size_t>(i)]) << target.str();
      });
    }
  EXPECT_EQ(allowed, 11);
  View out;
  EXPECT_FALSE(reshape_view(transposed, {120}, &out));
  EXPECT_TRUE(reshape_view(transposed, {4, 6, 5}, &out));
}

TEST(Tensor, FactoriesCheckTheirArguments) {
  const float values[] = {1, 2, 3};
  EXPECT_THROW((void)Tensor::from(std::span<const float>(values), {2, 2}), Error);
  EXPECT_THROW((void)Tensor::empty({-1}), Error);
  EXPECT_THROW((void)Tensor::empty({2}, DType::kNone), Error);
  EXPECT_THROW((void)Tensor::empty({2}, DType::kFloat32, Device{DeviceKind::kMetal, 0}), Error);
  EXPECT_THROW((void)Tensor::wrap(View(nullptr, DType::kFloat32, {2})), Error);
  EXPECT_EQ(Tensor::full({2, 2}, 3.5).item(3), 3.5);
}

TEST(Tensor, ViewsShareMemory) {
  const float values[] = {0, 1, 2, 3, 4, 5};
  const Tensor t = Tensor::from(std::span<const float>(values), {2, 3});
  EXPECT_EQ(t.transpose(0, 1).item(1), 3);
  EXPECT_EQ(t.permute({1, 0}).shape(), Shape({3, 2}));
  EXPECT_EQ(t.slice(1, -1, INT64_MAX).item(1), 5);
  EXPECT_EQ(t.reshape({3, -1}).shape(), Shape({3, 2}));
  EXPECT_EQ(t.reshape({6}).data<float>(), t.data<float>());
  EXPECT_THROW((void)t.transpose(0, 1).reshape({6}), Error);
  EXPECT_THROW((void)t.reshape({4}), Error);
  EXPECT_THROW((void)t.permute({0, 0}), Error);
  EXPECT_THROW((void)t.item(6), Error);
  const Tensor copied = t.transpose(0, 1).contiguous();
  EXPECT_TRUE(copied.is_contiguous());
  EXPECT_EQ(copied.item(1), 3);
  EXPECT_EQ(t.to(DType::kFloat64).item(5), 5);
}

TEST(Tensor, WrapRunsItsDeleterOnce) {
  float data[2] = {1, 2};
  int calls = 0;
  {
    const Tensor t = Tensor::wrap(View(data, DType::kFloat32, {2}), [&](void*) { ++calls; });
    const Tensor second = t;
  }
  EXPECT_EQ(calls, 1);
}

TEST(Scalar, HalfPrecisionRoundsToNearestEven) {
  // Every half value survives, and values between two neighbours round to the even one.
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const auto h = static_cast<uint16_t>(bits);
    const double x = static_cast<double>(half_to_float(h));
    EXPECT_EQ(double_to_half(x), h);
    if (bits + 1 < 0x7c00) {
      const double next = static_cast<double>(half_to_float(static_cast<uint16_t>(bits + 1)));
      EXPECT_EQ(double_to_half((x + next) / 2), (bits & 1) != 0 ? bits + 1 : bits);
    }
  }
  EXPECT_EQ(double_to_half(65520.0), 0x7c00);
  EXPECT_EQ(double_to_half(-0.0), 0x8000);
  EXPECT_TRUE(std::isnan(half_to_float(double_to_half(std::nan("")))));
}

TEST(Scalar, BfloatRoundsOnceFromDouble) {
  for (uint32_t bits = 0; bits < 0x7f80; bits += 7) {
    const auto b = static_cast<uint16_t>(bits);
    EXPECT_EQ(double_to_bfloat(static_cast<double>(bfloat_to_float(b))), b);
  }
  // Just above half way in double, half way in float: must round up.
  const double half_way = 1.0 + 0x1p-8;
  EXPECT_EQ(double_to_bfloat(half_way), 0x3f80);
  EXPECT_EQ(double_to_bfloat(half_way + 0x1p-40), 0x3f81);
  EXPECT_EQ(double_to_bfloat(std::numeric_limits<double>::infinity()), 0x7f80);
  EXPECT_EQ(double_to_bfloat(1e300), 0x7f80);
}

}  // namespace
}  // namespace lc
