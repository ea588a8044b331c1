// Test case lines, the syntax of OpCall::str(): "matmul a=f32:8x16 b=f32:4x16:t trans_b=1". Read by
// the C++ and Python tests and by the bench, from tests/cases/<file>.txt.
//
// A line is an op's name, inputs as name=dtype:extents[:layout], attributes as name=value. Extents
// are joined by x, none for a 0-d array; a variadic op's inputs carry their number (xs0=, xs1=).
// Lists are 1,2,3; enums are words; booleans 0 or 1; # starts a comment. Layout letters, combined
// at will:
//   t  last two axes transposed in memory        s  last axis strided by 2 ("strided" means it too)
//   n  last axis with a negative stride          b  first axis repeated with stride 0
//   u  data one element off its alignment
// Files have the sections [smoke] [full] [perf].
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lightning_core/op_def.hpp"

namespace lc {

struct CaseInput {
  DType dtype = DType::kNone;  ///< kNone: absent
  Shape shape;
  std::string layout;  ///< letters of the table above; empty: row-major
  [[nodiscard]] bool present() const { return dtype != DType::kNone; }
};

struct Case {
  const OpDef* op = nullptr;
  std::vector<CaseInput> inputs;  ///< in the op's order, absent optional ones included
  std::vector<AttrValue> attrs;   ///< in the op's order, defaults filled
  std::string text;               ///< the line, without comment
};

/// Throws kInvalidValue that quotes the line and names what is wrong in it.
[[nodiscard]] Case parse_case(std::string_view line);
/// The cases of one section ("smoke", "full", "perf"), or of all for "". Errors name file and line.
[[nodiscard]] std::vector<Case> read_cases(const std::string& path, std::string_view section = {});
/// Every line stands for itself and, where its only floats are float32, for the same line in each
/// of the dtypes `others`.
[[nodiscard]] std::vector<Case> with_other_floats(const std::vector<Case>& cases,
                                                  DTypeSet others = kFloatTypes);

/// A call with filled inputs, which live in `storage`. Values are uniform in [-1, 1) and depend on
/// `seed` and the line only; where an op's domain is smaller they stay inside: positive for log,
/// sqrt, rsqrt and the base of pow, away from 0 for divisors, indices in range, boolean masks with
/// at least their first column true.
/// With `special`, a sixteenth of the floats are NaN, infinite, -0, denormal or tiny instead; in
/// conv2d not the weights, because its kernels may multiply them by padding of 0.
[[nodiscard]] OpCall make_call(const Case& c, std::vector<Tensor>& storage, uint64_t seed = 1,
                               bool special = false);

struct Comparison {
  bool ok = true;
  double max_error = 0;  ///< absolute, over finite elements
  double bound = 0;      ///< what it may be
  std::string text;      ///< empty if ok; else call, place, value got and value wanted
};

/// coef * eps(dtype of output i) * sqrt(reduce length) * scale. `scale` is the largest finite
/// magnitude of the reference result `want`, or of the terms it sums, whichever is larger. float16
/// and bfloat16 results are computed with float32's eps; rounding_bound() is added to that.
[[nodiscard]] double error_bound(const OpCall& call, const RefArray& want, int i);
/// Half a unit in the last place of a float16 or bfloat16 result near `exact`; 0 for other dtypes.
[[nodiscard]] double rounding_bound(double exact, DType dtype);
/// Runs the float64 reference on the call's inputs and compares outputs with it. The call's output
/// dtypes and shapes are known (after plan()). NaN must be NaN, infinity the same infinity;
/// integers and booleans must be equal.
[[nodiscard]] Comparison compare(const OpCall& call, std::span<const View> outputs);

struct CaseRun {
  Device device = {};
  Policy policy = {};
  uint64_t seed = 1;
  bool special = false;      ///< some values are NaN, infinite, -0, denormal or tiny
  bool strided_out = false;  ///< every second element of a larger array, last axis
};
/// Makes the call, runs it into outputs of garbage between guard bytes, and compares. Also fails
/// where an input or a guard changed, and, for ops that return windows, where the window differs.
[[nodiscard]] Comparison run_case(const Case& c, const CaseRun& options = {});

}  // namespace lc
