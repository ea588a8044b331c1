// float16 and bfloat16 as kernels see them: storage, computed in float32.
#pragma once

#include <cstdint>
#include <type_traits>

namespace lc::cpu {

struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

template <typename T>
inline constexpr bool kIsHalf = std::is_same_v<T, Half> || std::is_same_v<T, BFloat>;

}  // namespace lc::cpu
