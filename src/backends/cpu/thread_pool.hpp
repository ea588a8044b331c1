// One process-wide pool. Workers spin briefly after work, then park; small work stays on the
// caller.
#pragma once

#include <cstdint>
#include <type_traits>

namespace lc {

/// Threads parallel_for() may use, the caller included: LC_NUM_THREADS, else the smaller of the
/// affinity mask and the cgroup quota (rounded up).
[[nodiscard]] int num_threads();

namespace detail {
using TaskFn = void (*)(void* context, int64_t task) noexcept;
/// Runs fn(context, t) for t in [0, tasks), each exactly once, caller included, and returns when
/// all are done. Tasks are handed out in order from one counter. Nested calls run inline. Safe from
/// several threads at once (callers queue for the workers or run inline) and after fork().
void parallel_run(TaskFn fn, void* context, int64_t tasks, int max_threads);
}  // namespace detail

/// f(task) for task in [0, tasks). How work is cut into tasks must depend on the call and on
/// num_threads() only, so that equal inputs give equal bits.
template <typename F>
void parallel_for(int64_t tasks, F&& f, int max_threads = 0) {
  if (tasks <= 0) return;
  if (tasks == 1) {
    f(int64_t{0});
    return;
  }
  using Fn = std::remove_reference_t<F>;
  detail::parallel_run([](void* c, int64_t t) noexcept { (*static_cast<Fn*>(c))(t); },
                       const_cast<std::remove_const_t<Fn>*>(&f), tasks, max_threads);
}

/// [begin, end) cut into num_threads() equal runs of whole `grain`s, run in parallel as
/// f(begin, end); inline if there is less than two grains.
template <typename F>
void parallel_ranges(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  const int64_t grains = (n + grain - 1) / grain;
  const int64_t parts = grains < num_threads() ? grains : num_threads();
  if (parts <= 1) {
    f(int64_t{0}, n);
    return;
  }
  parallel_for(parts, [&](int64_t t) {
    const int64_t b = grains * t / parts * grain;
    int64_t e = grains * (t + 1) / parts * grain;
    if (e > n) e = n;
    if (b < e) f(b, e);
  });
}

}  // namespace lc
