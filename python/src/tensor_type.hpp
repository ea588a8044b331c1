// The Python classes Tensor and Tensor64: lc::Tensor with the reference's methods and the array
// protocols.
#pragma once

#include <Python.h>

#include "lightning_core/tensor.hpp"

namespace lc::python {

/// The C++ tensor of a Python Tensor; null for every other object.
[[nodiscard]] const Tensor* tensor_of(PyObject* object) noexcept;
/// New reference: Tensor, or Tensor64 for float64.
[[nodiscard]] PyObject* wrap_tensor(const Tensor& tensor);
/// New reference: a Tensor on the memory of a bfloat16 array that offers DLPack, which NumPy cannot
/// take; a copy, added to `copied`, where that is read-only. Null, without an error set, for
/// everything else.
[[nodiscard]] PyObject* bfloat16_tensor(PyObject* object, int64_t* copied) noexcept;

}  // namespace lc::python
