// A small value computed from the configuration, kept until the configuration changes.
#pragma once

#include <atomic>
#include <mutex>

#include "runtime/config.hpp"
#include "runtime/fork_mutex.hpp"

namespace lc {

/// Reading it warm costs two loads. Must live forever.
template <typename T>
class PerEpoch {
 public:
  /// compute() may throw; then nothing is kept.
  template <typename F>
  T get(F&& compute) {
    if (epoch_.load(std::memory_order_acquire) == config_epoch()) [[likely]]
      return value_.load(std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    const uint32_t epoch = config_epoch();
    const T value = compute();
    value_.store(value, std::memory_order_relaxed);
    epoch_.store(epoch, std::memory_order_release);
    return value;
  }
  /// The last value computed, even if the configuration has changed since; T{} before the first.
  [[nodiscard]] T last() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint32_t> epoch_{0};
  std::atomic<T> value_{};
  ForkMutex mutex_{LockRank::kDerived};
};

}  // namespace lc
