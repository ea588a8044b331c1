// The weight of a linear call: plain [out, in], or packed [panels, in, width].
#pragma once

#include "lightning_core/op_def.hpp"

namespace lc {

/// Columns of a panel: a multiple of every register tile's width, in float32 and float64.
inline constexpr int64_t kPanelColumns = 48;

/// Row o of a packed weight is column o % width of panel o / width.
struct WeightForm {
  int64_t out, in;
  int64_t width;  ///< of a panel; 0: not packed
  [[nodiscard]] bool packed() const { return width != 0; }
};

/// Form of input 1 of a linear call; throws where shapes do not fit.
[[nodiscard]] WeightForm weight_form(const OpCall& call);

}  // namespace lc
