// Tensor: a typed, strided window on reference-counted memory. View: the same without ownership.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "lightning_core/device.hpp"
#include "lightning_core/error.hpp"

namespace lc {

enum class DType : uint8_t {
  kNone = 0,  ///< an absent optional operand
  kFloat32,
  kFloat64,
  kFloat16,
  kBFloat16,
  kInt8,
  kUInt8,
  kInt32,
  kInt64,
  kBool,
};
inline constexpr int kDTypes = 10;

[[nodiscard]] const char* dtype_name(DType dtype) noexcept;  ///< "float32"
[[nodiscard]] const char* dtype_short_name(
    DType dtype) noexcept;                               ///< "f32", as in traces and cases
[[nodiscard]] int64_t dtype_size(DType dtype) noexcept;  ///< bytes; 0 for kNone
[[nodiscard]] bool dtype_is_float(DType dtype) noexcept;
/// Unit roundoff times two: distance from 1 to the next value. 0 for integers.
[[nodiscard]] double dtype_eps(DType dtype) noexcept;
/// Accepts both name forms; throws kInvalidType naming `argument`.
[[nodiscard]] DType parse_dtype(std::string_view text, std::string_view argument = "dtype");

/// Set of dtypes as a bit mask; bit i is DType(i).
using DTypeSet = uint32_t;
[[nodiscard]] constexpr DTypeSet dtype_bit(DType d) { return 1u << static_cast<unsigned>(d); }
[[nodiscard]] std::string dtype_set_names(DTypeSet set);

inline constexpr int kMaxRank = 8;

/// Up to kMaxRank signed 64-bit numbers: a shape, strides, axes or a permutation. Trivially
/// copyable; entries past rank() are unspecified.
class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<int64_t> values) : Dims(std::span<const int64_t>(values)) {}
  /// Throws kInvalidValue past kMaxRank entries.
  explicit Dims(std::span<const int64_t> values);

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int64_t operator[](int i) const { return d_[i]; }
  int64_t& operator[](int i) { return d_[i]; }
  /// Entry counted from the end: back(0) is the last.
  [[nodiscard]] int64_t back(int i = 0) const { return d_[rank_ - 1 - i]; }
  [[nodiscard]] const int64_t* begin() const { return d_; }
  [[nodiscard]] const int64_t* end() const { return d_ + rank_; }
  int64_t* begin() { return d_; }
  int64_t* end() { return d_ + rank_; }
  void resize(int rank) { rank_ = rank; }  ///< new entries unspecified; rank <= kMaxRank
  void push_back(int64_t v) { d_[rank_++] = v; }
  void insert(int at, int64_t v);
  void erase(int at);
  /// Product of the entries; 1 for rank 0. Wraps where checked_numel() would refuse.
  [[nodiscard]] int64_t numel() const {
    uint64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= static_cast<uint64_t>(d_[i]);
    return static_cast<int64_t>(n);
  }
  [[nodiscard]] std::string str() const;  ///< "(2, 3)"
  friend bool operator==(const Dims& a, const Dims& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a.d_[i] != b.d_[i]) return false;
    return true;
  }

 private:
  int64_t d_[kMaxRank];
  int rank_ = 0;
};
using Shape = Dims;
using Strides = Dims;  ///< in elements

/// Row-major strides of a shape.
[[nodiscard]] Strides contiguous_strides(const Shape& shape);
/// numel, refusing negative extents and byte counts past 2^62; the error names op and argument.
[[nodiscard]] int64_t checked_numel(std::string_view op, std::string_view arg, const Shape& shape,
                                    DType dtype);
/// NumPy broadcasting of two shapes; throws naming both.
[[nodiscard]] Shape broadcast_shapes(std::string_view op, const Shape& a, const Shape& b);
/// axis in [-rank, rank) to [0, rank); throws naming the axis.
[[nodiscard]] int normalize_axis(std::string_view op, int64_t axis, int rank,
                                 std::string_view arg = "axis");

/// Strided window without ownership. `data` points at element (0, ..., 0); strides are in elements
/// and may be 0 (broadcast) or negative.
struct View {
  void* data = nullptr;
  DType dtype = DType::kNone;
  Device device;
  Shape shape;
  Strides strides;

  View() = default;
  /// Row-major view.
  View(void* p, DType t, const Shape& s, Device dev = {})
      : data(p), dtype(t), device(dev), shape(s), strides(contiguous_strides(s)) {}
  View(void* p, DType t, const Shape& s, const Strides& st, Device dev = {})
      : data(p), dtype(t), device(dev), shape(s), strides(st) {}

  [[nodiscard]] bool present() const { return dtype != DType::kNone; }
  [[nodiscard]] int rank() const { return shape.rank(); }
  [[nodiscard]] int64_t numel() const { return shape.numel(); }
  [[nodiscard]] int64_t nbytes() const { return numel() * dtype_size(dtype); }
  /// Row-major without gaps; extents of 1 and empty views do not count.
  [[nodiscard]] bool is_contiguous() const;
  template <typename T>
  [[nodiscard]] T* ptr() const {
    return static_cast<T*>(data);
  }
  /// This view with size-1 and missing leading dims broadcast to `shape` (stride 0).
  [[nodiscard]] View broadcast_to(const Shape& shape) const;
};

/// True if writing through `a` may change what `b` reads. Exact for the interleaved rows and
/// columns of one array, conservative otherwise.
[[nodiscard]] bool may_overlap(const View& a, const View& b);
/// True if two different indices of `v` name the same element (broadcast or self-overlapping).
[[nodiscard]] bool self_overlaps(const View& v);
/// View of the same elements with another shape, if strides allow it without a copy.
[[nodiscard]] bool reshape_view(const View& in, const Shape& shape, View* out);

/// Memory with its owner: from the caching pool of a device, or borrowed with a deleter.
using Storage = std::shared_ptr<void>;
/// `bytes` from the device's pool, 64-byte aligned, uninitialised. Throws kOutOfMemory.
[[nodiscard]] Storage allocate(int64_t bytes, Device device = {});

class Tensor {
 public:
  Tensor() = default;
  Tensor(Storage storage, const View& view) : storage_(std::move(storage)), view_(view) {}

  /// Uninitialised, row-major. Throws kInvalidValue for negative or overflowing extents,
  /// kOutOfMemory, and kNotSupported for a device that is not available.
  [[nodiscard]] static Tensor empty(const Shape& shape, DType dtype = DType::kFloat32,
                                    Device device = {});
  [[nodiscard]] static Tensor zeros(const Shape& shape, DType dtype = DType::kFloat32,
                                    Device device = {});
  [[nodiscard]] static Tensor full(const Shape& shape, double value, DType dtype = DType::kFloat32,
                                   Device device = {});
  /// Copies `values`, whose count must be the shape's numel.
  [[nodiscard]] static Tensor from(std::span<const float> values, const Shape& shape);
  [[nodiscard]] static Tensor from(std::span<const double> values, const Shape& shape);
  [[nodiscard]] static Tensor from(std::span<const int64_t> values, const Shape& shape);
  /// Borrows `view`; `deleter` runs when the last Tensor on it goes.
  [[nodiscard]] static Tensor wrap(const View& view, std::function<void(void*)> deleter = {});

  [[nodiscard]] const View& view() const { return view_; }
  [[nodiscard]] const Storage& storage() const { return storage_; }
  [[nodiscard]] DType dtype() const { return view_.dtype; }
  [[nodiscard]] Device device() const { return view_.device; }
  [[nodiscard]] const Shape& shape() const { return view_.shape; }
  [[nodiscard]] const Strides& strides() const { return view_.strides; }
  [[nodiscard]] int rank() const { return view_.rank(); }
  [[nodiscard]] int64_t numel() const { return view_.numel(); }
  [[nodiscard]] bool is_contiguous() const { return view_.is_contiguous(); }
  [[nodiscard]] bool defined() const { return view_.present(); }
  template <typename T>
  [[nodiscard]] T* data() const {
    return view_.ptr<T>();
  }

  // Metadata only; all share storage with this tensor.
  /// One extent may be -1. Throws if the strides do not allow it: call contiguous() first.
  [[nodiscard]] Tensor reshape(const Shape& shape) const;
  [[nodiscard]] Tensor transpose(int64_t axis0, int64_t axis1) const;
  [[nodiscard]] Tensor permute(const Dims& axes) const;
  /// Elements [start, end) of an axis; negative bounds count from the end as in Python.
  [[nodiscard]] Tensor slice(int64_t axis, int64_t start, int64_t end, int64_t step = 1) const;

  /// Row-major copy, or this tensor if it is row-major already.
  [[nodiscard]] Tensor contiguous() const;
  [[nodiscard]] Tensor copy() const;
  /// Converts the values; this tensor itself if the dtype is the same.
  [[nodiscard]] Tensor to(DType dtype) const;
  /// Element `flat_index` in row-major order, converted.
  [[nodiscard]] double item(int64_t flat_index = 0) const;
  /// "Tensor(shape=(2, 3), float32, cpu)" and up to `max_values` values.
  [[nodiscard]] std::string str(int64_t max_values = 16) const;

 private:
  Storage storage_;
  View view_;
};

}  // namespace lc
