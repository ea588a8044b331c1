// Mutexes that a fork() finds free: the child gets every protected structure whole and unlocked.
#pragma once

#include <mutex>

namespace lc {

/// Order in which locks may nest, outermost first; fork() takes them in this order.
enum class LockRank : int {
  kPlans,        ///< the shared map of plans
  kPolicy,       ///< default policy and interned kernel names
  kCompat,       ///< the reference's surfaces: sync policy, device blocks, model caches
  kBackend,      ///< CPU backend's choice of instruction set and threads
  kDerived,      ///< values computed from the configuration
  kTraceConfig,  ///< applying LC_TRACE
  kConfig,
  kTrace,  ///< ring and sink
  kPlanText,
  kMemory,
};
inline constexpr int kLockRanks = static_cast<int>(LockRank::kMemory) + 1;

/// A std::mutex that is registered with fork(). Must live forever (static storage or leaked).
class ForkMutex {
 public:
  explicit ForkMutex(LockRank rank);
  ForkMutex(const ForkMutex&) = delete;
  ForkMutex& operator=(const ForkMutex&) = delete;
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }
  bool try_lock() { return mutex_.try_lock(); }

 private:
  friend struct ForkMutexes;
  std::mutex mutex_;
  LockRank rank_;
  ForkMutex* next_ = nullptr;
};

}  // namespace lc

/// Once a file, at its end: evaluates `expression` while the library is loaded. For state that
/// functions make at first use: a fork() while another thread makes it would leave the child with
/// an initialisation that nobody finishes.
#define LC_AT_LOAD(expression)                                                     \
  namespace {                                                                      \
  [[maybe_unused]] const bool kMadeAtLoad = (static_cast<void>(expression), true); \
  }
