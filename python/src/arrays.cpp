#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#include "arrays.hpp"

#include <numpy/arrayobject.h>

#include <bit>
#include <new>
#include <stdexcept>
#include <string_view>

#include "tensor_type.hpp"

namespace lc::python {
namespace {

// From this size on results live in the caching pool: fresh pages would cost more than the op.
constexpr int64_t kPoolBytes = 64 << 10;

/// Type number of a NumPy dtype named bfloat16 that some package registered (ml_dtypes does), once
/// an array of it was seen. Under the GIL.
int g_bfloat16 = NPY_NOTYPE;

DType dtype_of(int type) {
  switch (type) {
    case NPY_FLOAT:
      return DType::kFloat32;
    case NPY_DOUBLE:
      return DType::kFloat64;
    case NPY_HALF:
      return DType::kFloat16;
    case NPY_BYTE:
      return DType::kInt8;
    case NPY_UBYTE:
      return DType::kUInt8;
    case NPY_INT:
      return DType::kInt32;
    case NPY_BOOL:
      return DType::kBool;
    case NPY_LONG:
      return sizeof(long) == 8 ? DType::kInt64 : DType::kInt32;
    case NPY_LONGLONG:
      return DType::kInt64;
    default:
      return type == g_bfloat16 ? DType::kBFloat16 : DType::kNone;
  }
}

DType dtype_of(PyArrayObject* array) {
  const int type = PyArray_TYPE(array);
  if (PyTypeNum_ISUSERDEF(type) && g_bfloat16 == NPY_NOTYPE && PyArray_ITEMSIZE(array) == 2) {
    const std::string_view name = PyArray_DESCR(array)->typeobj->tp_name;
    if (name == "ml_dtypes.bfloat16" || name == "bfloat16") g_bfloat16 = type;
  }
  return dtype_of(type);
}

int type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return NPY_FLOAT32;
    case DType::kFloat64:
      return NPY_FLOAT64;
    case DType::kFloat16:
      return NPY_FLOAT16;
    case DType::kBFloat16:
      return g_bfloat16 != NPY_NOTYPE ? g_bfloat16 : NPY_UINT16;  // NumPy has none: its bits
    case DType::kInt8:
      return NPY_INT8;
    case DType::kUInt8:
      return NPY_UINT8;
    case DType::kInt32:
      return NPY_INT32;
    case DType::kInt64:
      return NPY_INT64;
    case DType::kBool:
      return NPY_BOOL;
    case DType::kNone:
      break;
  }
  return NPY_FLOAT32;
}

/// False where a stride is no multiple of the element or the array is misaligned or byte-swapped.
bool view_of(PyArrayObject* array, DType dtype, View* view) {
  const int rank = PyArray_NDIM(array);
  const int64_t size = dtype_size(dtype);
  const int shift = std::countr_zero(static_cast<uint64_t>(size));
  view->data = PyArray_DATA(array);
  view->dtype = dtype;
  view->device = Device{};
  view->shape.resize(rank);
  view->strides.resize(rank);
  const npy_intp* dims = PyArray_DIMS(array);
  const npy_intp* strides = PyArray_STRIDES(array);
  for (int i = 0; i < rank; ++i) {
    if ((strides[i] & (size - 1)) != 0) return false;
    view->shape[i] = dims[i];
    view->strides[i] = strides[i] >> shift;
  }
  return PyArray_ISALIGNED(array) && PyArray_ISNOTSWAPPED(array);
}

bool refuse_type(const char* op, const char* name, DTypeSet accepted, const char* found) {
  PyErr_Format(PyExc_TypeError, "[%s] %s: expected %s, found %s; convert it with numpy's astype",
               op, name, dtype_set_names(accepted).c_str(), found);
  return false;
}

bool refuse_rank(const char* op, const char* name, int rank) {
  PyErr_Format(PyExc_ValueError, "[%s] %s: expected at most %d dimensions, found %d", op, name,
               kMaxRank, rank);
  return false;
}

/// NumPy type that arrays of other numbers are cast to on their way to `dtype`.
int cast_type(DType dtype) { return type_of(dtype == DType::kBFloat16 ? DType::kFloat32 : dtype); }

/// DLPack where the object offers it, else whatever numpy.asarray makes of it. New reference.
PyObject* as_numpy(PyObject* object) {
  if (PyObject_HasAttrString(object, "__dlpack__")) {
    PyObject* numpy = PyImport_ImportModule("numpy");
    if (numpy == nullptr) return nullptr;
    PyObject* array = PyObject_CallMethod(numpy, "from_dlpack", "O", object);
    Py_DECREF(numpy);
    if (array != nullptr) return array;
    PyErr_Clear();  // a device or dtype NumPy does not take: __array__ may still
  }
  return PyArray_FromAny(object, nullptr, 0, 0, 0, nullptr);
}

/// dtype a list of Python numbers becomes for an op that accepts `accepted`.
int list_type(PyArrayObject* array, DTypeSet accepted) {
  const DType have = dtype_of(array);
  if (have == DType::kBool && (accepted & dtype_bit(DType::kBool)) != 0) return NPY_BOOL;
  if ((accepted & dtype_bit(DType::kFloat32)) != 0) return NPY_FLOAT32;
  if (have == DType::kInt64 || have == DType::kInt32) return NPY_INT64;
  if (PyArray_SIZE(array) == 0 && (accepted & dtype_bit(DType::kInt64)) != 0) return NPY_INT64;
  return PyArray_TYPE(array);
}

}  // namespace

PyTypeObject* array_type() noexcept { return &PyArray_Type; }

void init_numpy() {
  if (PyArray_ImportNumPyAPI() < 0) throw std::runtime_error("numpy could not be imported");
}

bool read_array(PyObject* object, const char* op, const char* name, DTypeSet accepted, View* view,
                Number* number, Held& held, bool* is_tensor, DType cast_to) {
  PyArrayObject* array = nullptr;
  if (PyArray_Check(object)) [[likely]] {
    array = reinterpret_cast<PyArrayObject*>(object);
    const DType dtype = dtype_of(array);
    if (PyArray_NDIM(array) > kMaxRank) return refuse_rank(op, name, PyArray_NDIM(array));
    held.bfloat16_array = held.bfloat16_array || dtype == DType::kBFloat16;
    if (dtype != DType::kNone && view_of(array, dtype, view)) [[likely]]
      return true;
    Py_INCREF(object);
  } else if (const Tensor* tensor = tensor_of(object)) {
    *view = tensor->view();
    *is_tensor = true;
    return true;
  } else if (PyFloat_CheckExact(object) || PyLong_CheckExact(object)) {
    number->is = true;
    number->value = PyFloat_AsDouble(object);
    if (number->value == -1.0 && PyErr_Occurred()) {
      PyErr_Format(PyExc_ValueError, "[%s] %s: expected a number a float64 holds, found %R", op,
                   name, object);
      return false;
    }
    if (PyLong_CheckExact(object)) {
      int overflow = 0;
      number->integer = true;
      number->whole = PyLong_AsLongLongAndOverflow(object, &overflow);
      if (overflow != 0) number->whole = overflow < 0 ? INT64_MIN : INT64_MAX;
    }
    return true;
  } else {
    PyObject* made = as_numpy(object);
    if (made == nullptr) {
      if (!PyObject_HasAttrString(object, "__dlpack__")) return false;
      // A dtype that NumPy lacks.
      PyObject* error[3];
      PyErr_Fetch(&error[0], &error[1], &error[2]);
      made = bfloat16_tensor(object, &held.bytes_copied);
      if (made == nullptr) {
        PyErr_Restore(error[0], error[1], error[2]);
        return false;
      }
      for (PyObject* part : error) Py_XDECREF(part);
      *view = tensor_of(made)->view();
      *is_tensor = true;
      held.add(made);
      return true;
    }
    array = reinterpret_cast<PyArrayObject*>(made);
    if (PyList_Check(object) || PyTuple_Check(object)) {
      if (PyArray_TYPE(array) == NPY_OBJECT) {
        Py_DECREF(made);
        return refuse_type(op, name, accepted, "a list that is no array of numbers");
      }
      const int type = cast_to != DType::kNone ? cast_type(cast_to) : list_type(array, accepted);
      PyObject* cast = PyArray_Cast(array, type);
      Py_DECREF(made);
      if (cast == nullptr) return false;
      array = reinterpret_cast<PyArrayObject*>(cast);
    }
  }
  // `array` is a new reference from here on.
  if (dtype_of(array) == DType::kNone && cast_to != DType::kNone &&
      (PyArray_ISINTEGER(array) || PyArray_ISFLOAT(array))) {
    PyObject* cast = PyArray_Cast(array, cast_type(cast_to));
    Py_DECREF(array);
    if (cast == nullptr) return false;
    array = reinterpret_cast<PyArrayObject*>(cast);
    held.bytes_copied += PyArray_NBYTES(array);
  }
  const DType dtype = dtype_of(array);
  held.bfloat16_array = held.bfloat16_array || dtype == DType::kBFloat16;
  if (dtype == DType::kNone) {
    PyObject* text = PyObject_Str(reinterpret_cast<PyObject*>(PyArray_DESCR(array)));
    refuse_type(op, name, accepted, text != nullptr ? PyUnicode_AsUTF8(text) : "?");
    Py_XDECREF(text);
    Py_DECREF(array);
    return false;
  }
  if (PyArray_NDIM(array) > kMaxRank) {
    Py_DECREF(array);
    return refuse_rank(op, name, PyArray_NDIM(array));
  }
  if (!view_of(array, dtype, view)) {  // misaligned, byte-swapped or odd strides: NumPy copies
    PyObject* copy = PyArray_FromArray(array, PyArray_DescrFromType(type_of(dtype)),
                                       NPY_ARRAY_CARRAY_RO | NPY_ARRAY_ENSURECOPY);
    Py_DECREF(array);
    if (copy == nullptr) return false;
    array = reinterpret_cast<PyArrayObject*>(copy);
    held.bytes_copied += PyArray_NBYTES(array);
    view_of(array, dtype, view);
  }
  held.add(reinterpret_cast<PyObject*>(array));
  return true;
}

bool plain_array(PyObject* object, View* view) {
  if (object == nullptr || !PyArray_CheckExact(object)) return false;
  auto* array = reinterpret_cast<PyArrayObject*>(object);
  return PyArray_TYPE(array) == NPY_FLOAT && PyArray_NDIM(array) <= kMaxRank &&
         view_of(array, DType::kFloat32, view) && view->numel() > 0;
}

bool writeable(PyObject* array) {
  return PyArray_ISWRITEABLE(reinterpret_cast<PyArrayObject*>(array));
}

bool read_out(PyObject* object, const char* op, View* view, bool* is_tensor) {
  if (const Tensor* tensor = tensor_of(object)) {
    *view = tensor->view();
    *is_tensor = true;
    return true;
  }
  if (!PyArray_Check(object)) {
    PyErr_Format(PyExc_TypeError,
                 "[%s] out: expected an ndarray or a Tensor to write into, found %s", op,
                 Py_TYPE(object)->tp_name);
    return false;
  }
  auto* array = reinterpret_cast<PyArrayObject*>(object);
  if (!PyArray_ISWRITEABLE(array)) {
    PyErr_Format(PyExc_ValueError,
                 "[%s] out: expected a writeable array, found a read-only one; pass a copy", op);
    return false;
  }
  if (PyArray_NDIM(array) > kMaxRank) return refuse_rank(op, "out", PyArray_NDIM(array));
  const DType dtype = dtype_of(array);
  if (dtype == DType::kNone || !view_of(array, dtype, view)) {
    PyObject* text = PyObject_Str(reinterpret_cast<PyObject*>(PyArray_DESCR(array)));
    PyErr_Format(
        PyExc_ValueError,
        "[%s] out: expected an aligned array of the result's dtype in native byte order, found %s",
        op, text != nullptr ? PyUnicode_AsUTF8(text) : "?");
    Py_XDECREF(text);
    return false;
  }
  // NumPy gives an empty array any address; the dispatcher takes null for "no output given".
  static char nowhere[64];
  if (view->data == nullptr) view->data = nowhere;
  return true;
}

PyObject* new_array(DType dtype, const Shape& shape, void** data) {
  npy_intp dims[kMaxRank];
  for (int i = 0; i < shape.rank(); ++i) dims[i] = static_cast<npy_intp>(shape[i]);
  const int64_t bytes = shape.numel() * dtype_size(dtype);
  if (bytes < kPoolBytes) {
    PyObject* array = PyArray_SimpleNew(shape.rank(), dims, type_of(dtype));
    if (array != nullptr) *data = PyArray_DATA(reinterpret_cast<PyArrayObject*>(array));
    return array;
  }
  return tensor_array([&] {
    Tensor t = Tensor::empty(shape, dtype);
    *data = t.view().data;
    return t;
  }());
}

PyObject* window_array(const View& view, PyObject* owner) {
  npy_intp dims[kMaxRank];
  npy_intp strides[kMaxRank];
  for (int i = 0; i < view.rank(); ++i) {
    dims[i] = static_cast<npy_intp>(view.shape[i]);
    strides[i] = static_cast<npy_intp>(view.strides[i] * dtype_size(view.dtype));
  }
  PyObject* array = PyArray_New(&PyArray_Type, view.rank(), dims, type_of(view.dtype), strides,
                                view.data, 0, 0, nullptr);
  if (array == nullptr) return nullptr;
  auto* made = reinterpret_cast<PyArrayObject*>(array);
  const bool writeable =
      !PyArray_Check(owner) || PyArray_ISWRITEABLE(reinterpret_cast<PyArrayObject*>(owner));
  if (writeable && !self_overlaps(view)) PyArray_ENABLEFLAGS(made, NPY_ARRAY_WRITEABLE);
  PyArray_UpdateFlags(made, NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS | NPY_ARRAY_ALIGNED);
  Py_INCREF(owner);
  if (PyArray_SetBaseObject(made, owner) < 0) {
    Py_DECREF(array);
    return nullptr;
  }
  return array;
}

PyObject* tensor_array(const Tensor& tensor) {
  auto* storage = new (std::nothrow) Storage(tensor.storage());
  if (storage == nullptr) return PyErr_NoMemory();
  PyObject* capsule = PyCapsule_New(storage, "lightning_core.storage", [](PyObject* c) {
    delete static_cast<Storage*>(PyCapsule_GetPointer(c, "lightning_core.storage"));
  });
  if (capsule == nullptr) {
    delete storage;
    return nullptr;
  }
  PyObject* array = window_array(tensor.view(), capsule);
  Py_DECREF(capsule);
  return array;
}

void set_python_error() noexcept {
  try {
    throw;
  } catch (const Error& e) {
    PyObject* type = PyExc_RuntimeError;
    switch (e.code()) {
      case ErrorCode::kInvalidValue:
        type = PyExc_ValueError;
        break;
      case ErrorCode::kInvalidType:
        type = PyExc_TypeError;
        break;
      case ErrorCode::kOutOfMemory:
        type = PyExc_MemoryError;
        break;
      default:
        break;
    }
    PyErr_SetString(type, e.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
}

}  // namespace lc::python
