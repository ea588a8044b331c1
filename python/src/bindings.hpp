// The parts of the module; each adds its names.
#pragma once

#include <nanobind/nanobind.h>

namespace lc::python {

void bind_tensors(nanobind::module_& m);
void bind_policy(nanobind::module_& m);
void bind_runtime(nanobind::module_& m);
void bind_sessions(nanobind::module_& m);
void bind_safetensors(nanobind::module_& m);
void bind_tools(nanobind::module_& m);

}  // namespace lc::python
