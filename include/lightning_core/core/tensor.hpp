// The reference's tensors: owning TensorT<T>, and TensorViewT<T>, which is shape, strides and
// offset without data. Every fallible member returns a Status. All extents and strides are above 0;
// a tensor with another shape, or for a device that this machine lacks, constructs, and its members
// refuse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "lightning_core/core/ops.hpp"
#include "lightning_core/core/runtime.hpp"

namespace lightning_core {

using Device = runtime::Device;
enum class Layout { kContiguous = 0, kStrided };

namespace detail {

using Extents = std::vector<std::int64_t>;

/// Product of the extents; 0 for a shape no tensor can have (empty, an extent below 1, overflow).
std::size_t tensorNumel(const Extents& shape);
Extents tensorStrides(const Extents& shape);
/// kSuccess if every index of the window lies in `storage_numel` elements.
runtime::Status tensorWindow(const Extents& shape, const Extents& strides, std::size_t offset,
                             std::size_t storage_numel);
/// Zeroed memory of the device's pool; null where the device is absent or memory is out.
std::shared_ptr<void> tensorStorage(std::size_t bytes, Device device);
/// `source` at the window, row-major to `out`; the window was checked.
runtime::Status tensorRead(ops::detail::Type type, const void* source, const Extents& shape,
                           const Extents& strides, std::size_t offset, void* out);
runtime::Status tensorCopy(void* to, const void* from, std::size_t bytes, runtime::MemcpyKind kind);
runtime::Status tensorAdd(ops::detail::Type type, const void* a, const void* b, void* out,
                          std::size_t n, Device device);
/// Why storage is missing: kInvalidValue for the shape, kNotSupported for the device.
runtime::Status tensorMissing(const Extents& shape, Device device);

}  // namespace detail

template <typename T>
class TensorT;

template <typename T>
class TensorViewT {
 public:
  TensorViewT() = default;

  const std::vector<std::int64_t>& shape() const { return shape_; }
  const std::vector<std::int64_t>& strides() const { return strides_; }
  std::size_t rank() const { return shape_.size(); }
  std::size_t numel() const { return detail::tensorNumel(shape_); }
  bool isContiguous() const { return layout_ == Layout::kContiguous; }
  Layout layout() const { return layout_; }
  Device device() const { return device_; }
  std::size_t offsetElements() const { return offset_; }
  const char* dtypeName() const { return std::is_same_v<T, float> ? "float32" : "float64"; }

  runtime::Status validateContract() const {
    return detail::tensorWindow(shape_, strides_, 0, SIZE_MAX);
  }
  runtime::Status validateContractForStorage(std::size_t storage_numel) const {
    return detail::tensorWindow(shape_, strides_, offset_, storage_numel);
  }

 private:
  friend class TensorT<T>;
  TensorViewT(std::vector<std::int64_t> shape, std::vector<std::int64_t> strides, Device device,
              std::size_t offset, Layout layout)
      : shape_(std::move(shape)),
        strides_(std::move(strides)),
        device_(device),
        offset_(offset),
        layout_(layout) {}

  std::vector<std::int64_t> shape_;
  std::vector<std::int64_t> strides_;
  Device device_ = Device::kCPU;
  std::size_t offset_ = 0;
  Layout layout_ = Layout::kContiguous;
};

template <typename T>
class TensorT {
  static constexpr ops::detail::Type kType = ops::detail::typeOf<T>();

 public:
  TensorT(const std::vector<std::int64_t>& shape, Device device = Device::kCPU)
      : shape_(shape),
        strides_(detail::tensorStrides(shape)),
        device_(device),
        storage_numel_(detail::tensorNumel(shape)),
        storage_(detail::tensorStorage(storage_numel_ * sizeof(T), device)) {}
  TensorT(const TensorT&) = delete;
  TensorT& operator=(const TensorT&) = delete;
  TensorT(TensorT&&) noexcept = default;
  TensorT& operator=(TensorT&&) noexcept = default;

  std::size_t numel() const { return detail::tensorNumel(shape_); }
  const std::vector<std::int64_t>& shape() const { return shape_; }
  const std::vector<std::int64_t>& strides() const { return strides_; }
  std::size_t rank() const { return shape_.size(); }
  bool isContiguous() const { return strides_ == detail::tensorStrides(shape_); }
  Layout layout() const { return isContiguous() ? Layout::kContiguous : Layout::kStrided; }
  const char* dtypeName() const { return std::is_same_v<T, float> ? "float32" : "float64"; }
  Device device() const { return device_; }
  std::size_t storageNumel() const { return storage_ == nullptr ? 0 : storage_numel_; }

  runtime::Status validateContract() const {
    if (storage_ == nullptr) return detail::tensorMissing(shape_, device_);
    return detail::tensorWindow(shape_, strides_, 0, storage_numel_);
  }
  runtime::Status validateViewContract(const TensorViewT<T>& view) const {
    const runtime::Status status = validateContract();
    if (status != runtime::Status::kSuccess) return status;
    if (view.device() != device_) return runtime::Status::kInvalidValue;
    return view.validateContractForStorage(storage_numel_);
  }

  /// In place; the number of elements must stay.
  runtime::Status reshape(const std::vector<std::int64_t>& new_shape) {
    if (!sameNumel(new_shape)) return runtime::Status::kInvalidValue;
    shape_ = new_shape;
    strides_ = detail::tensorStrides(new_shape);
    return runtime::Status::kSuccess;
  }
  runtime::Status view(const std::vector<std::int64_t>& new_shape, TensorViewT<T>* out) const {
    if (out == nullptr || !isContiguous() || !sameNumel(new_shape))
      return runtime::Status::kInvalidValue;
    *out = TensorViewT<T>(new_shape, detail::tensorStrides(new_shape), device_, 0,
                          Layout::kContiguous);
    return runtime::Status::kSuccess;
  }
  /// 0 <= start < end <= extent. Always "strided".
  runtime::Status slice(std::size_t axis, std::int64_t start, std::int64_t end,
                        TensorViewT<T>* out) const {
    if (out == nullptr || numel() == 0 || axis >= shape_.size() || start < 0 || end <= start ||
        end > shape_[axis])
      return runtime::Status::kInvalidValue;
    std::vector<std::int64_t> shape = shape_;
    shape[axis] = end - start;
    *out = TensorViewT<T>(std::move(shape), strides_, device_,
                          static_cast<std::size_t>(start * strides_[axis]), Layout::kStrided);
    return runtime::Status::kSuccess;
  }

  runtime::Status toHostView(const TensorViewT<T>& view, std::vector<T>* out) const {
    if (view.device() != device_) return runtime::Status::kInvalidValue;
    return readStrided(view.shape(), view.strides(), view.offsetElements(), out);
  }
  runtime::Status sliceCopy(std::size_t axis, std::int64_t start, std::int64_t end,
                            std::vector<T>* out) const {
    TensorViewT<T> window;
    const runtime::Status status = slice(axis, start, end, &window);
    return status == runtime::Status::kSuccess ? toHostView(window, out) : status;
  }
  /// Any window of the storage, row-major to `out`.
  runtime::Status readStrided(const std::vector<std::int64_t>& out_shape,
                              const std::vector<std::int64_t>& source_strides,
                              std::size_t offset_elements, std::vector<T>* out) const {
    if (out == nullptr) return runtime::Status::kInvalidValue;
    if (storage_ == nullptr) return detail::tensorMissing(shape_, device_);
    const runtime::Status status =
        detail::tensorWindow(out_shape, source_strides, offset_elements, storage_numel_);
    if (status != runtime::Status::kSuccess) return status;
    out->resize(detail::tensorNumel(out_shape));
    return detail::tensorRead(kType, storage_.get(), out_shape, source_strides, offset_elements,
                              out->data());
  }

  runtime::Status fromHost(const std::vector<T>& values) {
    if (storage_ == nullptr) return detail::tensorMissing(shape_, device_);
    if (values.size() != numel()) return runtime::Status::kInvalidValue;
    return detail::tensorCopy(storage_.get(), values.data(), values.size() * sizeof(T),
                              runtime::MemcpyKind::kHostToDevice);
  }
  runtime::Status toHost(std::vector<T>* out) const {
    if (out == nullptr) return runtime::Status::kInvalidValue;
    if (storage_ == nullptr) return detail::tensorMissing(shape_, device_);
    out->resize(numel());
    return detail::tensorCopy(out->data(), storage_.get(), out->size() * sizeof(T),
                              runtime::MemcpyKind::kDeviceToHost);
  }

  /// *out = *this + other; the same device and number of elements.
  runtime::Status add(const TensorT& other, TensorT* out) const {
    if (out == nullptr) return runtime::Status::kInvalidValue;
    for (const TensorT* t : {this, &other, static_cast<const TensorT*>(out)})
      if (t->storage_ == nullptr) return detail::tensorMissing(t->shape_, t->device_);
    if (other.numel() != numel() || out->numel() != numel() || other.device_ != device_ ||
        out->device_ != device_)
      return runtime::Status::kInvalidValue;
    return detail::tensorAdd(kType, storage_.get(), other.storage_.get(), out->storage_.get(),
                             numel(), device_);
  }

  /// Null off the CPU.
  T* mutableCpuData() {
    return device_ == Device::kCPU ? static_cast<T*>(storage_.get()) : nullptr;
  }
  const T* cpuData() const {
    return device_ == Device::kCPU ? static_cast<const T*>(storage_.get()) : nullptr;
  }
  /// Null on the CPU.
  void* rawDevicePtr() { return device_ == Device::kCPU ? nullptr : storage_.get(); }
  const void* rawDevicePtr() const { return device_ == Device::kCPU ? nullptr : storage_.get(); }

 private:
  bool sameNumel(const std::vector<std::int64_t>& shape) const {
    const std::size_t n = detail::tensorNumel(shape);
    return n != 0 && n == numel();
  }

  std::vector<std::int64_t> shape_;
  std::vector<std::int64_t> strides_;
  Device device_;
  std::size_t storage_numel_;
  std::shared_ptr<void> storage_;
};

using Tensor = TensorT<float>;
using Tensor64 = TensorT<double>;
using TensorView = TensorViewT<float>;
using Tensor64View = TensorViewT<double>;

}  // namespace lightning_core
