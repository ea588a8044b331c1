// Sizes and offsets from Python, whose integers have no bounds.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lightning_core/error.hpp"
#include "lightning_core/tensor.hpp"

namespace lc::python {

/// An integer as given. One beyond 64 bits is kept as text, so that the call can name its argument:
/// nanobind would say no more than that the types are incompatible.
struct Whole {
  int64_t value = 0;
  std::string beyond;
  /// Throws kInvalidValue where it does not fit.
  [[nodiscard]] int64_t get(std::string_view op, std::string_view arg) const {
    if (!beyond.empty()) throw_arg(op, arg, "a 64-bit integer", beyond);
    return value;
  }
};
using Wholes = std::vector<Whole>;

/// A shape, strides or axes; throws as Whole::get(), and where there are too many of them.
[[nodiscard]] inline Dims dims_of(std::string_view op, std::string_view arg, const Wholes& given) {
  std::vector<int64_t> values;
  values.reserve(given.size());
  for (const Whole& w : given) values.push_back(w.get(op, arg));
  return Dims(std::span<const int64_t>(values));
}

}  // namespace lc::python

namespace nanobind::detail {

template <>
struct type_caster<lc::python::Whole> {
  NB_TYPE_CASTER(lc::python::Whole, const_name("int"))

  bool from_python(handle source, uint8_t, cleanup_list*) noexcept {
    PyObject* index = PyNumber_Index(source.ptr());
    int overflow = 0;
    if (index != nullptr) value.value = PyLong_AsLongLongAndOverflow(index, &overflow);
    if (overflow != 0) {
      PyObject* text = PyObject_Str(index);  // may refuse: Python limits the digits it prints
      const char* utf8 = text != nullptr ? PyUnicode_AsUTF8(text) : nullptr;
      value.beyond = utf8 != nullptr ? utf8 : "a larger one";
      Py_XDECREF(text);
    }
    Py_XDECREF(index);
    PyErr_Clear();
    return index != nullptr;
  }
};

}  // namespace nanobind::detail
