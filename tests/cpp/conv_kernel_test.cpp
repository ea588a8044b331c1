// The convolution kernels on operands of small whole numbers, whose sums are exact in float: every
// result must be equal to the plain loops', on every instruction set and any number of threads.
// Memory around and between the operands' elements is NaN, so that reading or writing any of it
// shows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "lightning_core/dispatch.hpp"
#include "ops/activation.hpp"
#include "pinned_run.hpp"
#include "runtime/config.hpp"
#include "runtime/plan.hpp"

namespace lc {
namespace {

template <typename T>
constexpr DType kType = sizeof(T) == 4 ? DType::kFloat32 : DType::kFloat64;

/// A rank-4 array in NaN memory; `gap` elements between rows and planes, columns `step` apart.
template <typename T>
struct Array4 {
  static constexpr int64_t kGuard = 67;
  int64_t extent[4];
  int64_t stride[4];
  std::vector<T> memory;

  Array4(int64_t n, int64_t c, int64_t h, int64_t w, int64_t gap, int64_t step)
      : extent{n, c, h, w} {
    stride[3] = step;
    stride[2] = w * step + gap;
    stride[1] = h * stride[2] + gap;
    stride[0] = c * stride[1];
    memory.assign(static_cast<size_t>(n * stride[0] + 2 * kGuard),
                  std::numeric_limits<T>::quiet_NaN());
  }
  T& at(int64_t n, int64_t c, int64_t h, int64_t w) {
    return memory[static_cast<size_t>(kGuard + n * stride[0] + c * stride[1] + h * stride[2] +
                                      w * stride[3])];
  }
  [[nodiscard]] View view() {
    return View(memory.data() + kGuard, kType<T>, Shape{extent[0], extent[1], extent[2], extent[3]},
                Strides{stride[0], stride[1], stride[2], stride[3]});
  }
  template <typename F>
  void for_each(const F& f) {
    for (int64_t n = 0; n < extent[0]; ++n)
      for (int64_t c = 0; c < extent[1]; ++c)
        for (int64_t h = 0; h < extent[2]; ++h)
          for (int64_t w = 0; w < extent[3]; ++w) f(n, c, h, w);
  }
  void fill(std::mt19937& random) {
    for_each([&](int64_t n, int64_t c, int64_t h, int64_t w) {
      at(n, c, h, w) = static_cast<T>(static_cast<int>(random() % 5) - 2);
    });
  }
  [[nodiscard]] int64_t numbers() const {
    return std::count_if(memory.begin(), memory.end(), [](T x) { return !std::isnan(x); });
  }
  [[nodiscard]] int64_t numel() const { return extent[0] * extent[1] * extent[2] * extent[3]; }
};

struct Geometry {
  int64_t n, groups, in, out;  // channels of a group
  int64_t h, w, kh, kw;
  int64_t stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0, dil_h = 1, dil_w = 1;
  int64_t gap = 0, step = 1;  // of x
  bool bias = true, relu = false;
  [[nodiscard]] int64_t oh() const { return (h + 2 * pad_h - dil_h * (kh - 1) - 1) / stride_h + 1; }
  [[nodiscard]] int64_t ow() const { return (w + 2 * pad_w - dil_w * (kw - 1) - 1) / stride_w + 1; }
  [[nodiscard]] bool valid() const {
    return dil_h * (kh - 1) < h + 2 * pad_h && dil_w * (kw - 1) < w + 2 * pad_w;
  }
  [[nodiscard]] std::string name() const {
    return cat("n=", n, " groups=", groups, " in=", in, " out=", out, " h=", h, " w=", w, " k=", kh,
               'x', kw, " stride=", stride_h, ',', stride_w, " pad=", pad_h, ',', pad_w,
               " dilation=", dil_h, ',', dil_w, " gap=", gap, " step=", step, " bias=", bias,
               " relu=", relu);
  }
};

template <typename T>
struct Convolution {
  Geometry g;
  Array4<T> x, weight, out;
  std::vector<T> bias;  // every second value, if any
  std::vector<T> want;

  Convolution(const Geometry& geometry, uint32_t seed)
      : g(geometry),
        x(g.n, g.groups * g.in, g.h, g.w, g.gap, g.step),
        weight(g.groups * g.out, g.in, g.kh, g.kw, 0, 1),
        out(g.n, g.groups * g.out, g.oh(), g.ow(), 0, 1) {
    std::mt19937 random(seed);
    x.fill(random);
    weight.fill(random);
    for (int64_t j = 0; g.bias && j < 2 * g.groups * g.out; ++j)
      bias.push_back(static_cast<T>(static_cast<int>(random() % 9) - 4));
    out.for_each([&](int64_t n, int64_t c, int64_t y, int64_t q) {
      T sum = g.bias ? bias[static_cast<size_t>(2 * c)] : T{0};
      const int64_t first = c / g.out * g.in;
      for (int64_t e = 0; e < g.in; ++e)
        for (int64_t i = 0; i < g.kh; ++i)
          for (int64_t j = 0; j < g.kw; ++j) {
            const int64_t row = y * g.stride_h + i * g.dil_h - g.pad_h;
            const int64_t col = q * g.stride_w + j * g.dil_w - g.pad_w;
            if (row < 0 || row >= g.h || col < 0 || col >= g.w) continue;
            sum += x.at(n, first + e, row, col) * weight.at(c, e, i, j);
          }
      want.push_back(g.relu ? std::max(sum, T{0}) : sum);
    });
  }

  /// False where the kernel refuses this call.
  bool run_with(const char* kernel) {
    std::fill(out.memory.begin(), out.memory.end(), std::numeric_limits<T>::quiet_NaN());
    OpCall call(get_op("conv2d"));
    call.in[0] = x.view();
    call.in[1] = weight.view();
    if (g.bias) call.in[2] = View(bias.data(), kType<T>, Shape{g.groups * g.out}, Strides{2});
    call.out[0] = out.view();
    const auto pair = [&](const char* name, int64_t a, int64_t b) {
      const int64_t values[] = {a, b};
      call.attr_ref(name) = AttrValue::list(values);
    };
    pair("stride", g.stride_h, g.stride_w);
    pair("padding", g.pad_h, g.pad_w);
    pair("dilation", g.dil_h, g.dil_w);
    call.attr_ref("groups").i[0] = g.groups;
    if (g.relu) call.attr_ref("activation").i[0] = static_cast<int64_t>(Activation::kRelu);
    return run_pinned(call, kernel);
  }

  void compare(const std::string& with) {
    int wrong = 0;
    size_t i = 0;
    out.for_each([&](int64_t n, int64_t c, int64_t h, int64_t w) {
      const T expected = want[i++];
      if (!(out.at(n, c, h, w) == expected) && ++wrong <= 2)
        ADD_FAILURE() << with << ' ' << g.name() << ": out[" << n << ',' << c << ',' << h << ','
                      << w << "] = " << out.at(n, c, h, w) << ", want " << expected;
    });
    EXPECT_EQ(out.numbers(), out.numel()) << with << ' ' << g.name() << ": wrote beside its result";
  }
};

/// Every test leaves threads and instruction set as the environment has them.
class ConvKernel : public testing::Test {
 protected:
  void TearDown() override { reload_config(); }

  /// Instruction sets of this machine.
  static std::vector<const char*> sets() {
    std::vector<const char*> found;
    for (const char* isa : {"avx512", "avx2", "baseline", "neon"}) {
      try {
        set_config("LC_MAX_ISA", isa);
        (void)device_info(Device{});
        found.push_back(isa);
      } catch (const Error&) {
        reload_config();
      }
    }
    reload_config();
    EXPECT_FALSE(found.empty());
    return found;
  }
};

/// Runs a convolution on each kernel that takes it, with each number of threads; kernels that did.
template <typename T>
int check(Convolution<T>& conv, std::initializer_list<const char*> threads = {"1", "2", "5"}) {
  int taken = 0;
  for (const char* count : threads) {
    set_config("LC_NUM_THREADS", count);
    for (const char* kernel : {"depthwise", "winograd", "pixels", "direct", "implicit_gemm"}) {
      if (!conv.run_with(kernel)) continue;
      ++taken;
      conv.compare(cat(kernel, " on ", count, " threads, ", device_info(Device{}).isa));
    }
  }
  return taken;
}

template <typename T>
void check_random(int count, uint32_t seed, bool depthwise) {
  constexpr int64_t kOut[] = {1, 2, 5, 6, 7, 13, 14, 15, 16, 29};
  constexpr int64_t kExtent[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 34, 50};
  std::mt19937 random(seed);
  const auto one_of = [&](const auto& list) { return list[random() % std::size(list)]; };
  const auto below = [&](uint32_t n) { return static_cast<int64_t>(random() % n); };
  for (int i = 0; i < count && !testing::Test::HasFailure();) {
    Geometry g{};
    g.n = 1 + below(3);
    g.groups = depthwise ? 1 + below(5) : 1 + below(2);
    g.in = depthwise ? 1 : 1 + below(6);
    g.out = depthwise ? 1 + below(2) : one_of(kOut);
    g.h = one_of(kExtent);
    g.w = one_of(kExtent);
    const bool usual = random() % 2 == 0;  // 3x3, padding 1, stride 1 or 2
    g.kh = usual ? 3 : 1 + below(5);
    g.kw = usual ? 3 : 1 + below(5);
    g.pad_h = usual ? 1 : below(4);
    g.pad_w = usual ? 1 : below(4);
    g.stride_h = usual ? 1 + below(2) : 1 + below(4);
    g.stride_w = usual ? g.stride_h : 1 + below(4);
    g.dil_h = usual ? 1 : 1 + below(3);
    g.dil_w = usual ? 1 : 1 + below(3);
    g.gap = random() % 3 == 0 ? 3 : 0;
    g.step = random() % 5 == 0 ? 2 : 1;
    g.bias = random() % 2 == 0;
    g.relu = random() % 2 == 0;
    if (!g.valid()) continue;
    ++i;
    Convolution<T> conv(g, random());
    EXPECT_GT(check(conv), 0) << g.name();
  }
}

TEST_F(ConvKernel, RandomConvolutions) {
  for (const char* isa : sets()) {
    set_config("LC_MAX_ISA", isa);
    check_random<float>(150, 1, false);
    check_random<double>(60, 2, false);
  }
}

TEST_F(ConvKernel, RandomDepthwise) {
  for (const char* isa : sets()) {
    set_config("LC_MAX_ISA", isa);
    check_random<float>(200, 3, true);
    check_random<double>(100, 4, true);
  }
}

TEST_F(ConvKernel, SeveralBlocksOfEveryKind) {
  // Bands of rows that the threads share, panels of output channels with several blocks of input
  // channels and images, depthwise planes past half of L2.
  const Geometry kinds[] = {
      {.n = 1,
       .groups = 1,
       .in = 20,
       .out = 33,
       .h = 40,
       .w = 41,
       .kh = 3,
       .kw = 3,
       .pad_h = 1,
       .pad_w = 1},
      {.n = 2,
       .groups = 1,
       .in = 150,
       .out = 260,
       .h = 6,
       .w = 7,
       .kh = 3,
       .kw = 3,
       .pad_h = 1,
       .pad_w = 1,
       .relu = true},
      {.n = 1,
       .groups = 2,
       .in = 150,
       .out = 230,
       .h = 7,
       .w = 6,
       .kh = 3,
       .kw = 3,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 1,
       .pad_w = 1},
      {.n = 3,
       .groups = 1,
       .in = 600,
       .out = 400,
       .h = 5,
       .w = 5,
       .kh = 1,
       .kw = 1,
       .stride_h = 2,
       .stride_w = 2},
      {.n = 1,
       .groups = 1,
       .in = 3,
       .out = 20,
       .h = 90,
       .w = 90,
       .kh = 7,
       .kw = 7,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 3,
       .pad_w = 3,
       .relu = true},
      {.n = 1,
       .groups = 2,
       .in = 1,
       .out = 1,
       .h = 600,
       .w = 500,
       .kh = 5,
       .kw = 5,
       .pad_h = 2,
       .pad_w = 2},
  };
  for (const char* isa : sets()) {
    set_config("LC_MAX_ISA", isa);
    uint32_t seed = 100;
    for (const Geometry& g : kinds) {
      Convolution<float> conv(g, seed++);
      EXPECT_GT(check(conv, {"1", "2", "3"}), 3) << g.name();
    }
  }
}

/// 3x3 at stride 1 with as many channels as winograd asks for: sizes around its vectors, slices of
/// channels and tiles, with few weights and with many.
std::vector<Geometry> winograd_geometries(int count, uint32_t seed) {
  constexpr int64_t kChannels[] = {16, 17, 31, 32, 33, 47, 64, 65, 80};
  constexpr int64_t kExtent[] = {1, 2, 3, 4, 5, 7, 8, 13, 14, 15, 20};
  std::mt19937 random(seed);
  const auto one_of = [&](const auto& list) { return list[random() % std::size(list)]; };
  std::vector<Geometry> found;
  while (static_cast<int>(found.size()) < count) {
    Geometry g{};
    g.n = 1 + static_cast<int64_t>(random() % 2);
    g.groups = 1;
    g.in = one_of(kChannels);
    g.out = one_of(kChannels);
    g.h = one_of(kExtent);
    g.w = one_of(kExtent);
    g.kh = g.kw = 3;
    g.pad_h = static_cast<int64_t>(random() % 3);
    g.pad_w = static_cast<int64_t>(random() % 3);
    g.bias = random() % 2 == 0;
    g.relu = random() % 2 == 0;
    if (g.valid()) found.push_back(g);
  }
  found.push_back({.n = 2, .groups = 1, .in = 200, .out = 140, .h = 5, .w = 6, .kh = 3, .kw = 3});
  found.push_back({.n = 1,
                   .groups = 1,
                   .in = 520,
                   .out = 100,
                   .h = 4,
                   .w = 6,
                   .kh = 3,
                   .kw = 3,
                   .pad_h = 1,
                   .pad_w = 1,
                   .relu = true});
  return found;
}

/// Kernels and strides of all kinds on small images with as many channels as pixels asks for; few
/// weights and many, chunks of channels, images that are multiplied one after the other.
std::vector<Geometry> pixel_geometries(int count, uint32_t seed) {
  constexpr int64_t kChannels[] = {16, 17, 31, 32, 33, 47, 64, 65, 80};
  constexpr int64_t kExtent[] = {1, 2, 3, 5, 7, 8, 10, 14};
  std::mt19937 random(seed);
  const auto below = [&](uint32_t n) { return static_cast<int64_t>(random() % n); };
  const auto one_of = [&](const auto& list) { return list[random() % std::size(list)]; };
  std::vector<Geometry> found;
  while (static_cast<int>(found.size()) < count) {
    Geometry g{};
    g.n = 1 + below(2);
    g.groups = 1;
    g.in = one_of(kChannels);
    g.out = one_of(kChannels);
    g.h = one_of(kExtent);
    g.w = one_of(kExtent);
    g.kh = 1 + below(3);
    g.kw = random() % 2 == 0 ? g.kh : 1 + below(3);
    g.pad_h = below(2);
    g.pad_w = below(3);
    if (random() % 3 == 0) g.kh = g.kw = 1, g.pad_h = g.pad_w = 0;
    g.stride_h = 1 + below(3);
    g.stride_w = random() % 2 == 0 ? g.stride_h : 1 + below(3);
    g.dil_h = 1 + below(2);
    g.dil_w = 1 + below(2);
    g.bias = random() % 2 == 0;
    g.relu = random() % 2 == 0;
    if (!g.valid() || g.oh() * g.ow() > 128) continue;
    found.push_back(g);
  }
  found.push_back({.n = 2, .groups = 1, .in = 600, .out = 300, .h = 5, .w = 7, .kh = 1, .kw = 1});
  found.push_back({.n = 2,
                   .groups = 1,
                   .in = 200,
                   .out = 140,
                   .h = 6,
                   .w = 9,
                   .kh = 3,
                   .kw = 3,
                   .stride_h = 2,
                   .stride_w = 2,
                   .pad_h = 1,
                   .pad_w = 1});
  return found;
}

TEST_F(ConvKernel, Pixels) {
  for (const char* isa : sets()) {
    set_config("LC_MAX_ISA", isa);
    uint32_t seed = 400;
    for (const Geometry& g : pixel_geometries(60, 6)) {
      Convolution<float> conv(g, seed++);
      for (const char* threads : {"1", "2", "5"}) {
        set_config("LC_NUM_THREADS", threads);
        ASSERT_TRUE(conv.run_with("pixels")) << g.name();
        conv.compare(cat("pixels on ", threads, " threads, ", isa));
      }
    }
  }
}

TEST_F(ConvKernel, Winograd) {
  for (const char* isa : sets()) {
    set_config("LC_MAX_ISA", isa);
    uint32_t seed = 300;
    int taken = 0;
    for (const Geometry& g : winograd_geometries(60, 5)) {
      Convolution<float> conv(g, seed++);
      for (const char* threads : {"1", "2", "5"}) {
        set_config("LC_NUM_THREADS", threads);
        if (!conv.run_with("winograd")) continue;  // too small an output
        ++taken;
        conv.compare(cat("winograd on ", threads, " threads, ", isa));
      }
    }
    EXPECT_GT(taken, 60);
  }
}

// Its transforms subtract inputs from each other and add weights up.
TEST_F(ConvKernel, WinogradKeepsInfinitiesNanAndLargeNumbers) {
  const Geometry g{.n = 1,
                   .groups = 1,
                   .in = 20,
                   .out = 36,
                   .h = 11,
                   .w = 10,
                   .kh = 3,
                   .kw = 3,
                   .pad_h = 1,
                   .pad_w = 1};
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const char* isa : sets()) {
    set_config("LC_MAX_ISA", isa);
    for (const float value : {kInfinity, -kInfinity, NAN, 0x1p127f}) {
      for (int64_t y = 3; y < 5; ++y)
        for (int64_t q = 4; q < 6; ++q) {
          Convolution<float> conv(g, 9);
          // Alone in its channel, so that a large number adds up to one that float holds.
          for (int64_t h = 0; h < g.h; ++h)
            for (int64_t w = 0; w < g.w; ++w) conv.x.at(0, 7, h, w) = 0.0f;
          conv.weight.for_each([&](int64_t o, int64_t c, int64_t i, int64_t j) {
            if (c == 7) conv.weight.at(o, c, i, j) = (o + i + j) % 2 == 0 ? 1.0f : -1.0f;
          });
          conv.x.at(0, 7, y, q) = value;
          ASSERT_TRUE(conv.run_with("winograd"));
          for (int64_t o = 0; o < g.out; ++o)
            for (int64_t h = 0; h < g.oh(); ++h)
              for (int64_t w = 0; w < g.ow(); ++w) {
                const int64_t i = y - h + 1;
                const int64_t j = q - w + 1;
                const float got = conv.out.at(0, o, h, w);
                const bool reached = i >= 0 && i < 3 && j >= 0 && j < 3;
                const float want = reached ? value * conv.weight.at(o, 7, i, j) : 0.0f;
                if (!reached)
                  EXPECT_TRUE(std::fabs(got) < 1e4f)
                      << value << " at " << o << ' ' << h << ' ' << w;
                else if (std::isnan(want))
                  EXPECT_TRUE(std::isnan(got)) << value << " at " << o << ' ' << h << ' ' << w;
                else
                  EXPECT_EQ(got, want) << value << " at " << o << ' ' << h << ' ' << w;
              }
        }
    }
  }
}

TEST_F(ConvKernel, EachKernelTakesWhatItIsFor) {
  struct Expectation {
    Geometry g;
    const char* kernel;
    bool takes;
  };
  const Expectation expected[] = {
      {{.n = 1, .groups = 4, .in = 1, .out = 1, .h = 9, .w = 9, .kh = 3, .kw = 3},
       "depthwise",
       true},
      {{.n = 1, .groups = 4, .in = 2, .out = 1, .h = 9, .w = 9, .kh = 3, .kw = 3},
       "depthwise",
       false},
      {{.n = 1, .groups = 1, .in = 1, .out = 3, .h = 9, .w = 9, .kh = 3, .kw = 3},
       "depthwise",
       false},
      {{.n = 1, .groups = 1, .in = 32, .out = 32, .h = 9, .w = 9, .kh = 3, .kw = 3},
       "winograd",
       true},
      {{.n = 1, .groups = 1, .in = 32, .out = 32, .h = 9, .w = 9, .kh = 3, .kw = 2},
       "winograd",
       false},
      {{.n = 1, .groups = 1, .in = 32, .out = 32, .h = 5, .w = 5, .kh = 3, .kw = 3},
       "winograd",
       false},
      {{.n = 3, .groups = 1, .in = 32, .out = 32, .h = 4, .w = 4, .kh = 3, .kw = 3},
       "winograd",
       false},
      {{.n = 1, .groups = 1, .in = 32, .out = 32, .h = 9, .w = 9, .kh = 3, .kw = 3, .stride_h = 2},
       "winograd",
       false},
      {{.n = 1, .groups = 1, .in = 32, .out = 32, .h = 9, .w = 9, .kh = 3, .kw = 3, .dil_w = 2},
       "winograd",
       false},
      {{.n = 1, .groups = 2, .in = 32, .out = 32, .h = 9, .w = 9, .kh = 3, .kw = 3},
       "winograd",
       false},
      {{.n = 1, .groups = 1, .in = 3, .out = 32, .h = 9, .w = 9, .kh = 3, .kw = 3},
       "winograd",
       false},
      {{.n = 1, .groups = 1, .in = 32, .out = 32, .h = 9, .w = 9, .kh = 3, .kw = 3, .gap = 1},
       "winograd",
       false},
      {{.n = 1, .groups = 1, .in = 32, .out = 32, .h = 9, .w = 9, .kh = 1, .kw = 1},
       "pixels",
       true},
      {{.n = 1, .groups = 1, .in = 32, .out = 32, .h = 12, .w = 12, .kh = 1, .kw = 1},
       "pixels",
       false},
      {{.n = 1, .groups = 1, .in = 32, .out = 32, .h = 40, .w = 40, .kh = 3, .kw = 3},
       "pixels",
       false},
      {{.n = 1, .groups = 1, .in = 3, .out = 32, .h = 9, .w = 9, .kh = 1, .kw = 1},
       "pixels",
       false},
      {{.n = 1, .groups = 1, .in = 32, .out = 32, .h = 9, .w = 9, .kh = 1, .kw = 1, .gap = 1},
       "pixels",
       false},
      {{.n = 1, .groups = 1, .in = 3, .out = 3, .h = 9, .w = 9, .kh = 3, .kw = 3}, "direct", true},
      {{.n = 1, .groups = 1, .in = 3, .out = 3, .h = 9, .w = 9, .kh = 1, .kw = 1}, "direct", false},
      {{.n = 1, .groups = 1, .in = 3, .out = 3, .h = 9, .w = 9, .kh = 1, .kw = 1, .stride_h = 2},
       "direct",
       true},
      {{.n = 1, .groups = 1, .in = 3, .out = 3, .h = 9, .w = 9, .kh = 3, .kw = 3, .stride_w = 5},
       "direct",
       false},
      {{.n = 1, .groups = 1, .in = 3, .out = 3, .h = 30, .w = 30, .kh = 12, .kw = 12},
       "direct",
       false},
      {{.n = 1, .groups = 1, .in = 3, .out = 3, .h = 9, .w = 9, .kh = 3, .kw = 3, .stride_w = 5},
       "implicit_gemm",
       true},
  };
  for (const Expectation& e : expected) {
    Convolution<float> conv(e.g, 7);
    EXPECT_EQ(conv.run_with(e.kernel), e.takes) << e.kernel << ' ' << e.g.name();
  }
}

}  // namespace
}  // namespace lc
