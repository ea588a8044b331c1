// softmax, log_softmax, layer_norm and rms_norm through plan() and run(), against loops in double.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "lightning_core/dispatch.hpp"
#include "runtime/plan.hpp"

namespace lc {
namespace {

template <typename T>
Tensor random_tensor(const Shape& shape, double spread = 1, double centre = 0) {
  std::mt19937 random(static_cast<uint32_t>(shape.numel()));
  std::normal_distribution<double> normal(centre, spread);
  std::vector<T> values(static_cast<size_t>(shape.numel()));
  for (T& v : values) v = static_cast<T>(normal(random));
  return Tensor::from(std::span<const T>(values), shape);
}

std::vector<double> values(const Tensor& t) {
  std::vector<double> v(static_cast<size_t>(t.numel()));
  for (int64_t i = 0; i < t.numel(); ++i) v[static_cast<size_t>(i)] = t.item(i);
  return v;
}

void expect_near(const Tensor& got, const std::vector<double>& want, double length,
                 const std::string& what) {
  double scale = 0;
  for (const double w : want)
    if (std::isfinite(w)) scale = std::max(scale, std::fabs(w));
  const double bound = 8 * dtype_eps(got.dtype()) * std::sqrt(length) * scale;
  int wrong = 0;
  for (int64_t i = 0; i < got.numel(); ++i) {
    const double w = want[static_cast<size_t>(i)];
    const double g = got.item(i);
    const bool good = std::isnan(w)   ? std::isnan(g)
                      : std::isinf(w) ? g == w
                                      : std::fabs(g - w) <= bound;
    if (!good && ++wrong <= 3)
      ADD_FAILURE() << what << " at " << i << ": " << g << ", want " << w << " within " << bound;
  }
}

std::vector<double> softmax_of(const Tensor& x, int axis, bool log) {
  std::vector<double> v = values(x);
  int64_t inner = 1;
  for (int i = axis + 1; i < x.rank(); ++i) inner *= x.shape()[i];
  const int64_t n = x.shape()[axis];
  for (int64_t row = 0; row < x.numel() / n; ++row) {
    double* const p = v.data() + row / inner * n * inner + row % inner;
    double most = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = 0; j < n; ++j) most = std::max(most, p[j * inner]);
    for (int64_t j = 0; j < n; ++j) sum += std::exp(p[j * inner] - most);
    for (int64_t j = 0; j < n; ++j)
      p[j * inner] =
          log ? p[j * inner] - most - std::log(sum) : std::exp(p[j * inner] - most) / sum;
  }
  return v;
}

OpCall softmax_call(const Tensor& x, int axis, bool log) {
  OpCall call(get_op(log ? "log_softmax" : "softmax"));
  call.in[0] = x.view();
  call.attr_ref("axis").i[0] = axis;
  return call;
}

void check_softmax(const Tensor& x, int axis) {
  for (const bool log : {false, true}) {
    OpCall call = softmax_call(x, axis, log);
    const Tensor y = call_op1(call);
    EXPECT_STREQ(plan(call).kernel->name, "simd");
    expect_near(y, softmax_of(x, axis, log), static_cast<double>(x.shape()[axis]), call.str());
  }
}

template <typename T>
void check_softmax_shapes() {
  for (const int64_t n : {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 257, 1000}) {
    check_softmax(random_tensor<T>({5, n}, 3), 1);
    check_softmax(random_tensor<T>({n, 5}, 3), 0);
    check_softmax(random_tensor<T>({2, n, 3}, 3), 1);
    check_softmax(random_tensor<T>({n}, 3), 0);
  }
  check_softmax(random_tensor<T>({3, 4, 300}, 2), 1);
  check_softmax(random_tensor<T>({300, 4, 3}, 2), 0);
  // Views: transposed, every other row, every other element of a row.
  const Tensor x = random_tensor<T>({6, 40, 10}, 2);
  for (int axis = 0; axis < 3; ++axis) {
    check_softmax(x.transpose(0, 2), axis);
    check_softmax(x.permute(Dims{1, 2, 0}), axis);
    check_softmax(x.slice(1, 0, 40, 2), axis);
    check_softmax(x.slice(2, 0, 10, 2), axis);
  }
}

TEST(SoftmaxKernel, Float32) { check_softmax_shapes<float>(); }
TEST(SoftmaxKernel, Float64) { check_softmax_shapes<double>(); }

TEST(SoftmaxKernel, ThreadsShareLargeInputs) {
  check_softmax(random_tensor<float>({257, 513}, 4), 1);
  check_softmax(random_tensor<float>({257, 1027}, 4), 0);
}

TEST(SoftmaxKernel, WorksInPlace) {
  for (const int axis : {0, 1})
    for (const bool log : {false, true}) {
      const Tensor x = random_tensor<float>({37, 53}, 3);
      const std::vector<double> want = softmax_of(x, axis, log);
      OpCall call = softmax_call(x, axis, log);
      call.out[0] = x.view();
      run(plan(call), call);
      expect_near(x, want, 53, call.str());
    }
}

TEST(SoftmaxKernel, InfinitiesAndNaN) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  // Rows: ordinary with -inf, all -inf, +inf, NaN, huge.
  std::vector<float> v;
  for (int i = 0; i < 20; ++i) v.push_back(i == 3 ? -inf : 0.1f * static_cast<float>(i));
  for (int i = 0; i < 20; ++i) v.push_back(-inf);
  for (int i = 0; i < 20; ++i) v.push_back(i == 4 ? inf : 1.0f);
  for (int i = 0; i < 20; ++i) v.push_back(i == 17 ? nan : 1.0f);
  for (int i = 0; i < 20; ++i) v.push_back(i == 0 ? 1e38f : -1e38f);
  const Tensor rows = Tensor::from(std::span<const float>(v), {5, 20});
  const Tensor columns = rows.transpose(0, 1).contiguous();
  for (const bool log : {false, true}) {
    OpCall a = softmax_call(rows, 1, log);
    OpCall b = softmax_call(columns, 0, log);
    const Tensor ya = call_op1(a);
    const Tensor yb = call_op1(b).transpose(0, 1).contiguous();
    for (const Tensor& y : {ya, yb}) {
      EXPECT_EQ(y.item(3), log ? -inf : 0.0);
      for (int64_t i = 0; i < 20; ++i) {
        EXPECT_TRUE(std::isfinite(y.item(i)) || i == 3);
        EXPECT_TRUE(std::isnan(y.item(20 + i)));
        EXPECT_TRUE(std::isnan(y.item(40 + i)));
        EXPECT_TRUE(std::isnan(y.item(60 + i)));
      }
      EXPECT_EQ(y.item(80), log ? 0.0 : 1.0);
    }
  }
}

std::vector<double> norm_of(const Tensor& x, const Tensor* weight, const Tensor* bias, double eps,
                            bool layer) {
  std::vector<double> v = values(x);
  const int64_t n = x.shape().back();
  for (int64_t base = 0; base < x.numel(); base += n) {
    double* const p = v.data() + base;
    const auto count = static_cast<long double>(n);
    long double mean = 0, square = 0;
    for (int64_t i = 0; i < n && layer; ++i) mean += p[i];
    mean /= count;
    for (int64_t i = 0; i < n; ++i) square += (p[i] - mean) * (p[i] - mean);
    const long double scale = 1 / std::sqrt(square / count + eps);
    for (int64_t i = 0; i < n; ++i) {
      p[i] = static_cast<double>((p[i] - mean) * scale);
      if (weight != nullptr) p[i] *= weight->item(i);
      if (bias != nullptr) p[i] += bias->item(i);
    }
  }
  return v;
}

void check_norm(const Tensor& x, const Tensor* weight, const Tensor* bias, double eps, bool layer) {
  OpCall call(get_op(layer ? "layer_norm" : "rms_norm"));
  call.in[0] = x.view();
  if (weight != nullptr) call.in[1] = weight->view();
  if (bias != nullptr && layer) call.in[2] = bias->view();
  call.attr_ref("eps").f = eps;
  const Tensor y = call_op1(call);
  EXPECT_STREQ(plan(call).kernel->name, "simd");
  expect_near(y, norm_of(x, weight, layer ? bias : nullptr, eps, layer),
              static_cast<double>(x.shape().back()), call.str());
}

template <typename T>
void check_norms() {
  for (const int64_t n : {1, 2, 5, 8, 15, 16, 17, 33, 64, 100, 384, 1000}) {
    const Tensor weight = random_tensor<T>({n}, 1, 1), bias = random_tensor<T>({n});
    for (const Shape& shape : {Shape{n}, Shape{7, n}, Shape{2, 3, n}})
      for (const bool layer : {false, true}) {
        const Tensor x = random_tensor<T>(shape, 2, 0.5);
        check_norm(x, nullptr, nullptr, 1e-5, layer);
        check_norm(x, &weight, nullptr, 1e-5, layer);
        check_norm(x, nullptr, &bias, 1e-5, layer);
        check_norm(x, &weight, &bias, 1e-12, layer);
      }
  }
  const Tensor x = random_tensor<T>({6, 10, 32});
  const Tensor wide = random_tensor<T>({64}), weight = wide.slice(0, 0, 64, 2);
  for (const bool layer : {false, true}) {
    check_norm(x.transpose(0, 1), &weight, &weight, 1e-5, layer);
    check_norm(random_tensor<T>({6, 32, 10}).transpose(1, 2), &weight, nullptr, 1e-5, layer);
    check_norm(x.slice(0, 1, 6, 2), nullptr, &weight, 1e-5, layer);
  }
}

TEST(NormKernel, Float32) { check_norms<float>(); }
TEST(NormKernel, Float64) { check_norms<double>(); }

TEST(NormKernel, ThreadsShareLargeInputs) {
  const Tensor weight = random_tensor<float>({768}, 1, 1);
  check_norm(random_tensor<float>({300, 768}), &weight, &weight, 1e-5, true);
  check_norm(random_tensor<float>({300, 768}), &weight, nullptr, 1e-5, false);
}

TEST(NormKernel, KeepsAccuracyFarFromZero) {
  check_norm(random_tensor<float>({4, 500}, 1, 10000), nullptr, nullptr, 1e-5, true);
  check_norm(random_tensor<double>({4, 500}, 1, 1e4), nullptr, nullptr, 1e-5, true);
}

TEST(NormKernel, NaNStaysInItsRow) {
  std::vector<float> v(3 * 20, 1.0f);
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i % 7);
  v[25] = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::from(std::span<const float>(v), {3, 20});
  OpCall call(get_op("layer_norm"));
  call.in[0] = x.view();
  const Tensor y = call_op1(call);
  for (int64_t i = 0; i < 60; ++i) EXPECT_EQ(std::isnan(y.item(i)), i / 20 == 1) << i;
}

}  // namespace
}  // namespace lc
