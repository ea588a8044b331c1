// The caching pools behind Tensor storage and workspaces; one a device.
#pragma once

#include <cstdint>

#include "lightning_core/device.hpp"

namespace lc {

/// `bytes` >= 0 of the device's memory, 64-byte aligned, uninitialised. Throws kOutOfMemory with
/// the sizes, kNotSupported for a device that is not available.
[[nodiscard]] void* pool_alloc(int64_t bytes, Device device = {});
/// Gives back what pool_alloc(bytes, device) gave; any thread. Null is fine.
void pool_free(void* p, int64_t bytes, Device device = {}) noexcept;

/// Reads the pools' settings where the configuration changed; throws where one does not parse. For
/// calls that may need no memory of the pools, whose user would otherwise never hear of it.
void check_memory_config();

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
