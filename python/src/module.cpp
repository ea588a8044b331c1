// lightning_core._core: the native module. Ops are plain C functions made from their OpDefs
// (op_function.cpp); everything that is not on a hot path is bound with nanobind.
#include <nanobind/nanobind.h>

#include "arrays.hpp"
#include "bindings.hpp"
#include "direct_function.hpp"
#include "lightning_core/error.hpp"
#include "lightning_core/op_def.hpp"
#include "op_function.hpp"

namespace nb = nanobind;

NB_MODULE(_core, m) {
  using namespace lc::python;
  m.doc() = "Native part of lightning_core.";
  nb::set_leak_warnings(false);  // objects that live until exit are the program's own business
  m.attr("__version__") = LC_VERSION;
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const lc::Error&) {
      set_python_error();
    }
  });
  init_numpy();
  bind_policy(m);
  bind_tensors(m);
  bind_runtime(m);
  bind_sessions(m);
  bind_safetensors(m);
  bind_tools(m);
  add_op_functions(m.ptr());
  m.def(
      "direct",
      [](nb::object function, nb::object native) {
        PyObject* made = make_direct(function.ptr(), native.ptr());
        if (made == nullptr) throw nb::python_error();
        return nb::steal(made);
      },
      nb::arg("function"), nb::arg("native") = nb::none(),
      "A callable that serves the function's plain calls without Python code.");
  // What `from lightning_core._core import *` gives the package: every op but matmul, whose name
  // the package's own function has (it also serves the reference's form).
  nb::list names;
  for (const lc::OpDef* op : lc::all_ops())
    if (std::string_view(op->name) != "matmul") names.append(op->name);
  m.attr("__all__") = names;
}
