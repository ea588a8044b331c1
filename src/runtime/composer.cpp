#include "lightning_core/op_def.hpp"

namespace lc {

Composer::Value Composer::op(const char* name, std::initializer_list<Value> inputs,
                             std::initializer_list<Attr> attrs) {
  Node node;
  node.op = &get_op(name);
  node.inputs = inputs;
  for (const Attr& a : attrs) {
    const int index = node.op->attr_index(a.name);
    if (index < 0) throw_arg(name, "attributes", "an attribute of the op", a.name);
    node.attrs.emplace_back(index, a.value);
  }
  node.output = next_++;
  nodes_.push_back(std::move(node));
  return nodes_.back().output;
}

Composer::Value Composer::constant(double value, DType dtype) {
  constants_.push_back({value, dtype, next_++});
  return constants_.back().output;
}

void Composer::out(int i, Value value) {
  if (outputs_.size() <= static_cast<size_t>(i))
    outputs_.resize(static_cast<size_t>(i) + 1, kAbsent);
  outputs_[static_cast<size_t>(i)] = value;
}

}  // namespace lc
