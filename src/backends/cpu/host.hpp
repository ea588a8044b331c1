// What the operating system says of this machine and process, and raw host memory.
#pragma once

#include <cstdint>
#include <string>

namespace lc::cpu {

/// Processors this process may run on (its affinity mask).
[[nodiscard]] int usable_processors();
/// Processors the cgroup quota is worth, rounded up; 0: no limit. `self` is the text of
/// /proc/self/cgroup, `root` the mount point of the cgroup file system (version 1 or 2).
[[nodiscard]] int cgroup_processors(const std::string& self, const std::string& root);
/// The smaller of the two for this process, at least 1.
[[nodiscard]] int available_processors();

struct HostInfo {
  std::string name;  ///< of the processor
  int64_t l1_bytes = 32 << 10;
  int64_t l2_bytes = 1 << 20;
  int64_t l3_bytes = 8 << 20;
  int64_t memory_bytes = 0;
};
/// Defaults stand where the system does not say.
[[nodiscard]] HostInfo host_info();

/// 64-byte aligned; from kMappedBytes on of whole pages, in huge ones where the system has them.
/// Null where there is none.
[[nodiscard]] void* host_alloc(int64_t bytes) noexcept;
/// `bytes` as given to host_alloc.
void host_free(void* p, int64_t bytes) noexcept;
inline constexpr int64_t kMappedBytes = 2 << 20;

}  // namespace lc::cpu
