#include "runtime/capabilities.hpp"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "backends/backend.hpp"
#include "lightning_core/trace.hpp"
#include "runtime/fork_mutex.hpp"
#include "runtime/json.hpp"
#include "runtime/last_error.hpp"

namespace lc {
namespace {

ForkMutex g_sync_mutex(LockRank::kCompat);
SyncPolicy g_sync_policy;

/// Blocks of device_malloc by start address. Never destroyed: frees may come from atexit handlers.
struct Blocks {
  ForkMutex mutex{LockRank::kCompat};
  std::map<const char*, size_t> sizes;

  /// Bytes from p to the end of the block that holds it; SIZE_MAX where no block does.
  size_t room(const void* p) {
    const auto* at = static_cast<const char*>(p);
    const std::lock_guard lock(mutex);
    auto it = sizes.upper_bound(at);
    if (it == sizes.begin()) return SIZE_MAX;
    --it;
    const auto offset = static_cast<size_t>(at - it->first);
    return offset < it->second ? it->second - offset : SIZE_MAX;
  }
};
Blocks& blocks() {
  static auto* b = new Blocks;
  return *b;
}

void note(TraceType type, ErrorCode status, uint64_t bytes = 0, int64_t detail0 = 0,
          int64_t detail1 = 0) {
  if (!trace_enabled()) return;
  TraceEvent event;
  event.type = type;
  event.status = status;
  event.size_bytes = bytes;
  event.detail0 = detail0;
  event.detail1 = detail1;
  trace(event);
}

ErrorCode refuse(const char* message) noexcept {
  set_last_error(message);
  return ErrorCode::kInvalidValue;
}

void write(Json& json, const BackendCapabilities& c) {
  json.object();
  json.key("device").string(device_name(c.device));
  json.key("built").boolean(c.built);
  json.key("available").boolean(c.available);
  json.key("compute_surface").boolean(c.compute_surface);
  json.key("memory_surface").boolean(c.memory_surface);
  json.key("sync_surface").boolean(c.sync_surface);
  json.key("profiling_surface").boolean(c.profiling_surface);
  json.key("runtime_trace_surface").boolean(c.runtime_trace_surface);
  json.key("sync_policy_surface").boolean(c.sync_policy_surface);
  json.key("memory_model").string(memory_model_name(c.memory_model));
  json.end();
}

}  // namespace

const char* memory_model_name(MemoryModel model) noexcept {
  switch (model) {
    case MemoryModel::kNativeDevice:
      return "native-device";
    case MemoryModel::kHostManagedCompat:
      return "host-managed-compat";
  }
  return "unknown";
}

MemoryModel memory_model() noexcept {
  return device_available(DeviceKind::kCuda) && !device_available(DeviceKind::kMetal)
             ? MemoryModel::kNativeDevice
             : MemoryModel::kHostManagedCompat;
}

const char* sync_mode_name(SyncMode mode) noexcept {
  switch (mode) {
    case SyncMode::kAuto:
      return "auto";
    case SyncMode::kAlways:
      return "always";
    case SyncMode::kNever:
      return "never";
  }
  return "unknown";
}

SyncMode parse_sync_mode(std::string_view text, std::string_view argument) {
  for (const SyncMode mode : {SyncMode::kAuto, SyncMode::kAlways, SyncMode::kNever})
    if (text == sync_mode_name(mode)) return mode;
  throw_arg("runtime", argument, "'auto', 'always' or 'never'", cat("'", text, "'"));
}

BackendCapabilities backend_capabilities(DeviceKind kind) {
  BackendCapabilities c;
  c.device = kind;
  c.built = device_built(kind);
  c.available = device_available(kind);
  c.memory_model =
      kind == DeviceKind::kCuda ? MemoryModel::kNativeDevice : MemoryModel::kHostManagedCompat;
  switch (kind) {
    case DeviceKind::kCpu:
      c.compute_surface = true;
      break;  // memory and sync are the host's own
    case DeviceKind::kCuda:
    case DeviceKind::kMetal:
      c.compute_surface = c.memory_surface = c.sync_surface = c.built;
      break;
    case DeviceKind::kNull:
      break;
  }
  return c;
}

BackendInterfaces backend_interfaces(DeviceKind kind) {
  struct Tags {
    const char* compute;
    const char* memory;
    const char* sync;
  };
  static constexpr Tags kTags[kDeviceKinds] = {
      {"cpu.eager.dispatch", "cpu.host_memory", "cpu.noop_sync"},
      {"cuda.runtime.dispatch", "cuda.memory", "cuda.device_sync"},
      {"metal.compute.dispatch", "metal.host_managed_memory", "metal.command_sync"},
      {"null.plan_only", "null.host_memory", "null.noop_sync"},
  };
  const Tags& tags = kTags[static_cast<int>(kind)];
  BackendInterfaces i;
  i.device = kind;
  i.capabilities = backend_capabilities(kind);
  const BackendCapabilities& c = i.capabilities;
  const bool host = kind == DeviceKind::kCpu || kind == DeviceKind::kNull;
  i.compute.available = c.available && c.compute_surface;
  i.compute.driver_tag = tags.compute;
  i.memory.available = host || (c.available && c.memory_surface);
  i.memory.allocator_surface = c.memory_surface;
  i.memory.memory_model = c.memory_model;
  i.memory.driver_tag = tags.memory;
  i.sync.available = host || (c.available && c.sync_surface);
  i.sync.driver_tag = tags.sync;
  i.profiler.trace_capacity = kTraceCapacity;
  return i;
}

BackendCapabilities active_backend_capabilities() {
  return backend_capabilities(preferred_device().kind);
}
BackendInterfaces active_backend_interfaces() {
  return backend_interfaces(preferred_device().kind);
}

std::string capabilities_json() {
  Json json;
  json.array();
  for (int kind = 0; kind < kDeviceKinds; ++kind)
    write(json, backend_capabilities(static_cast<DeviceKind>(kind)));
  return json.end().str();
}

std::string interfaces_json() {
  Json json;
  json.array();
  for (int kind = 0; kind < kDeviceKinds; ++kind) {
    const BackendInterfaces i = backend_interfaces(static_cast<DeviceKind>(kind));
    json.object();
    json.key("device").string(device_name(i.device));
    json.key("capabilities");
    write(json, i.capabilities);
    json.key("compute").object();
    json.key("available").boolean(i.compute.available);
    json.key("op_dispatch_trace_surface").boolean(i.compute.op_dispatch_trace_surface);
    json.key("driver_tag").string(i.compute.driver_tag).end();
    json.key("memory").object();
    json.key("available").boolean(i.memory.available);
    json.key("allocator_surface").boolean(i.memory.allocator_surface);
    json.key("memcpy_surface").boolean(i.memory.memcpy_surface);
    json.key("memory_model").string(memory_model_name(i.memory.memory_model));
    json.key("driver_tag").string(i.memory.driver_tag).end();
    json.key("sync").object();
    json.key("available").boolean(i.sync.available);
    json.key("sync_policy_surface").boolean(i.sync.sync_policy_surface);
    json.key("trace_sync_boundary_surface").boolean(i.sync.trace_sync_boundary_surface);
    json.key("driver_tag").string(i.sync.driver_tag).end();
    json.key("profiler").object();
    json.key("available").boolean(i.profiler.available);
    json.key("runtime_trace_surface").boolean(i.profiler.runtime_trace_surface);
    json.key("op_dispatch_trace_surface").boolean(i.profiler.op_dispatch_trace_surface);
    json.key("trace_capacity").number(static_cast<uint64_t>(i.profiler.trace_capacity));
    json.key("driver_tag").string(i.profiler.driver_tag).end();
    json.end();
  }
  return json.end().str();
}

std::string devices_json() {
  Json json;
  json.array();
  for (int k = 0; k < kDeviceKinds; ++k) {
    const auto kind = static_cast<DeviceKind>(k);
    json.object();
    json.key("device").string(device_name(kind));
    json.key("built").boolean(device_built(kind));
    json.key("available").boolean(device_available(kind));
    if (device_available(kind)) {
      const DeviceInfo& info = device_info(Device{kind, 0});
      json.key("name").string(info.name);
      json.key("isa").string(info.isa);
      json.key("threads").number(int64_t{info.threads});
      json.key("l1_bytes").number(info.l1_bytes);
      json.key("l2_bytes").number(info.l2_bytes);
      json.key("l3_bytes").number(info.l3_bytes);
      json.key("memory_bytes").number(info.memory_bytes);
      json.key("unified_memory").boolean(info.unified_memory);
      json.key("supports_f64").boolean(info.supports_f64);
      json.key("supports_f16").boolean(info.supports_f16);
      json.key("supports_bf16").boolean(info.supports_bf16);
      json.key("peak_flops").number(info.peak_flops);
      json.key("bandwidth").number(info.bandwidth);
    }
    json.end();
  }
  return json.end().str();
}

const char* backend_name() {
  const DeviceKind kind = device_available(DeviceKind::kMetal)  ? DeviceKind::kMetal
                          : device_available(DeviceKind::kCuda) ? DeviceKind::kCuda
                                                                : DeviceKind::kCpu;
  note(TraceType::kBackendName, ErrorCode::kSuccess);
  return device_name(kind);
}

bool cuda_available() {
  const bool yes = device_available(DeviceKind::kCuda);
  note(TraceType::kIsCudaAvailable, ErrorCode::kSuccess, 0, yes ? 1 : 0);
  return yes;
}

bool metal_available() {
  const bool yes = device_available(DeviceKind::kMetal);
  note(TraceType::kIsMetalAvailable, ErrorCode::kSuccess, 0, yes ? 1 : 0);
  return yes;
}

int device_count() {
  const int count = (device_available(DeviceKind::kMetal) ? 1 : 0) +
                    (device_available(DeviceKind::kCuda) ? 1 : 0);
  note(TraceType::kGetDeviceCount, ErrorCode::kSuccess, 0, count);
  return count;
}

Device preferred_device_for(Workload workload) {
  const Device device = preferred_device();
  note(TraceType::kPreferredDeviceFor, ErrorCode::kSuccess, 0, static_cast<int64_t>(workload),
       static_cast<int64_t>(device.kind));
  return device;
}

SyncPolicy default_sync_policy() noexcept {
  const std::lock_guard lock(g_sync_mutex);
  return g_sync_policy;
}

void set_default_sync_policy(SyncPolicy policy) noexcept {
  const std::lock_guard lock(g_sync_mutex);
  g_sync_policy = policy;
}

void device_synchronize() {
  for (int k = 0; k < kDeviceKinds; ++k)
    if (Backend* b = backend(static_cast<DeviceKind>(k)); b != nullptr && b->available())
      b->synchronize();
  note(TraceType::kDeviceSynchronize, ErrorCode::kSuccess);
}

void apply_sync_policy(SyncPolicy policy) {
  if (policy.mode == SyncMode::kAlways) device_synchronize();
  note(TraceType::kApplySyncPolicy, ErrorCode::kSuccess, 0, static_cast<int64_t>(policy.mode),
       policy.trace_sync_boundary ? 1 : 0);
}

void apply_default_sync_policy() { apply_sync_policy(default_sync_policy()); }

ErrorCode device_malloc(void** out, size_t bytes) noexcept {
  ErrorCode code = ErrorCode::kSuccess;
  if (out == nullptr) {
    code = refuse("[malloc] ptr: expected a place for the pointer, found null");
  } else {
    *out = nullptr;
    if (bytes == 0) {
      code = refuse("[malloc] size_bytes: expected 1 or more, found 0");
    } else {
      void* p = bytes <= SIZE_MAX / 2 ? std::aligned_alloc(64, (bytes + 63) / 64 * 64) : nullptr;
      const ErrorCode kept = p == nullptr ? ErrorCode::kOutOfMemory : guarded([&] {
        const std::lock_guard lock(blocks().mutex);
        blocks().sizes.emplace(static_cast<const char*>(p), bytes);
      });
      if (kept == ErrorCode::kSuccess) {
        *out = p;
      } else {
        std::free(p);
        code = ErrorCode::kOutOfMemory;
        (void)guarded([&] { set_last_error(cat("[malloc] size_bytes: no memory for ", bytes)); });
      }
    }
  }
  (void)guarded([&] { note(TraceType::kMallocDevice, code, bytes); });
  return code;
}

ErrorCode device_free(void* p) noexcept {
  ErrorCode code = ErrorCode::kSuccess;
  uint64_t bytes = 0;
  if (p != nullptr) {
    Blocks& all = blocks();
    const std::lock_guard lock(all.mutex);
    const auto it = all.sizes.find(static_cast<const char*>(p));
    if (it == all.sizes.end()) {
      code =
          refuse("[free] ptr: expected memory that malloc gave, found another or a freed pointer");
    } else {
      bytes = it->second;
      all.sizes.erase(it);
      std::free(p);
    }
  }
  (void)guarded([&] { note(TraceType::kFreeDevice, code, bytes); });
  return code;
}

ErrorCode device_memcpy(void* dst, const void* src, size_t bytes, MemcpyKind kind) noexcept {
  ErrorCode code = ErrorCode::kSuccess;
  if (dst == nullptr || src == nullptr) {
    code = refuse(dst == nullptr ? "[memcpy] dst: expected memory, found null"
                                 : "[memcpy] src: expected memory, found null");
  } else if (static_cast<unsigned>(kind) > static_cast<unsigned>(MemcpyKind::kDeviceToDevice)) {
    code = refuse("[memcpy] kind: expected 0 to 3 (host/device to host/device)");
  } else if (bytes > blocks().room(dst)) {
    code = refuse("[memcpy] size_bytes: reaches past the end of the block at dst");
  } else if (bytes > blocks().room(src)) {
    code = refuse("[memcpy] size_bytes: reaches past the end of the block at src");
  } else {
    std::memmove(dst, src, bytes);
  }
  (void)guarded([&] { note(TraceType::kMemcpy, code, bytes, static_cast<int64_t>(kind)); });
  return code;
}

LC_AT_LOAD(blocks())

}  // namespace lc
