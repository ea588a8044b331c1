// One Python function an op, made from its OpDef: arguments are parsed by the op's table straight
// into an OpCall on the stack.
#include "op_function.hpp"

#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "lightning_core/dispatch.hpp"
#include "policy_type.hpp"
#include "runtime/plan.hpp"
#include "tensor/scalar.hpp"
#include "tensor_type.hpp"

namespace lc::python {
namespace {

// Below this the interpreter lock is kept: giving it up costs about 0.1 us and a chance to wait.
constexpr double kReleaseGilNs = 20e3;

enum Extra { kOut, kDevice, kPolicy, kAsFloat32, kTraceAs, kExtras };
constexpr const char* kExtraNames[kExtras] = {"out", "device", "policy", "as_float32", "trace_as"};

/// What a Python function of an op needs at each call, decided at import.
struct OpInfo {
  const OpDef* op;
  std::vector<PyObject*> names;  // interned: inputs, attributes, extras
  std::string doc;
  PyMethodDef method;
};

/// A string argument's text; null with a Python error set for anything else.
const char* text_of(const OpDef& op, const char* name, PyObject* value) {
  if (PyUnicode_Check(value)) return PyUnicode_AsUTF8(value);
  PyErr_Format(PyExc_TypeError, "[%s] %s: expected a string, found %R", op.name, name, value);
  return nullptr;
}

/// Slot of a keyword: inputs, attributes, extras in this order; -1 if unknown.
int slot_of(const OpInfo& info, PyObject* name) {
  for (size_t i = 0; i < info.names.size(); ++i)
    if (info.names[i] == name) return static_cast<int>(i);
  for (size_t i = 0; i < info.names.size(); ++i)
    if (PyUnicode_Compare(info.names[i], name) == 0) return static_cast<int>(i);
  // NumPy's spelling of the axes of a reduction.
  if (PyUnicode_CompareWithASCIIString(name, "axis") == 0) {
    const int axes = info.op->attr_index("axes");
    if (axes >= 0) return static_cast<int>(info.op->variadic ? 0 : info.op->inputs.size()) + axes;
  }
  return -1;
}

class Parser {
 public:
  Parser(const OpInfo& info, OpCall& call) : info_(info), op_(*info.op), call_(call) {}

  bool parse(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
    const auto n_in = static_cast<int>(op_.variadic ? 0 : op_.inputs.size());
    const auto n_attrs = static_cast<int>(op_.attrs.size());
    const Py_ssize_t keywords = kwnames == nullptr ? 0 : PyTuple_GET_SIZE(kwnames);
    PyObject* const as_float32 = info_.names[info_.names.size() - kExtras + kAsFloat32];
    for (Py_ssize_t i = 0; i < keywords; ++i)  // how operands are read depends on it
      if (PyTuple_GET_ITEM(kwnames, i) == as_float32 && args[nargs + i] == Py_True)
        cast_to_ = DType::kFloat32;
    if (op_.variadic) {
      // concat(a, b, axis=0) or concat([a, b], 0).
      PyObject* first = nargs > 0 ? args[0] : nullptr;
      if (first != nullptr && (PyList_Check(first) || PyTuple_Check(first)) &&
          nargs <= 1 + n_attrs) {
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(first); ++i)
          if (!add_input(PySequence_Fast_GET_ITEM(first, i))) return false;
        for (Py_ssize_t i = 1; i < nargs; ++i)
          if (!set(static_cast<int>(i - 1), args[i])) return false;
      } else {
        for (Py_ssize_t i = 0; i < nargs; ++i)
          if (!add_input(args[i])) return false;
      }
    } else {
      if (nargs > n_in + n_attrs) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments (%zd given)",
                     op_.name, n_in + n_attrs, nargs);
        return false;
      }
      for (Py_ssize_t i = 0; i < nargs; ++i)
        if (!set(static_cast<int>(i), args[i])) return false;
    }
    for (Py_ssize_t i = 0; i < keywords; ++i) {
      PyObject* name = PyTuple_GET_ITEM(kwnames, i);
      const int slot = slot_of(info_, name);
      if (slot < 0) {
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", op_.name, name);
        return false;
      }
      if (slot < 64 && (seen_ >> slot & 1u) != 0) {
        PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument %R", op_.name, name);
        return false;
      }
      if (!set(slot, args[nargs + i])) return false;
    }
    for (int k = 0; k < n_attrs; ++k)
      if (op_.attrs[static_cast<size_t>(k)].required && (seen_ >> (n_in + k) & 1u) == 0) {
        PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", op_.name,
                     op_.attrs[static_cast<size_t>(k)].name);
        return false;
      }
    call_.bytes_copied = held_.bytes_copied;
    return finish_numbers();
  }

  PyObject* out = nullptr;    // borrowed; the caller's output
  PyObject* first = nullptr;  // borrowed; the first input, or the array made of it
  bool tensors = false;
  [[nodiscard]] bool bfloat16_arrays() const { return held_.bfloat16_array; }

 private:
  bool add_input(PyObject* value) {
    if (call_.n_in >= kMaxInputs) {
      PyErr_Format(PyExc_ValueError,
                   "[%s] %s: expected at most %d arrays, found more; call it in groups", op_.name,
                   op_.inputs[0].name, kMaxInputs);
      return false;
    }
    call_.push_input(View{});
    return input(call_.n_in - 1, value);
  }

  bool input(int i, PyObject* value) {
    const ArgSpec& spec = op_.inputs[op_.variadic ? 0 : static_cast<size_t>(i)];
    if (value == Py_None && spec.optional) return true;
    const int held = held_.count();
    Number number;
    if (!read_array(value, op_.name, spec.name, spec.dtypes, &call_.in[i], &number, held_, &tensors,
                    cast_to_))
      return false;
    if (i == 0) first = held_.count() > held ? held_.last() : value;
    if (number.is) {
      numbers_[n_numbers_] = number;
      number_at_[n_numbers_++] = i;
    }
    return true;
  }

  bool set(int slot, PyObject* value) {
    if (slot < 64) seen_ |= uint64_t{1} << slot;
    const auto n_in = static_cast<int>(op_.variadic ? 0 : op_.inputs.size());
    if (slot < n_in) return input(slot, value);
    const auto n_attrs = static_cast<int>(op_.attrs.size());
    if (slot < n_in + n_attrs) {
      const AttrSpec& spec = op_.attrs[static_cast<size_t>(slot - n_in)];
      return read_attr(op_, spec, value, &call_.attr[slot - n_in]);
    }
    switch (slot - n_in - n_attrs) {
      case kOut:
        if (value == Py_None) return true;
        out = value;
        return read_out(value, op_.name, &call_.out[0], &tensors);
      case kDevice:
        if (value == Py_None) return true;
        if (const char* word = text_of(op_, "device", value)) {
          call_.device = parse_device(word);
          return true;
        }
        return false;
      case kPolicy:
        if (value == Py_None) return true;
        return read_policy(value, op_.name, &call_.policy);
      case kAsFloat32:
        if (PyObject_IsTrue(value) == 1) call_.compute_dtype = DType::kFloat32;
        return true;
      case kTraceAs:
        if (value == Py_None) return true;
        if (const char* name = text_of(op_, "trace_as", value)) {
          call_.trace_as = intern_name(name);
          return true;
        }
        return false;
      default:
        return false;
    }
  }

  /// Python numbers become 0-d arrays of the widest float beside them, float32 without any.
  bool finish_numbers() {
    if (n_numbers_ == 0) return true;
    DType dtype = DType::kNone;
    for (int i = 0; i < call_.n_in; ++i) {
      const DType d = call_.in[i].dtype;
      if (dtype_is_float(d) && dtype_size(d) > dtype_size(dtype)) dtype = d;
    }
    if (dtype == DType::kNone) dtype = DType::kFloat32;
    for (int j = 0; j < n_numbers_; ++j) {
      const int i = number_at_[j];
      const ArgSpec& spec = op_.inputs[op_.variadic ? 0 : static_cast<size_t>(i)];
      void* p = &scalars_[j];
      DType as = dtype;
      if ((spec.dtypes & kFloatTypes) == 0) {
        if (!numbers_[j].integer) {
          PyErr_Format(PyExc_TypeError, "[%s] %s: expected integers, found a float", op_.name,
                       spec.name);
          return false;
        }
        as = DType::kInt64;
        std::memcpy(p, &numbers_[j].whole, sizeof(int64_t));
      } else {
        store_scalar(p, as, numbers_[j].value);
      }
      call_.in[i] = View(p, as, Shape{});
    }
    return true;
  }

  const OpInfo& info_;
  const OpDef& op_;
  OpCall& call_;
  Held held_;
  DType cast_to_ = DType::kNone;  // kFloat32 where as_float32 was given
  uint64_t seen_ = 0;
  union {  // not initialised: few calls have numbers
    Number numbers_[kMaxInputs];
  };
  double scalars_[kMaxInputs];
  int number_at_[kMaxInputs];
  int n_numbers_ = 0;
};

PyObject* call_function(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                        PyObject* kwnames) {
  const auto& info = *static_cast<const OpInfo*>(PyCapsule_GetPointer(self, nullptr));
  try {
    OpCall call(*info.op);
    Parser parser(info, call);
    if (!parser.parse(args, nargs, kwnames)) return nullptr;
    const Plan& p = plan(call);
    if (parser.out != nullptr) {
      run_released(p, call);
      Py_INCREF(parser.out);
      return parser.out;
    }
    if (p.is_view()) {
      run(p, call);
      if (const Tensor* t = tensor_of(parser.first))
        return wrap_tensor(Tensor(t->storage(), call.out[0]));
      if (PyObject_TypeCheck(parser.first, array_type()))
        return window_array(call.out[0], parser.first);
    }
    // NumPy has no bfloat16: such a result travels in a Tensor, unless the caller has a package
    // that gives NumPy the dtype. A number becomes an array by a copy.
    const bool tensor =
        parser.tensors || (call.out[0].dtype == DType::kBFloat16 && !parser.bfloat16_arrays());
    if (tensor || p.is_view()) {
      call.out[0] = View{};
      Tensor made = call_op1(call);
      return tensor ? wrap_tensor(made) : tensor_array(made);
    }
    refuse_kept_outputs(p, call);
    PyObject* result = new_array(call.out[0].dtype, call.out[0].shape, &call.out[0].data);
    if (result == nullptr) return nullptr;
    try {
      run_released(p, call);
    } catch (...) {
      Py_DECREF(result);
      throw;
    }
    return result;
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

std::string default_text(const AttrSpec& spec) {
  const AttrValue& v = spec.default_value;
  switch (spec.kind) {
    case AttrKind::kBool:
      return v.flag() ? "True" : "False";
    case AttrKind::kInt:
      return std::to_string(v.i[0]);
    case AttrKind::kFloat: {
      std::ostringstream out;
      out << v.f;
      return out.str();
    }
    case AttrKind::kEnum:
      return cat("'", spec.words[static_cast<size_t>(v.i[0])], "'");
    case AttrKind::kDType:
      return cat("'", dtype_name(static_cast<DType>(v.i[0])), "'");
    case AttrKind::kInts:
      break;
  }
  if (!v.given()) return "None";
  std::string text = "(";
  for (const int64_t e : v.ints()) text += cat(e, ", ");
  return text.substr(0, text.size() - 2) + ")";
}

/// "name(signature)\n--\n\ndoc", which Python splits into signature and docstring.
std::string doc_of(const OpDef& op) {
  std::string text = cat(op.name, "(");
  bool comma = false;
  const auto add = [&](const std::string& part) {
    text += cat(comma ? ", " : "", part);
    comma = true;
  };
  if (op.variadic)
    add(cat("*", op.inputs[0].name));
  else
    for (const ArgSpec& arg : op.inputs) add(cat(arg.name, arg.optional ? "=None" : ""));
  for (const AttrSpec& attr : op.attrs)
    add(attr.required ? attr.name : cat(attr.name, "=", default_text(attr)));
  if (!op.variadic) add("*");
  for (const char* extra : kExtraNames)
    add(cat(extra, std::strcmp(extra, "as_float32") == 0 ? "=False" : "=None"));
  text += cat(")\n--\n\n", op.doc, "\n\nArgs:\n");
  for (const ArgSpec& arg : op.inputs)
    text += cat("    ", arg.name, ": ", arg.doc, "; ", dtype_set_names(arg.dtypes),
                arg.optional ? "; optional" : "", ".\n");
  for (const AttrSpec& attr : op.attrs) text += cat("    ", attr.name, ": ", attr.doc, ".\n");
  text +=
      "    out: array to write into, of the result's dtype and shape; strided is fine.\n"
      "    device: 'cpu', 'metal', 'cuda' or 'null'; None: the preferred one.\n"
      "    policy: a Policy; None: the one in force.\n"
      "    as_float32: convert the operands to float32 first.\n"
      "    trace_as: name that the trace reports.\n\n"
      "Raises:\n    ValueError: shapes, attributes or out do not fit.\n    TypeError: a dtype is "
      "not accepted.\n";
  return text;
}

}  // namespace

void run_released(const Plan& plan, const OpCall& call) {
  const double ns =
      plan.cost.flops / 50.0 + (plan.cost.bytes_read + plan.cost.bytes_written) / 10.0;
  if (ns < kReleaseGilNs) {
    run(plan, call);
    return;
  }
  // Another thread may plan meanwhile, but not on this thread's table: `plan` stays valid.
  PyThreadState* state = PyEval_SaveThread();
  try {
    run(plan, call);
  } catch (...) {
    PyEval_RestoreThread(state);
    throw;
  }
  PyEval_RestoreThread(state);
}

bool read_attr(const OpDef& op, const AttrSpec& spec, PyObject* value, AttrValue* to) {
  const auto wrong = [&](const char* expected) {
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_OverflowError))
      return false;
    PyErr_Clear();
    PyErr_Format(PyExc_TypeError, "[%s] %s: expected %s, found %R", op.name, spec.name, expected,
                 value);
    return false;
  };
  const auto integer = [&](PyObject* o, int64_t* out) {
    if (PyBool_Check(o) || !PyIndex_Check(o)) return wrong("an integer");
    PyObject* index = PyNumber_Index(o);
    if (index == nullptr) return false;
    int overflow = 0;
    *out = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow == 0) return true;
    PyErr_Format(PyExc_ValueError, "[%s] %s: expected a 64-bit integer, found %R", op.name,
                 spec.name, o);
    return false;
  };
  switch (spec.kind) {
    case AttrKind::kBool: {
      if (!PyBool_Check(value) && !PyLong_Check(value)) return wrong("a bool");
      *to = AttrValue::integer(PyObject_IsTrue(value));
      return true;
    }
    case AttrKind::kInt: {
      int64_t v = 0;
      if (value == Py_None) return wrong("an integer");
      if (!integer(value, &v)) return false;
      *to = AttrValue::integer(v);
      return true;
    }
    case AttrKind::kFloat: {
      if (value == Py_None) return true;  // the default
      const double v = PyFloat_AsDouble(value);
      if (v == -1.0 && PyErr_Occurred()) return wrong("a number");
      *to = AttrValue::real(v);
      return true;
    }
    case AttrKind::kInts: {
      if (value == Py_None) {
        *to = spec.default_value;
        return true;
      }
      int64_t list[kMaxRank] = {};
      if (PyIndex_Check(value)) {
        if (!integer(value, &list[0])) return false;
        // One number for a height and a width.
        const std::string_view name = spec.name;
        const bool pair =
            name == "stride" || name == "padding" || name == "dilation" || name == "kernel";
        list[1] = list[0];
        *to = AttrValue::list({list, pair ? size_t{2} : size_t{1}});
        return true;
      }
      PyObject* sequence = PySequence_Fast(value, "");
      if (sequence == nullptr) return wrong("an integer or a sequence of integers");
      const Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
      if (n > kMaxRank) {
        PyErr_Format(PyExc_ValueError, "[%s] %s: expected at most %d entries, found %zd", op.name,
                     spec.name, kMaxRank, n);
        Py_DECREF(sequence);
        return false;
      }
      for (Py_ssize_t i = 0; i < n; ++i)
        if (!integer(PySequence_Fast_GET_ITEM(sequence, i), &list[i])) {
          Py_DECREF(sequence);
          return false;
        }
      Py_DECREF(sequence);
      *to = AttrValue::list({list, static_cast<size_t>(n)});
      return true;
    }
    case AttrKind::kEnum: {
      if (value == Py_None) return true;
      const char* word = PyUnicode_Check(value) ? PyUnicode_AsUTF8(value) : nullptr;
      std::string words;
      for (size_t i = 0; i < spec.words.size(); ++i) {
        if (word != nullptr && std::strcmp(word, spec.words[i]) == 0) {
          *to = AttrValue::integer(static_cast<int64_t>(i));
          return true;
        }
        words += cat(i > 0 ? ", " : "", spec.words[i]);
      }
      PyErr_Format(word != nullptr ? PyExc_ValueError : PyExc_TypeError,
                   "[%s] %s: expected one of %s, found %R", op.name, spec.name, words.c_str(),
                   value);
      return false;
    }
    case AttrKind::kDType: {
      std::string name;
      if (PyUnicode_Check(value)) {
        const char* text = PyUnicode_AsUTF8(value);
        if (text == nullptr) return false;
        name = text;
      } else {
        PyObject* numpy = PyImport_ImportModule("numpy");
        if (numpy == nullptr) return false;
        if (PyObject* dtype = PyObject_CallMethod(numpy, "dtype", "O", value)) {
          if (PyObject* text = PyObject_GetAttrString(dtype, "name")) {
            if (const char* utf8 = PyUnicode_AsUTF8(text)) name = utf8;
            Py_DECREF(text);
          }
          Py_DECREF(dtype);
        }
        Py_DECREF(numpy);
      }
      if (name.empty()) return wrong("a dtype");
      *to = AttrValue::integer(static_cast<int64_t>(parse_dtype(name, spec.name)));
      return true;
    }
  }
  return false;
}

const char* intern_name(const char* name) {
  static auto* names = new std::deque<std::string>;  // under the GIL
  for (const std::string& known : *names)
    if (known == name) return known.c_str();
  return names->emplace_back(name).c_str();
}

void add_op_functions(PyObject* module) {
  static auto* infos = new std::deque<OpInfo>;
  for (const OpDef* op : all_ops()) {
    OpInfo& info = infos->emplace_back();
    info.op = op;
    const auto name = [&](const char* text) {
      info.names.push_back(PyUnicode_InternFromString(text));
    };
    if (!op->variadic)
      for (const ArgSpec& arg : op->inputs) name(arg.name);
    for (const AttrSpec& attr : op->attrs) name(attr.name);
    for (const char* extra : kExtraNames) name(extra);
    info.doc = doc_of(*op);
    info.method = {op->name,
                   reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call_function)),
                   METH_FASTCALL | METH_KEYWORDS, info.doc.c_str()};
    PyObject* self = PyCapsule_New(&info, nullptr, nullptr);
    PyObject* module_name = PyUnicode_FromString("lightning_core");
    PyObject* function = PyCFunction_NewEx(&info.method, self, module_name);
    Py_XDECREF(self);
    Py_XDECREF(module_name);
    if (function == nullptr || PyModule_AddObject(module, op->name, function) < 0) {
      Py_XDECREF(function);
      throw std::runtime_error("an op function could not be made");
    }
  }
}

}  // namespace lc::python
