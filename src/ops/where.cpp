#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

LC_OPS(where) {
  using namespace lc;
  OpDef op;
  op.name = "where";
  op.doc =
      "a where condition is true, else b.\n\n"
      "condition: bool; a, b: floats; the three shapes broadcast together.";
  op.inputs = {{"condition", dtype_bit(DType::kBool), false, "any shape"},
               {"a", kFloatTypes, false, "any shape"},
               {"b", kFloatTypes, false, "any shape"}};
  op.outputs = {"out"};
  op.infer = [](OpCall& call) {
    const Shape ab = broadcast_shapes("where", call.in[1].shape, call.in[2].shape);
    set_output(call, 0, broadcast_shapes("where", call.in[0].shape, ab), call.in[1].dtype);
  };
  op.cost = [](const OpCall& call) { return streaming_cost(call, f64(call.out[0].numel())); };
  op.reference = [](RefCall& r) {
    const RefArray condition = broadcast(r.in[0], r.out[0].shape);
    const RefArray a = broadcast(r.in[1], r.out[0].shape);
    const RefArray b = broadcast(r.in[2], r.out[0].shape);
    for (size_t i = 0; i < a.v.size(); ++i) r.out[0].v[i] = condition.v[i] != 0 ? a.v[i] : b.v[i];
  };
  op.tolerance = {0, nullptr};
  ops.push_back(std::move(op));
}
