#include <algorithm>

#include "lightning_core/tensor.hpp"

namespace lc {

Dims::Dims(std::span<const int64_t> values) {
  if (values.size() > static_cast<size_t>(kMaxRank))
    throw_arg("shape", "rank", cat("at most ", kMaxRank, " dimensions"), cat(values.size()));
  rank_ = static_cast<int>(values.size());
  std::copy(values.begin(), values.end(), d_);
}

void Dims::insert(int at, int64_t v) {
  if (rank_ == kMaxRank)
    throw_arg("shape", "rank", cat("at most ", kMaxRank, " dimensions"), cat(kMaxRank + 1));
  for (int i = rank_; i > at; --i) d_[i] = d_[i - 1];
  d_[at] = v;
  ++rank_;
}

void Dims::erase(int at) {
  for (int i = at; i + 1 < rank_; ++i) d_[i] = d_[i + 1];
  --rank_;
}

std::string Dims::str() const {
  std::string s = "(";
  for (int i = 0; i < rank_; ++i) {
    if (i > 0) s += ", ";
    s += std::to_string(d_[i]);
  }
  if (rank_ == 1) s += ",";
  return s + ")";
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides;
  strides.resize(shape.rank());
  uint64_t step = 1;  // unsigned: shapes come here before checked_numel() refuses absurd ones
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = static_cast<int64_t>(step);
    step *= static_cast<uint64_t>(std::max<int64_t>(shape[i], 1));
  }
  return strides;
}

int64_t checked_numel(std::string_view op, std::string_view arg, const Shape& shape, DType dtype) {
  const int64_t limit = (int64_t{1} << 62) / std::max<int64_t>(dtype_size(dtype), 1);
  int64_t n = 1;
  bool empty = false;
  for (const int64_t extent : shape) {
    if (extent < 0) throw_arg(op, arg, "extents of 0 or more", cat("shape ", shape.str()));
    empty = empty || extent == 0;
  }
  // Extents of an empty shape are multiplied as 1, so that strides cannot overflow either.
  for (const int64_t extent : shape) {
    const int64_t e = std::max<int64_t>(extent, 1);
    if (n > limit / e)
      throw_arg(op, arg, "at most 2^62 bytes",
                cat("shape ", shape.str(), " of ", dtype_name(dtype)));
    n *= e;
  }
  return empty ? 0 : n;
}

Shape broadcast_shapes(std::string_view op, const Shape& a, const Shape& b) {
  Shape out;
  out.resize(std::max(a.rank(), b.rank()));
  for (int i = 0; i < out.rank(); ++i) {  // counted from the end
    const int64_t da = i < a.rank() ? a.back(i) : 1;
    const int64_t db = i < b.rank() ? b.back(i) : 1;
    if (da != db && da != 1 && db != 1)
      throw_arg(op, "shapes", cat("shapes that broadcast, dimension ", -1 - i, " equal or 1"),
                cat(a.str(), " and ", b.str()));
    out[out.rank() - 1 - i] = da == 1 ? db : da;
  }
  return out;
}

int normalize_axis(std::string_view op, int64_t axis, int rank, std::string_view arg) {
  if (axis < -rank || axis >= rank)
    throw_arg(op, arg, cat("an axis in [", -rank, ", ", rank, ")"), cat(axis));
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

}  // namespace lc
