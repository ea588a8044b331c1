// Safetensors files for Python.
#include "lightning_core/safetensors.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include "arrays.hpp"
#include "bindings.hpp"
#include "tensor_type.hpp"

namespace nb = nanobind;

namespace lc::python {
namespace {

/// The bytes the file system knows a str, bytes or os.PathLike by.
std::string path_bytes(nb::handle path) {
  PyObject* bytes = nullptr;
  if (PyUnicode_FSConverter(path.ptr(), &bytes) == 0) throw nb::python_error();
  const nb::object owner = nb::steal(bytes);
  return {PyBytes_AS_STRING(bytes), static_cast<size_t>(PyBytes_GET_SIZE(bytes))};
}

SafetensorsFile open_file(nb::handle path) {
  const std::string name = path_bytes(path);
  const nb::gil_scoped_release no_gil;
  return SafetensorsFile(name);
}

nb::dict info(const SafetensorsFile& file, std::string_view name) {
  const SafetensorsEntry& e = file.entry(name);
  nb::list shape;
  for (const int64_t extent : e.shape) shape.append(extent);
  nb::dict d;
  d["dtype"] = e.dtype_name;
  d["shape"] = nb::tuple(shape);
  d["nbytes"] = e.nbytes;
  return d;
}

}  // namespace

void bind_safetensors(nb::module_& m) {
  nb::class_<SafetensorsFile>(
      m, "SafetensorsFile",
      "An open safetensors file: its header checked whole, its data mapped and not read. Tensors "
      "and arrays from it keep the mapping alive. Writing to them changes memory, never the file. "
      "The file must not be cut short meanwhile; replacing it by another is safe.")
      .def(
          "__init__",
          [](SafetensorsFile* self, nb::handle path) {
            new (self) SafetensorsFile(open_file(path));
          },
          nb::arg("path"),
          nb::sig("def __init__(self, path: str | bytes | os.PathLike[str]) -> None"),
          "ValueError where the file is missing or malformed; the message says what is wrong with "
          "it.")
      .def(
          "keys",
          [](const SafetensorsFile& file) {
            nb::list names;
            for (const SafetensorsEntry& e : file.entries()) names.append(nb::cast(e.name));
            return names;
          },
          nb::sig("def keys(self) -> list[str]"), "Names of all tensors, sorted.")
      .def(
          "metadata",
          [](const SafetensorsFile& file) {
            nb::dict d;
            for (const auto& [key, value] : file.metadata()) d[nb::cast(key)] = nb::cast(value);
            return d;
          },
          nb::sig("def metadata(self) -> dict[str, str]"), "The header's strings by key.")
      .def("info", &info, nb::arg("name"),
           "dtype (the format's word), shape and nbytes of a tensor. ValueError for an unknown "
           "name.")
      .def(
          "tensor",
          [](const SafetensorsFile& file, std::string_view name) {
            return nb::steal(wrap_tensor(file.tensor(name)));
          },
          nb::arg("name"),
          "The tensor, on the mapped file; an aligned copy where the file has it misaligned. "
          "ValueError for an unknown name, RuntimeError for a dtype that ops do not take.")
      .def(
          "raw",
          [](const SafetensorsFile& file, std::string_view name) {
            PyObject* array = tensor_array(file.raw(name));
            if (array == nullptr) throw nb::python_error();
            return nb::steal(array);
          },
          nb::arg("name"),
          "The tensor's bytes, a flat uint8 array on the mapped file: for any dtype. ValueError "
          "for an unknown name.")
      .def("__len__", [](const SafetensorsFile& file) { return file.entries().size(); })
      .def(
          "__contains__",
          [](const SafetensorsFile& file, std::string_view name) {
            return file.find(name) != nullptr;
          },
          nb::arg("name"));
}

}  // namespace lc::python
