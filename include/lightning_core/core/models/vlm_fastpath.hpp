#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "lightning_core/core/attention.hpp"
#include "lightning_core/core/model_customization.hpp"
#include "lightning_core/core/ops.hpp"

namespace lightning_core::models {

struct VlmFastPathConfig {
  std::size_t image_tokens = 0;
  std::size_t text_tokens = 0;
  std::size_t vision_dim = 0;
  std::size_t text_dim = 0;
  std::size_t fused_dim = 0;
  std::size_t image_channels = 3;
  std::size_t patch_size = 16;
  bool training = true;
};

class VlmFastPath {
 public:
  VlmFastPath(const VlmFastPathConfig& cfg, runtime::Device device)
      : cfg_(cfg),
        device_(device),
        custom_(makeAggressiveCustomization(
            ModelFamily::kVlm, cfg.training ? ExecutionMode::kTraining : ExecutionMode::kInference,
            cfg.image_tokens + cfg.text_tokens, cfg.fused_dim)) {}

  const VlmFastPathConfig& config() const { return cfg_; }
  runtime::Device device() const { return device_; }
  const ModelCustomization& customization() const { return custom_; }

  ops::MatMulIoPolicy projectionPolicy(LoopStage stage) const {
    return makeMatMulPolicyForLoop(custom_, stage);
  }
  AttentionIoPolicy fusionPolicy(LoopStage stage) const {
    return makeAttentionPolicyForLoop(custom_, stage);
  }

  /// image_tokens [image_tokens, vision_dim] w_vision [vision_dim, fused_dim].
  runtime::Status projectVision(const float* image_tokens, const float* w_vision, float* image_proj,
                                LoopStage stage = LoopStage::kOneShot) const {
    return ops::matMulWithPolicy<float>(image_tokens, w_vision, image_proj, cfg_.image_tokens,
                                        cfg_.vision_dim, cfg_.fused_dim, device_,
                                        projectionPolicy(stage));
  }
  /// text_tokens [text_tokens, text_dim] w_text [text_dim, fused_dim].
  runtime::Status projectText(const float* text_tokens, const float* w_text, float* text_proj,
                              LoopStage stage = LoopStage::kOneShot) const {
    return ops::matMulWithPolicy<float>(text_tokens, w_text, text_proj, cfg_.text_tokens,
                                        cfg_.text_dim, cfg_.fused_dim, device_,
                                        projectionPolicy(stage));
  }
  /// q, k, v and out [image_tokens + text_tokens, fused_dim].
  runtime::Status runFusionAttention(const float* q, const float* k, const float* v, float* out,
                                     LoopStage stage = LoopStage::kOneShot) const {
    return attentionForwardWithPolicy(q, k, v, out, attention(), device_, fusionPolicy(stage));
  }

  /// Cuts an NHWC image into patches, in rows of patches, and projects them. The patches must be
  /// image_tokens of vision_dim = patch_size^2 * image_channels values each.
  runtime::Status patchEmbedFromImage(const float* image_nhwc, std::size_t image_h,
                                      std::size_t image_w, const float* w_patch, float* image_proj,
                                      LoopStage stage = LoopStage::kOneShot) const {
    const std::size_t size = cfg_.patch_size;
    const std::size_t row = size * cfg_.image_channels;  // values of a patch's row: consecutive
    if (image_nhwc == nullptr || w_patch == nullptr || image_proj == nullptr || row == 0 ||
        image_h == 0 || image_w == 0 || image_h % size != 0 || image_w % size != 0 ||
        (image_h / size) * (image_w / size) != cfg_.image_tokens || size * row != cfg_.vision_dim)
      return runtime::Status::kInvalidValue;
    std::vector<float> patches;
    patches.reserve(cfg_.image_tokens * cfg_.vision_dim);
    for (std::size_t top = 0; top < image_h; top += size)
      for (std::size_t left = 0; left < image_w; left += size)
        for (std::size_t y = top; y < top + size; ++y) {
          const float* from = image_nhwc + (y * image_w + left) * cfg_.image_channels;
          patches.insert(patches.end(), from, from + row);
        }
    return projectVision(patches.data(), w_patch, image_proj, stage);
  }

  /// Text queries over image and text keys: out_text [text_tokens, fused_dim].
  runtime::Status runCrossAttentionFast(const float* image_proj, const float* text_proj,
                                        float* out_text,
                                        LoopStage stage = LoopStage::kOneShot) const {
    if (image_proj == nullptr || text_proj == nullptr || out_text == nullptr)
      return runtime::Status::kInvalidValue;
    const std::size_t image = cfg_.image_tokens * cfg_.fused_dim;
    const std::size_t text = cfg_.text_tokens * cfg_.fused_dim;
    // One sequence of image and text; the queries of the image rows are zero and their results
    // dropped.
    std::vector<float> queries(image, 0.0f);
    queries.insert(queries.end(), text_proj, text_proj + text);
    std::vector<float> keys(image_proj, image_proj + image);
    keys.insert(keys.end(), text_proj, text_proj + text);
    std::vector<float> out(image + text, 0.0f);
    const AttentionIoPolicy policy = fusionPolicy(stage);
    const runtime::Status status = attentionForwardWithPolicy(
        queries.data(), keys.data(), keys.data(), out.data(), attention(), device_, policy);
    if (status != runtime::Status::kSuccess || !policy.download_out) return status;
    std::copy(out.begin() + static_cast<std::ptrdiff_t>(image), out.end(), out_text);
    return status;
  }

 private:
  AttentionConfig attention() const {
    return {cfg_.image_tokens + cfg_.text_tokens, cfg_.fused_dim, false};
  }

  VlmFastPathConfig cfg_;
  runtime::Device device_;
  ModelCustomization custom_;
};

}  // namespace lightning_core::models
