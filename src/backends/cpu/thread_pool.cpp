// One job at a time runs on the workers; its caller works too. All that threads agree on is one
// 32-bit word: how many workers may still join (slots), how many have joined and not left (active).
//
//   caller: write the job, open the slots, wake sleepers if there are any, take tasks from the
//           counter until it is empty, close the slots, wait until nobody is active.
//   worker: spin while no slot is open, then sleep; take a slot, take tasks, close the slots once
//           the counter is empty, leave.
//
// A worker that wakes too late finds no slot and touches nothing, so a call never waits for one
// that has not started. A second caller, and a call from inside a task, runs inline.
#include "backends/cpu/thread_pool.hpp"
#include "runtime/fork_mutex.hpp"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>

#include "backends/cpu/host.hpp"
#include "runtime/per_epoch.hpp"

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lc {
namespace {

void pause_cpu() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // `yield` is a no-op on most cores
#endif
}

/// Rounding and flushing of denormals of the calling thread.
using FpMode = uint32_t;
FpMode fp_mode() noexcept {
#if defined(__x86_64__)
  return _mm_getcsr() & 0xffc0u;  // without the sticky exception flags
#elif defined(__aarch64__)
  uint64_t fpcr = 0;
  asm volatile("mrs %0, fpcr" : "=r"(fpcr));
  return static_cast<FpMode>(fpcr);
#else
  return 0;
#endif
}
void set_fp_mode([[maybe_unused]] FpMode mode) noexcept {
#if defined(__x86_64__)
  _mm_setcsr(mode);
#elif defined(__aarch64__)
  asm volatile("msr fpcr, %0" : : "r"(static_cast<uint64_t>(mode)));
#endif
}

int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

using Word = std::atomic<uint32_t>;
/// Sleeps while `word` is `value`; may return early.
void sleep_on(Word& word, uint32_t value) noexcept {
#ifdef __linux__
  static_assert(sizeof(Word) == 4);
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr,
          nullptr, 0);
#else
  word.wait(value);
#endif
}
void wake(Word& word, int count) noexcept {
#ifdef __linux__
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, count, nullptr,
          nullptr, 0);
#else
  if (count == 1)
    word.notify_one();
  else
    word.notify_all();
#endif
}

struct Settings {
  int32_t threads;
  int32_t spin_ns;
};

thread_local bool t_in_task = false;

PerEpoch<Settings>& setting_cache() {
  static auto* cached = new PerEpoch<Settings>;
  return *cached;
}

Settings settings() {
  const auto compute = [] {
    const int available = cpu::available_processors();
    const auto asked = static_cast<int>(config_int("LC_NUM_THREADS"));
    const int threads = std::min(asked > 0 ? asked : available, 1024);
    // More threads than processors: a spinning one only keeps another from its work.
    const int64_t spin_us = threads > available ? 0 : config_int("LC_SPIN_US");
    return Settings{threads, static_cast<int32_t>(spin_us * 1000)};
  };
  if (!t_in_task) [[likely]]
    return setting_cache().get(compute);
  // Tasks cannot throw; a configuration that went bad meanwhile is reported by the next plan.
  try {
    return setting_cache().get(compute);
  } catch (...) {
    const Settings last = setting_cache().last();
    return last.threads > 0 ? last : Settings{1, 0};
  }
}

// Bits of Pool::state_.
constexpr uint32_t kActiveMask = 0x3ff;  // at most 1023 workers
constexpr int kSlotShift = 10;
constexpr uint32_t kSlotMask = kActiveMask << kSlotShift;
constexpr uint32_t kWaiting = 1u << 20;  // the caller sleeps until nobody is active

constexpr int kPausesPerLook = 16;          // between looks at the clock
constexpr int64_t kQuietSpinNs = 60'000;    // then the processor is offered to others as well
constexpr int64_t kLateNs = 150'000;        // a worker woken so long ago should have come
constexpr int64_t kBlockAfterNs = 500'000;  // a caller that waits for so long sleeps

class Pool {
 public:
  void run(detail::TaskFn fn, void* context, int64_t tasks, const Settings& s, int max_threads) {
    const int wanted = static_cast<int>(std::min<int64_t>(max_threads, tasks)) - 1;
    if (busy_.load(std::memory_order_relaxed) || busy_.exchange(true, std::memory_order_acquire)) {
      for (int64_t t = 0; t < tasks; ++t) fn(context, t);
      return;
    }
    if (workers_ < wanted) [[unlikely]] {
      expect_workers();
      start_workers(wanted);
    }
    const int slots = std::min(wanted, workers_);
    fn_ = fn;
    context_ = context;
    tasks_ = tasks;
    fp_mode_ = fp_mode();
    spin_ns_.store(s.spin_ns, std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
    state_.store(static_cast<uint32_t>(slots) << kSlotShift, std::memory_order_seq_cst);
    if (const int sleeping = sleepers_.load(std::memory_order_seq_cst); sleeping > 0) {
      const int needed = slots - (workers_ - sleeping);
      if (needed > 0) {
        if (misplaced_) push_away();
        expect_workers();
        wake_workers(needed);
      }
    }
    t_in_task = true;
    take_tasks();
    t_in_task = false;
    state_.fetch_and(~kSlotMask, std::memory_order_acq_rel);
    if (woken_at_ != 0) look_for_late_ones();
    wait_until_left(s.spin_ns == 0);
    busy_.store(false, std::memory_order_release);
  }

 private:
  void take_tasks() noexcept {
    const detail::TaskFn fn = fn_;
    void* const context = context_;
    const int64_t tasks = tasks_;
    for (;;) {
      const int64_t t = next_.fetch_add(1, std::memory_order_relaxed);
      if (t >= tasks) return;
      fn(context, t);
    }
  }

  void wait_until_left(bool crowded) noexcept {
    if ((state_.load(std::memory_order_acquire) & kActiveMask) == 0) return;
    int64_t start = 0;
    for (int i = 1;; ++i) {
      const uint32_t s = state_.load(std::memory_order_acquire);
      if ((s & kActiveMask) == 0) return;
      pause_cpu();
      if (i % kPausesPerLook != 0) continue;
      const int64_t now = now_ns();
      if (start == 0) start = now;
      if (now - start > kBlockAfterNs) {
        const uint32_t before = state_.fetch_or(kWaiting, std::memory_order_acq_rel);
        if ((before & kActiveMask) != 0) sleep_on(state_, before | kWaiting);
      } else if (crowded || now - start > kQuietSpinNs) {
        sched_yield();
      }
    }
  }

  /// Two are woken here, each of which wakes more: the caller has work of its own.
  void wake_workers(int needed) noexcept {
    signal_.fetch_add(1, std::memory_order_seq_cst);
    wake(signal_, std::min(needed, 2));
  }

  void expect_workers() noexcept {
    if (woken_at_ != 0) return;
    woken_at_ = now_ns();
    wakes_then_ = wakes_.load(std::memory_order_relaxed);
  }

  /// Called at the end of a run while a wake-up is unanswered.
  void look_for_late_ones() noexcept {
    if (wakes_.load(std::memory_order_relaxed) == wakes_then_) {
      if (now_ns() - woken_at_ < kLateNs) return;
      misplaced_ = true;
      push_away();
    }
    woken_at_ = 0;
  }

  /// Some schedulers wake a thread on its waker's processor and leave it there for milliseconds
  /// while others are idle (seen in virtual machines). Once a run has shown that, sleepers are told
  /// to run wherever the caller may, but not where it does. Takes about 1 us a worker.
  void push_away() noexcept {
#ifdef __linux__
    cpu_set_t elsewhere;
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE) return;
    if (sched_getaffinity(0, sizeof elsewhere, &elsewhere) != 0) return;
    CPU_CLR(here, &elsewhere);
    if (CPU_COUNT(&elsewhere) == 0) return;
    for (int i = 0; i < workers_; ++i)
      pthread_setaffinity_np(threads_[static_cast<size_t>(i)], sizeof elsewhere, &elsewhere);
#endif
  }

  bool join() noexcept {
    uint32_t s = state_.load(std::memory_order_acquire);
    while ((s & kSlotMask) != 0)
      if (state_.compare_exchange_weak(s, s - (1u << kSlotShift) + 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire))
        return true;
    return false;
  }

  void leave() noexcept {
    state_.fetch_and(~kSlotMask, std::memory_order_relaxed);  // the counter is empty
    const uint32_t before = state_.fetch_sub(1, std::memory_order_acq_rel);
    if ((before & kWaiting) != 0 && (before & kActiveMask) == 1) wake(state_, 1);
  }

  [[nodiscard]] bool open(std::memory_order order) const noexcept {
    return (state_.load(order) & kSlotMask) != 0;
  }

  /// True if a slot opened within the spinning time.
  bool spin() const noexcept {
    const int64_t limit = spin_ns_.load(std::memory_order_relaxed);
    if (limit == 0) return open(std::memory_order_acquire);
    const int64_t start = now_ns();
    for (;;) {
      for (int i = 0; i < kPausesPerLook; ++i) {
        if (open(std::memory_order_acquire)) return true;
        pause_cpu();
      }
      const int64_t spent = now_ns() - start;
      if (spent > limit) return false;
      if (spent > kQuietSpinNs) sched_yield();
    }
  }

  [[noreturn]] void work() noexcept {
    t_in_task = true;
    wakes_.fetch_add(1, std::memory_order_relaxed);
    for (;;) {
      bool slept = false;
      while (!spin()) {
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        const uint32_t seen = signal_.load(std::memory_order_seq_cst);
        if (!open(std::memory_order_seq_cst)) sleep_on(signal_, seen);
        sleepers_.fetch_sub(1, std::memory_order_seq_cst);
        wakes_.fetch_add(1, std::memory_order_relaxed);
        slept = true;
      }
      if (!join()) continue;
      if (fp_mode_ != fp_mode()) set_fp_mode(fp_mode_);
      if (slept && open(std::memory_order_relaxed) && sleepers_.load(std::memory_order_relaxed) > 0)
        wake_workers(2);
      take_tasks();
      leave();
    }
  }

  /// As many as the system lets us have.
  void start_workers(int wanted) noexcept {
    // Signals are the program's own threads' business.
    sigset_t all;
    sigset_t previous;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
#ifdef __APPLE__
    pthread_attr_setstacksize(&attributes, 4 << 20);  // its default is 512 KiB
#endif
    const auto body = [](void* pool) -> void* { static_cast<Pool*>(pool)->work(); };
    while (workers_ < wanted) {
      pthread_t thread;
      if (pthread_create(&thread, &attributes, body, this) != 0) break;
      threads_[static_cast<size_t>(workers_)] = thread;
#ifdef __linux__
      pthread_setname_np(thread, "lc-worker");
#endif
      ++workers_;
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  }

  // The word workers watch, and the job, which they read right after joining.
  alignas(64) Word state_{0};
  std::atomic<int32_t> spin_ns_{0};
  detail::TaskFn fn_ = nullptr;
  void* context_ = nullptr;
  int64_t tasks_ = 0;
  FpMode fp_mode_ = 0;  // the caller's, so that its results do not depend on who computes them
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<bool> busy_{false};
  // Changed by the holder of busy_.
  int workers_ = 0;
  bool misplaced_ = false;
  int64_t woken_at_ = 0;  // of the oldest unanswered wake-up; 0: none
  uint32_t wakes_then_ = 0;
  std::array<pthread_t, kActiveMask> threads_{};
  alignas(64) std::atomic<int> sleepers_{0};
  Word signal_{0};
  Word wakes_{0};  // times a worker started, or came back from sleep
};

constinit std::atomic<Pool*> g_pool{nullptr};

/// A child of fork() has no workers, so it makes a pool of its own.
int forget_pool_in_children() {
  return pthread_atfork(nullptr, nullptr, [] { g_pool.store(nullptr, std::memory_order_relaxed); });
}

/// Made at first use and never destroyed: workers may sleep in it until the process ends.
Pool& pool() {
  Pool* p = g_pool.load(std::memory_order_acquire);
  if (p != nullptr) [[likely]]
    return *p;
  auto* made = new Pool;
  if (g_pool.compare_exchange_strong(p, made, std::memory_order_acq_rel)) return *made;
  delete made;  // another thread was first; this one has no workers yet
  return *p;
}

}  // namespace

int num_threads() { return settings().threads; }

namespace detail {

void parallel_run(TaskFn fn, void* context, int64_t tasks, int max_threads) {
  if (!t_in_task && tasks > 1) {
    const Settings s = settings();
    const int threads = max_threads > 0 ? std::min(max_threads, s.threads) : s.threads;
    if (threads > 1) {
      pool().run(fn, context, tasks, s, threads);
      return;
    }
  }
  for (int64_t t = 0; t < tasks; ++t) fn(context, t);
}

}  // namespace detail
LC_AT_LOAD((setting_cache(), forget_pool_in_children()))

}  // namespace lc
