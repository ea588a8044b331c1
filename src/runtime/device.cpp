#include "lightning_core/device.hpp"
#include "runtime/fork_mutex.hpp"

#include "backends/backend.hpp"
#include "lightning_core/error.hpp"
#include "runtime/per_epoch.hpp"

namespace lc {
namespace {

constexpr const char* kNames[kDeviceKinds] = {"cpu", "cuda", "metal", "null"};
// Those a call may prefer, best first.
constexpr DeviceKind kByPreference[] = {DeviceKind::kMetal, DeviceKind::kCuda, DeviceKind::kCpu};

}  // namespace

const char* device_name(DeviceKind kind) noexcept {
  const auto i = static_cast<unsigned>(kind);
  return i < kDeviceKinds ? kNames[i] : "unknown";
}

Device parse_device(std::string_view text, std::string_view argument) {
  for (int i = 0; i < kDeviceKinds; ++i)
    if (text == kNames[i]) return Device{static_cast<DeviceKind>(i), 0};
  throw_arg("device", argument, "'cpu', 'cuda', 'metal' or 'null'", cat("'", text, "'"));
}

bool device_built(DeviceKind kind) noexcept { return backend(kind) != nullptr; }

bool device_available(DeviceKind kind) noexcept {
  Backend* b = backend(kind);
  try {
    return b != nullptr && b->available();
  } catch (...) {
    return false;  // a driver that fails to answer is not available
  }
}

const DeviceInfo& device_info(Device device) {
  if (!device_available(device.kind) || device.index != 0) {
    std::string names;
    for (const std::string& name : available_devices()) names += (names.empty() ? "" : ", ") + name;
    throw_arg(ErrorCode::kNotSupported, "device", "device", "an available device (" + names + ")",
              cat("'", device_name(device), device.index != 0 ? cat(":", +device.index) : "", "', ",
                  !device_built(device.kind) ? "which this build lacks"
                  : device.index != 0        ? "which this machine lacks"
                                             : "which finds no device here"));
  }
  return backend(device.kind)->info(device.index);
}

namespace {
PerEpoch<DeviceKind>& preference() {
  static auto* kind = new PerEpoch<DeviceKind>;
  return *kind;
}
}  // namespace

Device preferred_device() {
  return Device{preference().get([] {
                  const std::string word = config_string("LC_DEVICE");
                  if (word != "auto") return parse_device(word, "LC_DEVICE").kind;
                  for (const DeviceKind k : kByPreference)
                    if (device_available(k)) return k;
                  return DeviceKind::kCpu;
                }),
                0};
}

std::vector<std::string> available_devices() {
  // Without null, which never computes.
  std::vector<std::string> names;
  for (const DeviceKind k : {DeviceKind::kCpu, DeviceKind::kCuda, DeviceKind::kMetal})
    if (device_available(k)) names.emplace_back(device_name(k));
  return names;
}

LC_AT_LOAD(preference())

}  // namespace lc
