#include "runtime/fork_mutex.hpp"

#include <pthread.h>

namespace lc {

struct ForkMutexes {
  std::mutex mutex;  // of the list; outermost of all in a fork
  ForkMutex* first = nullptr;

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
    const std::lock_guard lock(mutex);
    ForkMutex** at = &first;
    while (*at != nullptr && (*at)->rank_ <= m->rank_) at = &(*at)->next_;
    m->next_ = *at;
    *at = m;
  }
  void lock_all() {
    mutex.lock();
    for (ForkMutex* m = first; m != nullptr; m = m->next_) m->lock();
  }
  void unlock_all() {
    for (ForkMutex* m = first; m != nullptr; m = m->next_) m->unlock();
    mutex.unlock();
  }
};

ForkMutex::ForkMutex(LockRank rank) : rank_(rank) { ForkMutexes::get().add(this); }

}  // namespace lc
