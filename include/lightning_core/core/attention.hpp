// The reference's attention functions: one head, q, k, v and out row-major [seq_len, head_dim].
#pragma once

#include <cstddef>
#include <memory>

#include "lightning_core/core/runtime.hpp"

namespace lightning_core {

struct AttentionConfig {
  std::size_t seq_len;
  std::size_t head_dim;
  bool causal;
};

struct AttentionIoPolicy {
  bool upload_q = true;
  bool upload_k = true;
  bool upload_v = true;
  bool upload_target = true;
  bool download_out = true;  ///< off: `out` is never written
  bool download_v = true;
  bool synchronize = true;
  /// Training: compute the loss every so many steps of a session; 0 chooses by shape.
  int loss_every = 1;
  // Of the forward pass: out = out * output_scale + output_bias, then max(out, 0) if asked.
  float output_scale = 1.0f;
  float output_bias = 0.0f;
  bool output_relu = false;
};

enum class AttentionImplementation { kCpuSimd, kMetalFused, kMetalFallbackToCpu, kUnavailable };

AttentionImplementation attentionImplementation(runtime::Device device);
const char* attentionImplementationName(runtime::Device device);
/// True where a call for the device runs on the CPU instead.
bool attentionUsesFallback(runtime::Device device);

runtime::Status attentionForward(const float* q, const float* k, const float* v, float* out,
                                 const AttentionConfig& cfg, runtime::Device device);
runtime::Status attentionForwardWithPolicy(const float* q, const float* k, const float* v,
                                           float* out, const AttentionConfig& cfg,
                                           runtime::Device device, const AttentionIoPolicy& policy);

/// One step on v alone for loss = mean((out - target)^2). `out` is the forward result before the
/// update. `loss_out` may be null.
runtime::Status attentionTrainStep(const float* q, const float* k, float* v, const float* target,
                                   float* out, float learning_rate, const AttentionConfig& cfg,
                                   runtime::Device device, float* loss_out);
runtime::Status attentionTrainStepWithPolicy(const float* q, const float* k, float* v,
                                             const float* target, float* out, float learning_rate,
                                             const AttentionConfig& cfg, runtime::Device device,
                                             float* loss_out, const AttentionIoPolicy& policy);

/// Keeps what its policies leave resident (a call with download_out off), and samples the loss.
/// Safe from several threads. A configuration with a zero extent constructs; its calls are refused.
class AttentionSession {
 public:
  AttentionSession(const AttentionConfig& cfg, runtime::Device device);
  ~AttentionSession();
  /// A copy has the configuration and policy, and nothing resident.
  AttentionSession(const AttentionSession& other);
  AttentionSession& operator=(const AttentionSession& other);

  const AttentionConfig& config() const;
  runtime::Device device() const;
  void setDefaultPolicy(const AttentionIoPolicy& policy);
  const AttentionIoPolicy& defaultPolicy() const;

  runtime::Status forward(const float* q, const float* k, const float* v, float* out) const;
  runtime::Status forwardWithPolicy(const float* q, const float* k, const float* v, float* out,
                                    const AttentionIoPolicy& policy) const;
  runtime::Status trainStep(const float* q, const float* k, float* v, const float* target,
                            float* out, float learning_rate, float* loss_out) const;
  runtime::Status trainStepWithPolicy(const float* q, const float* k, float* v, const float* target,
                                      float* out, float learning_rate, float* loss_out,
                                      const AttentionIoPolicy& policy) const;

 private:
  struct Impl;
  AttentionConfig cfg_;
  runtime::Device device_;
  AttentionIoPolicy policy_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lightning_core
