#pragma once

#include <cstdint>

#include "lightning_core/tensor.hpp"

namespace lc {

/// Bytes a view touches, relative to its data: [low, high). Where it is empty they mean nothing.
struct Reach {
  int64_t low;
  int64_t high;
};
[[nodiscard]] Reach reach_of(const View& v);

}  // namespace lc
