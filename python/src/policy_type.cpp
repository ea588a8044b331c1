#include "policy_type.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <memory>

#include "bindings.hpp"
#include "lightning_core/error.hpp"
#include "runtime/capabilities.hpp"

namespace nb = nanobind;

namespace lc::python {
namespace {

Precision parse_precision(const std::string& word) {
  if (word == "exact") return Precision::kExact;
  if (word == "fast") return Precision::kFast;
  throw_arg("policy", "precision", "\"exact\" or \"fast\"", cat("\"", word, "\""));
}

/// `with policy_scope(p):`
struct Scope {
  Policy policy;
  std::unique_ptr<PolicyScope> active;
};

}  // namespace

bool read_policy(PyObject* object, const char* op, Policy* policy) {
  if (!nb::isinstance<Policy>(object)) {
    PyErr_Format(PyExc_TypeError, "[%s] policy: expected a Policy, found %R", op, object);
    return false;
  }
  *policy = *nb::inst_ptr<Policy>(object);
  return true;
}

void bind_policy(nb::module_& m) {
  nb::class_<Policy>(
      m, "Policy",
      "Where operands live, when they move, when we synchronise, which kernel runs.\n\n"
      "A value: equal policies are equal and hash alike.")
      .def(
          "__init__",
          [](Policy* self, int64_t upload, int64_t download, const std::string& sync,
             const std::string& precision, bool strict, bool trace_sync_boundary,
             const std::string& kernel) {
            Policy p;
            p.upload = static_cast<uint32_t>(upload);
            p.download = static_cast<uint32_t>(download);
            p.sync = parse_sync_mode(sync, "sync");
            p.precision = parse_precision(precision);
            p.strict = strict;
            p.trace_sync_boundary = trace_sync_boundary;
            p.kernel = intern_kernel(kernel);
            new (self) Policy(p);
          },
          nb::kw_only(), nb::arg("upload") = -1, nb::arg("download") = -1, nb::arg("sync") = "auto",
          nb::arg("precision") = "exact", nb::arg("strict") = false,
          nb::arg("trace_sync_boundary") = false, nb::arg("kernel") = "auto",
          "upload, download: bit i for operand i, -1 for all. sync: auto, always or never. "
          "precision: exact or\n"
          "fast. strict: implicit copies and fallbacks are errors. kernel: a candidate's name, as "
          "explain() and\n"
          "traces print it, or auto, composed, reference.")
      .def_prop_ro(
          "upload", [](const Policy& p) { return p.upload; }, "Bit i: input i is uploaded.")
      .def_prop_ro(
          "download", [](const Policy& p) { return p.download; },
          "Bit i: output i is copied to the caller.")
      .def_prop_ro(
          "sync", [](const Policy& p) { return sync_mode_name(p.sync); }, "auto, always or never.")
      .def_prop_ro(
          "precision",
          [](const Policy& p) { return p.precision == Precision::kFast ? "fast" : "exact"; },
          "exact or fast.")
      .def_prop_ro(
          "strict", [](const Policy& p) { return p.strict; },
          "Implicit copies and fallbacks are errors.")
      .def_prop_ro(
          "kernel", [](const Policy& p) { return kernel_pin_name(p.kernel); },
          "Pinned candidate, or auto.")
      .def("__eq__",
           [](const Policy& a, nb::handle b) {
             return nb::isinstance<Policy>(b) && a == nb::cast<Policy>(b);
           })
      .def("__hash__", [](const Policy& p) { return static_cast<Py_hash_t>(p.hash() >> 1); })
      .def("__repr__", [](const Policy& p) { return cat("Policy(", p.str(), ")"); });
  nb::class_<Scope>(m, "PolicyScope",
                    "Context manager: the policy of this thread's calls that name none.")
      .def(
          "__init__", [](Scope* self, const Policy& p) { new (self) Scope{p, nullptr}; },
          nb::arg("policy"))
      .def("__enter__",
           [](Scope& s) {
             if (s.active)
               throw_arg("policy", "scope", "a scope that is not entered", "one that is");
             s.active = std::make_unique<PolicyScope>(s.policy);
             return s.policy;
           })
      .def("__exit__", [](Scope& s, nb::args) { s.active.reset(); });
  m.def("default_policy", &default_policy, "The process's policy.");
  m.def("set_default_policy", &set_default_policy, nb::arg("policy"), "Sets the process's policy.");
  m.def("current_policy", [] { return current_policy(); }, "The policy in force on this thread.");
}

}  // namespace lc::python
