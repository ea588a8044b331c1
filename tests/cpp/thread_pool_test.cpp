#include "backends/cpu/thread_pool.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <thread>
#include <vector>

#include "lightning_core/ops.hpp"
#include "lightning_core/trace.hpp"
#include "runtime/config.hpp"

namespace lc {
namespace {

/// Every test leaves the thread count as the environment has it.
class ThreadPool : public testing::Test {
 protected:
  void TearDown() override { reload_config(); }
};

void expect_each_task_once(int64_t tasks) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
  parallel_for(tasks, [&](int64_t t) { ++runs[static_cast<size_t>(t)]; });
  for (const auto& n : runs) ASSERT_EQ(n, 1);
}

TEST_F(ThreadPool, RunsEachTaskOnce) {
  for (const int64_t tasks : {0, 1, 2, 3, 7, 64, 1000}) expect_each_task_once(tasks);
}

TEST_F(ThreadPool, WorksOversubscribed) {
  set_config("LC_NUM_THREADS", "16");
  EXPECT_EQ(num_threads(), 16);
  for (int i = 0; i < 200; ++i) expect_each_task_once(37);
}

TEST_F(ThreadPool, OneThreadRunsInline) {
  set_config("LC_NUM_THREADS", "1");
  const auto self = std::this_thread::get_id();
  parallel_for(50, [&](int64_t) { EXPECT_EQ(std::this_thread::get_id(), self); });
}

TEST_F(ThreadPool, NestedCallsFinish) {
  set_config("LC_NUM_THREADS", "4");
  std::atomic<int64_t> sum{0};
  parallel_for(8, [&](int64_t a) { parallel_for(8, [&](int64_t b) { sum += a * 8 + b; }); });
  EXPECT_EQ(sum, 63 * 64 / 2);
}

TEST_F(ThreadPool, OpsInsideTasksAndOversubscribed) {
  const Tensor a = Tensor::full({96, 200}, 0.5), b = Tensor::full({200, 80}, 0.25);
  const Tensor want = matmul(a, b);
  const auto right = [&](const Tensor& got) {
    return std::equal(got.data<float>(), got.data<float>() + got.numel(), want.data<float>());
  };
  for (const char* threads : {"2", "16"}) {
    set_config("LC_NUM_THREADS", threads);
    std::atomic<int> good{0};
    parallel_for(12, [&](int64_t) { good += right(matmul(a, b)) ? 1 : 0; });
    EXPECT_EQ(good, 12) << threads;
    std::vector<std::thread> callers;
    for (int c = 0; c < 6; ++c)
      callers.emplace_back([&] {
        for (int i = 0; i < 10; ++i) good += right(matmul(a, b)) ? 1 : 0;
      });
    for (std::thread& t : callers) t.join();
    EXPECT_EQ(good, 72) << threads;
  }
}

TEST_F(ThreadPool, SeveralCallersAtOnce) {
  set_config("LC_NUM_THREADS", "3");
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 6; ++c)
    callers.emplace_back([&] {
      for (int i = 0; i < 300; ++i) {
        std::atomic<int64_t> sum{0};
        parallel_for(11, [&](int64_t t) { sum += t; });
        total += sum;
      }
    });
  for (std::thread& t : callers) t.join();
  EXPECT_EQ(total, 6 * 300 * 55);
}

TEST_F(ThreadPool, RangesCoverEverythingInOrderOfTheirParts) {
  set_config("LC_NUM_THREADS", "4");
  for (const int64_t n : {1, 5, 16, 100, 1001})
    for (const int64_t grain : {1, 4, 64}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
      parallel_ranges(n, grain, [&](int64_t begin, int64_t end) {
        EXPECT_EQ(begin % grain, 0);
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      });
      for (const auto& s : seen) ASSERT_EQ(s, 1);
    }
}

TEST_F(ThreadPool, WorkersRoundAsTheirCallerDoes) {
  set_config("LC_NUM_THREADS", "4");
  const auto self = std::this_thread::get_id();
  volatile double one = 1, little = 1e-30;
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TONEAREST}) {
    ASSERT_EQ(std::fesetround(mode), 0);
    const double want = (one + little) - (one - little);
    std::atomic<int> elsewhere{0};
    std::atomic<int> wrong{0};
    for (int i = 0; i < 200 && elsewhere == 0; ++i)
      parallel_for(8, [&](int64_t) {
        if ((one + little) - (one - little) != want) ++wrong;
        if (std::this_thread::get_id() != self) ++elsewhere;
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
        while (std::chrono::steady_clock::now() < end) {
        }
      });
    std::fesetround(FE_TONEAREST);
    EXPECT_EQ(wrong, 0);
    EXPECT_GT(elsewhere, 0) << "no worker came";
  }
}

#if !defined(__SANITIZE_THREAD__)  // fork with threads is outside of what ThreadSanitizer follows
TEST_F(ThreadPool, ChildOfForkComputes) {
  set_config("LC_NUM_THREADS", "3");
  expect_each_task_once(20);  // the parent's workers exist
  for (int i = 0; i < 5; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      std::atomic<int64_t> sum{0};
      parallel_for(100, [&](int64_t t) { sum += t; });
      _exit(sum == 4950 ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  expect_each_task_once(20);
}
#endif

int64_t process_ns() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

TEST_F(ThreadPool, NoCoreIsBusyAMillisecondAfterTheLastCall) {
  using std::chrono::milliseconds;
  for (const char* threads : {"0", "4"}) {  // as many as there are processors: workers spin a while
    set_config("LC_NUM_THREADS", threads);
    constexpr int kRounds = 20;
    constexpr int kWatchMs = 5;
    int64_t busy = 0;
    for (int i = 0; i < kRounds; ++i) {
      expect_each_task_once(64);
      std::this_thread::sleep_for(milliseconds(1));
      const int64_t before = process_ns();
      std::this_thread::sleep_for(milliseconds(kWatchMs));
      busy += process_ns() - before;
    }
    // One worker that still spun would have used all of the time watched.
    EXPECT_LT(busy, int64_t{kRounds} * kWatchMs * 1'000'000 / 5) << threads;
  }
}

}  // namespace
}  // namespace lc
