// The reference's C++ ops, for float and double. Every function returns a Status and throws
// nothing: null pointers and zero sizes give kInvalidValue, a device that is absent means the CPU.
#pragma once

#include <cstddef>

#include "lightning_core/core/detail/ops_bridge.hpp"
#include "lightning_core/core/ops/policy.hpp"
#include "lightning_core/core/runtime.hpp"

namespace lightning_core::ops {

/// Forgets tuned choices and reads the environment again.
runtime::Status matMulMetalResetTuning();

// Vectors: out[i] = a[i] + b[i].

template <typename T>
runtime::Status vectorAddWithPolicy(const T* a, const T* b, T* out, std::size_t n,
                                    runtime::Device device, const VectorAddIoPolicy& policy) {
  return detail::elementwise(detail::Elementwise::kVectorAdd, detail::typeOf<T>(), a, b, out, 1, n,
                             device, detail::ioOf(policy));
}
template <typename T>
runtime::Status vectorAdd(const T* a, const T* b, T* out, std::size_t n, runtime::Device device) {
  return vectorAddWithPolicy(a, b, out, n, device, VectorAddIoPolicy{});
}
template <typename T>
runtime::Status vectorAddMetalResidentStart(const T* a, const T* b, T* out, std::size_t n) {
  return vectorAddWithPolicy(a, b, out, n, runtime::Device::kMetal,
                             makeMetalVectorResidentStartPolicy());
}
template <typename T>
runtime::Status vectorAddMetalResidentRun(const T* a, const T* b, T* out, std::size_t n) {
  return vectorAddWithPolicy(a, b, out, n, runtime::Device::kMetal,
                             makeMetalVectorResidentRunPolicy());
}
template <typename T>
runtime::Status vectorAddMetalResidentFinish(const T* a, const T* b, T* out, std::size_t n) {
  return vectorAddWithPolicy(a, b, out, n, runtime::Device::kMetal,
                             makeMetalVectorResidentFinishPolicy());
}

// Matrices: out[m, n] = a[m, k] b[k, n].

template <typename T>
runtime::Status matMulWithPolicy(const T* a, const T* b, T* out, std::size_t m, std::size_t k,
                                 std::size_t n, runtime::Device device,
                                 const MatMulIoPolicy& policy) {
  return detail::matMul(detail::typeOf<T>(), a, b, out, m, k, n, device, detail::ioOf(policy));
}
template <typename T>
runtime::Status matMul(const T* a, const T* b, T* out, std::size_t m, std::size_t k, std::size_t n,
                       runtime::Device device) {
  return matMulWithPolicy(a, b, out, m, k, n, device, MatMulIoPolicy{});
}
template <typename T>
runtime::Status matMulMetalResidentStart(const T* a, const T* b, T* out, std::size_t m,
                                         std::size_t k, std::size_t n) {
  return matMulWithPolicy(a, b, out, m, k, n, runtime::Device::kMetal,
                          makeMetalResidentStartPolicy());
}
template <typename T>
runtime::Status matMulMetalResidentRun(const T* a, const T* b, T* out, std::size_t m, std::size_t k,
                                       std::size_t n) {
  return matMulWithPolicy(a, b, out, m, k, n, runtime::Device::kMetal,
                          makeMetalResidentRunPolicy());
}
template <typename T>
runtime::Status matMulMetalResidentFinish(const T* a, const T* b, T* out, std::size_t m,
                                          std::size_t k, std::size_t n) {
  return matMulWithPolicy(a, b, out, m, k, n, runtime::Device::kMetal,
                          makeMetalResidentFinishPolicy());
}
template <typename T>
runtime::Status matMulMetalResidentSync(const T* a, const T* b, T* out, std::size_t m,
                                        std::size_t k, std::size_t n) {
  return matMulWithPolicy(a, b, out, m, k, n, runtime::Device::kMetal,
                          makeMetalResidentSyncPolicy());
}
/// `repeat_count` products, then a wait. `out` is not written.
template <typename T>
runtime::Status matMulMetalResidentBatchNoDownload(const T* a, const T* b, T* out, std::size_t m,
                                                   std::size_t k, std::size_t n,
                                                   std::size_t repeat_count) {
  return detail::matMul(detail::typeOf<T>(), a, b, out, m, k, n, runtime::Device::kMetal,
                        detail::ioOf(makeMetalResidentSyncPolicy()), repeat_count);
}
/// As above; null pointers are refused whatever is resident.
template <typename T>
runtime::Status matMulMetalResidentBatchSync(const T* a, const T* b, T* out, std::size_t m,
                                             std::size_t k, std::size_t n,
                                             std::size_t repeat_count) {
  if (a == nullptr || b == nullptr || out == nullptr) return runtime::Status::kInvalidValue;
  return matMulMetalResidentBatchNoDownload(a, b, out, m, k, n, repeat_count);
}

// Matrices, element by element: a - b and a / b.

template <typename T>
runtime::Status matrixSubWithPolicy(const T* a, const T* b, T* out, std::size_t rows,
                                    std::size_t cols, runtime::Device device,
                                    const MatrixElementwiseIoPolicy& policy) {
  return detail::elementwise(detail::Elementwise::kMatrixSub, detail::typeOf<T>(), a, b, out, rows,
                             cols, device, detail::ioOf(policy));
}
template <typename T>
runtime::Status matrixSub(const T* a, const T* b, T* out, std::size_t rows, std::size_t cols,
                          runtime::Device device) {
  return matrixSubWithPolicy(a, b, out, rows, cols, device, MatrixElementwiseIoPolicy{});
}
template <typename T>
runtime::Status matrixSubMetalResidentStart(const T* a, const T* b, T* out, std::size_t rows,
                                            std::size_t cols) {
  return matrixSubWithPolicy(a, b, out, rows, cols, runtime::Device::kMetal,
                             makeMetalElemwiseResidentStartPolicy());
}
template <typename T>
runtime::Status matrixSubMetalResidentRun(const T* a, const T* b, T* out, std::size_t rows,
                                          std::size_t cols) {
  return matrixSubWithPolicy(a, b, out, rows, cols, runtime::Device::kMetal,
                             makeMetalElemwiseResidentRunPolicy());
}
template <typename T>
runtime::Status matrixSubMetalResidentFinish(const T* a, const T* b, T* out, std::size_t rows,
                                             std::size_t cols) {
  return matrixSubWithPolicy(a, b, out, rows, cols, runtime::Device::kMetal,
                             makeMetalElemwiseResidentFinishPolicy());
}

template <typename T>
runtime::Status matrixDivWithPolicy(const T* a, const T* b, T* out, std::size_t rows,
                                    std::size_t cols, runtime::Device device,
                                    const MatrixElementwiseIoPolicy& policy) {
  return detail::elementwise(detail::Elementwise::kMatrixDiv, detail::typeOf<T>(), a, b, out, rows,
                             cols, device, detail::ioOf(policy));
}
template <typename T>
runtime::Status matrixDiv(const T* a, const T* b, T* out, std::size_t rows, std::size_t cols,
                          runtime::Device device) {
  return matrixDivWithPolicy(a, b, out, rows, cols, device, MatrixElementwiseIoPolicy{});
}
template <typename T>
runtime::Status matrixDivMetalResidentStart(const T* a, const T* b, T* out, std::size_t rows,
                                            std::size_t cols) {
  return matrixDivWithPolicy(a, b, out, rows, cols, runtime::Device::kMetal,
                             makeMetalElemwiseResidentStartPolicy());
}
template <typename T>
runtime::Status matrixDivMetalResidentRun(const T* a, const T* b, T* out, std::size_t rows,
                                          std::size_t cols) {
  return matrixDivWithPolicy(a, b, out, rows, cols, runtime::Device::kMetal,
                             makeMetalElemwiseResidentRunPolicy());
}
template <typename T>
runtime::Status matrixDivMetalResidentFinish(const T* a, const T* b, T* out, std::size_t rows,
                                             std::size_t cols) {
  return matrixDivWithPolicy(a, b, out, rows, cols, runtime::Device::kMetal,
                             makeMetalElemwiseResidentFinishPolicy());
}

// Cross-correlation, x [batch, in_channels, in_h, in_w], w [out_channels, in_channels, kernel_h,
// kernel_w], bias [out_channels] or null.

template <typename T>
runtime::Status conv2dNchw(const T* x, const T* w, const T* bias, T* out, std::size_t batch,
                           std::size_t in_channels, std::size_t in_h, std::size_t in_w,
                           std::size_t out_channels, std::size_t kernel_h, std::size_t kernel_w,
                           std::size_t stride_h, std::size_t stride_w, std::size_t pad_h,
                           std::size_t pad_w, runtime::Device device, bool apply_relu = false) {
  return detail::conv2d(detail::typeOf<T>(), x, w, bias, out,
                        {batch, in_channels, in_h, in_w, out_channels, kernel_h, kernel_w, stride_h,
                         stride_w, pad_h, pad_w},
                        device, {}, apply_relu, false);
}
template <typename T>
runtime::Status conv2dNchwWithPolicy(const T* x, const T* w, const T* bias, T* out,
                                     std::size_t batch, std::size_t in_channels, std::size_t in_h,
                                     std::size_t in_w, std::size_t out_channels,
                                     std::size_t kernel_h, std::size_t kernel_w,
                                     std::size_t stride_h, std::size_t stride_w, std::size_t pad_h,
                                     std::size_t pad_w, runtime::Device device,
                                     const Conv2dIoPolicy& policy, bool apply_relu = false) {
  const unsigned upload =
      (policy.upload_x ? 1u : 0u) | (policy.upload_w ? 2u : 0u) | (policy.upload_bias ? 4u : 0u);
  return detail::conv2d(detail::typeOf<T>(), x, w, bias, out,
                        {batch, in_channels, in_h, in_w, out_channels, kernel_h, kernel_w, stride_h,
                         stride_w, pad_h, pad_w},
                        device, {upload, policy.download_out, policy.synchronize}, apply_relu,
                        true);
}
template <typename T>
runtime::Status conv2dNchwMetalResidentStart(const T* x, const T* w, const T* bias, T* out,
                                             std::size_t batch, std::size_t in_channels,
                                             std::size_t in_h, std::size_t in_w,
                                             std::size_t out_channels, std::size_t kernel_h,
                                             std::size_t kernel_w, std::size_t stride_h,
                                             std::size_t stride_w, std::size_t pad_h,
                                             std::size_t pad_w, bool apply_relu = false) {
  return conv2dNchwWithPolicy(x, w, bias, out, batch, in_channels, in_h, in_w, out_channels,
                              kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
                              runtime::Device::kMetal, makeMetalConvResidentStartPolicy(),
                              apply_relu);
}
template <typename T>
runtime::Status conv2dNchwMetalResidentRun(const T* x, const T* w, const T* bias, T* out,
                                           std::size_t batch, std::size_t in_channels,
                                           std::size_t in_h, std::size_t in_w,
                                           std::size_t out_channels, std::size_t kernel_h,
                                           std::size_t kernel_w, std::size_t stride_h,
                                           std::size_t stride_w, std::size_t pad_h,
                                           std::size_t pad_w, bool apply_relu = false) {
  return conv2dNchwWithPolicy(x, w, bias, out, batch, in_channels, in_h, in_w, out_channels,
                              kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
                              runtime::Device::kMetal, makeMetalConvResidentRunPolicy(),
                              apply_relu);
}
template <typename T>
runtime::Status conv2dNchwMetalResidentSync(const T* x, const T* w, const T* bias, T* out,
                                            std::size_t batch, std::size_t in_channels,
                                            std::size_t in_h, std::size_t in_w,
                                            std::size_t out_channels, std::size_t kernel_h,
                                            std::size_t kernel_w, std::size_t stride_h,
                                            std::size_t stride_w, std::size_t pad_h,
                                            std::size_t pad_w, bool apply_relu = false) {
  return conv2dNchwWithPolicy(x, w, bias, out, batch, in_channels, in_h, in_w, out_channels,
                              kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
                              runtime::Device::kMetal, makeMetalConvResidentSyncPolicy(),
                              apply_relu);
}
template <typename T>
runtime::Status conv2dNchwMetalResidentFinish(const T* x, const T* w, const T* bias, T* out,
                                              std::size_t batch, std::size_t in_channels,
                                              std::size_t in_h, std::size_t in_w,
                                              std::size_t out_channels, std::size_t kernel_h,
                                              std::size_t kernel_w, std::size_t stride_h,
                                              std::size_t stride_w, std::size_t pad_h,
                                              std::size_t pad_w, bool apply_relu = false) {
  return conv2dNchwWithPolicy(x, w, bias, out, batch, in_channels, in_h, in_w, out_channels,
                              kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
                              runtime::Device::kMetal, makeMetalConvResidentFinishPolicy(),
                              apply_relu);
}

// Resident sessions: each owns its buffers, and only finish() writes `out`. start() uploads; the
// later calls read what is resident and look at a and b only for operands that are not.

template <typename T>
class MatMulMetalResidentSession {
 public:
  explicit MatMulMetalResidentSession(std::size_t m, std::size_t k, std::size_t n)
      : session_(detail::typeOf<T>(), m, k, n) {}

  runtime::Status start(const T* a, const T* b, T* out) const {
    (void)out;
    return session_.start(a, b);
  }
  runtime::Status run(const T* a, const T* b, T* out) const {
    (void)out;
    return session_.run(a, b, 1, false);
  }
  runtime::Status finish(const T* a, const T* b, T* out) const {
    return session_.finish(a, b, out);
  }
  runtime::Status sync(const T* a, const T* b, T* out) const {
    (void)out;
    return session_.run(a, b, 1, true);
  }
  runtime::Status runBatchSync(const T* a, const T* b, T* out, std::size_t repeat_count) const {
    (void)out;
    return session_.run(a, b, repeat_count, true);
  }
  runtime::Status runBatchSyncNoDownload(const T* a, const T* b, T* out,
                                         std::size_t repeat_count) const {
    (void)out;
    return session_.run(a, b, repeat_count, true);
  }
  /// Refused before the first start().
  runtime::Status runBatchSyncCachedNoDownload(std::size_t repeat_count) const {
    return session_.run(nullptr, nullptr, repeat_count, true);
  }

 private:
  detail::Resident session_;
};

template <typename T>
class MatrixElemwiseMetalResidentSession {
 public:
  explicit MatrixElemwiseMetalResidentSession(std::size_t rows, std::size_t cols)
      : sub_(detail::Elementwise::kMatrixSub, detail::typeOf<T>(), rows, cols),
        div_(detail::Elementwise::kMatrixDiv, detail::typeOf<T>(), rows, cols) {}

  runtime::Status subStart(const T* a, const T* b, T* out) const {
    (void)out;
    return sub_.start(a, b);
  }
  runtime::Status subRun(const T* a, const T* b, T* out) const {
    (void)out;
    return sub_.run(a, b, 1, false);
  }
  runtime::Status subFinish(const T* a, const T* b, T* out) const { return sub_.finish(a, b, out); }
  runtime::Status divStart(const T* a, const T* b, T* out) const {
    (void)out;
    return div_.start(a, b);
  }
  runtime::Status divRun(const T* a, const T* b, T* out) const {
    (void)out;
    return div_.run(a, b, 1, false);
  }
  runtime::Status divFinish(const T* a, const T* b, T* out) const { return div_.finish(a, b, out); }

 private:
  detail::Resident sub_;
  detail::Resident div_;
};

template <typename T>
class VectorAddMetalResidentSession {
 public:
  explicit VectorAddMetalResidentSession(std::size_t n)
      : session_(detail::Elementwise::kVectorAdd, detail::typeOf<T>(), 1, n) {}

  runtime::Status start(const T* a, const T* b, T* out) const {
    (void)out;
    return session_.start(a, b);
  }
  runtime::Status run(const T* a, const T* b, T* out) const {
    (void)out;
    return session_.run(a, b, 1, false);
  }
  runtime::Status finish(const T* a, const T* b, T* out) const {
    return session_.finish(a, b, out);
  }
  /// run() for each entry; the first refusal ends it.
  runtime::Status runBatch(const T* const* a_list, const T* const* b_list, T* const* out_list,
                           std::size_t count) const {
    if (a_list == nullptr || b_list == nullptr || out_list == nullptr || count == 0)
      return runtime::Status::kInvalidValue;
    for (std::size_t i = 0; i < count; ++i) {
      const runtime::Status status = run(a_list[i], b_list[i], out_list[i]);
      if (status != runtime::Status::kSuccess) return status;
    }
    return runtime::Status::kSuccess;
  }

 private:
  detail::Resident session_;
};

}  // namespace lightning_core::ops
