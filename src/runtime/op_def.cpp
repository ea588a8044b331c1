// OpDef and OpCall members, and the registry of ops.
#include "lightning_core/op_def.hpp"
#include "runtime/fork_mutex.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "ops/op_list.hpp"

namespace lc {
namespace {

std::string attr_text(const AttrSpec& spec, const AttrValue& value) {
  switch (spec.kind) {
    case AttrKind::kBool:
      return value.flag() ? "1" : "0";
    case AttrKind::kInt:
      return std::to_string(value.i[0]);
    case AttrKind::kFloat: {
      std::ostringstream out;
      out.precision(17);
      out << value.f;
      return out.str();
    }
    case AttrKind::kEnum:
      return spec.words[static_cast<size_t>(value.i[0])];
    case AttrKind::kDType:
      return dtype_short_name(static_cast<DType>(value.i[0]));
    case AttrKind::kInts:
      break;
  }
  std::string text;
  for (const int64_t v : value.ints()) {
    if (!text.empty()) text += ",";
    text += std::to_string(v);
  }
  return text;
}

bool same_attr(const AttrSpec& spec, const AttrValue& a, const AttrValue& b) {
  if (a.n != b.n) return false;
  if (spec.kind == AttrKind::kFloat) return a.f == b.f;
  return std::equal(a.ints().begin(), a.ints().end(), b.ints().begin());
}

std::string view_text(const View& v) {
  std::string text = cat(dtype_short_name(v.dtype), ":");
  for (int i = 0; i < v.rank(); ++i) {
    if (i > 0) text += "x";
    text += std::to_string(v.shape[i]);
  }
  if (!v.is_contiguous()) text += ":strided";
  return text;
}

struct Registry {
  OpList ops;
  std::vector<const OpDef*> sorted;  // by name

  Registry() {
    using namespace ops_detail;
#define LC_OP_FILE(file) add_ops_##file(ops);
#include "ops.inc"
#undef LC_OP_FILE
    for (const OpDef& op : ops) sorted.push_back(&op);
    std::sort(sorted.begin(), sorted.end(),
              [](const OpDef* a, const OpDef* b) { return std::strcmp(a->name, b->name) < 0; });
    for (size_t i = 0; i < sorted.size(); ++i)
      const_cast<OpDef*>(sorted[i])->id = static_cast<int>(i);
  }
};

const Registry& registry() {
  static const Registry* r = new Registry;  // never destroyed: ops run in atexit handlers too
  return *r;
}

/// Edit distance, for "did you mean".
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t up = row[j + 1];
      row[j + 1] = std::min({up + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0u : 1u)});
      diagonal = up;
    }
  }
  return row[b.size()];
}

}  // namespace

AttrValue AttrValue::list(std::span<const int64_t> v) {
  if (v.size() > static_cast<size_t>(kMaxRank))
    throw_arg("attribute", "list", cat("at most ", kMaxRank, " entries"), cat(v.size()));
  AttrValue a;
  a.n = static_cast<int32_t>(v.size());
  std::copy(v.begin(), v.end(), a.i);
  return a;
}

OpCall::OpCall(const OpDef& def)
    : op(&def),
      n_in(def.variadic ? 0 : static_cast<int>(def.inputs.size())),
      n_out(static_cast<int>(def.outputs.size())),
      device(preferred_device()),
      policy(current_policy()) {
  for (int i = 0; i < n_in; ++i) new (&in[i]) View;
  for (int i = 0; i < n_out; ++i) new (&out[i]) View;
  AttrValue* to = attr;
  for (const AttrSpec& spec : def.attrs) {
    const AttrValue& given = spec.default_value;
    if (given.n <= 1)
      new (to++) AttrValue(given, AttrValue::FirstOnly{});
    else
      new (to++) AttrValue(given);
  }
}

void OpCall::push_input(const View& view) {
  if (n_in == kMaxInputs)
    throw_arg(op->name, "inputs", cat("at most ", kMaxInputs), cat(n_in + 1), "call it in groups");
  new (&in[n_in++]) View(view);
}

const AttrValue& OpCall::attr_of(std::string_view name) const {
  const int i = op->attr_index(name);
  if (i >= 0) return attr[i];
  std::string known;
  for (const AttrSpec& spec : op->attrs) known += cat(known.empty() ? "" : ", ", spec.name);
  throw_arg(op->name, "attributes", known.empty() ? "none" : known, name);
}

AttrValue& OpCall::attr_ref(std::string_view name) { return const_cast<AttrValue&>(attr_of(name)); }

std::string OpCall::str() const {
  std::string text = op->name;
  for (int i = 0; i < n_in; ++i) {
    if (!in[i].present()) continue;
    // The call of a gradient carries the op's outputs and their gradients behind its inputs.
    const std::string name = op->variadic ? cat(op->inputs[0].name, i)
                             : static_cast<size_t>(i) < op->inputs.size()
                                 ? std::string(op->inputs[static_cast<size_t>(i)].name)
                                 : cat("extra", i);
    text += cat(" ", name, "=", view_text(in[i]));
  }
  for (size_t k = 0; k < op->attrs.size(); ++k) {
    const AttrSpec& spec = op->attrs[k];
    if (attr[k].given() && (spec.required || !same_attr(spec, attr[k], spec.default_value)))
      text += cat(" ", spec.name, "=", attr_text(spec, attr[k]));
  }
  return text;
}

int OpDef::attr_index(std::string_view attr_name) const {
  for (size_t i = 0; i < attrs.size(); ++i)
    if (attr_name == attrs[i].name) return static_cast<int>(i);
  return -1;
}

int OpDef::input_index(std::string_view input_name) const {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (input_name == inputs[i].name) return static_cast<int>(i);
  return -1;
}

std::span<const OpDef* const> all_ops() { return registry().sorted; }

const OpDef* find_op(std::string_view name) noexcept {
  const auto& ops = registry().sorted;
  const auto it = std::lower_bound(ops.begin(), ops.end(), name, [](const OpDef* op, auto n) {
    return std::string_view(op->name) < n;
  });
  return it != ops.end() && name == (*it)->name ? *it : nullptr;
}

const OpDef& get_op(std::string_view name) {
  if (const OpDef* op = find_op(name)) return *op;
  std::vector<std::pair<size_t, const char*>> near;
  for (const OpDef* op : all_ops()) near.emplace_back(distance(name, op->name), op->name);
  std::sort(near.begin(), near.end());
  std::string names;
  for (size_t i = 0; i < std::min<size_t>(near.size(), 3); ++i)
    names += cat(i > 0 ? ", " : "", near[i].second);
  throw_arg("op", "name", cat("the name of an op (near: ", names, ")"), cat("\"", name, "\""));
}

LC_AT_LOAD(registry())

}  // namespace lc
