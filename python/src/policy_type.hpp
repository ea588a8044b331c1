#pragma once

#include <Python.h>

#include "lightning_core/policy.hpp"

namespace lc::python {

/// Reads a Python Policy; sets a TypeError and returns false for anything else.
bool read_policy(PyObject* object, const char* op, Policy* policy);

}  // namespace lc::python
