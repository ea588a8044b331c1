#include "lightning_core/core/ops.hpp"

#include <mutex>
#include <optional>

#include "compat/bridge.hpp"
#include "lightning_core/dispatch.hpp"
#include "lightning_core/session.hpp"
#include "runtime/config.hpp"

namespace lightning_core::ops {
namespace {

using lc::DType;
using lc::OpCall;
using lc::Shape;
using lc::View;
using lc::compat::device_of;
using lc::compat::extent;
using lc::compat::guard;

/// A row of the configuration table; `fallback` where this build has no such row or cannot read it.
std::size_t configured(const char* name, std::size_t fallback) {
  std::size_t value = fallback;
  (void)guard([&] {
    for (const lc::ConfigVar& row : lc::config_table())
      if (std::string_view(row.name) == name && lc::config_int(name) >= 0)
        value = static_cast<std::size_t>(lc::config_int(name));
  });
  return value;
}

}  // namespace

std::size_t vectorAddOneShotCrossoverN() {
  return configured("CJ_VECTORADD_CPU_CROSSOVER_N", std::size_t{8} << 20);
}
std::size_t conv2dOneShotCpuCrossoverMacs() {
  return configured("CJ_CONV2D_CPU_CROSSOVER_MACS", 260000);
}

runtime::Status matMulMetalResetTuning() {
  return guard([] { lc::reload_config(); });
}

namespace detail {
namespace {

DType dtype_of(Type type) { return type == Type::kFloat32 ? DType::kFloat32 : DType::kFloat64; }

struct OpNames {
  const char* op;
  const char* traced;
};
OpNames names_of(Elementwise op) {
  switch (op) {
    case Elementwise::kVectorAdd:
      return {"add", "vector_add"};
    case Elementwise::kMatrixSub:
      return {"sub", "matrix_sub"};
    case Elementwise::kMatrixDiv:
      break;
  }
  return {"div", "matrix_div"};
}

int64_t size(const char* op, const char* arg, std::size_t n) {
  if (n == 0) lc::throw_arg(op, arg, "1 or more", "0");
  return extent(op, arg, n);
}

View view(const void* data, DType dtype, const Shape& shape) {
  return View(const_cast<void*>(data), dtype, shape);
}

/// A null operand is never read: not uploaded means resident, and here nothing is.
void check_pointer(const char* op, const char* arg, const void* p, bool upload,
                   runtime::Device device) {
  if (p != nullptr) return;
  if (upload) lc::throw_arg(op, arg, "memory", "a null pointer");
  const bool present = lc::device_available(device_of(device).kind);
  lc::throw_arg(present ? lc::ErrorCode::kInvalidValue : lc::ErrorCode::kNotSupported, op, arg,
                "a resident operand, as the policy asks (upload is off)", "none",
                "use a resident session, which holds its operands");
}

void apply(OpCall& call, runtime::Device device, const Io& io, const char* traced) {
  call.device = device_of(device);
  call.trace_as = traced;
  call.policy.upload = ~7u | io.upload;
  call.policy.download = io.download ? ~0u : 0u;
  if (!io.synchronize) call.policy.sync = lc::SyncMode::kNever;
}

void give_output(OpCall& call, const char* op, void* out, const Shape& shape, DType dtype,
                 bool download) {
  if (!download) return;
  if (out == nullptr) lc::throw_arg(op, "out", "memory", "a null pointer");
  call.out[0] = view(out, dtype, shape);
}

}  // namespace

runtime::Status elementwise(Elementwise op, Type type, const void* a, const void* b, void* out,
                            std::size_t rows, std::size_t cols, runtime::Device device, Io io) {
  return guard([&] {
    const OpNames names = names_of(op);
    const Shape shape = op == Elementwise::kVectorAdd ? Shape{size(names.traced, "n", cols)}
                                                      : Shape{size(names.traced, "rows", rows),
                                                              size(names.traced, "cols", cols)};
    check_pointer(names.traced, "a", a, (io.upload & 1u) != 0, device);
    check_pointer(names.traced, "b", b, (io.upload & 2u) != 0, device);
    const DType dtype = dtype_of(type);
    OpCall call(lc::get_op(names.op));
    apply(call, device, io, names.traced);
    call.in[0] = view(a, dtype, shape);
    call.in[1] = view(b, dtype, shape);
    give_output(call, names.traced, out, shape, dtype, io.download);
    lc::run(lc::plan(call), call);
  });
}

runtime::Status matMul(Type type, const void* a, const void* b, void* out, std::size_t m,
                       std::size_t k, std::size_t n, runtime::Device device, Io io,
                       std::size_t repeat) {
  return guard([&] {
    constexpr const char* kOp = "matmul";
    const int64_t rows = size(kOp, "m", m);
    const int64_t inner = size(kOp, "k", k);
    const int64_t cols = size(kOp, "n", n);
    const int64_t runs = size(kOp, "repeat_count", repeat);
    check_pointer(kOp, "a", a, (io.upload & 1u) != 0, device);
    check_pointer(kOp, "b", b, (io.upload & 2u) != 0, device);
    const DType dtype = dtype_of(type);
    OpCall call(lc::get_op(kOp));
    apply(call, device, io, kOp);
    call.in[0] = view(a, dtype, Shape{rows, inner});
    call.in[1] = view(b, dtype, Shape{inner, cols});
    give_output(call, kOp, out, Shape{rows, cols}, dtype, io.download);
    const lc::PlanPtr plan = lc::plan_shared(call);
    for (int64_t i = 0; i < runs; ++i) lc::run(*plan, call);
  });
}

runtime::Status conv2d(Type type, const void* x, const void* w, const void* bias, void* out,
                       const ConvSizes& s, runtime::Device device, Io io, bool apply_relu,
                       bool needs_bias) {
  return guard([&] {
    constexpr const char* kOp = "conv2d_nchw";
    const Shape xs{size(kOp, "batch", s.batch), size(kOp, "in_channels", s.in_channels),
                   size(kOp, "in_h", s.in_h), size(kOp, "in_w", s.in_w)};
    const Shape ws{size(kOp, "out_channels", s.out_channels), xs[1],
                   size(kOp, "kernel_h", s.kernel_h), size(kOp, "kernel_w", s.kernel_w)};
    const int64_t stride[2] = {size(kOp, "stride_h", s.stride_h),
                               size(kOp, "stride_w", s.stride_w)};
    const int64_t pad[2] = {extent(kOp, "pad_h", s.pad_h), extent(kOp, "pad_w", s.pad_w)};
    check_pointer(kOp, "x", x, (io.upload & 1u) != 0, device);
    check_pointer(kOp, "w", w, (io.upload & 2u) != 0, device);
    if (needs_bias) check_pointer(kOp, "bias", bias, (io.upload & 4u) != 0, device);
    const DType dtype = dtype_of(type);
    OpCall call(lc::get_op("conv2d"));
    apply(call, device, io, kOp);
    call.in[0] = view(x, dtype, xs);
    call.in[1] = view(w, dtype, ws);
    if (bias != nullptr) call.in[2] = view(bias, dtype, Shape{ws[0]});
    call.attr_ref("stride") = lc::AttrValue::list(stride);
    call.attr_ref("padding") = lc::AttrValue::list(pad);
    if (apply_relu) call.attr_ref("activation") = lc::AttrValue::integer(1);
    if (!io.download) {
      lc::run(lc::plan(call), call);
      return;
    }
    if (out == nullptr) lc::throw_arg(kOp, "out", "memory", "a null pointer");
    // The plan says the output's shape; then the caller's memory takes its place.
    (void)lc::plan(call);
    call.out[0] = view(out, dtype, Shape(call.out[0].shape));
    lc::run(lc::plan(call), call);
  });
}

struct Resident::Impl {
  bool is_matmul = false;
  Elementwise op = Elementwise::kVectorAdd;
  Type type = Type::kFloat32;
  std::size_t d[3] = {0, 0, 0};
  std::mutex mutex;
  std::optional<lc::Session> session;

  /// Throws what the sizes deserve; tried again by the next call then.
  lc::Session& get() {
    // Not call_once: libstdc++'s may hang after a callable that threw.
    const std::lock_guard lock(mutex);
    if (!session) {
      const DType dtype = dtype_of(type);
      const OpNames names = is_matmul ? OpNames{"matmul", "matmul"} : names_of(op);
      OpCall call(lc::get_op(names.op));
      call.device = lc::Device{lc::DeviceKind::kMetal, 0};
      if (is_matmul) {
        const int64_t m = size("matmul", "m", d[0]);
        const int64_t k = size("matmul", "k", d[1]);
        const int64_t n = size("matmul", "n", d[2]);
        call.in[0] = view(nullptr, dtype, Shape{m, k});
        call.in[1] = view(nullptr, dtype, Shape{k, n});
      } else {
        const int64_t cols = size(names.traced, op == Elementwise::kVectorAdd ? "n" : "cols", d[1]);
        const Shape shape = op == Elementwise::kVectorAdd
                                ? Shape{cols}
                                : Shape{size(names.traced, "rows", d[0]), cols};
        call.in[0] = call.in[1] = view(nullptr, dtype, shape);
      }
      session.emplace(call);
      session->trace_as(names.traced);
    }
    return *session;
  }

  /// The operands have buffers of their own here, but a program must not come to depend on that:
  /// an output shares no memory with an input, as in the eager calls.
  static void check_apart(const lc::Session& s, const void* a, const void* b, const View& out) {
    const void* given[2] = {a, b};
    for (int i = 0; i < 2; ++i) {
      View v = s.input(i);
      v.data = const_cast<void*>(given[i]);
      const bool in_place = s.call().op->inplace && given[i] == out.data;
      if (given[i] == nullptr || in_place || !lc::may_overlap(out, v)) continue;
      lc::throw_arg(s.call().op->name, "out", "memory that no input shares",
                    lc::cat("an overlap with ", s.call().op->inputs[static_cast<size_t>(i)].name),
                    "write into another array");
    }
  }

  /// Uploads operands that are not resident yet; the session names the ones still missing.
  void fill(lc::Session& s, const void* a, const void* b) {
    const void* given[2] = {a, b};
    for (int i = 0; i < 2; ++i) {
      if (s.resident(i) || given[i] == nullptr) continue;
      View v = s.input(i);
      v.data = const_cast<void*>(given[i]);
      s.upload(i, v);
    }
  }
};

Resident::Resident(Elementwise op, Type type, std::size_t rows, std::size_t cols)
    : impl_(std::make_unique<Impl>()) {
  impl_->op = op;
  impl_->type = type;
  impl_->d[0] = rows;
  impl_->d[1] = cols;
}
Resident::Resident(Type type, std::size_t m, std::size_t k, std::size_t n)
    : impl_(std::make_unique<Impl>()) {
  impl_->is_matmul = true;
  impl_->type = type;
  impl_->d[0] = m;
  impl_->d[1] = k;
  impl_->d[2] = n;
}
Resident::~Resident() = default;
Resident::Resident(const Resident& other)
    : Resident(other.impl_->op, other.impl_->type, other.impl_->d[0], other.impl_->d[1]) {
  impl_->is_matmul = other.impl_->is_matmul;
  impl_->d[2] = other.impl_->d[2];
}
Resident& Resident::operator=(const Resident& other) {
  if (this != &other) {
    Resident copy(other);
    impl_.swap(copy.impl_);
  }
  return *this;
}

runtime::Status Resident::start(const void* a, const void* b) const {
  return guard([&] {
    lc::Session& s = impl_->get();
    if (a == nullptr || b == nullptr)
      lc::throw_arg(s.call().op->name, a == nullptr ? "a" : "b", "memory", "a null pointer");
    View views[2] = {s.input(0), s.input(1)};
    views[0].data = const_cast<void*>(a);
    views[1].data = const_cast<void*>(b);
    s.start(views);
  });
}

runtime::Status Resident::run(const void* a, const void* b, std::size_t repeat,
                              bool synchronize) const {
  return guard([&] {
    lc::Session& s = impl_->get();
    const int64_t n = size(s.call().op->name, "repeat_count", repeat);
    impl_->fill(s, a, b);
    if (n == 1 && !synchronize)
      s.run();
    else
      s.run_batch(n);
  });
}

runtime::Status Resident::finish(const void* a, const void* b, void* out) const {
  return guard([&] {
    lc::Session& s = impl_->get();
    if (out == nullptr) lc::throw_arg(s.call().op->name, "out", "memory", "a null pointer");
    View v = s.call().out[0];
    v.data = out;
    Impl::check_apart(s, a, b, v);
    impl_->fill(s, a, b);
    s.run();
    s.finish(v);
  });
}

}  // namespace detail
}  // namespace lightning_core::ops
