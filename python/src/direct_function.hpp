#pragma once

#include <Python.h>

namespace lc::python {

/// A callable that serves the plain calls of a function of the reference's surface itself and
/// leaves all others to `function`, the one in Python, which also has the checks, the messages and
/// the documentation. `native` is the op's function where `function` is also the op, else None.
/// Null with a Python error set where no form has the function's name.
PyObject* make_direct(PyObject* function, PyObject* native);

}  // namespace lc::python
