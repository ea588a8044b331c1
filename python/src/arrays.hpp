// Python arguments as views, results as arrays. NumPy's C API reads arrays on the hot path; every
// other kind of array (lists, DLPack, buffers) goes through NumPy once, without a copy where its
// memory allows.
#pragma once

#include <Python.h>

#include "lightning_core/op_def.hpp"
#include "lightning_core/tensor.hpp"

namespace lc::python {

/// numpy.ndarray.
PyTypeObject* array_type() noexcept;
/// Must be called once, before anything else here.
void init_numpy();

/// References held while a call uses their memory.
class Held {
 public:
  Held() = default;
  ~Held() {
    for (int i = 0; i < n_; ++i) Py_DECREF(objects_[i]);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  /// Takes over a new reference.
  void add(PyObject* object) { objects_[n_++] = object; }
  [[nodiscard]] int count() const { return n_; }
  /// Bytes copied because an array could not be read where it lies.
  int64_t bytes_copied = 0;
  /// An array of a registered NumPy dtype bfloat16 was among them: results may be such arrays too.
  bool bfloat16_array = false;
  /// Borrowed: the object taken over last.
  [[nodiscard]] PyObject* last() const { return objects_[n_ - 1]; }

 private:
  PyObject* objects_[kMaxInputs + kMaxOutputs + 2];
  int n_ = 0;
};

/// A Python number given for an array: 0-d, dtype decided by the other operands.
struct Number {
  bool is = false;
  bool integer = false;
  double value = 0;
  int64_t whole = 0;  ///< where it is an integer
};

/// Fills `view` with the memory of a Python argument. `spec` says which dtypes the op takes (lists
/// become one of them). For a plain Python number only `number` is set. Sets a Python error and
/// returns false where the argument is no array. `is_tensor` is set for lc.Tensor. Arrays of
/// numbers whose dtype the runtime lacks become `cast_to`, if that is a dtype.
bool read_array(PyObject* object, const char* op, const char* name, DTypeSet accepted, View* view,
                Number* number, Held& held, bool* is_tensor, DType cast_to = DType::kNone);

/// Fills `view` for a float32 ndarray, of no subclass, that is read where it lies and not empty;
/// false, without a Python error, for everything else.
bool plain_array(PyObject* object, View* view);
/// Of an ndarray.
bool writeable(PyObject* array);

/// A writeable array to write into: an ndarray or a Tensor. As read_array, but never a copy.
bool read_out(PyObject* object, const char* op, View* view, bool* is_tensor);

/// New uninitialised ndarray; large ones on the caching pool. Null with a Python error set.
PyObject* new_array(DType dtype, const Shape& shape, void** data);
/// ndarray that is a window on `owner`'s memory.
PyObject* window_array(const View& view, PyObject* owner);
/// ndarray on a tensor's memory, which it keeps alive.
PyObject* tensor_array(const Tensor& tensor);

/// Sets the Python exception that stands for the C++ exception in flight.
void set_python_error() noexcept;

}  // namespace lc::python
