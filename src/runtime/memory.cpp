// Memory is taken from a backend in blocks of size classes and kept after use, because getting it
// from the system again (page faults above all) costs more than most kernels.
//
// Classes step by a quarter of a power of two, from 64 bytes on, so at most a fifth of a block is
// idle. A class is found from the size, so blocks need no header and device memory works as well.
// Host blocks of up to 64 KiB go through a small cache of the thread, without a lock; the rest
// through bins under one lock a device. What is cached stays below LC_MEMORY_CACHE_MB: the longest
// idle large blocks go first.
//
// In AddressSanitizer builds cached blocks, and the idle end of blocks in use, are poisoned.
#include "runtime/memory.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "backends/backend.hpp"
#include "lightning_core/error.hpp"
#include "lightning_core/tensor.hpp"
#include "runtime/config.hpp"
#include "runtime/fork_mutex.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define LC_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LC_ASAN 1
#endif
#endif
#ifdef LC_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace lc {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 60;
constexpr int kClasses = 224;      // reaches past kMaxBytes
constexpr int kFrontClasses = 36;  // up to 64 KiB
constexpr int kFrontSlots = 16;    // blocks a class
constexpr int64_t kFrontBytes = 1 << 20;
constexpr int64_t kFlushBytes = 1 << 20;  // of a thread's count of bytes in use

constexpr int size_class(int64_t bytes) {
  const uint64_t u = bytes <= 64 ? 0 : static_cast<uint64_t>(bytes - 1) / 64;  // units, less one
  if (u < 4) return static_cast<int>(u);
  const int shift = 61 - std::countl_zero(u);  // keeps the three leading bits
  return static_cast<int>(u >> shift) + 4 * shift;
}
constexpr int64_t class_bytes(int c) {
  if (c < 4) return int64_t{64} * (c + 1);
  return int64_t{64} * (5 + c % 4) << (c / 4 - 1);
}
static_assert(size_class(class_bytes(35)) == 35 && class_bytes(35) == 64 << 10);
static_assert(size_class(class_bytes(35) + 1) == 36 && class_bytes(36) == 80 << 10);
static_assert(size_class(kMaxBytes) < kClasses);

void poison([[maybe_unused]] void* p, [[maybe_unused]] int64_t bytes) {
#ifdef LC_ASAN
  ASAN_POISON_MEMORY_REGION(p, static_cast<size_t>(bytes));
#endif
}
void unpoison([[maybe_unused]] void* p, [[maybe_unused]] int64_t bytes) {
#ifdef LC_ASAN
  ASAN_UNPOISON_MEMORY_REGION(p, static_cast<size_t>(bytes));
#endif
}

/// Of one thread, for host memory. Counters are written by their thread only, read by all.
struct Front {
  void* slots[kFrontClasses][kFrontSlots];
  uint8_t count[kFrontClasses] = {};
  std::atomic<int64_t> bytes{0};
  std::atomic<int64_t> in_use{0};  // less what was moved to the pool's count
  std::atomic<uint64_t> allocs{0};
  std::atomic<uint64_t> hits{0};
  Front* next = nullptr;
  Front* previous = nullptr;
};
template <typename T, typename U>
void add_own(std::atomic<T>& counter, U amount) {
  counter.store(counter.load(std::memory_order_relaxed) + static_cast<T>(amount),
                std::memory_order_relaxed);
}

class Pool {
 public:
  explicit Pool(Backend& backend) : backend_(backend) {}

  /// Up to `n` cached blocks of a class into `to`, more than one only to fill a front; how many.
  int take(int c, void** to, int n) {
    const std::lock_guard lock(mutex_);
    std::vector<Entry>& bin = bins_[c];
    const int got = std::min(n, static_cast<int>(bin.size()));
    for (int i = 0; i < got; ++i) {
      to[i] = bin.back().p;
      bin.pop_back();
    }
    cached_ -= class_bytes(c) * got;
    return got;
  }

  void* fresh(int c, int64_t asked) {
    const int64_t bytes = class_bytes(c);
    void* p = backend_.raw_alloc(bytes);
    if (p == nullptr) {
      release();
      p = backend_.raw_alloc(bytes);
    }
    if (p == nullptr) fail(asked);
    return p;
  }

  void put(int c, void* const* blocks, int n) noexcept {
    const int64_t bytes = class_bytes(c);
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < n; ++i) {
      if (bytes > limit_ || !keep(c, blocks[i])) {
        raw_free(blocks[i], bytes);
        continue;
      }
      cached_ += bytes;
    }
    if (cached_ > limit_) trim(limit_);
  }

  /// A whole allocation outside any front.
  void* alloc_block(int c, int64_t asked, bool counted) {
    void* p = nullptr;
    const bool hit = take(c, &p, 1) == 1;
    if (!hit) p = fresh(c, asked);
    if (counted) count(class_bytes(c), 1, hit ? 1 : 0);
    return p;
  }
  void free_block(int c, void* p, bool counted) noexcept {
    if (counted) count(-class_bytes(c), 0, 0);
    put(c, &p, 1);
  }

  void count(int64_t in_use, uint64_t allocs, uint64_t hits) noexcept {
    const std::lock_guard lock(mutex_);
    in_use_ += in_use;
    peak_ = std::max(peak_, in_use_);
    allocs_ += allocs;
    hits_ += hits;
  }

  void set_limit(int64_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
    if (cached_ > limit_) trim(limit_);
  }

  void release() noexcept {
    const std::lock_guard lock(mutex_);
    trim(0);
  }

  MemoryStats stats() {
    const std::lock_guard lock(mutex_);
    MemoryStats s{in_use_, cached_, 0, allocs_, hits_};
    for (const Front* f = fronts_; f != nullptr; f = f->next) {
      s.in_use += f->in_use.load(std::memory_order_relaxed);
      s.cached += f->bytes.load(std::memory_order_relaxed);
      s.allocs += f->allocs.load(std::memory_order_relaxed);
      s.hits += f->hits.load(std::memory_order_relaxed);
    }
    peak_ = std::max(peak_, s.in_use);
    s.peak = peak_;
    return s;
  }

  void add_front(Front* f) {
    const std::lock_guard lock(mutex_);
    f->next = fronts_;
    if (fronts_ != nullptr) fronts_->previous = f;
    fronts_ = f;
  }
  void remove_front(Front* f) noexcept {
    count(f->in_use.load(std::memory_order_relaxed), f->allocs.load(std::memory_order_relaxed),
          f->hits.load(std::memory_order_relaxed));
    const std::lock_guard lock(mutex_);
    (f->previous != nullptr ? f->previous->next : fronts_) = f->next;
    if (f->next != nullptr) f->next->previous = f->previous;
  }

  [[noreturn]] void fail(int64_t asked) {
    const MemoryStats s = stats();
    throw Error(ErrorCode::kOutOfMemory,
                cat("[memory] bytes: expected an amount that ", device_name(backend_.kind()),
                    " can give, found ", asked, " (in use ", s.in_use, ", cached ", s.cached,
                    "); free arrays or use smaller ones"));
  }

 private:
  struct Entry {
    void* p;
    uint64_t stamp;  // when it was freed; a bin's entries are in this order
  };

  bool keep(int c, void* p) noexcept {
    try {
      bins_[c].push_back({p, ++stamp_});
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  /// Frees cached blocks until `limit` bytes are left: the longest idle of those no front would
  /// take, then small ones, larger classes first.
  void trim(int64_t limit) noexcept {
    while (cached_ > limit) {
      int oldest = -1;
      for (int c = kFrontClasses; c < kClasses; ++c)
        if (!bins_[c].empty() && (oldest < 0 || bins_[c][0].stamp < bins_[oldest][0].stamp))
          oldest = c;
      if (oldest < 0) break;
      evict(oldest, 1);
    }
    for (int c = kFrontClasses - 1; c >= 0 && cached_ > limit; --c) {
      const int64_t excess = (cached_ - limit + class_bytes(c) - 1) / class_bytes(c);
      evict(c, std::min(excess, static_cast<int64_t>(bins_[c].size())));
    }
  }
  void evict(int c, int64_t n) noexcept {
    std::vector<Entry>& bin = bins_[c];
    for (int64_t i = 0; i < n; ++i) raw_free(bin[static_cast<size_t>(i)].p, class_bytes(c));
    bin.erase(bin.begin(), bin.begin() + n);
    cached_ -= n * class_bytes(c);
  }
  void raw_free(void* p, int64_t bytes) noexcept {
    unpoison(p, bytes);
    backend_.raw_free(p, bytes);
  }

  Backend& backend_;
  ForkMutex mutex_{LockRank::kMemory};
  std::vector<Entry> bins_[kClasses];
  uint64_t stamp_ = 0;
  int64_t limit_ = 0;
  int64_t in_use_ = 0;
  int64_t cached_ = 0;
  int64_t peak_ = 0;
  uint64_t allocs_ = 0;
  uint64_t hits_ = 0;
  Front* fronts_ = nullptr;
};

/// Null where the device is not built. Never destroyed: arrays may outlive static destruction.
Pool* pool_of(DeviceKind kind) noexcept {
  static Pool* const* pools = [] {
    static Pool* made[kDeviceKinds];
    for (int k = 0; k < kDeviceKinds; ++k)
      if (Backend* b = backend(static_cast<DeviceKind>(k)); b != nullptr) made[k] = new Pool(*b);
    return made;
  }();
  return pools[static_cast<unsigned>(kind) % kDeviceKinds];
}
Pool& host_pool() noexcept {
  static Pool& pool = *pool_of(DeviceKind::kCpu);
  return pool;
}

/// Settings as last read; frees use them as they are, because they cannot throw.
struct Settings {
  std::atomic<uint32_t> epoch{0};
  std::atomic<int64_t> limit{0};
  std::atomic<int64_t> fail_above{0};
};
constinit Settings g_settings;

ForkMutex& settings_mutex() {
  static auto* mutex = new ForkMutex(LockRank::kDerived);
  return *mutex;
}

void read_settings() {
  const std::lock_guard lock(settings_mutex());
  const uint32_t epoch = config_epoch();
  const int64_t limit = config_int("LC_MEMORY_CACHE_MB") << 20;
  const int64_t fail_above = config_int("LC_TEST_FAIL_ALLOC_ABOVE");
  g_settings.limit.store(limit, std::memory_order_relaxed);
  g_settings.fail_above.store(fail_above, std::memory_order_relaxed);
  for (int k = 0; k < kDeviceKinds; ++k)
    if (Pool* p = pool_of(static_cast<DeviceKind>(k)); p != nullptr) p->set_limit(limit);
  g_settings.epoch.store(epoch, std::memory_order_release);
}

// The pointer has no destructor of its own, so it can be asked when the thread's other thread_local
// objects free their arrays after its owner is gone.
constinit thread_local Front* t_front = nullptr;
constinit thread_local bool t_front_gone = false;

/// Gives part of a class back to the pool: the `n` blocks that were freed first.
void spill(Front& f, int c, int n) noexcept {
  host_pool().put(c, f.slots[c], n);
  f.count[c] = static_cast<uint8_t>(f.count[c] - n);
  std::copy_n(f.slots[c] + n, f.count[c], f.slots[c]);
  add_own(f.bytes, -n * class_bytes(c));
}
void spill_all(Front& f) noexcept {
  for (int c = 0; c < kFrontClasses; ++c)
    if (f.count[c] > 0) spill(f, c, f.count[c]);
}

struct FrontOwner {
  ~FrontOwner() {
    Front* f = t_front;
    t_front = nullptr;
    t_front_gone = true;
    if (f == nullptr) return;
    spill_all(*f);
    host_pool().remove_front(f);
    delete f;
  }
};

/// Null for a thread that is ending.
Front* make_front() noexcept {
  if (t_front_gone) return nullptr;
  thread_local FrontOwner owner;
  (void)&owner;
  auto* f = new (std::nothrow) Front;
  if (f == nullptr) return nullptr;
  host_pool().add_front(f);
  t_front = f;
  return f;
}
Front* front() noexcept { return t_front != nullptr ? t_front : make_front(); }

void move_count(Front& f) noexcept {
  host_pool().count(f.in_use.load(std::memory_order_relaxed), 0, 0);
  f.in_use.store(0, std::memory_order_relaxed);
}

/// `Counted`: shows in the statistics; control blocks of shared pointers do not.
template <bool Counted>
void* front_alloc(Front& f, int c, int64_t asked) {
  bool hit = true;
  if (f.count[c] == 0) [[unlikely]] {
    const int got = host_pool().take(c, f.slots[c], c < kFrontClasses - 8 ? kFrontSlots / 2 : 1);
    if (got == 0) {
      f.slots[c][0] = host_pool().fresh(c, asked);
      hit = false;
    }
    f.count[c] = static_cast<uint8_t>(hit ? got : 1);
    add_own(f.bytes, f.count[c] * class_bytes(c));
  }
  void* p = f.slots[c][--f.count[c]];
  add_own(f.bytes, -class_bytes(c));
  if constexpr (Counted) {
    add_own(f.allocs, 1);
    if (hit) add_own(f.hits, 1);
    add_own(f.in_use, class_bytes(c));
    if (f.in_use.load(std::memory_order_relaxed) > kFlushBytes) [[unlikely]]
      move_count(f);
  }
  return p;
}

template <bool Counted>
void front_free(Front& f, int c, void* p) noexcept {
  const int64_t bytes = class_bytes(c);
  if constexpr (Counted) {
    add_own(f.in_use, -bytes);
    if (f.in_use.load(std::memory_order_relaxed) < -kFlushBytes) [[unlikely]]
      move_count(f);
  }
  if (f.count[c] == kFrontSlots) [[unlikely]]
    spill(f, c, kFrontSlots / 2);
  if (f.bytes.load(std::memory_order_relaxed) + bytes > kFrontBytes) [[unlikely]] {
    host_pool().put(c, &p, 1);
    return;
  }
  f.slots[c][f.count[c]++] = p;
  add_own(f.bytes, bytes);
}

template <bool Counted>
void* host_block(int c, int64_t asked) {
  if (c < kFrontClasses)
    if (Front* f = front(); f != nullptr) [[likely]]
      return front_alloc<Counted>(*f, c, asked);
  return host_pool().alloc_block(c, asked, Counted);
}
template <bool Counted>
void free_host_block(int c, void* p) noexcept {
  if (c < kFrontClasses && g_settings.limit.load(std::memory_order_relaxed) > 0)
    if (Front* f = front(); f != nullptr) [[likely]] {
      front_free<Counted>(*f, c, p);
      return;
    }
  host_pool().free_block(c, p, Counted);
}

/// Control blocks of storages, from the same pool.
template <typename T>
struct ControlAllocator {
  using value_type = T;
  ControlAllocator() = default;
  template <typename U>
  ControlAllocator(const ControlAllocator<U>&) noexcept {}  // NOLINT: conversion is the point
  T* allocate(size_t n) {
    const auto bytes = static_cast<int64_t>(n * sizeof(T));
    void* p = host_block<false>(size_class(bytes), bytes);
    unpoison(p, bytes);
    return static_cast<T*>(p);
  }
  void deallocate(T* p, size_t n) noexcept {
    const int c = size_class(static_cast<int64_t>(n * sizeof(T)));
    poison(p, class_bytes(c));
    free_host_block<false>(c, p);
  }
  template <typename U>
  friend bool operator==(const ControlAllocator&, const ControlAllocator<U>&) noexcept {
    return true;
  }
};

struct PoolDeleter {
  int64_t bytes;
  Device device;
  void operator()(void* p) const noexcept { pool_free(p, bytes, device); }
};

bool on_host(DeviceKind kind) { return kind == DeviceKind::kCpu || kind == DeviceKind::kNull; }

}  // namespace

void check_memory_config() {
  if (g_settings.epoch.load(std::memory_order_acquire) != config_epoch()) [[unlikely]]
    read_settings();
}

void* pool_alloc(int64_t bytes, Device device) {
  check_memory_config();
  if (bytes < 0) [[unlikely]]
    throw_arg("memory", "bytes", "0 or more", std::to_string(bytes));
  if (device.kind != DeviceKind::kCpu && !device_available(device.kind)) [[unlikely]]
    (void)device_info(device);  // throws, and says which there are
  const int64_t fail_above = g_settings.fail_above.load(std::memory_order_relaxed);
  if (bytes > kMaxBytes || (fail_above > 0 && bytes > fail_above)) [[unlikely]]
    pool_of(device.kind)->fail(bytes);
  const int c = size_class(bytes);
  void* p = device.kind == DeviceKind::kCpu ? host_block<true>(c, bytes)
                                            : pool_of(device.kind)->alloc_block(c, bytes, true);
  if (on_host(device.kind)) {
    unpoison(p, bytes);
    poison(static_cast<char*>(p) + bytes, class_bytes(c) - bytes);
  }
  return p;
}

void pool_free(void* p, int64_t bytes, Device device) noexcept {
  if (p == nullptr) return;
  const int c = size_class(bytes);
  if (on_host(device.kind)) poison(p, class_bytes(c));
  if (device.kind == DeviceKind::kCpu)
    free_host_block<true>(c, p);
  else
    pool_of(device.kind)->free_block(c, p, true);
}

Storage allocate(int64_t bytes, Device device) {
  return Storage(pool_alloc(bytes, device), PoolDeleter{bytes, device}, ControlAllocator<char>{});
}

MemoryStats memory_stats(Device device) {
  Pool* p = pool_of(device.kind);
  return p != nullptr ? p->stats() : MemoryStats{};
}

void release_cached_memory(Device device) {
  Pool* p = pool_of(device.kind);
  if (p == nullptr) return;
  if (device.kind == DeviceKind::kCpu && t_front != nullptr) spill_all(*t_front);
  p->release();
}

LC_AT_LOAD((host_pool(), settings_mutex()))

}  // namespace lc
