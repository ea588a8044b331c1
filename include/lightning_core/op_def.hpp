// OpDef: everything an operator is, apart from its kernels. OpCall: one call of it.
//
// An OpCall is built on the caller's stack by every surface (C++, C, Python, graph, session), then
// goes through plan() and run() (dispatch.hpp). It owns nothing: views point at the caller's
// memory, attributes are plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lightning_core/policy.hpp"
#include "lightning_core/tensor.hpp"

namespace lc {

inline constexpr int kMaxInputs = 32;
inline constexpr int kMaxOutputs = 2;
inline constexpr int kMaxAttrs = 12;

enum class AttrKind : uint8_t { kBool, kInt, kFloat, kInts, kEnum, kDType };

/// Value of one attribute. kBool, kInt, kEnum (index of the word) and kDType live in `i[0]`,
/// kFloat in `f`, kInts in `i[0..n)`. `n` is 1 for scalars. kInts with n == -1 means "not given".
struct AttrValue {
  int32_t n = 1;
  union {
    int64_t i[kMaxRank];
    double f;
  };
  AttrValue() : i{0} {}
  /// Copy of a value of at most one number; the others stay unspecified.
  struct FirstOnly {};
  AttrValue(const AttrValue& from, FirstOnly) : n(from.n) { i[0] = from.i[0]; }
  [[nodiscard]] static AttrValue integer(int64_t v) {
    AttrValue a;
    a.i[0] = v;
    return a;
  }
  [[nodiscard]] static AttrValue real(double v) {
    AttrValue a;
    a.f = v;
    return a;
  }
  [[nodiscard]] static AttrValue list(std::span<const int64_t> v);
  [[nodiscard]] static AttrValue none() {
    AttrValue a;
    a.n = -1;
    return a;
  }
  [[nodiscard]] bool given() const { return n >= 0; }
  [[nodiscard]] bool flag() const { return i[0] != 0; }
  [[nodiscard]] std::span<const int64_t> ints() const {
    return {i, static_cast<size_t>(n < 0 ? 0 : n)};
  }
};

struct OpDef;

struct OpCall {
  const OpDef* op = nullptr;
  int n_in = 0;  ///< absent optional inputs count, with dtype kNone
  int n_out = 0;
  // Unions, so that building a call costs nothing for the slots its op does not have: the
  // constructor initialises the op's own.
  union {
    View in[kMaxInputs];
  };
  /// Before plan(): `data` set if the caller gives the output, then dtype, shape and strides too.
  /// After plan(): dtype, shape and (where the caller gave no output) row-major strides are filled;
  /// run() needs every `data` set.
  union {
    View out[kMaxOutputs];
  };
  union {
    AttrValue attr[kMaxAttrs];  ///< in OpDef order, defaults filled by OpCall(op)
  };
  Device device;  ///< as requested; the plan says which was selected
  Policy policy;
  /// kNone, or the dtype every floating input is converted to before the op (the reference's
  /// functions force float32). Conversions are steps of the plan and show in the trace.
  DType compute_dtype = DType::kNone;
  /// Name the trace reports; null: the op's. The reference's functions keep their event names
  /// ("vector_add" is the op `add`). Not part of the plan.
  const char* trace_as = nullptr;
  /// Bytes that a binding copied to make these views of what it was given (byte order, alignment,
  /// dtypes the runtime lacks). The trace counts them; a strict policy refuses them.
  int64_t bytes_copied = 0;

  /// All optional inputs absent, all attributes at their defaults, the preferred device and the
  /// current policy.
  explicit OpCall(const OpDef& op);
  /// Appends an input; for variadic ops and for positional building.
  void push_input(const View& view);
  /// Sets an attribute by name; throws kInvalidValue naming the op's attributes.
  AttrValue& attr_ref(std::string_view name);

  /// By name, for plan-time code only (a linear search); kernels capture what they need then.
  [[nodiscard]] const AttrValue& attr_of(std::string_view name) const;
  [[nodiscard]] bool flag(std::string_view name) const { return attr_of(name).i[0] != 0; }
  [[nodiscard]] int64_t integer(std::string_view name) const { return attr_of(name).i[0]; }
  [[nodiscard]] double real(std::string_view name) const { return attr_of(name).f; }
  /// "attention q=f32:2x8x64 k=... causal=1": pastes into the case parser and the bench.
  [[nodiscard]] std::string str() const;
};

struct ArgSpec {
  const char* name;
  DTypeSet dtypes;  ///< accepted dtypes
  bool optional = false;
  const char* doc = "";
};

struct AttrSpec {
  const char* name;
  AttrKind kind;
  AttrValue default_value;
  std::vector<const char*> words;  ///< kEnum: accepted words, index = value
  bool required = false;
  const char* doc = "";
};

/// Work of one call, for the cost model, traces and benchmarks.
struct Cost {
  double flops = 0;  ///< multiply and add count as two
  double bytes_read = 0;
  double bytes_written = 0;
};

/// Float64 row-major array: what reference implementations compute on.
struct RefArray {
  Shape shape;
  std::vector<double> v;
  [[nodiscard]] double& operator[](int64_t i) { return v[static_cast<size_t>(i)]; }
  [[nodiscard]] double operator[](int64_t i) const { return v[static_cast<size_t>(i)]; }
};

/// Arguments of a reference: inputs converted to float64, outputs sized and zeroed by the caller.
struct RefCall {
  const OpCall& call;
  std::span<const RefArray> in;  ///< absent optional inputs have rank 0 and no values
  std::span<RefArray> out;
  [[nodiscard]] bool has(int i) const { return call.in[i].present(); }
};

/// Builds a small graph of other ops: lowering where a device has no kernel, fusion pattern, vjp.
class Composer {
 public:
  /// Index of a value in the composition; inputs of the op come first.
  using Value = int;
  struct Attr {
    const char* name;
    AttrValue value;
  };
  explicit Composer(const OpCall& call) : call_(call) {}
  [[nodiscard]] const OpCall& call() const { return call_; }
  [[nodiscard]] Value in(int i) const { return i; }
  [[nodiscard]] bool has(int i) const { return call_.in[i].present(); }
  /// Pass kAbsent for an optional input that is not given.
  static constexpr Value kAbsent = -1;
  Value op(const char* name, std::initializer_list<Value> inputs,
           std::initializer_list<Attr> attrs = {});
  /// 0-d constant.
  Value constant(double value, DType dtype);
  void out(int i, Value value);

  struct Node {
    const OpDef* op;
    std::vector<Value> inputs;
    std::vector<std::pair<int, AttrValue>> attrs;  ///< attribute index, value
    Value output;
  };
  struct Constant {
    double value;
    DType dtype;
    Value output;
  };
  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  [[nodiscard]] const std::vector<Constant>& constants() const { return constants_; }
  [[nodiscard]] const std::vector<Value>& outputs() const { return outputs_; }

 private:
  const OpCall& call_;
  std::vector<Node> nodes_;
  std::vector<Constant> constants_;
  std::vector<Value> outputs_;
  Value next_ = kMaxInputs;
};

/// Error bound of an op against the float64 reference:
/// |got - want| <= coef * eps(dtype) * sqrt(reduce_length) * scale, with scale the largest
/// magnitude of the reference result (or of the terms it sums, where the op says so).
struct Tolerance {
  double coef = 8;
  double (*reduce_length)(const OpCall&) = nullptr;  ///< null: 1
};

/// Shape of the call graph around an operator: fixed once, shared by all devices.
struct OpDef {
  const char* name = "";
  const char* doc = "";  ///< one-line summary, then shapes, dtypes, errors, source
  std::vector<ArgSpec> inputs;
  std::vector<const char*> outputs;
  std::vector<AttrSpec> attrs;
  /// The last input may repeat (concat).
  bool variadic = false;
  /// Floating inputs of different dtypes are promoted to the widest, as steps of the plan.
  bool promote = true;
  /// An output may be exactly one of the inputs (same data, shape, strides).
  bool inplace = false;
  /// Fills dtype and shape of every output, or throws Error naming dimension and value. Called
  /// after arity, dtypes and promotion were checked. Must not touch data.
  void (*infer)(OpCall&) = nullptr;
  Cost (*cost)(const OpCall&) = nullptr;
  /// Same maths as a small graph of other ops; null for primitive ops.
  void (*compose)(Composer&) = nullptr;
  /// Plain loops in float64: the test oracle, and the last candidate on the CPU.
  void (*reference)(RefCall&) = nullptr;
  /// Checks that need the data (indices in range), run before anything is written; may throw.
  void (*check_data)(const OpCall&) = nullptr;
  /// Output 0 as a view of input 0 where strides allow it; null for ops that compute.
  bool (*view)(const OpCall&, View* out) = nullptr;
  /// Gradient as a composition: inputs are the op's inputs, its outputs, the outputs' gradients;
  /// outputs are the inputs' gradients. Null: not differentiable.
  void (*vjp)(Composer&) = nullptr;
  Tolerance tolerance;
  int id = -1;  ///< index in all_ops(), set by the registry

  [[nodiscard]] int attr_index(std::string_view attr_name) const;    ///< -1 if unknown
  [[nodiscard]] int input_index(std::string_view input_name) const;  ///< -1 if unknown
};

/// Every op, in the order of their file names; fixed after first use.
[[nodiscard]] std::span<const OpDef* const> all_ops();
/// Null if there is none.
[[nodiscard]] const OpDef* find_op(std::string_view name) noexcept;
/// Throws kInvalidValue listing near names.
[[nodiscard]] const OpDef& get_op(std::string_view name);

/// Storage of 16 bits, computed in float32 and rounded once.
inline constexpr DTypeSet kHalfTypes = dtype_bit(DType::kFloat16) | dtype_bit(DType::kBFloat16);
inline constexpr DTypeSet kWideFloatTypes = dtype_bit(DType::kFloat32) | dtype_bit(DType::kFloat64);
inline constexpr DTypeSet kFloatTypes = kWideFloatTypes | kHalfTypes;
inline constexpr DTypeSet kIndexTypes = dtype_bit(DType::kInt32) | dtype_bit(DType::kInt64);
inline constexpr DTypeSet kAllTypes = ((1u << kDTypes) - 1) & ~1u;

}  // namespace lc
