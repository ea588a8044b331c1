#include "lightning_core/core/attention.hpp"

#include "compat/bridge.hpp"
#include "session/attention_session.hpp"

namespace lightning_core {
namespace {

using lc::compat::device_of;
using lc::compat::extent;
using lc::compat::guard;

lc::AttentionShape convert(const AttentionConfig& c) {
  return {extent("attention", "seq_len", c.seq_len), extent("attention", "head_dim", c.head_dim),
          c.causal};
}

lc::AttentionPolicy convert(const AttentionIoPolicy& p) {
  lc::AttentionPolicy r;
  r.upload_q = p.upload_q;
  r.upload_k = p.upload_k;
  r.upload_v = p.upload_v;
  r.upload_target = p.upload_target;
  r.download_out = p.download_out;
  r.download_v = p.download_v;
  r.synchronize = p.synchronize;
  r.loss_every = p.loss_every;
  r.output_scale = static_cast<double>(p.output_scale);
  r.output_bias = static_cast<double>(p.output_bias);
  r.output_relu = p.output_relu;
  return r;
}

}  // namespace

AttentionImplementation attentionImplementation(runtime::Device device) {
  switch (device) {
    case runtime::Device::kCPU:
      return AttentionImplementation::kCpuSimd;
    case runtime::Device::kMetal:
      return lc::device_available(lc::DeviceKind::kMetal)
                 ? AttentionImplementation::kMetalFused
                 : AttentionImplementation::kMetalFallbackToCpu;
    case runtime::Device::kCUDA:
      break;
  }
  return AttentionImplementation::kUnavailable;
}

const char* attentionImplementationName(runtime::Device device) {
  switch (attentionImplementation(device)) {
    case AttentionImplementation::kCpuSimd:
      return "custom-cpu-simd";
    case AttentionImplementation::kMetalFused:
      return "custom-metal-fused";
    case AttentionImplementation::kMetalFallbackToCpu:
      return "metal-entry->cpu-kernel";
    case AttentionImplementation::kUnavailable:
      break;
  }
  return "unavailable";
}

bool attentionUsesFallback(runtime::Device device) {
  bool fallback = false;
  (void)guard([&] { fallback = !lc::device_available(device_of(device).kind); });
  return fallback;
}

runtime::Status attentionForward(const float* q, const float* k, const float* v, float* out,
                                 const AttentionConfig& cfg, runtime::Device device) {
  return attentionForwardWithPolicy(q, k, v, out, cfg, device, AttentionIoPolicy{});
}

runtime::Status attentionForwardWithPolicy(const float* q, const float* k, const float* v,
                                           float* out, const AttentionConfig& cfg,
                                           runtime::Device device,
                                           const AttentionIoPolicy& policy) {
  return guard([&] {
    lc::attention_forward(convert(cfg), device_of(device), lc::DType::kFloat32, q, k, v, out,
                          convert(policy));
  });
}

runtime::Status attentionTrainStep(const float* q, const float* k, float* v, const float* target,
                                   float* out, float learning_rate, const AttentionConfig& cfg,
                                   runtime::Device device, float* loss_out) {
  return attentionTrainStepWithPolicy(q, k, v, target, out, learning_rate, cfg, device, loss_out,
                                      AttentionIoPolicy{});
}

runtime::Status attentionTrainStepWithPolicy(const float* q, const float* k, float* v,
                                             const float* target, float* out, float learning_rate,
                                             const AttentionConfig& cfg, runtime::Device device,
                                             float* loss_out, const AttentionIoPolicy& policy) {
  return guard([&] {
    if (policy.download_out && out == nullptr)
      lc::throw_arg("attention", "out", "memory", "a null pointer");
    const double loss = lc::attention_train_step(
        convert(cfg), device_of(device), lc::DType::kFloat32, q, k, v, target, out,
        static_cast<double>(learning_rate), convert(policy), loss_out != nullptr);
    if (loss_out != nullptr) *loss_out = static_cast<float>(loss);
  });
}

struct AttentionSession::Impl {
  std::unique_ptr<lc::AttentionRunner> runner;
};

AttentionSession::AttentionSession(const AttentionConfig& cfg, runtime::Device device)
    : cfg_(cfg), device_(device), impl_(std::make_unique<Impl>()) {
  if (device != runtime::Device::kCPU) {
    policy_.synchronize = false;
    policy_.loss_every = 0;
  }
  (void)guard([&] {
    impl_->runner = std::make_unique<lc::AttentionRunner>(convert(cfg), device_of(device));
  });
}
AttentionSession::~AttentionSession() = default;
AttentionSession::AttentionSession(const AttentionSession& other)
    : AttentionSession(other.cfg_, other.device_) {
  policy_ = other.policy_;
}
AttentionSession& AttentionSession::operator=(const AttentionSession& other) {
  if (this != &other) {
    AttentionSession copy(other);
    cfg_ = copy.cfg_;
    device_ = copy.device_;
    policy_ = copy.policy_;
    impl_.swap(copy.impl_);
  }
  return *this;
}

const AttentionConfig& AttentionSession::config() const { return cfg_; }
runtime::Device AttentionSession::device() const { return device_; }
void AttentionSession::setDefaultPolicy(const AttentionIoPolicy& policy) { policy_ = policy; }
const AttentionIoPolicy& AttentionSession::defaultPolicy() const { return policy_; }

runtime::Status AttentionSession::forward(const float* q, const float* k, const float* v,
                                          float* out) const {
  return forwardWithPolicy(q, k, v, out, policy_);
}

runtime::Status AttentionSession::forwardWithPolicy(const float* q, const float* k, const float* v,
                                                    float* out,
                                                    const AttentionIoPolicy& policy) const {
  return guard([&] {
    if (impl_->runner == nullptr)
      lc::throw_arg("attention", "config", "seq_len and head_dim of 1 or more", "0");
    const lc::AttentionPolicy io = convert(policy);
    impl_->runner->forward(q, k, v, out, &io);
  });
}

runtime::Status AttentionSession::trainStep(const float* q, const float* k, float* v,
                                            const float* target, float* out, float learning_rate,
                                            float* loss_out) const {
  return trainStepWithPolicy(q, k, v, target, out, learning_rate, loss_out, policy_);
}

runtime::Status AttentionSession::trainStepWithPolicy(const float* q, const float* k, float* v,
                                                      const float* target, float* out,
                                                      float learning_rate, float* loss_out,
                                                      const AttentionIoPolicy& policy) const {
  return guard([&] {
    if (impl_->runner == nullptr)
      lc::throw_arg("attention", "config", "seq_len and head_dim of 1 or more", "0");
    if (policy.download_out && out == nullptr)
      lc::throw_arg("attention", "out", "memory", "a null pointer");
    const lc::AttentionPolicy io = convert(policy);
    const double loss =
        impl_->runner->train_step(q, k, v, target, out, static_cast<double>(learning_rate), &io);
    if (loss_out != nullptr) *loss_out = static_cast<float>(loss);
  });
}

}  // namespace lightning_core
