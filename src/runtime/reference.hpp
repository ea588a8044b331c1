// Running an op's float64 reference.
#pragma once

#include <vector>

#include "lightning_core/op_def.hpp"

namespace lc {

/// The values of a view as a row-major float64 array.
[[nodiscard]] RefArray to_ref_array(const View& view);
/// Writes a row-major float64 array into a view of the same shape, rounding once to its dtype.
void store_ref_array(const RefArray& from, const View& to);

/// Float64 results of a call whose output shapes are known (after plan() or infer). Inputs are
/// read through their strides.
[[nodiscard]] std::vector<RefArray> reference_outputs(const OpCall& call);

}  // namespace lc
