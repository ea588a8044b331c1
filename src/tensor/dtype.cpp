#include <array>

#include "lightning_core/tensor.hpp"

namespace lc {
namespace {

struct DTypeRow {
  const char* name;
  const char* short_name;
  int64_t size;
  double eps;
};
constexpr std::array<DTypeRow, kDTypes> kRows = {{
    {"none", "none", 0, 0},
    {"float32", "f32", 4, 0x1p-23},
    {"float64", "f64", 8, 0x1p-52},
    {"float16", "f16", 2, 0x1p-10},
    {"bfloat16", "bf16", 2, 0x1p-7},
    {"int8", "i8", 1, 0},
    {"uint8", "u8", 1, 0},
    {"int32", "i32", 4, 0},
    {"int64", "i64", 8, 0},
    {"bool", "bool", 1, 0},
}};
const DTypeRow& row(DType dtype) { return kRows[static_cast<size_t>(dtype)]; }

}  // namespace

const char* dtype_name(DType dtype) noexcept { return row(dtype).name; }
const char* dtype_short_name(DType dtype) noexcept { return row(dtype).short_name; }
int64_t dtype_size(DType dtype) noexcept { return row(dtype).size; }
bool dtype_is_float(DType dtype) noexcept { return row(dtype).eps > 0; }
double dtype_eps(DType dtype) noexcept { return row(dtype).eps; }

DType parse_dtype(std::string_view text, std::string_view argument) {
  for (int i = 1; i < kDTypes; ++i)
    if (text == kRows[static_cast<size_t>(i)].name ||
        text == kRows[static_cast<size_t>(i)].short_name)
      return static_cast<DType>(i);
  throw_arg(ErrorCode::kInvalidType, "dtype", argument, dtype_set_names((1u << kDTypes) - 2),
            cat("\"", text, "\""));
}

std::string dtype_set_names(DTypeSet set) {
  std::string names;
  for (int i = 1; i < kDTypes; ++i) {
    if (!(set >> i & 1u)) continue;
    if (!names.empty()) names += ", ";
    names += kRows[static_cast<size_t>(i)].name;
  }
  return names;
}

}  // namespace lc
