// The reference's functions, for the arguments nearly all calls have: exact float32 ndarrays whose
// sizes fit, read in place. Such a call is described here and goes through plan() and run() as
// every other. Everything else (lists, other dtypes, copies, a device by name, whatever does not
// fit or fails) is called again in Python, where each check and message is. A Python frame and its
// attribute reads cost several times a small kernel.
#include "direct_function.hpp"

#include <structmember.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "arrays.hpp"
#include "lightning_core/dispatch.hpp"
#include "op_function.hpp"
#include "runtime/plan.hpp"

namespace lc::python {
namespace {

constexpr int kMaxParameters = 16;

/// A call's arguments in the order of the parameters; null where none is given.
using Arguments = PyObject* const*;

/// A call as a form describes it.
struct Direct {
  OpCall call;
  PyObject* out = nullptr;  ///< borrowed: the caller's output; null: a result is made
  int64_t flat = 0;         ///< elements of a result that is made flat; 0: in the op's shape
  explicit Direct(const OpDef& op) : call(op) { call.compute_dtype = DType::kFloat32; }

  /// An operand as it is.
  bool read(int i, PyObject* object) { return plain_array(object, &call.in[i]); }
  /// An operand under a shape of as many elements.
  bool read(int i, PyObject* object, const Shape& shape) {
    return read(i, object) && view_as(&call.in[i], shape);
  }
  bool write(PyObject* object) {
    out = object;
    return plain_array(object, &call.out[0]) && writeable(object);
  }
  bool write(PyObject* object, const Shape& shape) {
    return write(object) && view_as(&call.out[0], shape);
  }
  void set(int attr, int64_t value) { call.attr[attr] = AttrValue::integer(value); }

 private:
  static bool view_as(View* view, const Shape& shape) {
    if (view->shape == shape) return true;
    if (view->numel() != shape.numel() || !view->is_contiguous()) return false;
    view->shape = shape;
    view->strides = contiguous_strides(shape);
    return true;
  }
};

bool no_device(PyObject* given) { return given == nullptr || given == Py_None; }

/// A Python int of at least `least`; no bool.
bool size_of(PyObject* given, int64_t least, int64_t* to) {
  if (given == nullptr || !PyLong_CheckExact(given)) return false;
  int overflow = 0;
  *to = PyLong_AsLongLongAndOverflow(given, &overflow);
  return overflow == 0 && *to >= least && *to <= INT32_MAX;
}

bool size_or(PyObject* given, int64_t least, int64_t missing, int64_t* to) {
  if (given != nullptr) return size_of(given, least, to);
  *to = missing;
  return true;
}

bool flag_of(PyObject* given, bool* to) {
  *to = given == Py_True;
  return given == nullptr || PyBool_Check(given);
}

// ------------------------------------------------------------------------------- forms

/// What a form knows of its op from the start.
struct FormOp {
  const OpDef* op;
  int causal, stride, padding, activation;  // attributes; -1: none
  const char* trace_as;
};

using Describe = bool (*)(const FormOp&, Arguments, Direct&);

template <bool kInto>
bool matmul2d(const FormOp&, Arguments a, Direct& d) {
  if (!no_device(a[kInto ? 3 : 2]) || !d.read(0, a[0]) || !d.read(1, a[1])) return false;
  const Shape& x = d.call.in[0].shape;
  const Shape& y = d.call.in[1].shape;
  if (x.rank() != 2 || y.rank() != 2 || x[1] != y[0]) return false;
  if constexpr (!kInto) return true;
  return d.write(a[2]) && d.call.out[0].shape == Shape{x[0], y[1]};
}

/// Operands of m * k and k * n elements; parameters a, b, (out), m, k, n, device.
template <bool kInto>
bool matmul_np(const FormOp&, Arguments a, Direct& d) {
  constexpr int kSizes = kInto ? 3 : 2;
  int64_t m = 0;
  int64_t k = 0;
  int64_t n = 0;
  if (!size_of(a[kSizes], 1, &m) || !size_of(a[kSizes + 1], 1, &k) ||
      !size_of(a[kSizes + 2], 1, &n) || !no_device(a[kSizes + 3]))
    return false;
  if (!d.read(0, a[0], {m, k}) || !d.read(1, a[1], {k, n})) return false;
  d.flat = m * n;
  return !kInto || d.write(a[2], {m, n});
}

bool vector_add(const FormOp&, Arguments a, Direct& d) {
  if (!no_device(a[2]) || !d.read(0, a[0])) return false;
  const int64_t n = d.call.in[0].numel();
  return d.read(0, a[0], {n}) && d.read(1, a[1], {n});
}

bool matrix_sub(const FormOp&, Arguments a, Direct& d) {
  int64_t rows = 0;
  int64_t cols = 0;
  if (!size_of(a[2], 1, &rows) || !size_of(a[3], 1, &cols) || !no_device(a[4])) return false;
  d.flat = rows * cols;
  return d.read(0, a[0], {rows, cols}) && d.read(1, a[1], {rows, cols});
}

bool finish_attention(const FormOp& f, PyObject* causal, PyObject* device, Direct& d) {
  bool on = false;
  if (!no_device(device) || !flag_of(causal, &on)) return false;
  d.set(f.causal, on);
  return true;
}

template <bool kInto>
bool attention2d(const FormOp& f, Arguments a, Direct& d) {
  for (int i = 0; i < 3; ++i)
    if (!d.read(i, a[i])) return false;
  const Shape& shape = d.call.in[0].shape;
  if (shape.rank() != 2 || !(d.call.in[1].shape == shape) || !(d.call.in[2].shape == shape))
    return false;
  if constexpr (kInto)
    if (!d.write(a[3]) || !(d.call.out[0].shape == shape)) return false;
  constexpr int kRest = kInto ? 4 : 3;
  return finish_attention(f, a[kRest], a[kRest + 1], d);
}

/// Operands of seq_len * head_dim elements; parameters q, k, v, (out), seq_len, head_dim, causal,
/// device. `kRanked`: a result of rank 2 where q has it.
template <bool kInto, bool kRanked>
bool attention(const FormOp& f, Arguments a, Direct& d) {
  constexpr int kRest = kInto ? 4 : 3;
  int64_t length = 0;
  int64_t dim = 0;
  if (!size_of(a[kRest], 1, &length) || !size_of(a[kRest + 1], 1, &dim) || !d.read(0, a[0]))
    return false;
  if (!kRanked || d.call.in[0].rank() != 2) d.flat = length * dim;
  const Shape shape{length, dim};
  for (int i = 0; i < 3; ++i)
    if (!d.read(i, a[i], shape)) return false;
  if constexpr (kInto)
    if (!d.write(a[3], shape)) return false;
  return finish_attention(f, a[kRest + 2], a[kRest + 3], d);
}

/// Parameters x, w, bias, (out), stride_h, stride_w, pad_h, pad_w, device.
template <bool kInto, bool kRelu>
bool conv2d(const FormOp& f, Arguments a, Direct& d) {
  constexpr int kRest = kInto ? 4 : 3;
  if (!d.read(0, a[0]) || !d.read(1, a[1]) || d.call.in[0].rank() != 4 || d.call.in[1].rank() != 4)
    return false;
  if (a[2] != nullptr && a[2] != Py_None && (!d.read(2, a[2]) || d.call.in[2].rank() != 1))
    return false;
  if (kInto && (a[2] == nullptr || !d.write(a[3]) || d.call.out[0].rank() != 4)) return false;
  int64_t stride[2] = {};
  int64_t padding[2] = {};
  for (int i = 0; i < 2; ++i)
    if (!size_or(a[kRest + i], 1, 1, &stride[i]) || !size_or(a[kRest + 2 + i], 0, 0, &padding[i]))
      return false;
  if (!no_device(a[kRest + 4])) return false;
  d.call.attr[f.stride] = AttrValue::list(stride);
  d.call.attr[f.padding] = AttrValue::list(padding);
  if constexpr (kRelu) d.set(f.activation, 1);
  return true;
}

struct Form {
  const char* name;  ///< of the function in Python
  const char* op;
  const char* trace_as;
  Describe describe;
};

constexpr Form kForms[] = {
    {"matmul2d", "matmul", nullptr, matmul2d<false>},
    {"matmul2d_into", "matmul", nullptr, matmul2d<true>},
    {"matmul", "matmul", nullptr, matmul_np<false>},
    {"matmul_np", "matmul", nullptr, matmul_np<false>},
    {"matmul_np_into", "matmul", nullptr, matmul_np<true>},
    {"vector_add", "add", "vector_add", vector_add},
    {"matrix_sub", "sub", "matrix_sub", matrix_sub},
    {"attention2d", "attention", "attention_forward", attention2d<false>},
    {"attention2d_into", "attention", "attention_forward", attention2d<true>},
    {"attention_forward", "attention", "attention_forward", attention<false, false>},
    {"attention", "attention", "attention_forward", attention<false, true>},
    {"attention_into", "attention", "attention_forward", attention<true, true>},
    {"conv2d_nchw", "conv2d", "conv2d_nchw", conv2d<false, false>},
    {"conv2d_nchw_into", "conv2d", "conv2d_nchw", conv2d<true, false>},
    {"conv_relu_nchw", "conv2d", "conv2d_nchw", conv2d<false, true>},
    {"conv_relu_nchw_into", "conv2d", "conv2d_nchw", conv2d<true, true>},
};

// ---------------------------------------------------------------------------- callable

struct Function {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* function;  // in Python
  PyObject* dict;
  PyObject* native;  // the op's function, for a function that is also the op; else null
  const Form* form;
  FormOp op;
  int parameters;  // of the reference's form: those before the keyword-only ones
  int keyword_only;
  PyObject* names[kMaxParameters];  // interned
};

/// Result of a plain call, or null: without an error, it is not plain.
PyObject* call_direct(const Function& f, Arguments arguments) {
  try {
    Direct d(*f.op.op);
    d.call.trace_as = f.op.trace_as;
    if (!f.form->describe(f.op, arguments, d)) return nullptr;
    const Plan& p = plan(d.call);
    if (d.out != nullptr) {
      run_released(p, d.call);
      Py_RETURN_NONE;
    }
    refuse_kept_outputs(p, d.call);
    const View& out = d.call.out[0];
    PyObject* result =
        new_array(out.dtype, d.flat > 0 ? Shape{d.flat} : out.shape, &d.call.out[0].data);
    if (result == nullptr) return nullptr;
    try {
      run_released(p, d.call);
    } catch (...) {
      Py_DECREF(result);
      throw;
    }
    return result;
  } catch (...) {
    return nullptr;  // nothing was written; Python's function fails in its own words
  }
}

/// Index in [begin, end) of a parameter's name, else -1.
int index_of(const Function& f, int begin, int end, PyObject* name) {
  for (int i = begin; i < end; ++i)
    if (f.names[i] == name) return i;
  for (int i = begin; i < end; ++i)  // names made at run time are not interned
    if (PyUnicode_Compare(f.names[i], name) == 0) return i;
  return -1;
}

/// Puts arguments in the order of the parameters; false where Python must see to them.
bool arrange(const Function& f, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames,
             PyObject** to) {
  if (nargs > f.parameters) return false;
  int i = 0;
  for (; i < nargs; ++i) to[i] = args[i];
  for (; i < f.parameters; ++i) to[i] = nullptr;
  if (kwnames == nullptr) return true;
  for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(kwnames); ++k) {
    const int at = index_of(f, static_cast<int>(nargs), f.parameters, PyTuple_GET_ITEM(kwnames, k));
    if (at < 0) return false;  // unknown, or given by position too
    to[at] = args[nargs + k];
  }
  return true;
}

/// A call without sizes of a function that is also the op, with nothing that only one of them has.
bool is_op_call(const Function& f, Py_ssize_t nargs, PyObject* kwnames) {
  constexpr int kPositions = 3;  // a, b and, where the sizes begin, the op's third input
  if (f.native == nullptr || nargs < kPositions - 1 || nargs > kPositions) return false;
  if (kwnames == nullptr) return true;
  for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(kwnames); ++k) {
    // The sizes lie before the device, and the bias, which may be given by position, behind it.
    const int at =
        index_of(f, f.parameters - 1, f.parameters + f.keyword_only, PyTuple_GET_ITEM(kwnames, k));
    if (at < 0 || (at == f.parameters && nargs == kPositions)) return false;
  }
  return true;
}

PyObject* call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  const auto& f = *reinterpret_cast<const Function*>(self);
  const Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
  if (is_op_call(f, nargs, kwnames)) return PyObject_Vectorcall(f.native, args, nargsf, kwnames);
  PyObject* arguments[kMaxParameters];
  if (arrange(f, args, nargs, kwnames, arguments))
    if (PyObject* result = call_direct(f, arguments)) return result;
  PyErr_Clear();
  return PyObject_Vectorcall(f.function, args, nargsf, kwnames);
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  const auto& f = *reinterpret_cast<const Function*>(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(f.function);
  Py_VISIT(f.dict);
  Py_VISIT(f.native);
  return 0;
}
int clear(PyObject* self) {
  auto& f = *reinterpret_cast<Function*>(self);
  Py_CLEAR(f.function);
  Py_CLEAR(f.dict);
  Py_CLEAR(f.native);
  return 0;
}
void dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  auto& f = *reinterpret_cast<Function*>(self);
  clear(self);
  for (int i = 0; i < f.parameters + f.keyword_only; ++i) Py_CLEAR(f.names[i]);
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}
PyObject* repr(PyObject* self) {
  return PyObject_Repr(reinterpret_cast<Function*>(self)->function);
}
/// A method of the class it is put into, as a function would be.
PyObject* bind(PyObject* self, PyObject* instance, PyObject*) {
  if (instance == nullptr || instance == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, instance);
}
/// Pickled, as functions are, by its name.
PyObject* reduce(PyObject* self, PyObject*) {
  return PyObject_GetAttrString(reinterpret_cast<Function*>(self)->function, "__qualname__");
}

PyMethodDef g_methods[] = {{"__reduce__", reduce, METH_NOARGS, "The name it is pickled by."},
                           {nullptr, nullptr, 0, nullptr}};
PyMemberDef g_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Function, vectorcall), READONLY, nullptr},
    {"__dictoffset__", T_PYSSIZET, offsetof(Function, dict), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};
PyGetSetDef g_properties[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
template <typename F>
void* slot(F* function) {
  return reinterpret_cast<void*>(function);
}
char g_doc[] = "A function that serves plain arguments without Python code.";
PyType_Slot g_slots[] = {{Py_tp_doc, g_doc},
                         {Py_tp_call, slot(PyVectorcall_Call)},
                         {Py_tp_traverse, slot(traverse)},
                         {Py_tp_clear, slot(clear)},
                         {Py_tp_dealloc, slot(dealloc)},
                         {Py_tp_repr, slot(repr)},
                         {Py_tp_descr_get, slot(bind)},
                         {Py_tp_methods, g_methods},
                         {Py_tp_members, g_members},
                         {Py_tp_getset, g_properties},
                         {0, nullptr}};
PyType_Spec g_spec = {"lightning_core._core.Function", sizeof(Function), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                          Py_TPFLAGS_DISALLOW_INSTANTIATION,
                      g_slots};

/// Interned names of a function's parameters, the keyword-only ones last; false with an error set.
bool read_parameters(PyObject* function, Function* f) {
  PyObject* code = PyObject_GetAttrString(function, "__code__");
  if (code == nullptr) return false;
  const auto number = [&](const char* name) {
    PyObject* value = PyObject_GetAttrString(code, name);
    const long n = value != nullptr ? PyLong_AsLong(value) : -1;
    Py_XDECREF(value);
    return static_cast<int>(n);
  };
  const int positional = number("co_argcount");
  const int keyword_only = number("co_kwonlyargcount");
  PyObject* names = PyObject_GetAttrString(code, "co_varnames");
  Py_DECREF(code);
  bool ok = names != nullptr && positional >= 0 && keyword_only >= 0;
  if (ok && positional + keyword_only > kMaxParameters) {
    PyErr_SetString(PyExc_TypeError, "direct(): expected a function of fewer parameters");
    ok = false;
  }
  for (int i = 0; ok && i < positional + keyword_only; ++i) {
    f->names[i] = Py_NewRef(PyTuple_GetItem(names, i));
    PyUnicode_InternInPlace(&f->names[i]);
  }
  Py_XDECREF(names);
  if (!ok) return false;
  f->parameters = positional;
  f->keyword_only = keyword_only;
  return true;
}

const Form* form_of(const char* name) {
  for (const Form& form : kForms)
    if (std::strcmp(form.name, name) == 0) return &form;
  return nullptr;
}

}  // namespace

PyObject* make_direct(PyObject* function, PyObject* native) {
  PyObject* name = PyObject_GetAttrString(function, "__name__");
  if (name == nullptr) return nullptr;
  const Form* form = PyUnicode_Check(name) ? form_of(PyUnicode_AsUTF8(name)) : nullptr;
  if (form == nullptr) PyErr_Format(PyExc_ValueError, "direct(): no form is named %R", name);
  Py_DECREF(name);
  if (form == nullptr) return nullptr;
  static auto* const type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&g_spec));
  auto* f = type != nullptr ? PyObject_GC_New(Function, type) : nullptr;
  if (f == nullptr) return nullptr;
  std::memset(reinterpret_cast<char*>(f) + sizeof(PyObject), 0,
              sizeof(Function) - sizeof(PyObject));
  f->vectorcall = call;
  f->function = Py_NewRef(function);
  f->native = native == Py_None ? nullptr : Py_NewRef(native);
  f->form = form;
  const OpDef& op = *find_op(form->op);
  f->op = {&op,
           op.attr_index("causal"),
           op.attr_index("stride"),
           op.attr_index("padding"),
           op.attr_index("activation"),
           form->trace_as};
  auto* self = reinterpret_cast<PyObject*>(f);
  PyObject_GC_Track(self);
  if (!read_parameters(function, f)) {
    Py_DECREF(self);
    return nullptr;
  }
  return self;
}

}  // namespace lc::python
