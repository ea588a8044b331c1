#pragma once

#include <Python.h>

namespace lc::python {

/// Adds a function for every op to the module.
void add_op_functions(PyObject* module);

}  // namespace lc::python
