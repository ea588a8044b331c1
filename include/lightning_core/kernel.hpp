// KernelDef: one candidate way to run an op on a device.
//
// A kernel file defines its candidates side by side with the code they launch. The planner walks a
// device's candidates of an op in order, keeps the first that supports the call (a policy may pin
// another), and remembers why the others refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>

#include "lightning_core/op_def.hpp"

namespace lc {

/// Yes, or the reason why not: a limit and the value seen. A refusal is data; the trace, explain()
/// and the error of a call that no candidate takes print the same text.
class Support {
 public:
  static Support yes() { return Support(); }
  static Support no(std::string reason) { return Support(std::move(reason)); }
  explicit operator bool() const { return ok_; }
  [[nodiscard]] const std::string& reason() const { return reason_; }

 private:
  Support() = default;
  explicit Support(std::string reason) : ok_(false), reason_(std::move(reason)) {}
  bool ok_ = true;
  std::string reason_;
};

/// What a kernel decides once, when its plan is made.
class Prepared {
 public:
  /// Scratch that run() hands to the launch, 64-byte aligned, uninitialised.
  int64_t workspace_bytes = 0;
  /// Bit i: input i must be row-major; the planner adds a copy step where it is not.
  uint32_t contiguous_inputs = 0;
  /// Bit i: output i must be row-major; the planner adds a temporary and a copy back.
  uint32_t contiguous_outputs = 0;
  /// Estimated run time for ranking and explain(), nanoseconds; 0: unknown.
  double estimate_ns = 0;

  /// Stores the kernel's own parameters (plain values, at most kParamBytes).
  template <typename P>
  P& set(const P& params) {
    static_assert(std::is_trivially_copyable_v<P> && sizeof(P) <= kParamBytes &&
                  alignof(P) <= alignof(std::max_align_t));
    return *new (params_) P(params);
  }
  template <typename P>
  [[nodiscard]] const P& get() const {
    return *reinterpret_cast<const P*>(params_);
  }

 private:
  static constexpr size_t kParamBytes = 512;
  alignas(std::max_align_t) unsigned char params_[kParamBytes];
};

/// A stream of work of one device. On the CPU work is done when launch() returns.
class Encoder {
 public:
  virtual ~Encoder() = default;
};

struct Launch {
  const View* in;  ///< as the call's, row-major where Prepared asked for it
  const View* out;
  int n_in;
  const Prepared& prepared;
  void* workspace;
  Encoder& encoder;
};

struct KernelDef {
  const char* op;        ///< name of the OpDef
  const char* name;      ///< of the variant: "packed"; traced as "cpu/matmul:packed@avx512"
  const char* isa = "";  ///< filled by the CPU backend; empty for kernels without SIMD
  Support (*supports)(const OpCall&, const DeviceInfo&) = nullptr;
  void (*prepare)(const OpCall&, const DeviceInfo&, Prepared&) = nullptr;
  /// Must not throw: all that can fail fails in plan() or before the launch.
  void (*launch)(const Launch&) = nullptr;
  /// Floating dtypes that operands may have. Where a float16 or bfloat16 operand is not among them,
  /// the planner offers the call in float32, with conversion steps around the kernel.
  DTypeSet floats = kWideFloatTypes;
};

}  // namespace lc
