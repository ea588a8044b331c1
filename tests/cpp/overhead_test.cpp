// What a warm call costs beyond its kernel. Prints the figures; fails where they are several times
// the target, as a lock, an allocation or a string on the warm path would make them.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "backends/cpu/thread_pool.hpp"
#include "lightning_core/dispatch.hpp"
#include "lightning_core/ops.hpp"
#include "lightning_core/trace.hpp"
#include "runtime/plan.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LC_SANITIZED 1
#endif

namespace lc {
namespace {

constexpr double kTargetNs = 60;  // plan() and run(), above the kernel
constexpr int kCalls = 2000;
constexpr int kRounds = 200;

/// Several pieces of work in turn, A B C A B C; the least nanoseconds a call of each: what
/// disturbs a run only adds.
template <typename... F>
std::array<double, sizeof...(F)> least_ns(const F&... work) {
  std::array<double, sizeof...(F)> least;
  least.fill(1e9);
  const auto time = [](const auto& f) {
    const uint64_t start = monotonic_ns();
    for (int i = 0; i < kCalls; ++i) f();
    return static_cast<double>(monotonic_ns() - start) / kCalls;
  };
  for (int r = 0; r < kRounds; ++r) {
    size_t i = 0;
    ((least[i] = std::min(least[i], time(work)), ++i), ...);
  }
  return least;
}

void measure(const char* name, const Tensor& a, const Tensor& b) {
  const OpDef& op = get_op(name);
  const Tensor out = Tensor::empty({8, 8});
  const auto describe = [&](OpCall& call) {
    call.in[0] = a.view();
    call.in[1] = b.view();
    call.out[0] = out.view();
  };
  OpCall described(op);
  describe(described);
  const PlanPtr held = plan_shared(described);
  ASSERT_EQ(held->kind, PlanKind::kKernel);
  const auto launch = [&] {
    held->kernel->launch(Launch{described.in, described.out, held->n_in, held->prepared, nullptr,
                                held->backend->encoder()});
  };
  const auto [kernel, describing, planning, running, warm] = least_ns(
      launch,
      [&] {
        OpCall call(op);
        describe(call);
        asm volatile("" : : "r"(&call) : "memory");
      },
      [&] {
        asm volatile("" : : "r"(&plan(described)) : "memory");
      },
      [&] { run(*held, described); }, [&] { run(plan(described), described); });
  std::printf(
      "%-8s kernel %5.1f ns, above it: plan and run %5.1f (describe %.1f, plan %.1f, run "
      "%.1f)\n",
      name, kernel, warm - kernel, describing, planning, running - kernel);
#ifndef LC_SANITIZED
  EXPECT_LT(warm - kernel, 4 * kTargetNs) << name;
#endif
}

TEST(Overhead, OfAWarmCall) {
  const Tensor a = Tensor::full({8, 8}, 0.5);
  const Tensor b = Tensor::full({8, 8}, 2.0);
  measure("matmul", a, b);
  measure("add", a, b);
}

/// Two tasks of equal length on two threads: what the run takes beyond one of them.
TEST(Overhead, OfAParallelRun) {
  if (num_threads() < 2) GTEST_SKIP() << "one processor";
  constexpr uint64_t kTaskNs = 5000;
  constexpr double kTargetUs = 2;
  std::vector<double> extra;
  for (int i = 0; i < 4000; ++i) {
    const uint64_t start = monotonic_ns();
    parallel_for(2, [](int64_t) {
      const uint64_t end = monotonic_ns() + kTaskNs;
      while (monotonic_ns() < end) {
      }
    });
    extra.push_back(static_cast<double>(monotonic_ns() - start - kTaskNs) * 1e-3);
  }
  std::sort(extra.begin(), extra.end());
  std::printf("start and join of two tasks: %.2f us, median %.2f\n", extra.front(),
              extra[extra.size() / 2]);
#ifndef LC_SANITIZED
  // The best tenth: a machine that is busy with something else delays the others.
  EXPECT_LT(extra[extra.size() / 10], 2 * kTargetUs);
#endif
}

}  // namespace
}  // namespace lc
