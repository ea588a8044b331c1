// Keeping locks usable in a child of fork(): every process-wide mutex registers here and is held
// while the process forks, so that the child never inherits one that a vanished thread had locked.
// Registered mutexes must not be held while another registered one is taken.
#pragma once

#include <mutex>

namespace lc {

class ForkGuard {
 public:
  explicit ForkGuard(std::mutex& mutex);
};

}  // namespace lc
