#include "runtime/fork.hpp"

#include <pthread.h>

#include <vector>

namespace lc {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<std::mutex*> guarded;
};
Registry& registry() {
  static auto* r = new Registry;
  return *r;
}

void before_fork() {
  Registry& r = registry();
  r.mutex.lock();
  for (std::mutex* m : r.guarded) m->lock();
}

void after_fork() {
  Registry& r = registry();
  for (auto it = r.guarded.rbegin(); it != r.guarded.rend(); ++it) (*it)->unlock();
  r.mutex.unlock();
}

}  // namespace

ForkGuard::ForkGuard(std::mutex& mutex) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  if (r.guarded.empty()) pthread_atfork(before_fork, after_fork, after_fork);
  r.guarded.push_back(&mutex);
}

}  // namespace lc
