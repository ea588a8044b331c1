// What each call of a repeated loop moves: the reference's I/O policies and their named stages.
#pragma once

#include <cstddef>

namespace lightning_core::ops {

/// upload off: the operand must be resident already. download off: `out` is never written.
struct MatMulIoPolicy {
  bool upload_a = true;
  bool upload_b = true;
  bool download_out = true;
  bool synchronize = true;
};
struct MatrixElementwiseIoPolicy {
  bool upload_a = true;
  bool upload_b = true;
  bool download_out = true;
  bool synchronize = true;
};
struct VectorAddIoPolicy {
  bool upload_a = true;
  bool upload_b = true;
  bool download_out = true;
  bool synchronize = true;
};
struct Conv2dIoPolicy {
  bool upload_x = true;
  bool upload_w = true;
  bool upload_bias = true;
  bool download_out = true;
  bool synchronize = true;
};

// start: upload and compute. run: compute. sync: compute and wait. finish: compute, wait, download.

inline MatMulIoPolicy makeMetalResidentStartPolicy() { return {true, true, false, false}; }
inline MatMulIoPolicy makeMetalResidentRunPolicy() { return {false, false, false, false}; }
inline MatMulIoPolicy makeMetalResidentSyncPolicy() { return {false, false, false, true}; }
inline MatMulIoPolicy makeMetalResidentFinishPolicy() { return {false, false, true, true}; }

inline MatrixElementwiseIoPolicy makeMetalElemwiseResidentStartPolicy() {
  return {true, true, false, false};
}
inline MatrixElementwiseIoPolicy makeMetalElemwiseResidentRunPolicy() {
  return {false, false, false, false};
}
inline MatrixElementwiseIoPolicy makeMetalElemwiseResidentFinishPolicy() {
  return {false, false, true, true};
}

inline VectorAddIoPolicy makeMetalVectorResidentStartPolicy() { return {true, true, false, false}; }
inline VectorAddIoPolicy makeMetalVectorResidentRunPolicy() { return {false, false, false, false}; }
inline VectorAddIoPolicy makeMetalVectorResidentFinishPolicy() {
  return {false, false, true, true};
}

inline Conv2dIoPolicy makeMetalConvResidentStartPolicy() {
  return {true, true, true, false, false};
}
inline Conv2dIoPolicy makeMetalConvResidentRunPolicy() {
  return {false, false, false, false, false};
}
inline Conv2dIoPolicy makeMetalConvResidentSyncPolicy() {
  return {false, false, false, false, true};
}
inline Conv2dIoPolicy makeMetalConvResidentFinishPolicy() {
  return {false, false, false, true, true};
}

/// Elements up to which a one-shot vector add for an accelerator is worth the CPU instead; the
/// environment's CJ_VECTORADD_CPU_CROSSOVER_N, 8 Mi by default.
std::size_t vectorAddOneShotCrossoverN();
/// The same for a one-shot convolution, in multiply-adds: CJ_CONV2D_CPU_CROSSOVER_MACS, 260000.
std::size_t conv2dOneShotCpuCrossoverMacs();

}  // namespace lightning_core::ops
