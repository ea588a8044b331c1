// Activation epilogue shared by matmul, linear and conv2d: the words of their `activation`
// attribute, in this order.
#pragma once

#include <cstdint>

namespace lc {

enum class Activation : uint8_t { kNone, kRelu, kGelu, kGeluTanh, kSilu, kSigmoid, kTanh };

#define LC_ACTIVATION_WORDS {"none", "relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}

/// Float64 value, for references.
[[nodiscard]] double activate(Activation activation, double x);

}  // namespace lc
