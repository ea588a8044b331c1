#include <cmath>

#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

LC_OPS(cast) {
  using namespace lc;
  OpDef cast;
  cast.name = "cast";
  cast.doc =
      "The values in another dtype.\n\n"
      "Floats round to nearest, ties to even; floats to integers truncate towards zero and "
      "saturate,\n"
      "NaN gives 0; integers to narrower integers keep their low bits, as NumPy; anything to bool "
      "is\n"
      "x != 0.";
  cast.inputs = {{"x", kAllTypes, false, "any shape"}};
  cast.outputs = {"out"};
  cast.attrs = {{"dtype",
                 AttrKind::kDType,
                 AttrValue::integer(static_cast<int64_t>(DType::kFloat32)),
                 {},
                 true,
                 "of the result"}};
  cast.promote = false;
  cast.infer = [](OpCall& call) {
    const int64_t code = call.integer("dtype");
    if (code <= 0 || code >= kDTypes)
      throw_arg(ErrorCode::kInvalidType, "cast", "dtype", dtype_set_names(kAllTypes),
                cat("code ", code));
    set_output(call, 0, call.in[0].shape, static_cast<DType>(code));
  };
  cast.cost = [](const OpCall& call) { return streaming_cost(call, 0); };
  cast.reference = [](RefCall& r) {
    r.out[0].v = r.in[0].v;
    const DType from = r.call.in[0].dtype;
    const DType to = r.call.out[0].dtype;
    if (dtype_is_float(from) || dtype_is_float(to) || to == DType::kBool) return;
    const double low =
        to == DType::kUInt8 ? 0 : -std::ldexp(1, static_cast<int>(dtype_size(to)) * 8 - 1);
    const double range = std::ldexp(1, static_cast<int>(dtype_size(to)) * 8);
    for (double& x : r.out[0].v) x -= std::floor((x - low) / range) * range;
  };
  cast.tolerance = {1, nullptr};  // rounding to the new dtype
  ops.push_back(std::move(cast));

  OpDef copy;
  copy.name = "copy";
  copy.doc = "A row-major copy, or a copy into any strided out.";
  copy.inputs = {{"x", kAllTypes, false, "any shape"}};
  copy.outputs = {"out"};
  copy.promote = false;
  copy.infer = [](OpCall& call) { set_output(call, 0, call.in[0].shape, call.in[0].dtype); };
  copy.cost = [](const OpCall& call) { return streaming_cost(call, 0); };
  copy.reference = [](RefCall& r) { r.out[0].v = r.in[0].v; };
  copy.tolerance = {0, nullptr};
  ops.push_back(std::move(copy));
}
