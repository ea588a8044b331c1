// What the caching pools behind Tensor storage and workspaces hold; one a device.
#pragma once

#include <cstdint>

#include "lightning_core/device.hpp"

namespace lc {

/// Of one device. Bytes count whole blocks, which are up to a quarter larger than what was asked
/// for (64 bytes at least).
struct MemoryStats {
  int64_t in_use = 0;
  int64_t cached = 0;  ///< free, kept for reuse
  int64_t peak = 0;    ///< of in_use; blocks of up to 64 KiB count in steps of 1 MiB a thread
  uint64_t allocs = 0;
  uint64_t hits = 0;  ///< allocs served from the cache
};
[[nodiscard]] MemoryStats memory_stats(Device device = {});
/// Returns what is cached to the system: the shared cache and the calling thread's own.
void release_cached_memory(Device device = {});

}  // namespace lc
