// Device: where a call runs. DeviceInfo: what the planner knows about it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lc {

/// The kinds, with the values the reference's C API and traces use. `kNull` plans and traces but
/// never computes; it exists for tests and for looking at plans of machines one does not have.
enum class DeviceKind : uint8_t { kCpu = 0, kCuda = 1, kMetal = 2, kNull = 3 };
inline constexpr int kDeviceKinds = 4;

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  uint8_t index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};

/// "cpu", "cuda", "metal", "null".
[[nodiscard]] const char* device_name(DeviceKind kind) noexcept;
[[nodiscard]] inline const char* device_name(Device device) noexcept {
  return device_name(device.kind);
}

/// Parses exactly those four words (case-sensitive, like the reference); throws kInvalidValue
/// naming `argument` and the words it accepts.
[[nodiscard]] Device parse_device(std::string_view text, std::string_view argument = "device");

/// What a backend reports of a device. Rates are 0 while unknown.
struct DeviceInfo {
  Device device;
  std::string name;  ///< e.g. "Intel(R) Xeon(R) Processor"
  std::string isa;   ///< instruction set the kernels use: "avx512", "avx2", "baseline", "neon"
  int threads = 1;   ///< workers, after LC_NUM_THREADS, affinity and cgroup quota
  int64_t l1_bytes = 32 << 10;
  int64_t l2_bytes = 1 << 20;
  int64_t l3_bytes = 8 << 20;
  int64_t memory_bytes = 0;
  bool unified_memory = true;  ///< host pointers are device pointers
  bool supports_f64 = true;
  bool supports_f16 = false;
  bool supports_bf16 = false;
  double peak_flops = 0;  ///< FLOP/s, float32, all threads
  double bandwidth = 0;   ///< bytes/s of a large copy, read plus written
};

/// True if the backend was compiled in.
[[nodiscard]] bool device_built(DeviceKind kind) noexcept;
/// True if the backend was compiled in and a device answers.
[[nodiscard]] bool device_available(DeviceKind kind) noexcept;
/// Throws kNotSupported where the backend is not built or finds no device.
[[nodiscard]] const DeviceInfo& device_info(Device device);
/// metal > cuda > cpu, or LC_DEVICE.
[[nodiscard]] Device preferred_device();
/// Names of the available devices, for error messages and reports.
[[nodiscard]] std::vector<std::string> available_devices();

}  // namespace lc
