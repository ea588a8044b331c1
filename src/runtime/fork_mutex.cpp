#include "runtime/fork_mutex.hpp"

#include <pthread.h>

#include <atomic>

namespace lc {

/// Registration takes no lock, so that a mutex may be made while others are held.
struct ForkMutexes {
  std::mutex forking;  // two threads that fork take turns
  std::atomic<ForkMutex*> first{nullptr};
  ForkMutex* locked = nullptr;  // the list as a fork under way found it

  static ForkMutexes& get() {
    static auto* all = [] {
      auto* made = new ForkMutexes;
      pthread_atfork([] { get().lock_all(); }, [] { get().unlock_all(); },
                     [] { get().unlock_all(); });
      return made;
    }();
    return *all;
  }
  void add(ForkMutex* m) {
    m->next_ = first.load(std::memory_order_relaxed);
    while (!first.compare_exchange_weak(m->next_, m, std::memory_order_release)) {
    }
  }
  void lock_all() {
    forking.lock();
    locked = first.load(std::memory_order_acquire);
    for (int rank = 0; rank < kLockRanks; ++rank)
      for (ForkMutex* m = locked; m != nullptr; m = m->next_)
        if (static_cast<int>(m->rank_) == rank) m->lock();
  }
  void unlock_all() {
    for (ForkMutex* m = locked; m != nullptr; m = m->next_) m->unlock();
    forking.unlock();
  }
};

ForkMutex::ForkMutex(LockRank rank) : rank_(rank) { ForkMutexes::get().add(this); }

}  // namespace lc
