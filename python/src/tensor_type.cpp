#include "tensor_type.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "arrays.hpp"
#include "bindings.hpp"
#include "lightning_core/dispatch.hpp"
#include "tensor/scalar.hpp"
#include "whole.hpp"

namespace nb = nanobind;

namespace lc::python {
namespace {

struct PyTensor {
  Tensor t;
};
struct PyTensor64 : PyTensor {};

/// The reference's view: metadata of a window, without the memory.
struct PyTensorView {
  Shape shape;
  Strides strides;
  int64_t offset = 0;
  DType dtype = DType::kFloat32;
  Device device;
  bool strided = false;
};

std::vector<int64_t> ints(const Dims& d) { return {d.begin(), d.end()}; }
Shape shape_of(const Wholes& v) { return dims_of("tensor", "shape", v); }

[[noreturn]] void invalid(std::string_view arg, std::string_view expected, std::string_view found) {
  // The reference's tensors answer every broken contract with RuntimeError("invalid value").
  throw std::runtime_error(
      cat("invalid value: [tensor] ", arg, ": expected ", expected, ", found ", found));
}

/// Storage that keeps a Python object alive.
Storage own(const nb::object& object) {
  auto kept = std::make_unique<nb::object>(object);
  return Storage(kept.release(), [](void* p) {
    const nb::gil_scoped_acquire gil;
    delete static_cast<nb::object*>(p);
  });
}

nb::object numpy_of(const Tensor& t) {
  if (t.dtype() == DType::kBFloat16)
    throw nb::type_error(
        "[tensor] dtype: expected one NumPy has, found bfloat16; cast to float32 first");
  PyObject* array = tensor_array(t);
  if (array == nullptr) throw nb::python_error();
  return nb::steal(array);
}

constexpr nb::dlpack::dtype kBFloat16Code = {static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat),
                                             16, 1};

/// What NumPy does for the other dtypes.
nb::object bfloat16_dlpack(const Tensor& t, const nb::kwargs& kwargs) {
  const nb::capsule owner(new Storage(t.storage()),
                          [](void* p) noexcept { delete static_cast<Storage*>(p); });
  size_t shape[kMaxRank];
  int64_t strides[kMaxRank];
  for (int i = 0; i < t.rank(); ++i) {
    shape[i] = static_cast<size_t>(t.shape()[i]);
    strides[i] = t.strides()[i];
  }
  const nb::ndarray<nb::array_api> array(t.view().data, static_cast<size_t>(t.rank()), shape, owner,
                                         strides, kBFloat16Code, nb::device::cpu::value);
  return nb::cast(array).attr("__dlpack__")(**kwargs);
}

nb::object flat_numpy(const Tensor& t) {
  return numpy_of(t.contiguous().reshape(Shape{t.numel()}));
}

nb::list list_of(const Tensor& t) {
  nb::list values;
  const Tensor c = t.contiguous();
  for (int64_t i = 0; i < c.numel(); ++i) values.append(c.item(i));
  return values;
}

void check_contract(const Shape& shape, const Strides& strides, int64_t offset, int64_t storage) {
  if (shape.rank() == 0) invalid("shape", "rank 1 or more", shape.str());
  int64_t last = offset;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] <= 0) invalid("shape", "extents above 0", shape.str());
    if (strides[i] <= 0) invalid("strides", "strides above 0", strides.str());
    int64_t span = 0;
    if (__builtin_mul_overflow(shape[i] - 1, strides[i], &span) ||
        __builtin_add_overflow(last, span, &last))
      invalid("shape", "a window within 2^63 elements", shape.str());
  }
  if (offset < 0 || last >= storage)
    invalid("view", cat("a window within ", storage, " elements"),
            cat("one that reaches element ", last));
}

PyTensorView window_of(const PyTensor& self, const View& v, bool strided) {
  PyTensorView w;
  w.shape = v.shape;
  w.strides = v.strides;
  w.offset = (static_cast<const char*>(v.data) - static_cast<const char*>(self.t.view().data)) /
             dtype_size(v.dtype);
  w.dtype = v.dtype;
  w.device = v.device;
  w.strided = strided;
  return w;
}

/// The window's values, row-major.
Tensor values_of(const PyTensor& self, const PyTensorView& w) {
  if (w.device != self.t.device() || w.dtype != self.t.dtype())
    invalid("view", "a view of this tensor's device and dtype",
            cat(device_name(w.device), " ", dtype_name(w.dtype)));
  check_contract(w.shape, w.strides, w.offset, self.t.numel());
  View v(static_cast<char*>(self.t.view().data) + w.offset * dtype_size(w.dtype), w.dtype, w.shape,
         w.strides, w.device);
  return Tensor(self.t.storage(), v).copy();
}

/// Copies `values` (any array of as many elements) into the tensor.
void fill(const Tensor& t, nb::handle values) {
  Held held;
  View view;
  Number number;
  bool is_tensor = false;
  if (!read_array(values.ptr(), "tensor", "values", kAllTypes, &view, &number, held, &is_tensor,
                  t.dtype()))
    throw nb::python_error();
  if (number.is || view.numel() != t.numel())
    invalid("values", cat(t.numel(), " values"), number.is ? "a number" : cat(view.numel()));
  OpCall call(get_op("cast"));
  call.in[0] = view;
  call.attr_ref("dtype") = AttrValue::integer(static_cast<int64_t>(t.dtype()));
  const Tensor converted = call_op1(call).contiguous().reshape(Shape{t.numel()});
  OpCall copy(get_op("copy"));
  copy.in[0] = converted.view();
  View flat = t.view();
  flat.shape = Shape{t.numel()};
  flat.strides = Strides{1};
  copy.out[0] = flat;
  call_op1(copy);
}

Tensor make(const Wholes& shape, const std::string& device, DType dtype) {
  return Tensor::zeros(shape_of(shape), dtype, parse_device(device));
}

PyTensor slice_of(const PyTensor& self, const Whole& given_axis, const Whole& from,
                  const Whole& to) {
  const int64_t axis = given_axis.get("tensor", "axis");
  const int64_t start = from.get("tensor", "start");
  const int64_t end = to.get("tensor", "end");
  if (axis < 0 || axis >= self.t.rank() || start < 0 || start >= end ||
      end > self.t.shape()[static_cast<int>(axis)])
    invalid("slice", "0 <= start < end <= extent of an axis",
            cat("axis ", axis, ", ", start, " to ", end));
  return {self.t.slice(axis, start, end)};
}

nb::dict contract_of(const Shape& shape, const Strides& strides, DType dtype, Device device,
                     bool contiguous, bool strided) {
  nb::dict d;
  d["shape"] = ints(shape);
  d["strides"] = ints(strides);
  d["rank"] = shape.rank();
  d["numel"] = shape.numel();
  d["is_contiguous"] = contiguous;
  d["layout"] = strided ? "strided" : "contiguous";
  d["dtype"] = dtype_name(dtype);
  d["device"] = device_name(device);
  return d;
}

PyTensor binary(const char* op, const PyTensor& a, nb::handle other) {
  Held held;
  OpCall call(get_op(op));
  call.in[0] = a.t.view();
  Number number;
  bool is_tensor = false;
  if (!read_array(other.ptr(), op, "b", kFloatTypes, &call.in[1], &number, held, &is_tensor))
    throw nb::python_error();
  Tensor scalar;
  if (number.is) {
    scalar = Tensor::full(Shape{}, number.value, a.t.dtype());
    call.in[1] = scalar.view();
  }
  return {call_op1(call)};
}

template <typename P>
void bind_tensor(nb::module_& m, const char* name, DType dtype) {
  auto add_common = [&](auto& c) {
    c.def(
        "__init__",
        [dtype](P* self, const Wholes& shape, const std::string& device) {
          new (self) P{{make(shape, device, dtype)}};
        },
        nb::arg("shape"), nb::arg("device") = "cpu",
        "Zeros of a shape. RuntimeError where the device is not available.");
    c.def_static(
        "zeros",
        [dtype](const Wholes& shape, const std::string& device) {
          return P{{make(shape, device, dtype)}};
        },
        nb::arg("shape"), nb::arg("device") = "cpu", "Zeros of a shape.");
    c.def_static(
        "from_numpy_array",
        [dtype](nb::handle values, const Wholes& shape, const std::string& device) {
          P p{{make(shape, device, dtype)}};
          fill(p.t, values);
          return p;
        },
        nb::arg("values"), nb::arg("shape"), nb::arg("device") = "cpu",
        "A copy of as many values as the shape has elements.");
  };
  if constexpr (std::is_same_v<P, PyTensor>) {
    auto c = nb::class_<PyTensor>(m, name, "Typed strided array with memory of its own.");
    add_common(c);
    c.def("shape", [](const PyTensor& s) { return ints(s.t.shape()); }, "Extents, a list.");
    c.def(
        "strides", [](const PyTensor& s) { return ints(s.t.strides()); },
        "Strides in elements, a list.");
    c.def("rank", [](const PyTensor& s) { return s.t.rank(); }, "Number of dimensions.");
    c.def("numel", [](const PyTensor& s) { return s.t.numel(); }, "Number of elements.");
    c.def(
        "storage_numel", [](const PyTensor& s) { return s.t.numel(); },
        "Elements of the memory behind it.");
    c.def(
        "is_contiguous", [](const PyTensor& s) { return s.t.is_contiguous(); },
        "Row-major without gaps.");
    c.def(
        "layout", [](const PyTensor& s) { return s.t.is_contiguous() ? "contiguous" : "strided"; },
        "'contiguous' or 'strided'.");
    c.def("dtype", [](const PyTensor& s) { return dtype_name(s.t.dtype()); }, "Name of the dtype.");
    c.def(
        "device", [](const PyTensor& s) { return device_name(s.t.device()); },
        "Name of the device.");
    c.def(
        "validate_contract",
        [](const PyTensor& s) { check_contract(s.t.shape(), s.t.strides(), 0, s.t.numel()); },
        "RuntimeError if shape or strides are not positive.");
    c.def(
        "validate_view_contract",
        [](const PyTensor& s, const PyTensorView& w) {
          if (w.device != s.t.device())
            invalid("view", device_name(s.t.device()), device_name(w.device));
          if (w.dtype != s.t.dtype()) invalid("view", dtype_name(s.t.dtype()), dtype_name(w.dtype));
          check_contract(w.shape, w.strides, w.offset, s.t.numel());
        },
        nb::arg("view"), "RuntimeError if the view does not fit this tensor.");
    c.def(
        "contract",
        [](const PyTensor& s) {
          nb::dict d = contract_of(s.t.shape(), s.t.strides(), s.t.dtype(), s.t.device(),
                                   s.t.is_contiguous(), !s.t.is_contiguous());
          d["storage_numel"] = s.t.numel();
          return d;
        },
        "Metadata as a dict.");
    c.def(
        "reshape",
        [](PyTensor& s, const Wholes& shape) {
          const Shape target = shape_of(shape);
          if (checked_numel("tensor", "shape", target, s.t.dtype()) != s.t.numel())
            invalid("shape", cat(s.t.numel(), " elements"), target.str());
          s.t = s.t.reshape(target);
        },
        nb::arg("shape"), "Changes the shape in place.");
    c.def(
        "view",
        [](const PyTensor& s, const Wholes& shape) {
          const Shape target = shape_of(shape);
          if (checked_numel("tensor", "shape", target, s.t.dtype()) != s.t.numel())
            invalid("shape", cat(s.t.numel(), " elements"), target.str());
          return window_of(s, s.t.reshape(target).view(), false);
        },
        nb::arg("shape"), "Metadata of this tensor under another shape.");
    c.def(
        "slice",
        [](const PyTensor& s, const Whole& axis, const Whole& start, const Whole& end) {
          return window_of(s, slice_of(s, axis, start, end).t.view(), true);
        },
        nb::arg("axis"), nb::arg("start"), nb::arg("end"), "Metadata of a slice.");
    c.def(
        "to_host_view",
        [](const PyTensor& s, const PyTensorView& w) { return list_of(values_of(s, w)); },
        nb::arg("view"), "Values of a view, a flat list.");
    c.def(
        "to_host_view_numpy",
        [](const PyTensor& s, const PyTensorView& w) { return flat_numpy(values_of(s, w)); },
        nb::arg("view"), "Values of a view, a flat array.");
    c.def(
        "slice_copy",
        [](const PyTensor& s, const Whole& axis, const Whole& start, const Whole& end) {
          return list_of(slice_of(s, axis, start, end).t);
        },
        nb::arg("axis"), nb::arg("start"), nb::arg("end"), "Values of a slice, a flat list.");
    c.def(
        "slice_copy_numpy",
        [](const PyTensor& s, const Whole& axis, const Whole& start, const Whole& end) {
          return flat_numpy(slice_of(s, axis, start, end).t.copy());
        },
        nb::arg("axis"), nb::arg("start"), nb::arg("end"), "Values of a slice, a flat array.");
    c.def(
        "read_strided",
        [](const PyTensor& s, const Wholes& shape, const Wholes& strides, const Whole& offset) {
          if (shape.size() != strides.size())
            invalid("source_strides", cat(shape.size(), " strides"), cat(strides.size()));
          PyTensorView w{dims_of("tensor", "out_shape", shape),
                         dims_of("tensor", "source_strides", strides),
                         offset.get("tensor", "offset_elements"),
                         s.t.dtype(),
                         s.t.device(),
                         true};
          return list_of(values_of(s, w));
        },
        nb::arg("out_shape"), nb::arg("source_strides"), nb::arg("offset_elements") = 0,
        "Values at given strides, a flat list.");
    c.def(
        "from_list", [](PyTensor& s, nb::handle v) { fill(s.t, v); }, nb::arg("values"),
        "Copies values in.");
    c.def(
        "from_numpy", [](PyTensor& s, nb::handle v) { fill(s.t, v); }, nb::arg("values"),
        "Copies values in.");
    c.def("to_list", [](const PyTensor& s) { return list_of(s.t); }, "Values, a flat list.");
    c.def(
        "to_numpy", [](const PyTensor& s) { return flat_numpy(s.t.copy()); },
        "Values, a flat copy.");
    c.def("numpy", [](const PyTensor& s) { return numpy_of(s.t); }, "ndarray on the same memory.");
    c.def(
        "add",
        [](const PyTensor& s, const PyTensor& other) -> nb::object {
          if (other.t.device() != s.t.device() || other.t.dtype() != s.t.dtype() ||
              other.t.numel() != s.t.numel())
            invalid("other",
                    cat("a ", dtype_name(s.t.dtype()), " tensor of ", s.t.numel(), " elements on ",
                        device_name(s.t.device())),
                    other.t.str(0));
          OpCall call(get_op("add"));
          call.in[0] = s.t.view();
          const Tensor b = other.t.contiguous().reshape(s.t.shape());
          call.in[1] = b.view();
          call.trace_as = "vector_add";
          return nb::steal(wrap_tensor(call_op1(call)));
        },
        nb::arg("other"), "Elementwise sum with this tensor's shape.");
    c.def("__repr__", [](const PyTensor& s) { return s.t.str(); });
    c.def("__len__", [](const PyTensor& s) {
      if (s.t.rank() == 0) throw nb::type_error("len() of a 0-d tensor");
      return static_cast<size_t>(s.t.shape()[0]);
    });
    c.def(
        "__array__",
        [](const PyTensor& s, nb::object dtype, nb::object copy) -> nb::object {
          nb::object array = numpy_of(s.t);
          if (!dtype.is_none())
            return array.attr("astype")(dtype,
                                        nb::arg("copy") = !copy.is_none() && nb::cast<bool>(copy));
          if (!copy.is_none() && nb::cast<bool>(copy)) return array.attr("copy")();
          return array;
        },
        nb::arg("dtype") = nb::none(), nb::arg("copy") = nb::none(), "ndarray on the same memory.");
    c.def(
        "__dlpack__",
        [](const PyTensor& s, nb::kwargs kwargs) {
          if (s.t.dtype() == DType::kBFloat16) return bfloat16_dlpack(s.t, kwargs);
          return nb::object(numpy_of(s.t).attr("__dlpack__")(**kwargs));
        },
        "DLPack capsule on the same memory.");
    c.def(
        "__dlpack_device__",
        [](const PyTensor&) { return nb::make_tuple(nb::device::cpu::value, 0); },
        "DLPack's device pair.");
    const auto op = [&](const char* method, const char* reflected, const char* name_of_op) {
      c.def(method, [name_of_op](const PyTensor& s, nb::handle other) {
        return nb::steal(wrap_tensor(binary(name_of_op, s, other).t));
      });
      c.def(reflected, [name_of_op](const PyTensor& s, nb::handle other) {
        // other - self: the operands change places, whatever `other` is.
        Held held;
        OpCall call(get_op(name_of_op));
        Number number;
        bool is_tensor = false;
        if (!read_array(other.ptr(), name_of_op, "a", kFloatTypes, &call.in[0], &number, held,
                        &is_tensor))
          throw nb::python_error();
        Tensor scalar;
        if (number.is) {
          scalar = Tensor::full(Shape{}, number.value, s.t.dtype());
          call.in[0] = scalar.view();
        }
        call.in[1] = s.t.view();
        return nb::steal(wrap_tensor(call_op1(call)));
      });
    };
    op("__add__", "__radd__", "add");
    op("__sub__", "__rsub__", "sub");
    op("__mul__", "__rmul__", "mul");
    op("__truediv__", "__rtruediv__", "div");
    op("__matmul__", "__rmatmul__", "matmul");
    c.attr("__array_priority__") = 100;
    c.attr("__array_ufunc__") = nb::none();  // ndarray + Tensor asks the Tensor
  } else {
    auto c = nb::class_<PyTensor64, PyTensor>(m, name, "A float64 Tensor.");
    add_common(c);
  }
}

template <typename W>
void bind_view(nb::class_<W>& c) {
  c.def("shape", [](const W& w) { return ints(w.shape); }, "Extents, a list.");
  c.def("strides", [](const W& w) { return ints(w.strides); }, "Strides in elements, a list.");
  c.def("rank", [](const W& w) { return w.shape.rank(); }, "Number of dimensions.");
  c.def("numel", [](const W& w) { return w.shape.numel(); }, "Number of elements.");
  const auto contiguous = [](const W& w) {
    return View(nullptr, w.dtype, w.shape, w.strides).is_contiguous();
  };
  c.def("is_contiguous", contiguous, "Row-major without gaps.");
  c.def(
      "layout", [](const W& w) { return w.strided ? "strided" : "contiguous"; },
      "'contiguous' or 'strided'.");
  c.def("dtype", [](const W& w) { return dtype_name(w.dtype); }, "Name of the dtype.");
  c.def("offset_elements", [](const W& w) { return w.offset; }, "First element in the tensor.");
  c.def("device", [](const W& w) { return device_name(w.device); }, "Name of the device.");
  c.def("__repr__", [](const W& w) {
    return cat("TensorView(shape=", w.shape.str(), ", strides=", w.strides.str(),
               ", offset=", w.offset, ", ", dtype_name(w.dtype), ", ", device_name(w.device), ")");
  });
  c.def(
      "validate_contract",
      [](const W& w) { check_contract(w.shape, w.strides, w.offset, INT64_MAX); },
      "RuntimeError if shape, strides or offset are not positive.");
  c.def(
      "validate_contract_for_storage",
      [](const W& w, const Whole& storage) {
        check_contract(w.shape, w.strides, w.offset, storage.get("tensor view", "storage_numel"));
      },
      nb::arg("storage_numel"), "RuntimeError if the view reaches past so many elements.");
  c.def(
      "contract",
      [contiguous](const W& w) {
        nb::dict d = contract_of(w.shape, w.strides, w.dtype, w.device, contiguous(w), w.strided);
        d["offset_elements"] = w.offset;
        return d;
      },
      "Metadata as a dict.");
}

}  // namespace

const Tensor* tensor_of(PyObject* object) noexcept {
  const nb::handle h(object);
  return nb::isinstance<PyTensor>(h) && nb::inst_ready(h) ? &nb::inst_ptr<PyTensor>(h)->t : nullptr;
}

PyObject* wrap_tensor(const Tensor& tensor) {
  if (tensor.dtype() == DType::kFloat64) return nb::cast(PyTensor64{{tensor}}).release().ptr();
  return nb::cast(PyTensor{tensor}).release().ptr();
}

PyObject* bfloat16_tensor(PyObject* object, int64_t* copied) noexcept {
  try {
    const auto tensor_on = [](auto array) {
      View view(const_cast<void*>(static_cast<const void*>(array.data())), DType::kBFloat16,
                Shape{});
      view.shape.resize(static_cast<int>(array.ndim()));
      view.strides.resize(static_cast<int>(array.ndim()));
      for (int i = 0; i < static_cast<int>(array.ndim()); ++i) {
        view.shape[i] = static_cast<int64_t>(array.shape(static_cast<size_t>(i)));
        view.strides[i] = array.stride(static_cast<size_t>(i));
      }
      using Array = decltype(array);
      return Tensor(Storage(new Array(array),
                            [](void* p) {
                              const nb::gil_scoped_acquire gil;
                              delete static_cast<Array*>(p);
                            }),
                    view);
    };
    const auto fits = [](const auto& array) {
      return array.is_valid() && array.dtype() == kBFloat16Code && array.ndim() <= kMaxRank &&
             array.device_type() == nb::device::cpu::value;
    };
    nb::ndarray<> writeable;
    if (nb::try_cast(nb::handle(object), writeable)) {
      if (fits(writeable)) return wrap_tensor(tensor_on(writeable));
      return nullptr;
    }
    nb::ndarray<nb::ro> fixed;
    if (!nb::try_cast(nb::handle(object), fixed) || !fits(fixed)) return nullptr;
    const Tensor copy = tensor_on(fixed).copy();
    *copied += copy.view().nbytes();
    return wrap_tensor(copy);
  } catch (...) {
    PyErr_Clear();
    return nullptr;
  }
}

void bind_tensors(nb::module_& m) {
  auto view = nb::class_<PyTensorView>(m, "TensorView", "Metadata of a window on a Tensor.");
  bind_view(view);
  m.attr("Tensor64View") = m.attr("TensorView");
  bind_tensor<PyTensor>(m, "Tensor", DType::kFloat32);
  bind_tensor<PyTensor64>(m, "Tensor64", DType::kFloat64);
  m.def(
      "from_dlpack",
      [](nb::handle object) {
        nb::object array;
        try {
          array = nb::module_::import_("numpy").attr("from_dlpack")(object);
        } catch (nb::python_error& error) {
          int64_t copied = 0;
          PyObject* made = bfloat16_tensor(object.ptr(), &copied);
          if (made == nullptr) throw;
          return nb::steal(made);
        }
        Held held;
        View view;
        Number number;
        bool is_tensor = false;
        if (!read_array(array.ptr(), "from_dlpack", "object", kAllTypes, &view, &number, held,
                        &is_tensor))
          throw nb::python_error();
        const bool writeable = nb::cast<bool>(array.attr("flags").attr("writeable"));
        const Tensor window = Tensor::wrap(view);
        // Tensors may be written: read-only memory, and what had to be copied to be read, is
        // copied.
        if (!writeable || held.count() > 0) return nb::steal(wrap_tensor(window.copy()));
        return nb::steal(wrap_tensor(Tensor(own(array), view)));
      },
      nb::arg("object"),
      "A Tensor on the memory of any CPU object with __dlpack__; a copy where it is read-only.");
}

}  // namespace lc::python
