// A program written for the reference may call its namespace `lc`: the headers under core/, and the
// wrappers that are theirs alone, leave that name free.
#include <gtest/gtest.h>

#include "lightning_core/apple_ml.hpp"
#include "lightning_core/attention.hpp"
#include "lightning_core/core/ops.hpp"
#include "lightning_core/core/tensor.hpp"
#include "lightning_core/model_customization.hpp"
#include "lightning_core/models/dnn_cnn_fastpath.hpp"
#include "lightning_core/models/graph_fastpath.hpp"
#include "lightning_core/models/lstm_rnn_fastpath.hpp"
#include "lightning_core/models/transformer_fastpath.hpp"
#include "lightning_core/models/vlm_fastpath.hpp"
#include "lightning_core/ops/policy.hpp"
#include "lightning_core/runtime.hpp"

namespace lc = lightning_core;

TEST(CompatAlias, ReferenceProgram) {
  using namespace cudajun;
  lc::Tensor t({2, 2});
  EXPECT_EQ(t.fromHost({1, 2, 3, 4}), lc::runtime::Status::kSuccess);
  float out[4] = {};
  EXPECT_EQ(lc::ops::matMul<float>(t.cpuData(), t.cpuData(), out, 2, 2, 2, lc::Device::kCPU),
            runtime::Status::kSuccess);
  EXPECT_EQ(out[3], 22);
}
