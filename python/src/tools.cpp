// Plans, configuration and test cases for Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "arrays.hpp"
#include "backends/cpu/thread_pool.hpp"
#include "bindings.hpp"
#include "lightning_core/dispatch.hpp"
#include "runtime/case.hpp"
#include "runtime/config.hpp"
#include "runtime/memory.hpp"
#include "tensor_type.hpp"

namespace nb = nanobind;

namespace lc::python {
namespace {

const char* attr_kind_name(AttrKind kind) {
  switch (kind) {
    case AttrKind::kBool:
      return "bool";
    case AttrKind::kInt:
      return "int";
    case AttrKind::kFloat:
      return "float";
    case AttrKind::kInts:
      return "ints";
    case AttrKind::kEnum:
      return "enum";
    case AttrKind::kDType:
      return "dtype";
  }
  return "";
}

nb::object attr_object(const AttrSpec& spec, const AttrValue& v) {
  switch (spec.kind) {
    case AttrKind::kBool:
      return nb::bool_(v.flag());
    case AttrKind::kInt:
      return nb::int_(v.i[0]);
    case AttrKind::kFloat:
      return nb::float_(v.f);
    case AttrKind::kEnum:
      return nb::str(spec.words[static_cast<size_t>(v.i[0])]);
    case AttrKind::kDType:
      return nb::str(dtype_name(static_cast<DType>(v.i[0])));
    case AttrKind::kInts:
      break;
  }
  if (!v.given()) return nb::none();
  nb::list list;
  for (const int64_t i : v.ints()) list.append(i);
  return nb::tuple(list);
}

std::string value_text(const ConfigVar& v) {
  switch (v.kind) {
    case ConfigKind::kBool:
      return config_bool(v.name) ? "1" : "0";
    case ConfigKind::kInt:
      return std::to_string(config_int(v.name));
    case ConfigKind::kFloat:
      return cat(config_float(v.name));
    case ConfigKind::kString:
    case ConfigKind::kWords:
      break;
  }
  return config_string(v.name);
}

nb::dict schema(const OpDef& op) {
  nb::dict d;
  d["name"] = op.name;
  d["doc"] = op.doc;
  d["variadic"] = op.variadic;
  d["inplace"] = op.inplace;
  nb::list inputs, attrs;
  for (const ArgSpec& arg : op.inputs) {
    nb::dict a;
    a["name"] = arg.name;
    a["optional"] = arg.optional;
    a["dtypes"] = dtype_set_names(arg.dtypes);
    a["doc"] = arg.doc;
    inputs.append(a);
  }
  for (const AttrSpec& spec : op.attrs) {
    nb::dict a;
    a["name"] = spec.name;
    a["kind"] = attr_kind_name(spec.kind);
    a["required"] = spec.required;
    a["default"] = attr_object(spec, spec.default_value);
    nb::list words;
    for (const char* word : spec.words) words.append(word);
    a["words"] = words;
    a["doc"] = spec.doc;
    attrs.append(a);
  }
  d["inputs"] = inputs;
  d["attrs"] = attrs;
  return d;
}

/// A parsed case with its filled inputs, for Python's own tests.
struct PyCase {
  Case c;
  std::vector<Tensor> storage;
  uint64_t seed;
  std::shared_ptr<OpCall> call = nullptr;
};

}  // namespace

void bind_tools(nb::module_& m) {
  m.def(
      "op_names",
      [] {
        std::vector<std::string> names;
        for (const OpDef* op : all_ops()) names.emplace_back(op->name);
        return names;
      },
      "Names of all ops, sorted.");
  m.def(
      "op_schema", [](const std::string& name) { return schema(get_op(name)); }, nb::arg("name"),
      "Schema of an op. ValueError for an unknown name.");
  m.def(
      "explain_call",
      [](const std::string& text, const std::string& device) {
        const Case c = parse_case(text);
        std::vector<Tensor> storage;
        OpCall call = make_call(c, storage);
        if (!device.empty()) call.device = parse_device(device);
        return explain(call);
      },
      nb::arg("text"), nb::arg("device") = "",
      "Why a call would run as it would; the call as traces print it: 'matmul a=f32:8x8 "
      "b=f32:8x8'.");
  m.def(
      "plan_cache_stats",
      [] {
        const PlanCacheStats s = plan_cache_stats();
        nb::dict d;
        d["hits"] = s.hits;
        d["shared_hits"] = s.shared_hits;
        d["misses"] = s.misses;
        d["entries"] = s.entries;
        return d;
      },
      "Hits of this thread's table, hits and misses of the shared map, plans held.");
  m.def(
      "may_overlap",
      [](nb::handle a, nb::handle b) {
        View views[2];
        Held held;
        Number number;
        bool is_tensor = false;
        for (int i = 0; i < 2; ++i)
          if (!read_array((i == 0 ? a : b).ptr(), "may_overlap", i == 0 ? "a" : "b", kAllTypes,
                          &views[i], &number, held, &is_tensor))
            throw nb::python_error();
        return may_overlap(views[0], views[1]);
      },
      nb::arg("a"), nb::arg("b"),
      "True if writing one array may change the other; exact for rows and columns of one array.");
  m.def("clear_plan_cache", &clear_plan_cache, "Forgets every plan.");
  m.def(
      "memory_stats",
      [] {
        const MemoryStats s = memory_stats();
        nb::dict d;
        d["in_use"] = s.in_use;
        d["cached"] = s.cached;
        d["peak"] = s.peak;
        d["allocs"] = s.allocs;
        d["hits"] = s.hits;
        return d;
      },
      "Bytes of the CPU's caching pool: in use, cached, peak; requests and those served from the "
      "cache.");
  m.def("num_threads", &num_threads, "Threads a call may use.");
  m.def(
      "config_table",
      [] {
        nb::list rows;
        for (const ConfigVar& v : config_table()) {
          nb::dict d;
          d["name"] = v.name;
          d["default"] = v.fallback;
          d["value"] = value_text(v);
          d["words"] = v.words;
          d["doc"] = v.doc;
          rows.append(d);
        }
        return rows;
      },
      "Every environment variable: name, default, value in force, accepted words, meaning.");
  m.def("set_config", &set_config, nb::arg("name"), nb::arg("value"),
        "Overrides an environment variable in this process. ValueError if it does not parse.");
  m.def("reload_config", &reload_config, "Forgets overrides and reads the environment again.");

  nb::class_<PyCase>(m, "Case", "A test case line with filled inputs.")
      .def_prop_ro(
          "op", [](const PyCase& c) { return c.c.op->name; }, "Name of the op.")
      .def_prop_ro(
          "text", [](const PyCase& c) { return c.c.text; }, "The line.")
      .def_prop_ro(
          "inputs",
          [](PyCase& c) {
            // Once: arrays handed out before live in this storage.
            if (!c.call) c.call = std::make_shared<OpCall>(make_call(c.c, c.storage, c.seed));
            const OpCall& call = *c.call;
            nb::list arrays;
            for (int i = 0; i < call.n_in; ++i) {
              if (!call.in[i].present()) {
                arrays.append(nb::none());
                continue;
              }
              // The case keeps the memory, the array keeps the case.
              PyObject* owner = nb::cast(&c, nb::rv_policy::reference).release().ptr();
              if (call.in[i].dtype == DType::kBFloat16) {  // NumPy has none
                const Tensor t = Tensor::wrap(call.in[i], [owner](void*) {
                  const nb::gil_scoped_acquire gil;
                  Py_DECREF(owner);
                });
                arrays.append(nb::steal(wrap_tensor(t)));
                continue;
              }
              PyObject* array = window_array(call.in[i], owner);
              Py_DECREF(owner);
              if (array == nullptr) throw nb::python_error();
              arrays.append(nb::steal(array));
            }
            return arrays;
          },
          "Filled arrays, None for absent inputs.")
      .def_prop_ro(
          "attrs",
          [](const PyCase& c) {
            nb::dict d;
            for (size_t k = 0; k < c.c.op->attrs.size(); ++k)
              d[c.c.op->attrs[k].name] = attr_object(c.c.op->attrs[k], c.c.attrs[k]);
            return d;
          },
          "All attributes by name.")
      .def(
          "check",
          [](const PyCase& c, nb::handle result) {
            std::vector<Tensor> storage;
            OpCall call = make_call(c.c, storage, c.seed);
            plan(call);
            Held held;
            View view;
            Number number;
            bool is_tensor = false;
            if (!read_array(result.ptr(), "check", "result", kAllTypes, &view, &number, held,
                            &is_tensor))
              throw nb::python_error();
            if (view.dtype != call.out[0].dtype || !(view.shape == call.out[0].shape))
              return cat("expected ", dtype_name(call.out[0].dtype), " ", call.out[0].shape.str(),
                         ", found ", dtype_name(view.dtype), " ", view.shape.str());
            return compare(call, {&view, 1}).text;
          },
          nb::arg("result"),
          "Compares with the float64 reference; '' if within the op's tolerance, else why not.");
  m.def(
      "parse_case",
      [](const std::string& line, uint64_t seed) {
        return PyCase{parse_case(line), {}, seed, nullptr};
      },
      nb::arg("line"), nb::arg("seed") = 1,
      "Parses a case line. ValueError that says what is wrong in it.");
  m.def(
      "read_cases",
      [](const std::string& path, const std::string& section, uint64_t seed) {
        std::vector<PyCase> cases;
        for (Case& c : with_other_floats(read_cases(path, section)))
          cases.push_back({std::move(c), {}, seed, nullptr});
        return cases;
      },
      nb::arg("path"), nb::arg("section") = "", nb::arg("seed") = 1,
      "Cases of a file's section, each also in the other float dtypes.");
}

}  // namespace lc::python
