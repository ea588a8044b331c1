#include "lightning_core/core/tensor.hpp"

#include <cstring>

#include "backends/cpu/convert.hpp"
#include "compat/bridge.hpp"
#include "lightning_core/tensor.hpp"
#include "lightning_core/trace.hpp"

namespace lightning_core::detail {
namespace {

using lc::compat::device_of;
using lc::compat::guard;
using runtime::Status;

void note(std::size_t bytes, runtime::MemcpyKind kind) {
  if (!lc::trace_enabled()) return;
  lc::TraceEvent event;
  event.type = lc::TraceType::kMemcpy;
  event.size_bytes = bytes;
  event.detail0 = static_cast<int64_t>(kind);
  lc::trace(event);
}

lc::Dims dims(const Extents& e) { return lc::Dims(std::span<const int64_t>(e)); }

}  // namespace

std::size_t tensorNumel(const Extents& shape) {
  // So that a byte count fits in a signed 64-bit number too.
  constexpr int64_t kLimit = INT64_MAX / 16;
  int64_t n = shape.empty() ? 0 : 1;
  for (const int64_t d : shape)
    if (d < 1 || __builtin_mul_overflow(n, d, &n) || n > kLimit) return 0;
  return static_cast<std::size_t>(n);
}

Extents tensorStrides(const Extents& shape) {
  Extents strides(shape.size(), 1);
  if (tensorNumel(shape) == 0) return strides;
  for (std::size_t i = shape.size(); i > 1; --i) strides[i - 2] = strides[i - 1] * shape[i - 1];
  return strides;
}

Status tensorWindow(const Extents& shape, const Extents& strides, std::size_t offset,
                    std::size_t storage_numel) {
  if (tensorNumel(shape) == 0 || shape.size() != strides.size() || offset >= storage_numel)
    return Status::kInvalidValue;
  std::size_t last = offset;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    std::size_t reach = 0;
    if (strides[i] < 1 ||
        __builtin_mul_overflow(static_cast<std::size_t>(shape[i] - 1),
                               static_cast<std::size_t>(strides[i]), &reach) ||
        __builtin_add_overflow(last, reach, &last))
      return Status::kInvalidValue;
  }
  return last < storage_numel ? Status::kSuccess : Status::kInvalidValue;
}

std::shared_ptr<void> tensorStorage(std::size_t bytes, Device device) {
  std::shared_ptr<void> storage;
  if (bytes == 0) return storage;
  (void)guard([&] {
    (void)lc::device_info(device_of(device));  // throws where it is absent
    storage = lc::allocate(static_cast<int64_t>(bytes), device_of(device));
    std::memset(storage.get(), 0, bytes);
  });
  return storage;
}

Status tensorMissing(const Extents& shape, Device device) {
  return guard([&] {
    if (tensorNumel(shape) == 0)
      lc::throw_arg("tensor", "shape", "one or more extents, all above 0, that memory can hold",
                    lc::cat(shape.size(), " extents"));
    (void)lc::device_info(device_of(device));
    lc::throw_arg(lc::ErrorCode::kOutOfMemory, "tensor", "shape", "memory for the elements", "none",
                  "or the tensor was moved from");
  });
}

Status tensorRead(ops::detail::Type type, const void* source, const Extents& shape,
                  const Extents& strides, std::size_t offset, void* out) {
  return guard([&] {
    const lc::DType dtype =
        type == ops::detail::Type::kFloat32 ? lc::DType::kFloat32 : lc::DType::kFloat64;
    char* start = static_cast<char*>(const_cast<void*>(source)) +
                  static_cast<int64_t>(offset) * lc::dtype_size(dtype);
    const lc::View from(start, dtype, dims(shape), dims(strides));
    const lc::View to(out, dtype, dims(shape));
    lc::cpu::strided_convert(from, to);
    note(static_cast<std::size_t>(to.nbytes()), runtime::MemcpyKind::kDeviceToHost);
  });
}

Status tensorCopy(void* to, const void* from, std::size_t bytes, runtime::MemcpyKind kind) {
  return guard([&] {
    std::memcpy(to, from, bytes);
    note(bytes, kind);
  });
}

Status tensorAdd(ops::detail::Type type, const void* a, const void* b, void* out, std::size_t n,
                 Device device) {
  return ops::detail::elementwise(ops::detail::Elementwise::kVectorAdd, type, a, b, out, 1, n,
                                  device, {});
}

}  // namespace lightning_core::detail
