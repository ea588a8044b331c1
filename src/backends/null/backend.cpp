// Plans and traces against a fixture of a GPU one does not have; never computes.
#include "backends/backend.hpp"
#include "runtime/fork_mutex.hpp"

#include <cstring>
#include <vector>

#include "backends/cpu/host.hpp"
#include "runtime/trace_names.hpp"

namespace lc::null {
namespace {

class NullBackend final : public Backend {
 public:
  NullBackend() {
    info_.device = Device{DeviceKind::kNull, 0};
    info_.name = "fixture: GPU, 40 TFLOP/s, 400 GB/s, own memory";
    info_.isa = "";
    info_.threads = 1;
    info_.l1_bytes = 128 << 10;
    info_.l2_bytes = 4 << 20;
    info_.l3_bytes = 0;
    info_.memory_bytes = int64_t{16} << 30;
    info_.unified_memory = false;
    info_.supports_f64 = true;
    info_.supports_f16 = true;
    info_.supports_bf16 = true;
    info_.peak_flops = 40e12;
    info_.bandwidth = 400e9;
  }
  [[nodiscard]] DeviceKind kind() const override { return DeviceKind::kNull; }
  [[nodiscard]] bool available() const override { return true; }
  [[nodiscard]] const DeviceInfo& info(int) override {
    apply_trace_config();
    return info_;
  }
  [[nodiscard]] void* raw_alloc(int64_t bytes) override { return cpu::host_alloc(bytes); }
  void raw_free(void* p, int64_t bytes) override { cpu::host_free(p, bytes); }
  void copy(void* dst, const void* src, int64_t bytes) override {
    std::memmove(dst, src, static_cast<size_t>(bytes));
  }
  void synchronize() override {}
  /// One candidate an op, which takes every call.
  [[nodiscard]] std::span<const KernelDef> kernels() override {
    static const auto* list = [] {
      auto* made = new std::vector<KernelDef>;
      for (const OpDef* op : all_ops())
        made->push_back(
            {.op = op->name,
             .name = "null",
             .supports = [](const OpCall&, const DeviceInfo&) { return Support::yes(); },
             .prepare = [](const OpCall&, const DeviceInfo&, Prepared&) {},
             .launch = [](const Launch&) {}});
      return made;
    }();
    return *list;
  }
  [[nodiscard]] Encoder& encoder() override { return encoder_; }
  [[nodiscard]] bool computes() const override { return false; }

 private:
  DeviceInfo info_;
  Encoder encoder_;
};

}  // namespace

Backend* make_backend();
Backend* make_backend() { return new NullBackend; }

LC_AT_LOAD(NullBackend().kernels())

}  // namespace lc::null
