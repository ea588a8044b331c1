#include "session/attention_session.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

namespace lc {
namespace {

constexpr const char* kName = "attention";

struct Scalar {
  double f64;
  float f32;
  DType dtype;
  explicit Scalar(double v, DType d) : f64(v), f32(static_cast<float>(v)), dtype(d) {}
  [[nodiscard]] View view() {
    return dtype == DType::kFloat32 ? View(&f32, dtype, Shape{}) : View(&f64, dtype, Shape{});
  }
};

View matrix(const void* data, DType dtype, int64_t rows, int64_t cols) {
  return View(const_cast<void*>(data), dtype, Shape{rows, cols});
}

void check(const AttentionShape& shape, DType dtype) {
  if (shape.seq_len < 1) throw_arg(kName, "seq_len", "1 or more", cat(shape.seq_len));
  if (shape.head_dim < 1) throw_arg(kName, "head_dim", "1 or more", cat(shape.head_dim));
  if (dtype != DType::kFloat32 && dtype != DType::kFloat64)
    throw_arg(ErrorCode::kInvalidType, kName, "dtype", "float32 or float64", dtype_name(dtype));
  (void)checked_numel(kName, "q", Shape{shape.seq_len, shape.head_dim}, dtype);
}

void need(const void* p, const char* arg, bool upload, Device device) {
  if (p != nullptr) return;
  if (upload) throw_arg(kName, arg, "memory", "a null pointer");
  throw_arg(device_available(device.kind) ? ErrorCode::kInvalidValue : ErrorCode::kNotSupported,
            kName, arg, "a resident operand, as the policy asks (upload is off)", "none",
            "upload it first, in a session that holds it");
}

Policy io_policy(const AttentionPolicy& io, bool download) {
  Policy p = current_policy();
  p.download = download ? ~0u : 0u;
  if (!io.synchronize) p.sync = SyncMode::kNever;
  return p;
}

/// One eager op into `out`, or into new memory where `out` has none.
Tensor eager(const char* op, std::initializer_list<View> inputs, Device device,
             std::initializer_list<std::pair<const char*, AttrValue>> attrs = {},
             const View& out = {}) {
  OpCall call(get_op(op));
  call.device = device;
  call.policy.upload = call.policy.download = ~0u;  // of the whole, not of its steps
  call.policy.kernel = 0;
  int i = 0;
  for (const View& v : inputs) call.in[i++] = v;
  for (const auto& [name, value] : attrs) call.attr_ref(name) = value;
  if (out.present()) call.out[0] = out;
  return call_op1(call);
}

void forward_op(const AttentionShape& s, Device device, DType dtype, const void* q, const void* k,
                const void* v, void* out, const AttentionPolicy& io) {
  OpCall call(get_op(kName));
  call.device = device;
  call.trace_as = "attention_forward";
  call.policy = io_policy(io, io.download_out);
  call.in[0] = matrix(q, dtype, s.seq_len, s.head_dim);
  call.in[1] = matrix(k, dtype, s.seq_len, s.head_dim);
  call.in[2] = matrix(v, dtype, s.seq_len, s.head_dim);
  call.attr_ref("causal") = AttrValue::integer(s.causal ? 1 : 0);
  if (io.download_out) call.out[0] = matrix(out, dtype, s.seq_len, s.head_dim);
  run(plan(call), call);
  if (!io.download_out) return;
  const View result = matrix(out, dtype, s.seq_len, s.head_dim);
  if (io.output_scale != 1)
    eager("mul", {result, Scalar(io.output_scale, dtype).view()}, device, {}, result);
  if (io.output_bias != 0)
    eager("add", {result, Scalar(io.output_bias, dtype).view()}, device, {}, result);
  if (io.output_relu) eager("relu", {result}, device, {}, result);
}

double step_op(const AttentionShape& s, Device device, DType dtype, const void* q, const void* k,
               void* v, const void* target, void* out, double learning_rate, bool update_v,
               bool with_loss) {
  const View vq = matrix(q, dtype, s.seq_len, s.head_dim);
  const View vk = matrix(k, dtype, s.seq_len, s.head_dim);
  const View vv = matrix(v, dtype, s.seq_len, s.head_dim);
  const View vt = matrix(target, dtype, s.seq_len, s.head_dim);
  if (out != nullptr) {
    const View result = matrix(out, dtype, s.seq_len, s.head_dim);
    const std::pair<const char*, const View*> read[] = {
        {"q", &vq}, {"k", &vk}, {"v", &vv}, {"target", &vt}};
    for (const auto& [name, view] : read)
      if (may_overlap(result, *view))
        throw_arg(kName, "out", "memory that no input shares", cat("an overlap with ", name),
                  "write into another array");
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(s.head_dim));
  Tensor scores = eager("matmul", {vq, vk}, device,
                        {{"trans_b", AttrValue::integer(1)}, {"alpha", AttrValue::real(scale)}});
  if (s.causal) {
    const Tensor mask = Tensor::empty(Shape{s.seq_len, s.seq_len}, DType::kBool);
    auto* m = mask.data<uint8_t>();
    for (int64_t i = 0; i < s.seq_len; ++i)
      for (int64_t j = 0; j < s.seq_len; ++j) m[i * s.seq_len + j] = j <= i ? 1 : 0;
    Scalar minus_inf(-std::numeric_limits<double>::infinity(), dtype);
    scores = eager("where", {mask.view(), scores.view(), minus_inf.view()}, device);
  }
  const Tensor p = eager("softmax", {scores.view()}, device);
  Tensor result;
  if (out != nullptr) {
    result = eager("matmul", {p.view(), vv}, device, {}, matrix(out, dtype, s.seq_len, s.head_dim));
  } else {
    result = eager("matmul", {p.view(), vv}, device);
  }
  const Tensor diff = eager("sub", {result.view(), vt}, device);
  double loss = -1;
  if (with_loss) {
    const Tensor squared = eager("square", {diff.view()}, device);
    loss = eager("mean", {squared.view()}, device).item();
  }
  if (update_v) {
    // d loss / d out = 2 (out - target) / numel, and out = P v.
    const double factor = learning_rate * 2.0 / static_cast<double>(s.seq_len * s.head_dim);
    const Tensor step =
        eager("matmul", {p.view(), diff.view()}, device,
              {{"trans_a", AttrValue::integer(1)}, {"alpha", AttrValue::real(factor)}});
    eager("sub", {vv, step.view()}, device, {}, vv);
  }
  return loss;
}

void check_rate(double learning_rate) {
  if (!(learning_rate > 0) || !std::isfinite(learning_rate))
    throw_arg(kName, "learning_rate", "a finite number above 0", cat(learning_rate));
}

}  // namespace

int attention_loss_interval(int64_t seq_len, int64_t head_dim) noexcept {
  if (seq_len == 256 && head_dim == 64) return 32;
  if (seq_len == 256 && head_dim == 128) return 16;
  if ((seq_len == 512 || seq_len == 1024) && (head_dim == 64 || head_dim == 128)) return 8;
  return 4;
}

void attention_forward(const AttentionShape& shape, Device device, DType dtype, const void* q,
                       const void* k, const void* v, void* out, const AttentionPolicy& policy) {
  check(shape, dtype);
  need(q, "q", policy.upload_q, device);
  need(k, "k", policy.upload_k, device);
  need(v, "v", policy.upload_v, device);
  if (policy.download_out) need(out, "out", true, device);
  forward_op(shape, device, dtype, q, k, v, out, policy);
}

double attention_train_step(const AttentionShape& shape, Device device, DType dtype, const void* q,
                            const void* k, void* v, const void* target, void* out,
                            double learning_rate, const AttentionPolicy& policy, bool with_loss) {
  check(shape, dtype);
  check_rate(learning_rate);
  need(q, "q", policy.upload_q, device);
  need(k, "k", policy.upload_k, device);
  need(v, "v", policy.upload_v, device);
  need(target, "target", policy.upload_target, device);
  return step_op(shape, device, dtype, q, k, v, target, policy.download_out ? out : nullptr,
                 learning_rate, policy.download_v, with_loss);
}

struct AttentionRunner::Impl {
  AttentionShape shape;
  Device device;
  DType dtype;
  mutable std::mutex mutex;
  AttentionPolicy policy;
  Tensor kept[4];  ///< q, k, v, target, once a policy leaves them here
  uint64_t steps = 0;
  double last_loss = 0;

  /// The operand this call reads: the caller's, or the session's copy where upload is off. `keep`:
  /// what is uploaded stays for later calls.
  const void* operand(int i, const char* name, const void* given, bool upload, bool keep) {
    Tensor& t = kept[i];
    if (!upload && t.defined()) return t.view().data;
    need(given, name, upload, Device{});
    if (!keep) {
      // What the caller gives replaces an older copy; a later call must not read the older one.
      if (upload) t = Tensor();
      return given;
    }
    if (!t.defined()) t = Tensor::empty(Shape{shape.seq_len, shape.head_dim}, dtype);
    std::memcpy(t.view().data, given, static_cast<size_t>(t.view().nbytes()));
    return t.view().data;
  }
};

AttentionRunner::AttentionRunner(const AttentionShape& shape, Device device, DType dtype)
    : impl_(std::make_unique<Impl>()) {
  check(shape, dtype);
  impl_->shape = shape;
  impl_->device = device;
  impl_->dtype = dtype;
  if (device.kind != DeviceKind::kCpu) {
    impl_->policy.synchronize = false;
    impl_->policy.loss_every = 0;
  }
}
AttentionRunner::~AttentionRunner() = default;
AttentionRunner::AttentionRunner(AttentionRunner&&) noexcept = default;
AttentionRunner& AttentionRunner::operator=(AttentionRunner&&) noexcept = default;

const AttentionShape& AttentionRunner::shape() const noexcept { return impl_->shape; }
Device AttentionRunner::device() const noexcept { return impl_->device; }

void AttentionRunner::set_default_policy(const AttentionPolicy& policy) {
  if (policy.loss_every < 0) throw_arg(kName, "loss_every", "0 or more", cat(policy.loss_every));
  const std::lock_guard lock(impl_->mutex);
  impl_->policy = policy;
}

AttentionPolicy AttentionRunner::default_policy() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->policy;
}

void AttentionRunner::forward(const void* q, const void* k, const void* v, void* out,
                              const AttentionPolicy* policy) {
  Impl& s = *impl_;
  const std::lock_guard lock(s.mutex);
  const AttentionPolicy io = policy != nullptr ? *policy : s.policy;
  if (io.download_out) need(out, "out", true, s.device);
  const bool keep = !io.download_out || !io.upload_q || !io.upload_k || !io.upload_v;
  const void* rq = s.operand(0, "q", q, io.upload_q, keep);
  const void* rk = s.operand(1, "k", k, io.upload_k, keep);
  const void* rv = s.operand(2, "v", v, io.upload_v, keep);
  forward_op(s.shape, s.device, s.dtype, rq, rk, rv, out, io);
}

double AttentionRunner::train_step(const void* q, const void* k, void* v, const void* target,
                                   void* out, double learning_rate, const AttentionPolicy* policy) {
  Impl& s = *impl_;
  check_rate(learning_rate);
  const std::lock_guard lock(s.mutex);
  const AttentionPolicy io = policy != nullptr ? *policy : s.policy;
  if (io.loss_every < 0) throw_arg(kName, "loss_every", "0 or more", cat(io.loss_every));
  const bool keep = !io.download_out || !io.download_v || !io.upload_q || !io.upload_k ||
                    !io.upload_v || !io.upload_target;
  // The updated v stays where it is read, so the caller's array is written by the download alone.
  if (io.download_v) need(v, "v", true, s.device);
  const void* rq = s.operand(0, "q", q, io.upload_q, keep);
  const void* rk = s.operand(1, "k", k, io.upload_k, keep);
  void* rv = const_cast<void*>(s.operand(2, "v", v, io.upload_v, keep));
  const void* rt = s.operand(3, "target", target, io.upload_target, keep);
  const int every = io.loss_every > 0 ? io.loss_every
                                      : attention_loss_interval(s.shape.seq_len, s.shape.head_dim);
  const bool sample = s.steps % static_cast<uint64_t>(every) == 0;
  const double loss = step_op(s.shape, s.device, s.dtype, rq, rk, rv, rt,
                              io.download_out ? out : nullptr, learning_rate, true, sample);
  ++s.steps;
  if (sample) s.last_loss = loss;
  if (io.download_v && rv != v) {
    const View to = matrix(v, s.dtype, s.shape.seq_len, s.shape.head_dim);
    std::memcpy(v, rv, static_cast<size_t>(to.nbytes()));
  }
  return s.last_loss;
}

}  // namespace lc
