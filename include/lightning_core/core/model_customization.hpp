// The reference's presets: what a kind of model moves and computes at each stage of its loop.
#pragma once

#include <cstddef>

#include "lightning_core/core/attention.hpp"
#include "lightning_core/core/ops.hpp"

namespace lightning_core {

enum class ModelFamily { kTransformer, kLstm, kRnn, kDnn, kCnn, kGcn, kGat, kVlm };
enum class ExecutionMode { kTraining, kInference };
enum class LoopStage { kOneShot, kStart, kRun, kFinish };

struct ModelCustomization {
  ModelFamily family = ModelFamily::kTransformer;
  ExecutionMode mode = ExecutionMode::kTraining;
  bool resident_io = true;
  bool prefer_enqueue_only_loop = true;
  std::size_t vector_oneshot_crossover_n = std::size_t{8} << 20;
  bool vector_crossover_dynamic = false;
  int attention_loss_every = 0;
  float attention_output_scale = 1.0f;
  float attention_output_bias = 0.0f;
  bool attention_output_relu = false;
};

inline bool isTraining(ExecutionMode mode) { return mode == ExecutionMode::kTraining; }

inline ModelCustomization makeAggressiveCustomization(ModelFamily family, ExecutionMode mode,
                                                      std::size_t seq_len = 0,
                                                      std::size_t hidden_dim = 0) {
  (void)hidden_dim;
  struct Preset {
    std::size_t crossover_mi;
    int loss_every;
  };
  Preset preset{8, seq_len >= 1024 ? 16 : 8};
  switch (family) {
    case ModelFamily::kTransformer:
    case ModelFamily::kVlm:
      break;
    case ModelFamily::kLstm:
    case ModelFamily::kRnn:
      preset = {1, 8};
      break;
    case ModelFamily::kDnn:
    case ModelFamily::kCnn:
      preset = {4, 4};
      break;
    case ModelFamily::kGcn:
    case ModelFamily::kGat:
      preset = {2, 6};
      break;
  }
  ModelCustomization c;
  c.family = family;
  c.mode = mode;
  c.vector_oneshot_crossover_n = preset.crossover_mi << 20;
  c.attention_loss_every = isTraining(mode) ? preset.loss_every : 1;
  return c;
}

namespace detail {

/// The policy of a stage, of policies that are alike but for their type.
template <typename Policy>
Policy policyForStage(bool resident, LoopStage stage, const Policy& start, const Policy& run,
                      const Policy& finish) {
  if (!resident) return Policy{};
  switch (stage) {
    case LoopStage::kOneShot:
      break;
    case LoopStage::kStart:
      return start;
    case LoopStage::kRun:
      return run;
    case LoopStage::kFinish:
      return finish;
  }
  return Policy{};
}

inline ops::MatMulIoPolicy matMulForStage(bool resident, LoopStage stage) {
  return policyForStage(resident, stage, ops::makeMetalResidentStartPolicy(),
                        ops::makeMetalResidentRunPolicy(), ops::makeMetalResidentFinishPolicy());
}
inline ops::VectorAddIoPolicy vectorForStage(bool resident, LoopStage stage) {
  return policyForStage(resident, stage, ops::makeMetalVectorResidentStartPolicy(),
                        ops::makeMetalVectorResidentRunPolicy(),
                        ops::makeMetalVectorResidentFinishPolicy());
}

}  // namespace detail

inline ops::MatMulIoPolicy makeMatMulPolicyForLoop(const ModelCustomization& c, LoopStage stage) {
  return detail::matMulForStage(c.resident_io, stage);
}

inline ops::MatrixElementwiseIoPolicy makeElemwisePolicyForLoop(const ModelCustomization& c,
                                                                LoopStage stage) {
  return detail::policyForStage(c.resident_io, stage, ops::makeMetalElemwiseResidentStartPolicy(),
                                ops::makeMetalElemwiseResidentRunPolicy(),
                                ops::makeMetalElemwiseResidentFinishPolicy());
}

inline ops::VectorAddIoPolicy makeVectorPolicyForLoop(const ModelCustomization& c,
                                                      LoopStage stage) {
  return detail::vectorForStage(c.resident_io, stage);
}

inline AttentionIoPolicy makeAttentionPolicyForLoop(const ModelCustomization& c, LoopStage stage) {
  AttentionIoPolicy p;
  p.loss_every = c.attention_loss_every;
  p.output_scale = c.attention_output_scale;
  p.output_bias = c.attention_output_bias;
  p.output_relu = c.attention_output_relu;
  if (!c.resident_io || stage == LoopStage::kOneShot) return p;
  const bool finish = stage == LoopStage::kFinish;
  p.upload_q = p.upload_k = p.upload_v = p.upload_target = stage == LoopStage::kStart;
  p.download_out = p.synchronize = finish;
  p.download_v = finish && isTraining(c.mode);
  return p;
}

}  // namespace lightning_core
