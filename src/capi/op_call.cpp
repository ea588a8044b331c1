// lcOpCall() and lcOpInfer(): plain structs to an OpCall, then plan() and run().
#include <cstring>

#include "capi/last_call.hpp"
#include "lightning_core/dispatch.hpp"
#include "lightning_core/lightning_core.h"
#include "runtime/last_error.hpp"

namespace lc::capi {

PlanPtr& last_plan() {
  thread_local PlanPtr plan;
  return plan;
}

namespace {

static_assert(LC_MAX_RANK == kMaxRank &&
              static_cast<int>(LC_BOOL) == static_cast<int>(DType::kBool) &&
              LC_INVALID_TYPE == static_cast<int>(ErrorCode::kInvalidType));

DType parse_dtype_number(const char* op, std::string_view arg, int64_t number) {
  if (number < 0 || number >= kDTypes)
    throw_arg(ErrorCode::kInvalidType, op, arg, cat("a dtype in [0, ", kDTypes, ")"), cat(number));
  return static_cast<DType>(number);
}

std::string input_name(const OpDef& op, int i) {
  return op.variadic ? cat(op.inputs[0].name, "[", i, "]")
                     : std::string(op.inputs[static_cast<size_t>(i)].name);
}

/// The view an lcArray describes; not present for LC_DTYPE_NONE.
View parse_array(const OpDef& op, const std::string& name, const lcArray& a) {
  const DType dtype = parse_dtype_number(op.name, name + ".dtype", static_cast<int64_t>(a.dtype));
  if (dtype == DType::kNone) return View{};
  if (a.ndim < 0 || a.ndim > kMaxRank)
    throw_arg(op.name, name + ".ndim", cat("0 to ", kMaxRank), cat(a.ndim));
  const Shape shape(std::span<const int64_t>(a.shape, static_cast<size_t>(a.ndim)));
  (void)checked_numel(op.name, name, shape, dtype);
  if (a.strides == nullptr) return View(a.data, dtype, shape);
  const Strides strides(std::span<const int64_t>(a.strides, static_cast<size_t>(a.ndim)));
  // The farthest element's offset must be a number of bytes.
  int64_t reach = 0;
  for (int i = 0; i < a.ndim; ++i) {
    int64_t span = 0;
    const int64_t stride = strides[i];
    if (stride == INT64_MIN ||
        __builtin_mul_overflow(stride < 0 ? -stride : stride, shape[i], &span) ||
        __builtin_add_overflow(reach, span, &reach) || reach > (int64_t{1} << 58))
      throw_arg(op.name, name + ".strides", "strides that memory can hold", strides.str());
  }
  return View(a.data, dtype, shape, strides);
}

AttrValue parse_attr(const OpDef& op, const AttrSpec& spec, const lcAttr& a) {
  const auto wrong = [&](const char* expected) {
    static constexpr const char* kKinds[] = {"LC_ATTR_INT", "LC_ATTR_FLOAT", "LC_ATTR_INTS",
                                             "LC_ATTR_WORD"};
    const auto kind = static_cast<unsigned>(a.kind);
    throw_arg(ErrorCode::kInvalidType, op.name, spec.name, expected,
              kind < 4 ? std::string(kKinds[kind]) : cat("kind ", kind));
  };
  if (a.kind == LC_ATTR_WORD && a.word == nullptr)
    throw_arg(op.name, spec.name, "a word", "a null pointer");
  switch (spec.kind) {
    case AttrKind::kBool:
      if (a.kind != LC_ATTR_INT) wrong("LC_ATTR_INT, 0 or 1");
      if (a.i != 0 && a.i != 1) throw_arg(op.name, spec.name, "0 or 1", cat(a.i));
      return AttrValue::integer(a.i);
    case AttrKind::kInt:
      if (a.kind != LC_ATTR_INT) wrong("LC_ATTR_INT");
      return AttrValue::integer(a.i);
    case AttrKind::kFloat:
      if (a.kind == LC_ATTR_FLOAT) return AttrValue::real(a.f);
      if (a.kind != LC_ATTR_INT) wrong("LC_ATTR_FLOAT");
      return AttrValue::real(static_cast<double>(a.i));
    case AttrKind::kInts:
      if (a.kind == LC_ATTR_INT) return AttrValue::list(std::span<const int64_t>(&a.i, 1));
      if (a.kind != LC_ATTR_INTS) wrong("LC_ATTR_INTS");
      if (a.n < 0 || a.n > kMaxRank)
        throw_arg(op.name, spec.name, cat("0 to ", kMaxRank, " numbers"), cat(a.n));
      if (a.list == nullptr && a.n > 0) throw_arg(op.name, spec.name, "numbers", "a null pointer");
      return AttrValue::list(std::span<const int64_t>(a.list, static_cast<size_t>(a.n)));
    case AttrKind::kEnum: {
      std::string words;
      for (size_t i = 0; i < spec.words.size(); ++i) {
        if (a.kind == LC_ATTR_WORD && std::strcmp(a.word, spec.words[i]) == 0)
          return AttrValue::integer(static_cast<int64_t>(i));
        words += cat(i == 0 ? "" : ", ", spec.words[i]);
      }
      if (a.kind == LC_ATTR_INT && a.i >= 0 && a.i < static_cast<int64_t>(spec.words.size()))
        return AttrValue::integer(a.i);
      if (a.kind == LC_ATTR_WORD || a.kind == LC_ATTR_INT)
        throw_arg(op.name, spec.name, cat("one of ", words),
                  a.kind == LC_ATTR_WORD ? std::string(a.word) : cat(a.i));
      wrong("LC_ATTR_WORD");
      break;
    }
    case AttrKind::kDType:
      if (a.kind == LC_ATTR_WORD)
        return AttrValue::integer(static_cast<int64_t>(parse_dtype(a.word, spec.name)));
      if (a.kind != LC_ATTR_INT) wrong("LC_ATTR_WORD or LC_ATTR_INT");
      return AttrValue::integer(static_cast<int64_t>(parse_dtype_number(op.name, spec.name, a.i)));
  }
  return {};
}

void parse_options(OpCall& call, const lcCallOptions& o) {
  const char* op = call.op->name;
  // Later versions add members at the end and accept the sizes of all earlier ones.
  if (o.struct_size < sizeof(lcCallOptions))
    throw_arg(op, "options.struct_size", cat(sizeof(lcCallOptions)), cat(o.struct_size),
              "fill the struct with lcCallOptionsInit()");
  if (o.device != nullptr) call.device = parse_device(o.device, "options.device");
  if (o.kernel != nullptr) call.policy.kernel = intern_kernel(o.kernel);
  const auto sync = static_cast<unsigned>(o.sync);
  if (sync > static_cast<unsigned>(LC_SYNC_NEVER))
    throw_arg(op, "options.sync", "LC_SYNC_AUTO, LC_SYNC_ALWAYS or LC_SYNC_NEVER", cat(sync));
  if (o.strict != 0) call.policy.strict = true;
  if (o.fast != 0) call.policy.precision = Precision::kFast;
  if (sync != 0) call.policy.sync = static_cast<SyncMode>(sync);
  call.policy.upload &= o.upload;
  call.policy.download &= o.download;
  call.compute_dtype =
      parse_dtype_number(op, "options.compute_dtype", static_cast<int64_t>(o.compute_dtype));
}

void check_list(const char* op, const char* name, const void* p, int n, int limit) {
  if (n < 0 || n > limit) throw_arg(op, name, cat("0 to ", limit), cat(n));
  if (p == nullptr && n > 0) throw_arg(op, name, "an array", "a null pointer");
}

const OpDef& named_op(const char* op) {
  if (op == nullptr)
    throw_arg("lcOpCall", "op", "an op's name", "a null pointer", "lcReport(\"ops\") lists them");
  return get_op(op);
}

void parse_call(OpCall& call, const lcArray* inputs, int n_inputs, const lcAttr* attrs, int n_attrs,
                const lcArray* outputs, int n_outputs, const lcCallOptions* options) {
  const OpDef& op = *call.op;
  const int most = op.variadic ? kMaxInputs : static_cast<int>(op.inputs.size());
  check_list(op.name, "inputs", inputs, n_inputs, most);
  check_list(op.name, "attrs", attrs, n_attrs, kMaxAttrs);
  if (n_outputs != call.n_out || outputs == nullptr)
    throw_arg(op.name, "outputs", cat(call.n_out, " arrays"),
              outputs == nullptr ? std::string("a null pointer") : cat(n_outputs));
  if (options != nullptr) parse_options(call, *options);
  for (int i = 0; i < n_inputs; ++i) {
    const View view = parse_array(op, input_name(op, i), inputs[i]);
    if (op.variadic)
      call.push_input(view);
    else
      call.in[i] = view;
  }
  for (int i = 0; i < n_attrs; ++i) {
    if (attrs[i].name == nullptr)
      throw_arg(op.name, cat("attrs[", i, "].name"), "a name", "a null pointer");
    (void)call.attr_ref(attrs[i].name);  // throws naming the op's attributes
    const auto k = static_cast<size_t>(op.attr_index(attrs[i].name));
    call.attr[k] = parse_attr(op, op.attrs[k], attrs[i]);
  }
  for (const AttrSpec& spec : op.attrs) {
    bool given = !spec.required;
    for (int i = 0; i < n_attrs && !given; ++i) given = std::strcmp(attrs[i].name, spec.name) == 0;
    if (!given) throw_arg(op.name, spec.name, "a value", "none", "the attribute has no default");
  }
}

lcError_t op_call(const char* name, const lcArray* inputs, int n_inputs, const lcAttr* attrs,
                  int n_attrs, lcArray* outputs, int n_outputs, const lcCallOptions* options) {
  return static_cast<lcError_t>(guarded([&] {
    OpCall call(named_op(name));
    parse_call(call, inputs, n_inputs, attrs, n_attrs, outputs, n_outputs, options);
    for (int o = 0; o < call.n_out; ++o) {
      if (!(call.policy.download >> o & 1u)) continue;
      const std::string out_name = call.n_out == 1 ? "out" : cat("out[", o, "]");
      const View v = parse_array(*call.op, out_name, outputs[o]);
      if (!v.present())
        throw_arg(ErrorCode::kInvalidType, call.op->name, out_name, "dtype and shape",
                  "LC_DTYPE_NONE", "lcOpInfer() fills them");
      if (v.data == nullptr && v.numel() > 0)
        throw_arg(call.op->name, out_name, "memory", "a null pointer");
      // An empty output still has to be the right one: a non-null address makes the plan check it.
      static char nothing;
      call.out[o] = v;
      if (v.data == nullptr) call.out[o].data = &nothing;
    }
    PlanPtr plan = plan_shared(call);
    run(*plan, call);
    last_plan() = std::move(plan);
  }));
}

lcError_t op_infer(const char* name, const lcArray* inputs, int n_inputs, const lcAttr* attrs,
                   int n_attrs, lcArray* outputs, int n_outputs, const lcCallOptions* options) {
  return static_cast<lcError_t>(guarded([&] {
    OpCall call(named_op(name));
    parse_call(call, inputs, n_inputs, attrs, n_attrs, outputs, n_outputs, options);
    last_plan() = plan_shared(call);
    for (int o = 0; o < call.n_out; ++o) {
      outputs[o].dtype = static_cast<lcDType>(call.out[o].dtype);
      outputs[o].ndim = call.out[o].rank();
      for (int i = 0; i < kMaxRank; ++i)
        outputs[o].shape[i] = i < call.out[o].rank() ? call.out[o].shape[i] : 0;
    }
  }));
}

}  // namespace
}  // namespace lc::capi

extern "C" {

void lcCallOptionsInit(lcCallOptions* options) {
  if (options == nullptr) return;
  *options = lcCallOptions{};
  options->struct_size = sizeof(lcCallOptions);
  options->upload = options->download = ~0u;
}

lcError_t lcOpCall(const char* op, const lcArray* inputs, int n_inputs, const lcAttr* attrs,
                   int n_attrs, lcArray* outputs, int n_outputs, const lcCallOptions* options) {
  return lc::capi::op_call(op, inputs, n_inputs, attrs, n_attrs, outputs, n_outputs, options);
}

lcError_t lcOpInfer(const char* op, const lcArray* inputs, int n_inputs, const lcAttr* attrs,
                    int n_attrs, lcArray* outputs, int n_outputs, const lcCallOptions* options) {
  return lc::capi::op_infer(op, inputs, n_inputs, attrs, n_attrs, outputs, n_outputs, options);
}

}  // extern "C"
