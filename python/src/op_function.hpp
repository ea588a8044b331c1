#pragma once

#include <Python.h>

#include "lightning_core/dispatch.hpp"

namespace lc::python {

/// Adds a function for every op to the module.
void add_op_functions(PyObject* module);

/// An attribute's value from a Python object: bool, integer, float, integers (one stands for a
/// pair) or a word of the op's. False with a Python error set.
bool read_attr(const OpDef& op, const AttrSpec& spec, PyObject* value, AttrValue* to);

/// run(), without the GIL where the work is long enough for others to wait.
void run_released(const Plan& plan, const OpCall& call);

/// The name kept for the process's lifetime, as traces need it: the few that exist are kept. Holds
/// the GIL.
const char* intern_name(const char* name);

}  // namespace lc::python
