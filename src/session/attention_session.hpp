// The reference's attention functions: forward with an I/O policy and post-processing, one training
// step of V, and a session that samples the loss. One implementation for C++ and Python.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lightning_core/dispatch.hpp"

namespace lc {

struct AttentionShape {
  int64_t seq_len = 0;
  int64_t head_dim = 0;
  bool causal = false;
};

/// Defaults are the reference's AttentionIoPolicy.
struct AttentionPolicy {
  bool upload_q = true;
  bool upload_k = true;
  bool upload_v = true;
  bool upload_target = true;
  bool download_out = true;
  bool download_v = true;
  bool synchronize = true;
  int loss_every = 1;  ///< training: steps between two computed losses; 0 = by shape
  double output_scale = 1;
  double output_bias = 0;
  bool output_relu = false;
};

/// The interval that loss_every = 0 stands for.
[[nodiscard]] int attention_loss_interval(int64_t seq_len, int64_t head_dim) noexcept;

/// out = post(softmax(q k^T / sqrt(head_dim)) v), post(x) = x * scale + bias, then relu if asked.
/// Operands are row-major [seq_len, head_dim] float32 or float64, all alike. An operand whose
/// upload flag is off must not be null here either: without a session nothing is resident, and null
/// is kInvalidValue. With download_out off, `out` is not written and may be null.
void attention_forward(const AttentionShape& shape, Device device, DType dtype, const void* q,
                       const void* k, const void* v, void* out, const AttentionPolicy& policy = {});

/// One gradient step on V alone for loss = mean((out - target)^2):
/// v -= learning_rate * P^T (2 (out - target) / numel). `out` gets the forward result before the
/// update (null or download_out off: not written); v is updated in place unless download_v is off.
/// Returns the loss, or -1 if `with_loss` is false. Throws kInvalidValue for learning_rate <= 0.
double attention_train_step(const AttentionShape& shape, Device device, DType dtype, const void* q,
                            const void* k, void* v, const void* target, void* out,
                            double learning_rate, const AttentionPolicy& policy = {},
                            bool with_loss = true);

/// Default policy of a session: on "cpu" synchronise and a loss every step; elsewhere neither, with
/// the loss interval by shape.
class AttentionRunner {
 public:
  /// Throws kInvalidValue for extents below 1.
  AttentionRunner(const AttentionShape& shape, Device device, DType dtype = DType::kFloat32);
  ~AttentionRunner();
  AttentionRunner(AttentionRunner&&) noexcept;
  AttentionRunner& operator=(AttentionRunner&&) noexcept;

  [[nodiscard]] const AttentionShape& shape() const noexcept;
  [[nodiscard]] Device device() const noexcept;
  void set_default_policy(const AttentionPolicy& policy);
  [[nodiscard]] AttentionPolicy default_policy() const;

  /// Operands whose upload flag is off are read from the session's own copies of the last call that
  /// uploaded them; kInvalidValue naming the operand if there is none. Null `policy`: the default.
  void forward(const void* q, const void* k, const void* v, void* out,
               const AttentionPolicy* policy = nullptr);
  /// Returns the last sampled loss, a fresh one every policy.loss_every steps.
  double train_step(const void* q, const void* k, void* v, const void* target, void* out,
                    double learning_rate, const AttentionPolicy* policy = nullptr);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lc
