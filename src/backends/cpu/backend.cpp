// The CPU as a device: its memory, what is known of it, and the list of its kernels.
#include "backends/backend.hpp"

#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "backends/cpu/host.hpp"
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"
#include "runtime/config.hpp"
#include "runtime/fork_mutex.hpp"
#include "runtime/trace_names.hpp"

namespace lc::cpu {
namespace {

/// The choices that follow from the configuration. Plans point into them, so none is ever
/// destroyed; there are as many as different (instruction set, thread count) pairs were asked for.
struct Choice {
  DeviceInfo info;
  const KernelList* kernels;
};

class CpuBackend final : public Backend {
 public:
  [[nodiscard]] DeviceKind kind() const override { return DeviceKind::kCpu; }
  [[nodiscard]] bool available() const override { return true; }
  [[nodiscard]] const DeviceInfo& info(int) override { return choice().info; }
  [[nodiscard]] void* raw_alloc(int64_t bytes) override { return host_alloc(bytes); }
  void raw_free(void* p, int64_t bytes) override { host_free(p, bytes); }
  void copy(void* dst, const void* src, int64_t bytes) override {
    std::memmove(dst, src, static_cast<size_t>(bytes));
  }
  void synchronize() override {}  // work is done when a launch returns
  [[nodiscard]] std::span<const KernelDef> kernels() override { return *choice().kernels; }
  [[nodiscard]] Encoder& encoder() override { return encoder_; }

 private:
  const Choice& choice() {
    if (epoch_.load(std::memory_order_acquire) == config_epoch()) [[likely]]
      return *choice_.load(std::memory_order_acquire);
    const std::lock_guard lock(mutex_);
    const uint32_t epoch = config_epoch();
    apply_trace_config();
    choose_isa();
    const char* isa = isa_name();
    const Choice* found = find(isa, num_threads());
    choice_.store(found, std::memory_order_release);
    epoch_.store(epoch, std::memory_order_release);
    return *found;
  }

  const Choice* find(const char* isa, int threads) {
    for (const auto& c : choices_)
      if (c->info.isa == isa && c->info.threads == threads) return c.get();
    auto made = std::make_unique<Choice>();
    const HostInfo host = host_info();
    DeviceInfo& info = made->info;
    info.device = Device{DeviceKind::kCpu, 0};
    info.name = host.name;
    info.isa = isa;
    info.threads = threads;
    info.l1_bytes = host.l1_bytes;
    info.l2_bytes = host.l2_bytes;
    info.l3_bytes = host.l3_bytes;
    info.memory_bytes = host.memory_bytes;
    made->kernels = kernels_of(isa);
    choices_.push_back(std::move(made));
    return choices_.back().get();
  }

  /// Listed while `isa` is the chosen one, so the pointers in it are of that set.
  const KernelList* kernels_of(const char* isa) {
    for (const auto& [name, list] : lists_)
      if (std::strcmp(name, isa) == 0) return list.get();
    auto list = std::make_unique<KernelList>();
#define LC_KERNEL_FILE(file) add_kernels_##file(*list);
#include "kernels_cpu.inc"
#undef LC_KERNEL_FILE
    lists_.emplace_back(isa, std::move(list));
    return lists_.back().second.get();
  }

  ForkMutex mutex_{LockRank::kBackend};
  std::atomic<uint32_t> epoch_{0};
  std::atomic<const Choice*> choice_{nullptr};
  std::vector<std::unique_ptr<Choice>> choices_;
  std::vector<std::pair<const char*, std::unique_ptr<KernelList>>> lists_;
  Encoder encoder_;
};

}  // namespace

Backend* make_backend();
Backend* make_backend() { return new CpuBackend; }

}  // namespace lc::cpu
