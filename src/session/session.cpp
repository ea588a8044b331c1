#include "lightning_core/session.hpp"

#include <mutex>
#include <vector>

#include "backends/cpu/convert.hpp"
#include "lightning_core/trace.hpp"
#include "runtime/capabilities.hpp"
#include "runtime/plan.hpp"

namespace lc {
namespace {

std::string operand_name(const OpDef& op, int i) {
  if (op.variadic) return cat(op.inputs[0].name, "[", i, "]");
  return op.inputs[static_cast<size_t>(i)].name;
}

/// `view` with the shape `want`, or an error: the same shape, or row-major with as many elements.
View fit(const OpDef& op, const std::string& arg, const View& view, const Shape& want) {
  if (view.shape == want) return view;
  View shaped;
  if (view.numel() == want.numel() && reshape_view(view, want, &shaped)) return shaped;
  throw_arg(op.name, arg, cat("shape ", want.str(), ", or as many elements row-major"),
            cat("shape ", view.shape.str(), " with strides ", view.strides.str()));
}

void move_bytes(const View& from, const View& to, MemcpyKind kind) {
  TraceEvent event;
  const bool traced = trace_enabled();
  if (traced) event.timestamp_ns = monotonic_ns();
  cpu::strided_convert(from, to);
  if (!traced) return;
  event.type = TraceType::kMemcpy;
  event.size_bytes = static_cast<uint64_t>(to.nbytes());
  event.detail0 = static_cast<int64_t>(kind);
  event.duration_ns = monotonic_ns() - event.timestamp_ns;
  trace(event);
}

}  // namespace

struct Session::Impl {
  mutable std::mutex mutex;
  OpCall call;
  PlanPtr plan;
  std::vector<Tensor> operands;
  std::vector<Tensor> outputs;
  std::vector<char> resident;
  bool fresh = false;     ///< outputs are of the operands as they are now
  bool computed = false;  ///< outputs hold a result

  explicit Impl(const OpCall& prototype) : call(prototype) {
    const OpDef& op = *call.op;
    call.policy.upload = call.policy.download = ~0u;
    operands.resize(static_cast<size_t>(call.n_in));
    resident.assign(static_cast<size_t>(call.n_in), 0);
    for (int i = 0; i < call.n_in; ++i) {
      View& v = call.in[i];
      if (!v.present()) continue;
      (void)checked_numel(op.name, operand_name(op, i), v.shape, v.dtype);
      // Converted once, at upload, rather than by every run.
      const ArgSpec& spec = op.inputs[op.variadic ? 0 : static_cast<size_t>(i)];
      const bool converts = call.compute_dtype != DType::kNone && dtype_is_float(v.dtype) &&
                            (spec.dtypes & dtype_bit(call.compute_dtype)) != 0;
      v = View(nullptr, converts ? call.compute_dtype : v.dtype, v.shape);
    }
    // Refuse a bad call before any buffer is allocated.
    for (int o = 0; o < call.n_out; ++o) call.out[o] = View{};
    (void)lc::plan(call);
    for (int i = 0; i < call.n_in; ++i) {
      if (!call.in[i].present()) continue;
      Tensor& t = operands[static_cast<size_t>(i)];
      t = Tensor::empty(call.in[i].shape, call.in[i].dtype);
      call.in[i] = t.view();
      if (t.numel() == 0) resident[static_cast<size_t>(i)] = 1;
    }
    for (int o = 0; o < call.n_out; ++o) {
      outputs.push_back(Tensor::zeros(call.out[o].shape, call.out[o].dtype));
      call.out[o] = outputs.back().view();
    }
    plan = plan_shared(call);
  }

  View checked_upload(int i, const View& view) const {
    const OpDef& op = *call.op;
    if (i < 0 || i >= call.n_in)
      throw_arg(op.name, "operand", cat("an index in [0, ", call.n_in, ")"), cat(i));
    const std::string name = operand_name(op, i);
    if (!call.in[i].present())
      throw_arg(op.name, name, "nothing: the session was made without it", "an array",
                "make a session whose prototype has it");
    if (!view.present()) throw_arg(ErrorCode::kInvalidType, op.name, name, "an array", "none");
    const int64_t n = checked_numel(op.name, name, view.shape, view.dtype);
    if (view.data == nullptr && n > 0) throw_arg(op.name, name, "memory", "a null pointer");
    if (dtype_is_float(view.dtype) != dtype_is_float(call.in[i].dtype) &&
        view.dtype != call.in[i].dtype && !dtype_is_float(call.in[i].dtype))
      throw_arg(ErrorCode::kInvalidType, op.name, name, dtype_name(call.in[i].dtype),
                dtype_name(view.dtype), "convert it with cast()");
    return fit(op, name, view, call.in[i].shape);
  }

  void put(int i, const View& view) {
    if (view.numel() > 0) move_bytes(view, call.in[i], MemcpyKind::kHostToDevice);
    resident[static_cast<size_t>(i)] = 1;
    fresh = false;
  }

  void check_resident() const {
    for (int i = 0; i < call.n_in; ++i)
      if (call.in[i].present() && resident[static_cast<size_t>(i)] == 0)
        throw_arg(call.op->name, operand_name(*call.op, i), "a resident operand", "none",
                  "upload it first with start() or upload()");
  }

  void compute() {
    check_resident();
    lc::run(*plan, call);
    fresh = computed = true;
  }

  void wait() const { plan->backend->synchronize(); }

  View checked_download(int i, const View& out) const {
    const OpDef& op = *call.op;
    if (i < 0 || i >= call.n_out)
      throw_arg(op.name, "output", cat("an index in [0, ", call.n_out, ")"), cat(i));
    const View& have = call.out[i];
    if (out.dtype != have.dtype)
      throw_arg(ErrorCode::kInvalidType, op.name, "out", cat("dtype ", dtype_name(have.dtype)),
                out.present() ? dtype_name(out.dtype) : "none");
    const int64_t n = checked_numel(op.name, "out", out.shape, out.dtype);
    if (out.data == nullptr && n > 0) throw_arg(op.name, "out", "memory", "a null pointer");
    if (self_overlaps(out))
      throw_arg(op.name, "out", "memory with one element for each index",
                cat("strides ", out.strides.str()));
    return fit(op, "out", out, have.shape);
  }

  void get(int i, const View& out) const {
    if (!computed)
      throw_arg(ErrorCode::kNotInitialized, call.op->name, "output", "a computed result", "none",
                "call start() or run() first");
    if (out.numel() > 0) move_bytes(call.out[i], out, MemcpyKind::kDeviceToHost);
  }
};

Session::Session(const OpCall& prototype) : impl_(std::make_unique<Impl>(prototype)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

int Session::n_inputs() const noexcept { return impl_->call.n_in; }
int Session::n_outputs() const noexcept { return impl_->call.n_out; }

View Session::input(int i) const {
  if (i < 0 || i >= impl_->call.n_in)
    throw_arg(impl_->call.op->name, "operand", cat("an index in [0, ", impl_->call.n_in, ")"),
              cat(i));
  return impl_->call.in[i];
}

bool Session::resident(int i) const {
  const std::lock_guard lock(impl_->mutex);
  return i >= 0 && i < impl_->call.n_in && impl_->resident[static_cast<size_t>(i)] != 0;
}

void Session::upload(int i, const View& view) {
  const std::lock_guard lock(impl_->mutex);
  impl_->put(i, impl_->checked_upload(i, view));
}

void Session::start(std::span<const View> inputs) {
  Impl& s = *impl_;
  const std::lock_guard lock(s.mutex);
  if (inputs.size() > static_cast<size_t>(s.call.n_in))
    throw_arg(s.call.op->name, "inputs", cat("at most ", s.call.n_in), cat(inputs.size()));
  const auto given = [&](size_t i) {
    return inputs[i].present() && (inputs[i].data != nullptr || inputs[i].numel() == 0);
  };
  View fitted[kMaxInputs];
  for (size_t i = 0; i < inputs.size(); ++i)
    if (given(i)) fitted[i] = s.checked_upload(static_cast<int>(i), inputs[i]);
  for (int i = 0; i < s.call.n_in; ++i)
    if (s.call.in[i].present() && s.resident[static_cast<size_t>(i)] == 0 &&
        !(static_cast<size_t>(i) < inputs.size() && given(static_cast<size_t>(i))))
      throw_arg(s.call.op->name, operand_name(*s.call.op, i), "a resident operand", "none",
                "give it to start(), or upload() it first");
  for (size_t i = 0; i < inputs.size(); ++i)
    if (given(i)) s.put(static_cast<int>(i), fitted[i]);
  s.compute();
}

void Session::run() {
  const std::lock_guard lock(impl_->mutex);
  impl_->compute();
}

void Session::run_batch(int64_t n) {
  Impl& s = *impl_;
  const std::lock_guard lock(s.mutex);
  if (n < 1) throw_arg(s.call.op->name, "repeat_count", "1 or more", cat(n));
  for (int64_t i = 0; i < n; ++i) s.compute();
  s.wait();
}

void Session::sync() {
  const std::lock_guard lock(impl_->mutex);
  impl_->wait();
}

void Session::download(int i, const View& out) {
  const std::lock_guard lock(impl_->mutex);
  const View to = impl_->checked_download(i, out);
  impl_->wait();
  impl_->get(i, to);
}

void Session::finish(const View& out) {
  Impl& s = *impl_;
  const std::lock_guard lock(s.mutex);
  const View to = s.checked_download(0, out);
  if (!s.fresh) s.compute();
  s.wait();
  s.get(0, to);
}

Tensor Session::output(int i) const {
  if (i < 0 || i >= impl_->call.n_out)
    throw_arg(impl_->call.op->name, "output", cat("an index in [0, ", impl_->call.n_out, ")"),
              cat(i));
  return impl_->outputs[static_cast<size_t>(i)];
}

void Session::trace_as(const char* name) {
  const std::lock_guard lock(impl_->mutex);
  impl_->call.trace_as = name;
}

const Plan& Session::plan() const noexcept { return *impl_->plan; }
const OpCall& Session::call() const noexcept { return impl_->call; }

}  // namespace lc
