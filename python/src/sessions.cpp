// Resident sessions and the reference's attention training step.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "arrays.hpp"
#include "bindings.hpp"
#include "lightning_core/session.hpp"
#include "op_function.hpp"
#include "session/attention_session.hpp"
#include "tensor_type.hpp"
#include "whole.hpp"

namespace nb = nanobind;

namespace lc::python {
namespace {

/// A view of an array argument, held by `held`.
View view_of(nb::handle object, const char* name, Held& held) {
  View view;
  Number number;
  bool is_tensor = false;
  if (!read_array(object.ptr(), "session", name, kAllTypes, &view, &number, held, &is_tensor))
    throw nb::python_error();
  if (number.is) throw_arg(ErrorCode::kInvalidType, "session", name, "an array", "a number");
  return view;
}

Session make_session(const std::string& op, const std::vector<Wholes>& shapes, nb::dict attrs,
                     const std::string& dtype, const std::string& device,
                     const std::string& trace_as) {
  OpCall call(get_op(op));
  const DType t = parse_dtype(dtype);
  for (size_t i = 0; i < shapes.size() && static_cast<int>(i) < call.n_in; ++i)
    if (!shapes[i].empty())
      call.in[i] = View(nullptr, t, dims_of(op, call.op->inputs[i].name, shapes[i]));
  for (const auto& [key, value] : attrs) {
    const auto name = nb::cast<std::string>(key);
    AttrValue& to = call.attr_ref(name);
    const AttrSpec& spec = call.op->attrs[static_cast<size_t>(call.op->attr_index(name))];
    if (!read_attr(*call.op, spec, value.ptr(), &to)) throw nb::python_error();
  }
  if (!device.empty()) call.device = parse_device(device);
  Session session(call);
  if (!trace_as.empty()) session.trace_as(intern_name(trace_as.c_str()));
  return session;
}

/// Row-major float32 memory of a training operand of `numel` elements.
const void* operand(nb::handle object, const char* name, int64_t numel, Held& held,
                    std::vector<Tensor>& copies) {
  View view = view_of(object, name, held);
  if (view.numel() != numel)
    throw_arg("attention_train_step", name, cat(numel, " elements (seq_len * head_dim)"),
              cat(view.numel()));
  const Tensor borrowed = Tensor::wrap(view);
  copies.push_back(borrowed.to(DType::kFloat32).contiguous());
  return copies.back().view().data;
}

AttentionPolicy policy_of(nb::handle policy) {
  AttentionPolicy p;
  if (policy.is_none()) return p;
  const auto flag = [&](const char* name) {
    return nb::cast<bool>(nb::bool_(nb::borrow(policy.attr(name))));
  };
  p.upload_q = flag("upload_q");
  p.upload_k = flag("upload_k");
  p.upload_v = flag("upload_v");
  p.upload_target = flag("upload_target");
  p.download_out = flag("download_out");
  p.download_v = flag("download_v");
  p.synchronize = flag("synchronize");
  p.loss_every = nb::cast<int>(policy.attr("loss_every"));
  p.output_scale = nb::cast<double>(nb::float_(nb::borrow(policy.attr("output_scale"))));
  p.output_bias = nb::cast<double>(nb::float_(nb::borrow(policy.attr("output_bias"))));
  p.output_relu = flag("output_relu");
  return p;
}

}  // namespace

void bind_sessions(nb::module_& m) {
  nb::class_<Session>(
      m, "Session",
      "One op's plan pinned with buffers of its own: start uploads and computes, run computes on\n"
      "what is resident, sync waits, finish waits and downloads.")
      .def(
          "__init__",
          [](Session* self, const std::string& op, const std::vector<Wholes>& shapes,
             nb::dict attrs, const std::string& dtype, const std::string& device,
             const std::string& trace_as) {
            new (self) Session(make_session(op, shapes, attrs, dtype, device, trace_as));
          },
          nb::arg("op"), nb::arg("shapes"), nb::arg("attrs") = nb::dict(),
          nb::arg("dtype") = "float32", nb::arg("device") = "", nb::arg("trace_as") = "",
          "shapes: one list an input, [] for an absent optional one.")
      .def(
          "start",
          [](Session& s, nb::args inputs) {
            Held held;
            View views[kMaxInputs];
            const size_t n = std::min<size_t>(inputs.size(), kMaxInputs);
            for (size_t i = 0; i < n; ++i)
              if (!inputs[i].is_none()) views[i] = view_of(inputs[i], "input", held);
            const nb::gil_scoped_release release;
            s.start({views, n});
          },
          "Uploads the inputs given (None: what is resident), then computes.")
      .def(
          "upload",
          [](Session& s, int i, nb::handle array) {
            Held held;
            const View view = view_of(array, "input", held);
            const nb::gil_scoped_release release;
            s.upload(i, view);
          },
          nb::arg("index"), nb::arg("array"), "Copies an operand in.")
      .def("resident", &Session::resident, nb::arg("index"), "True once an operand was uploaded.")
      .def("run", &Session::run, nb::call_guard<nb::gil_scoped_release>(),
           "Computes on what is resident.")
      .def(
          "run_batch",
          [](Session& s, const Whole& n) { s.run_batch(n.get(s.call().op->name, "n")); },
          nb::arg("n"), nb::call_guard<nb::gil_scoped_release>(), "n runs, then one sync.")
      .def("sync", &Session::sync, nb::call_guard<nb::gil_scoped_release>(),
           "Waits for what was started.")
      .def(
          "finish",
          [](Session& s, nb::handle out) {
            Held held;
            View view;
            bool is_tensor = false;
            if (!read_out(out.ptr(), "session", &view, &is_tensor)) throw nb::python_error();
            const nb::gil_scoped_release release;
            s.finish(view);
          },
          nb::arg("out"), "Waits and downloads the result.")
      .def(
          "output", [](const Session& s) { return nb::steal(wrap_tensor(s.output(0))); },
          "The result's own buffer, without a copy; later runs write it again.");
  m.def(
      "attention_train_step",
      [](nb::handle q, nb::handle k, nb::handle v, nb::handle target, int64_t seq_len,
         int64_t head_dim, bool causal, double learning_rate, const std::string& device,
         nb::object policy, bool with_loss) {
        Held held;
        std::vector<Tensor> copies;
        copies.reserve(4);
        const int64_t n = checked_numel("attention_train_step", "shape", Shape{seq_len, head_dim},
                                        DType::kFloat32);
        const void* pq = operand(q, "q", n, held, copies);
        const void* pk = operand(k, "k", n, held, copies);
        const void* pv = operand(v, "v", n, held, copies);
        const void* pt = operand(target, "target", n, held, copies);
        const Tensor updated =
            Tensor::wrap(View(const_cast<void*>(pv), DType::kFloat32, Shape{n})).copy();
        const Tensor out = Tensor::zeros(Shape{n});
        const AttentionPolicy io = policy_of(policy);
        const Device on = device.empty() ? preferred_device() : parse_device(device);
        double loss = 0;
        {
          const nb::gil_scoped_release release;
          loss = attention_train_step({seq_len, head_dim, causal}, on, DType::kFloat32, pq, pk,
                                      updated.view().data, pt, out.view().data, learning_rate, io,
                                      with_loss);
        }
        return nb::make_tuple(nb::steal(tensor_array(out)), nb::steal(tensor_array(updated)), loss);
      },
      nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("target"), nb::arg("seq_len"),
      nb::arg("head_dim"), nb::arg("causal"), nb::arg("learning_rate"), nb::arg("device") = "",
      nb::arg("policy") = nb::none(), nb::arg("with_loss") = true,
      "One gradient step on V for the mean squared error: (out before the step, updated V, loss).");
  m.def("attention_loss_interval", &attention_loss_interval, nb::arg("seq_len"),
        nb::arg("head_dim"), "Steps between losses that loss_every = 0 stands for.");
}

}  // namespace lc::python
