// Session: one op's plan pinned with operand and output buffers of its own, run many times.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "lightning_core/dispatch.hpp"
#include "lightning_core/op_def.hpp"

namespace lc {

/// Two sessions never share a buffer, and every size is checked before anything is touched. All
/// members are safe from several threads; one session runs one call at a time.
///
///   OpCall call(get_op("matmul"));
///   call.in[0] = View(nullptr, DType::kFloat32, {m, k});   // shape and dtype only
///   call.in[1] = View(nullptr, DType::kFloat32, {k, n});
///   Session session(call);
///   session.start({{a_view, b_view}});
///   session.run_batch(100);
///   session.finish(c_view);
class Session {
 public:
  /// Fixes op, shapes, dtypes, attributes, device and policy, and makes the plan. The prototype's
  /// data pointers are not read. Throws Error as plan() does. Of the policy, `upload` and
  /// `download` do not apply here: the session's own calls say when operands move.
  explicit Session(const OpCall& prototype);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  [[nodiscard]] int n_inputs() const noexcept;
  [[nodiscard]] int n_outputs() const noexcept;
  /// Dtype and shape of an operand as it is resident, `data` its buffer; not present for an absent
  /// optional input.
  [[nodiscard]] View input(int i) const;
  /// True once operand i was uploaded.
  [[nodiscard]] bool resident(int i) const;

  /// Copies `view` into operand i's buffer, converting the dtype; the shape must be the operand's,
  /// or a row-major view of as many elements. Writes one memcpy event to the trace.
  void upload(int i, const View& view);
  /// Uploads every operand given (present and with memory; the rest must be resident already), then
  /// computes. Nothing is uploaded if any argument is refused.
  void start(std::span<const View> inputs);
  /// Computes on what is resident; throws Error naming the first operand that is not.
  void run();
  /// n runs, then one sync. Throws kInvalidValue for n < 1.
  void run_batch(int64_t n);
  /// Waits for what was started. Does not compute, and does not need a result.
  void sync();
  /// Copies output i to `out` (same dtype; the output's shape, or row-major with as many elements).
  /// Throws kNotInitialized before the first run.
  void download(int i, const View& out);
  /// Runs if an operand changed since the last run, waits, and downloads output 0.
  void finish(const View& out);
  /// Output i's own buffer, without a copy; later runs write it again.
  [[nodiscard]] Tensor output(int i = 0) const;

  /// Name the trace reports this session's runs under; a string that outlives the session.
  void trace_as(const char* name);
  [[nodiscard]] const Plan& plan() const noexcept;
  /// The call as planned, on the session's buffers.
  [[nodiscard]] const OpCall& call() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lc
