// The caching pools behind Tensor storage and workspaces; one a device.
#pragma once

#include <cstdint>

#include "lightning_core/memory.hpp"

namespace lc {

/// `bytes` >= 0 of the device's memory, 64-byte aligned, uninitialised. Throws kOutOfMemory with
/// the sizes, kNotSupported for a device that is not available.
[[nodiscard]] void* pool_alloc(int64_t bytes, Device device = {});
/// Gives back what pool_alloc(bytes, device) gave; any thread. Null is fine.
void pool_free(void* p, int64_t bytes, Device device = {}) noexcept;

/// Reads the pools' settings where the configuration changed; throws where one does not parse. For
/// calls that may need no memory of the pools, whose user would otherwise never hear of it.
void check_memory_config();

}  // namespace lc
