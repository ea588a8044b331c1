#include "lightning_core/tensor.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "lightning_core/dispatch.hpp"
#include "tensor/scalar.hpp"

namespace lc {
namespace {

template <typename T>
Tensor from_values(std::span<const T> values, const Shape& shape, DType dtype) {
  const int64_t n = checked_numel("tensor", "shape", shape, dtype);
  if (static_cast<int64_t>(values.size()) != n)
    throw_arg("tensor", "values", cat(n, " values for shape ", shape.str()), cat(values.size()));
  Tensor t = Tensor::empty(shape, dtype);
  if (n > 0) std::memcpy(t.view().data, values.data(), values.size_bytes());
  return t;
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  if (dtype == DType::kNone)
    throw_arg(ErrorCode::kInvalidType, "tensor", "dtype", "a dtype", "none");
  const int64_t n = checked_numel("tensor", "shape", shape, dtype);
  (void)device_info(device);  // throws for a device that is not there
  Storage storage = allocate(std::max<int64_t>(n * dtype_size(dtype), 1), device);
  void* data = storage.get();
  return Tensor(std::move(storage), View(data, dtype, shape, device));
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  std::memset(t.view().data, 0, static_cast<size_t>(t.view().nbytes()));
  return t;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  for_each_element(t.view(), [&](char* p, int64_t) { store_scalar(p, dtype, value); });
  return t;
}

Tensor Tensor::from(std::span<const float> values, const Shape& shape) {
  return from_values(values, shape, DType::kFloat32);
}
Tensor Tensor::from(std::span<const double> values, const Shape& shape) {
  return from_values(values, shape, DType::kFloat64);
}
Tensor Tensor::from(std::span<const int64_t> values, const Shape& shape) {
  return from_values(values, shape, DType::kInt64);
}

Tensor Tensor::wrap(const View& view, std::function<void(void*)> deleter) {
  if (!view.present())
    throw_arg(ErrorCode::kInvalidType, "tensor", "view", "a view with a dtype", "none");
  if (view.data == nullptr && view.numel() > 0)
    throw_arg("tensor", "view", "memory", "a null pointer");
  Storage storage(view.data, [deleter = std::move(deleter)](void* p) {
    if (deleter) deleter(p);
  });
  return Tensor(std::move(storage), view);
}

Tensor Tensor::reshape(const Shape& shape) const {
  Shape target = shape;
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < target.rank(); ++i) {
    if (target[i] == -1 && unknown < 0) {
      unknown = i;
    } else if (target[i] < 0) {
      throw_arg("reshape", "shape", "extents of 0 or more, one of them -1", shape.str());
    }
  }
  for (int i = 0; i < target.rank(); ++i)
    if (i != unknown && __builtin_mul_overflow(known, target[i], &known))
      throw_arg("reshape", "shape", cat(numel(), " elements"), shape.str());
  if (unknown >= 0) target[unknown] = known == 0 ? 0 : numel() / known;
  if (target.numel() != numel() || (unknown >= 0 && known == 0))
    throw_arg("reshape", "shape", cat("a shape of ", numel(), " elements"), shape.str());
  View out;
  if (!reshape_view(view_, target, &out))
    throw_arg("reshape", "tensor", "strides that allow the new shape without a copy",
              cat("shape ", view_.shape.str(), " strides ", view_.strides.str()),
              "call contiguous() first");
  return Tensor(storage_, out);
}

Tensor Tensor::transpose(int64_t axis0, int64_t axis1) const {
  const int a = normalize_axis("transpose", axis0, rank(), "axis0");
  const int b = normalize_axis("transpose", axis1, rank(), "axis1");
  View out = view_;
  std::swap(out.shape[a], out.shape[b]);
  std::swap(out.strides[a], out.strides[b]);
  return Tensor(storage_, out);
}

Tensor Tensor::permute(const Dims& axes) const {
  if (axes.rank() != rank()) throw_arg("permute", "axes", cat(rank(), " axes"), axes.str());
  View out = view_;
  uint32_t seen = 0;
  for (int i = 0; i < rank(); ++i) {
    const int a = normalize_axis("permute", axes[i], rank(), "axes");
    if (seen >> a & 1u) throw_arg("permute", "axes", "each axis once", axes.str());
    seen |= 1u << a;
    out.shape[i] = view_.shape[a];
    out.strides[i] = view_.strides[a];
  }
  return Tensor(storage_, out);
}

Tensor Tensor::slice(int64_t axis, int64_t start, int64_t end, int64_t step) const {
  const int a = normalize_axis("slice", axis, rank());
  if (step <= 0) throw_arg("slice", "step", "1 or more", cat(step));
  const int64_t extent = shape()[a];
  const auto bound = [extent](int64_t i) {
    return std::clamp<int64_t>(i < 0 ? i + extent : i, 0, extent);
  };
  const int64_t begin = bound(start);
  const int64_t stop = std::max(bound(end), begin);
  View out = view_;
  out.shape[a] = stop > begin ? (stop - begin - 1) / step + 1 : 0;
  if (out.shape[a] > 0)
    out.data = static_cast<char*>(view_.data) + begin * view_.strides[a] * dtype_size(dtype());
  // With one element or none the stride names nothing, and the product could overflow.
  if (out.shape[a] > 1) out.strides[a] = view_.strides[a] * step;
  return Tensor(storage_, out);
}

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : copy(); }

Tensor Tensor::copy() const {
  OpCall call(get_op("copy"));
  call.in[0] = view_;
  call.device = device();
  return call_op1(call);
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == view_.dtype) return *this;
  OpCall call(get_op("cast"));
  call.in[0] = view_;
  call.device = device();
  call.attr_ref("dtype") = AttrValue::integer(static_cast<int64_t>(dtype));
  return call_op1(call);
}

double Tensor::item(int64_t flat_index) const {
  if (flat_index < 0 || flat_index >= numel())
    throw_arg("item", "flat_index", cat("an index in [0, ", numel(), ")"), cat(flat_index));
  int64_t offset = 0;
  for (int i = rank() - 1; i >= 0; --i) {
    offset += flat_index % shape()[i] * strides()[i];
    flat_index /= shape()[i];
  }
  return load_scalar(static_cast<const char*>(view_.data) + offset * dtype_size(dtype()), dtype());
}

std::string Tensor::str(int64_t max_values) const {
  if (!defined()) return "Tensor()";
  std::ostringstream out;
  out << "Tensor(shape=" << shape().str() << ", " << dtype_name(dtype()) << ", "
      << device_name(device()) << ")";
  const int64_t shown = std::min(max_values, numel());
  out << " [";
  for (int64_t i = 0; i < shown; ++i) out << (i > 0 ? ", " : "") << item(i);
  if (shown < numel()) out << (shown > 0 ? ", ..." : "...");
  out << "]";
  return out.str();
}

}  // namespace lc
