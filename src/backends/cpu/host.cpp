#include "backends/cpu/host.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

namespace lc::cpu {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  if (in) text << in.rdbuf();
  return text.str();
}

/// quota/period rounded up; 0 for "max", -1 or anything malformed.
int processors_of(int64_t quota, int64_t period) {
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::min<int64_t>((quota + period - 1) / period, 1 << 20));
}

int quota_v2(const std::string& directory) {
  std::istringstream in(read_file(directory + "/cpu.max"));
  int64_t quota = 0;
  int64_t period = 0;
  return in >> quota >> period ? processors_of(quota, period) : 0;  // "max 100000" fails to parse
}

int quota_v1(const std::string& directory) {
  std::istringstream quota_text(read_file(directory + "/cpu.cfs_quota_us"));
  std::istringstream period_text(read_file(directory + "/cpu.cfs_period_us"));
  int64_t quota = 0;
  int64_t period = 0;
  return quota_text >> quota && period_text >> period ? processors_of(quota, period) : 0;
}

/// Smallest limit of a group and those above it. In a container the path may be the host's, which
/// is not there; the mount's root, always looked at, then is the container's own group.
int smallest_quota(const std::string& mount, std::string path, int (*quota)(const std::string&)) {
  int least = 0;
  for (;;) {
    const int n = quota(mount + path);
    if (n > 0) least = least == 0 ? n : std::min(least, n);
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos || path.empty()) return least;
    path.resize(slash);
  }
}

bool has_controller(std::string_view controllers, std::string_view name) {
  while (!controllers.empty()) {
    const size_t comma = std::min(controllers.find(','), controllers.size());
    if (controllers.substr(0, comma) == name) return true;
    controllers.remove_prefix(std::min(comma + 1, controllers.size()));
  }
  return false;
}

#ifdef __linux__
/// "48K" of a cache's sysfs size file.
int64_t cache_bytes(const std::string& text) {
  char* unit = nullptr;
  const int64_t n = std::strtoll(text.c_str(), &unit, 10);
  return *unit == 'K' ? n << 10 : *unit == 'M' ? n << 20 : n;
}

void read_caches(HostInfo& info) {
  const std::string base = "/sys/devices/system/cpu/cpu0/cache/index";
  for (int i = 0; i < 8; ++i) {
    const std::string dir = base + std::to_string(i);
    const std::string type = read_file(dir + "/type");
    if (type.empty()) break;
    if (type.starts_with("Instruction")) continue;
    const int64_t bytes = cache_bytes(read_file(dir + "/size"));
    if (bytes <= 0) continue;
    switch (std::atoi(read_file(dir + "/level").c_str())) {
      case 1:
        info.l1_bytes = bytes;
        break;
      case 2:
        info.l2_bytes = bytes;
        break;
      case 3:
        info.l3_bytes = bytes;
        break;
      default:
        break;
    }
  }
}
#endif

#ifdef __APPLE__
template <typename T>
void read_sysctl(const char* name, T& value) {
  int64_t found = 0;
  size_t size = sizeof found;
  if (sysctlbyname(name, &found, &size, nullptr, 0) == 0 && found > 0)
    value = static_cast<T>(found);
}
#endif

int64_t page_bytes() { return sysconf(_SC_PAGESIZE); }

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace

int usable_processors() {
#ifdef __linux__
  // The kernel refuses masks smaller than its own; grow until it is content.
  for (int bits = 1024; bits <= 1 << 17; bits *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(bits));
    if (set == nullptr) break;
    const size_t size = CPU_ALLOC_SIZE(static_cast<size_t>(bits));
    const bool ok = sched_getaffinity(0, size, set) == 0;
    const int count = ok ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (ok && count > 0) return count;
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int cgroup_processors(const std::string& self, const std::string& root) {
  int least = 0;
  const auto keep = [&](int n) {
    if (n > 0) least = least == 0 ? n : std::min(least, n);
  };
  std::istringstream lines(self);
  for (std::string line; std::getline(lines, line);) {  // "4:cpu,cpuacct:/path"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers.empty()) {
      keep(smallest_quota(root, path, quota_v2));
      keep(smallest_quota(root + "/unified", path, quota_v2));
    } else if (has_controller(controllers, "cpu")) {
      keep(smallest_quota(root + "/" + controllers, path, quota_v1));
      if (controllers != "cpu") keep(smallest_quota(root + "/cpu", path, quota_v1));
    }
  }
  return least;
}

int available_processors() {
  int n = usable_processors();
#ifdef __linux__
  const int quota = cgroup_processors(read_file("/proc/self/cgroup"), "/sys/fs/cgroup");
  if (quota > 0) n = std::min(n, quota);
#endif
  return std::max(n, 1);
}

HostInfo host_info() {
  HostInfo info;
#ifdef __linux__
  std::istringstream lines(read_file("/proc/cpuinfo"));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("model name") || line.starts_with("Model")) {
      const size_t at = line.find_first_not_of(" \t", line.find(':') + 1);
      if (line.find(':') != std::string::npos && at != std::string::npos)
        info.name = line.substr(at);
      break;
    }
  read_caches(info);
#endif
#ifdef __APPLE__
  char name[256];
  size_t size = sizeof name;
  if (sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0) info.name = name;
  read_sysctl("hw.perflevel0.l1dcachesize", info.l1_bytes);
  read_sysctl("hw.perflevel0.l2cachesize", info.l2_bytes);
  read_sysctl("hw.l3cachesize", info.l3_bytes);
#endif
  if (info.name.empty()) {
#if defined(__aarch64__)
    info.name = "arm64 processor";
#elif defined(__x86_64__)
    info.name = "x86-64 processor";
#else
    info.name = "processor";
#endif
  }
  const int64_t pages = sysconf(_SC_PHYS_PAGES);
  if (pages > 0) info.memory_bytes = pages * page_bytes();
  return info;
}

void* host_alloc(int64_t bytes) noexcept {
  if (bytes < kMappedBytes)
    return std::aligned_alloc(64, static_cast<size_t>(round_up(std::max<int64_t>(bytes, 1), 64)));
  if (bytes > INT64_MAX / 2) return nullptr;
  // Mapped with room to start at a huge page's boundary, then cut to size.
  constexpr int64_t kHugePage = 2 << 20;
  const int64_t size = round_up(bytes, page_bytes());
  const int64_t room = size + kHugePage - page_bytes();
  void* mapped = mmap(nullptr, static_cast<size_t>(room), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* begin = static_cast<char*>(mapped);
  const auto address = reinterpret_cast<uintptr_t>(begin);
  const auto head = static_cast<int64_t>((kHugePage - address % kHugePage) % kHugePage);
  const int64_t tail = room - head - size;
  if (head > 0) munmap(begin, static_cast<size_t>(head));
  if (tail > 0) munmap(begin + head + size, static_cast<size_t>(tail));
#ifdef MADV_HUGEPAGE
  (void)madvise(begin + head, static_cast<size_t>(size), MADV_HUGEPAGE);
#endif
  return begin + head;
}

void host_free(void* p, int64_t bytes) noexcept {
  if (p == nullptr) return;
  if (bytes < kMappedBytes)
    std::free(p);
  else
    munmap(p, static_cast<size_t>(round_up(bytes, page_bytes())));
}

}  // namespace lc::cpu
