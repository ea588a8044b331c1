// Policy: where operands live, when they move, when we synchronise, which kernel runs.
//
// A policy is a small value that takes part in the plan key, so two calls that differ only in
// policy have two plans. What a policy asks for is honoured or refused with an error, never
// ignored.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lc {

enum class SyncMode : uint8_t { kAuto = 0, kAlways = 1, kNever = 2 };
enum class Precision : uint8_t {
  kExact = 0,  ///< accumulate in the dtype's own precision or better
  kFast = 1,   ///< reduced-precision products allowed where a kernel offers them
};

/// Interned kernel name; 0 is "auto". Interning keeps Policy trivially copyable and hashable.
using KernelPin = uint32_t;
/// Accepts a candidate's name with or without device and ISA: "cpu/matmul:packed@avx512",
/// "matmul:packed", "packed"; "auto" or "" gives 0.
[[nodiscard]] KernelPin intern_kernel(std::string_view name);
[[nodiscard]] std::string kernel_pin_name(KernelPin pin);

struct Policy {
  /// Bit i: input i is uploaded; clear: input i must be resident. Host memory is resident on
  /// devices that share it, as the CPU does.
  uint32_t upload = ~0u;
  uint32_t download =
      ~0u;  ///< bit i: output i is copied to the caller; clear: it stays where it is
  SyncMode sync = SyncMode::kAuto;
  Precision precision = Precision::kExact;
  bool strict = false;  ///< implicit copies and device fallbacks become errors
  bool trace_sync_boundary = false;
  KernelPin kernel = 0;  ///< 0: the planner chooses
  friend bool operator==(const Policy&, const Policy&) = default;
  [[nodiscard]] uint64_t hash() const noexcept;
  /// "auto", or the fields that differ from the default: "strict,kernel=packed".
  [[nodiscard]] std::string str() const;
};

/// The policy of calls that name none: the innermost PolicyScope of this thread, else the
/// process default. Throws for a malformed LC_STRICT.
[[nodiscard]] const Policy& current_policy();
void set_default_policy(const Policy& policy);
[[nodiscard]] Policy default_policy();

/// Sets the calling thread's policy for a scope; scopes nest, the innermost wins.
class PolicyScope {
 public:
  explicit PolicyScope(const Policy& policy);
  ~PolicyScope();
  PolicyScope(const PolicyScope&) = delete;
  PolicyScope& operator=(const PolicyScope&) = delete;

 private:
  Policy previous_;
  bool had_previous_;
};

}  // namespace lc
