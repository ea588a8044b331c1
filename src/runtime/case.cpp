#include "runtime/case.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "lightning_core/dispatch.hpp"
#include "runtime/reference.hpp"
#include "tensor/scalar.hpp"

namespace lc {
namespace {

/// Where a line is wrong; every parse error ends here.
struct Line {
  std::string_view text;
  [[noreturn]] void fail(std::string_view part, std::string_view expected,
                         std::string_view found) const {
    throw_arg("case", part, expected, cat("\"", found, "\""), cat("in the line \"", text, "\""));
  }
};

std::string_view trim(std::string_view s) {
  const size_t first = s.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(" \t\r") - first + 1);
}

std::vector<std::string_view> split(std::string_view s, std::string_view separators) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  while (true) {
    const size_t end = s.find_first_of(separators, begin);
    parts.push_back(s.substr(begin, end == std::string_view::npos ? end : end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

template <typename T>
bool parse_number(std::string_view s, T* value) {
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *value);
  return error == std::errc() && end == s.data() + s.size();
}

CaseInput parse_input(const Line& line, std::string_view name, std::string_view text) {
  const auto parts = split(text, ":");
  if (parts.size() < 2 || parts.size() > 3) line.fail(name, "dtype:extents[:layout]", text);
  CaseInput input;
  try {
    input.dtype = parse_dtype(parts[0], name);
  } catch (const Error&) {
    line.fail(name, "a dtype (f32, f64, f16, bf16, i8, u8, i32, i64, bool)", parts[0]);
  }
  if (!parts[1].empty())
    for (const std::string_view extent : split(parts[1], "x")) {
      int64_t n = 0;
      if (!parse_number(extent, &n) || n < 0)
        line.fail(name, "extents of 0 or more joined by x", parts[1]);
      if (input.shape.rank() == kMaxRank)
        line.fail(name, cat("at most ", kMaxRank, " extents"), parts[1]);
      input.shape.push_back(n);
    }
  try {
    (void)checked_numel("case", name, input.shape, input.dtype);
  } catch (const Error&) {
    line.fail(name, "at most 2^62 bytes", parts[1]);
  }
  if (parts.size() == 3) {
    input.layout = parts[2] == "strided" ? "s" : parts[2];
    const int rank = input.shape.rank();
    for (size_t i = 0; i < input.layout.size(); ++i) {
      const char c = input.layout[i];
      if (std::strchr("tsnbu", c) == nullptr || input.layout.find(c, i + 1) != std::string::npos)
        line.fail(name, "layout letters of t, s, n, b, u, each once", parts[2]);
      const int needed = c == 't' ? 2 : c == 'u' ? 0 : 1;
      if (rank < needed) line.fail(name, cat("rank ", needed, " or more for layout ", c), text);
    }
  }
  return input;
}

AttrValue parse_attr(const Line& line, const AttrSpec& spec, std::string_view text) {
  switch (spec.kind) {
    case AttrKind::kBool:
      if (text == "1" || text == "true") return AttrValue::integer(1);
      if (text == "0" || text == "false") return AttrValue::integer(0);
      line.fail(spec.name, "0 or 1", text);
    case AttrKind::kInt: {
      int64_t v = 0;
      if (!parse_number(text, &v)) line.fail(spec.name, "an integer of 64 bits", text);
      return AttrValue::integer(v);
    }
    case AttrKind::kFloat: {
      double v = 0;
      if (!parse_number(text, &v)) line.fail(spec.name, "a number", text);
      return AttrValue::real(v);
    }
    case AttrKind::kInts: {
      AttrValue list = AttrValue::list({});
      if (text.empty()) return list;
      for (const std::string_view part : split(text, ",")) {
        int64_t v = 0;
        if (!parse_number(part, &v)) line.fail(spec.name, "integers joined by commas", text);
        if (list.n == kMaxRank) line.fail(spec.name, cat("at most ", kMaxRank, " integers"), text);
        list.i[list.n++] = v;
      }
      return list;
    }
    case AttrKind::kEnum: {
      std::string words;
      for (size_t i = 0; i < spec.words.size(); ++i) {
        if (text == spec.words[i]) return AttrValue::integer(static_cast<int64_t>(i));
        words += cat(i > 0 ? ", " : "", spec.words[i]);
      }
      line.fail(spec.name, cat("one of ", words), text);
    }
    case AttrKind::kDType:
      try {
        return AttrValue::integer(static_cast<int64_t>(parse_dtype(text, spec.name)));
      } catch (const Error&) {
        line.fail(spec.name, "a dtype", text);
      }
  }
  line.fail(spec.name, "a known attribute kind", text);
}

/// Numbers of splitmix64 (Steele et al. 2014): small, seedable, the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(next() >> 11) * 0x1p-53;
  }

 private:
  uint64_t state_;
};

View make_view(const CaseInput& input, std::vector<Tensor>& storage) {
  const auto has = [&](char c) { return input.layout.find(c) != std::string::npos; };
  const int rank = input.shape.rank();
  Shape memory = input.shape;
  const int last = has('t') ? rank - 2 : rank - 1;  // place of the last axis in memory
  if (has('t')) std::swap(memory[rank - 1], memory[rank - 2]);
  if (has('s')) memory[last] *= 2;
  if (has('b')) memory[has('t') && rank == 2 ? 1 : 0] = 1;
  Strides strides = contiguous_strides(memory);
  const int64_t offset = has('u') ? 1 : 0;
  const int64_t size = dtype_size(input.dtype);
  storage.push_back(Tensor::empty(Shape{memory.numel() + offset}, input.dtype));
  // Gaps between elements hold values of their own, which nobody may read.
  std::memset(storage.back().data<char>(), 0x7f,
              static_cast<size_t>((memory.numel() + offset) * size));
  if (has('t')) std::swap(strides[rank - 1], strides[rank - 2]);
  if (has('s')) strides[rank - 1] *= 2;
  if (has('b')) strides[0] = 0;
  char* data = storage.back().data<char>() + offset * size;
  if (has('n') && input.shape[rank - 1] > 0) {
    data += (input.shape[rank - 1] - 1) * strides[rank - 1] * size;
    strides[rank - 1] = -strides[rank - 1];
  }
  return View(data, input.dtype, input.shape, strides);
}

/// Range of values of one float input.
struct Range {
  double low = -1, high = 1;
  bool away_from_zero = false;  ///< magnitudes in [0.5, 1.5) instead
  bool quarters = false;        ///< multiples of 1/4, so that equal values meet
};

Range range_of(const OpCall& call, int input) {
  const std::string_view op = call.op->name;
  const auto is = [op](auto... names) { return ((op == names) || ...); };
  if (is("log", "sqrt", "rsqrt")) return {0.05, 4};
  if (is("log1p")) return {-0.9, 4};
  if (is("reciprocal") || (is("div") && input == 1)) return {-1, 1, true};
  if (is("pow")) return input == 0 ? Range{0.1, 2} : Range{-2, 2};
  if (is("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "argmax", "argmin",
         "max", "min", "maximum", "minimum", "sign"))
    return {-2, 2, false, true};
  if (is("floor", "ceil", "exp", "expm1", "sin", "cos", "tanh", "sigmoid", "erf", "gelu",
         "gelu_tanh", "silu", "softplus"))
    return {-4, 4};
  if (is("cast")) return {-300, 300};
  return {};
}

/// Smallest positive value.
double smallest(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return 0x1p-149;
    case DType::kFloat16:
      return 0x1p-24;
    case DType::kBFloat16:
      return 0x1p-133;
    default:
      return 0x1p-1074;
  }
}

bool is_half(DType dtype) { return (kHalfTypes & dtype_bit(dtype)) != 0; }

double special_value(uint64_t which, DType dtype) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double tiny = smallest(dtype);
  const double normal = tiny / dtype_eps(dtype);
  switch (which % 8) {
    case 0:
      return std::numeric_limits<double>::quiet_NaN();
    case 1:
      return kInfinity;
    case 2:
      return -kInfinity;
    case 3:
      return -0.0;
    case 4:
      return tiny;
    case 5:
      return -0.75 * normal;
    case 6:
      return normal;
    default:
      return 0.0;
  }
}

void fill(const OpCall& call, int input, uint64_t seed, bool special) {
  const View& v = call.in[input];
  const Range range = range_of(call, input);
  Random random(seed * 0x632be59bd9b4e019u + static_cast<uint64_t>(input) + 1);
  const std::string_view op = call.op->name;
  const bool is_index = op == "embedding" && input == 0;
  if (op == "conv2d" && input == 1) special = false;
  const int64_t width = v.rank() > 0 ? std::max<int64_t>(v.shape.back(), 1) : 1;
  for_each_element(v, [&](char* p, int64_t flat) {
    double x = 0;
    if (is_index) {
      const int64_t rows = std::max<int64_t>(call.in[1].rank() > 0 ? call.in[1].shape[0] : 1, 1);
      x = static_cast<double>(random.next() % static_cast<uint64_t>(rows));
    } else if (v.dtype == DType::kBool) {
      x = random.uniform(0, 1) < 0.75 || (input == 3 && flat % width == 0) ? 1 : 0;
    } else if (!dtype_is_float(v.dtype)) {
      x = std::floor(random.uniform(v.dtype == DType::kUInt8 ? 0 : -100, 100));
    } else {
      x = random.uniform(range.low, range.high);
      if (range.away_from_zero) x += x < 0 ? -0.5 : 0.5;
      if (range.quarters) x = std::round(x * 4) / 4;
      if (special && random.next() % 16 == 0) x = special_value(random.next(), v.dtype);
    }
    store_scalar(p, v.dtype, x);
  });
}

double largest(const View& v) {
  double most = 0;
  for_each_element(v, [&](const char* p, int64_t) {
    const double x = std::fabs(load_scalar(p, v.dtype));
    if (std::isfinite(x)) most = std::max(most, x);
  });
  return most;
}

/// Largest term that an op sums: random terms may cancel, and the rounding of each stays.
double term_scale(const OpCall& call) {
  const std::string_view op = call.op->name;
  const auto is = [op](auto... names) { return ((op == names) || ...); };
  if (is("matmul", "linear", "conv2d")) {
    double scale = largest(call.in[0]) * largest(call.in[1]);
    if (op == "matmul") scale *= std::fabs(call.real("alpha"));
    if (op == "linear" && call.in[3].present()) scale *= largest(call.in[3]);
    return call.in[2].present() ? std::max(scale, largest(call.in[2])) : scale;
  }
  if (is("sum", "mean", "avg_pool2d", "log_softmax")) return largest(call.in[0]);
  if (is("attention")) {
    // Rounding of a score shifts its weight by as much as the score is large.
    const auto d = static_cast<double>(std::max<int64_t>(call.in[0].shape.back(), 1));
    const double scale = call.real("scale") != 0 ? std::fabs(call.real("scale")) : 1 / std::sqrt(d);
    double score = std::max(1.0, scale * largest(call.in[0]) * largest(call.in[1]));
    if (call.in[3].present()) score = std::max(score, largest(call.in[3]));
    return score * largest(call.in[2]);
  }
  if (is("layer_norm")) {
    // x - mean cancels where a row hardly varies.
    const RefArray x = to_ref_array(call.in[0]);
    const int64_t n = std::max<int64_t>(x.shape.back(), 1);
    const auto count = static_cast<double>(n);
    double scale = 0;
    for (int64_t base = 0; base < x.shape.numel(); base += n) {
      double mean = 0, square = 0, most = 0;
      for (int64_t i = 0; i < n; ++i) mean += x[base + i] / count;
      for (int64_t i = 0; i < n; ++i) {
        square += (x[base + i] - mean) * (x[base + i] - mean) / count;
        most = std::max(most, std::fabs(x[base + i]));
      }
      const double row = most / std::sqrt(square + call.real("eps"));
      if (std::isfinite(row)) scale = std::max(scale, row);
    }
    return call.in[1].present() ? scale * largest(call.in[1]) : scale;
  }
  return 0;
}

/// The value an output of this dtype can hold.
double rounded(double x, DType dtype) {
  char bytes[8] = {};
  store_scalar(bytes, dtype, x);
  return load_scalar(bytes, dtype);
}

constexpr int64_t kGuard = 64;
constexpr unsigned char kGuardByte = 0xa5;

/// An output of garbage (NaN in every float) between guard bytes.
struct Guarded {
  std::vector<unsigned char> bytes;
  View view;

  Guarded(DType dtype, const Shape& shape, bool strided) {
    Shape memory = shape;
    const bool spread = strided && shape.rank() > 0;
    if (spread) memory[shape.rank() - 1] *= 2;
    const auto size = static_cast<size_t>(memory.numel() * dtype_size(dtype));
    bytes.assign(size + 2 * kGuard, kGuardByte);
    std::fill(bytes.begin() + kGuard, bytes.end() - kGuard, static_cast<unsigned char>(0xff));
    Strides strides = contiguous_strides(memory);
    if (spread) strides[shape.rank() - 1] = 2;
    view = View(bytes.data() + kGuard, dtype, shape, strides);
  }
  /// True if nothing but the view's elements was written.
  [[nodiscard]] bool intact() const {
    std::vector<unsigned char> touched(bytes.size(), 0);
    const auto size = static_cast<size_t>(dtype_size(view.dtype));
    for_each_element(view, [&](const char* p, int64_t) {
      const auto at = static_cast<size_t>(reinterpret_cast<const unsigned char*>(p) - bytes.data());
      std::fill_n(touched.begin() + static_cast<int64_t>(at), size, static_cast<unsigned char>(1));
    });
    for (size_t i = 0; i < bytes.size(); ++i) {
      const bool guard = i < kGuard || i >= bytes.size() - kGuard;
      if (touched[i] == 0 && bytes[i] != (guard ? kGuardByte : 0xff)) return false;
    }
    return true;
  }
};

std::vector<std::vector<char>> contents(const std::vector<Tensor>& storage) {
  std::vector<std::vector<char>> copies;
  for (const Tensor& t : storage)
    copies.emplace_back(t.data<char>(), t.data<char>() + t.view().nbytes());
  return copies;
}

}  // namespace

Case parse_case(std::string_view whole) {
  const std::string_view text = trim(whole.substr(0, whole.find('#')));
  const Line line{text};
  Case c;
  c.text = text;
  std::vector<std::string_view> words;
  for (const std::string_view word : split(text, " \t"))
    if (!word.empty()) words.push_back(word);
  if (words.empty()) line.fail("line", "an op and its operands", "");
  c.op = find_op(words[0]);
  if (c.op == nullptr) line.fail("op", "the name of an op", words[0]);
  const OpDef& op = *c.op;
  if (!op.variadic) c.inputs.resize(op.inputs.size());
  std::vector<bool> seen(op.attrs.size(), false);
  for (const AttrSpec& spec : op.attrs) c.attrs.push_back(spec.default_value);
  for (size_t w = 1; w < words.size(); ++w) {
    const size_t equals = words[w].find('=');
    if (equals == std::string_view::npos) line.fail(op.name, "name=value", words[w]);
    const std::string_view name = words[w].substr(0, equals);
    const std::string_view value = words[w].substr(equals + 1);
    if (const int a = op.attr_index(name); a >= 0) {
      const auto i = static_cast<size_t>(a);
      if (seen[i]) line.fail(name, "each attribute once", words[w]);
      seen[i] = true;
      c.attrs[i] = parse_attr(line, op.attrs[i], value);
    } else if (op.variadic) {
      const std::string expected = cat(op.inputs[0].name, c.inputs.size());
      if (name != expected)
        line.fail(op.name, cat("the next input, ", expected, ", or an attribute"), name);
      if (c.inputs.size() == static_cast<size_t>(kMaxInputs))
        line.fail(op.name, cat("at most ", kMaxInputs, " inputs"), name);
      c.inputs.push_back(parse_input(line, name, value));
    } else {
      const int i = op.input_index(name);
      if (i < 0) line.fail(op.name, "an input or attribute of the op", name);
      CaseInput& input = c.inputs[static_cast<size_t>(i)];
      if (input.present()) line.fail(name, "each input once", words[w]);
      input = parse_input(line, name, value);
    }
  }
  if (c.inputs.empty()) line.fail(op.name, "at least one input", "");
  for (size_t i = 0; !op.variadic && i < op.inputs.size(); ++i)
    if (!c.inputs[i].present() && !op.inputs[i].optional)
      line.fail(op.inputs[i].name, "this input", "nothing");
  for (size_t i = 0; i < op.attrs.size(); ++i)
    if (op.attrs[i].required && !seen[i]) line.fail(op.attrs[i].name, "this attribute", "nothing");
  return c;
}

std::vector<Case> read_cases(const std::string& path, std::string_view section) {
  constexpr std::string_view kSections[] = {"smoke", "full", "perf"};
  const auto known = [&](std::string_view s) {
    return std::find(std::begin(kSections), std::end(kSections), s) != std::end(kSections);
  };
  if (!section.empty() && !known(section))
    throw_arg("cases", "section", "smoke, full or perf", cat("\"", section, "\""));
  std::ifstream file(path);
  if (!file) throw_arg("cases", "path", "a readable file of cases", cat("\"", path, "\""));
  std::vector<Case> cases;
  std::string text;
  std::string current;
  for (int number = 1; std::getline(file, text); ++number) {
    const std::string_view line = trim(std::string_view(text).substr(0, text.find('#')));
    if (line.empty()) continue;
    const std::string place = cat(path, ":", number);
    if (line.front() == '[') {
      current = line.back() == ']' ? line.substr(1, line.size() - 2) : line;
      if (!known(current))
        throw_arg("cases", place, "[smoke], [full] or [perf]", cat("\"", line, "\""));
      continue;
    }
    if (current.empty()) throw_arg("cases", place, "a section before the first case", line);
    try {
      Case c = parse_case(line);
      if (section.empty() || section == current) cases.push_back(std::move(c));
    } catch (const Error& e) {
      throw Error(e.code(), cat(place, ": ", e.what()));
    }
  }
  return cases;
}

std::vector<Case> with_other_floats(const std::vector<Case>& cases, DTypeSet others) {
  std::vector<Case> all;
  for (const Case& c : cases) {
    all.push_back(c);
    bool f32 = false;
    bool other = false;
    for (const CaseInput& input : c.inputs) {
      f32 = f32 || input.dtype == DType::kFloat32;
      other = other || (dtype_is_float(input.dtype) && input.dtype != DType::kFloat32);
    }
    if (!f32 || other) continue;
    for (const DType to : {DType::kFloat64, DType::kFloat16, DType::kBFloat16}) {
      if ((others & dtype_bit(to)) == 0) continue;
      const std::string dtype = cat("=", dtype_short_name(to), ":");
      std::string text = c.text;
      for (size_t at = 0; (at = text.find("=f32:", at)) != std::string::npos; ++at)
        text.replace(at, 5, dtype);
      all.push_back(parse_case(text));
    }
  }
  return all;
}

OpCall make_call(const Case& c, std::vector<Tensor>& storage, uint64_t seed, bool special) {
  OpCall call(*c.op);
  call.n_in = 0;
  for (const CaseInput& input : c.inputs)
    call.push_input(input.present() ? make_view(input, storage) : View{});
  for (size_t k = 0; k < c.attrs.size(); ++k) call.attr[k] = c.attrs[k];
  for (int i = 0; i < call.n_in; ++i)
    if (call.in[i].present()) fill(call, i, seed, special);
  return call;
}

double error_bound(const OpCall& call, const RefArray& want, int i) {
  const DType dtype = call.out[i].dtype;
  if (!dtype_is_float(dtype)) return 0;
  const Tolerance& tolerance = call.op->tolerance;
  double scale = 0;
  for (const double x : want.v)
    if (std::isfinite(x)) scale = std::max(scale, std::fabs(x));
  if (tolerance.coef > 0) scale = std::max(scale, term_scale(call));
  const double length = tolerance.reduce_length != nullptr ? tolerance.reduce_length(call) : 1;
  const double eps = dtype_eps(is_half(dtype) ? DType::kFloat32 : dtype);
  return tolerance.coef * eps * std::sqrt(std::max(length, 1.0)) * scale;
}

double rounding_bound(double exact, DType dtype) {
  if (!is_half(dtype) || !std::isfinite(exact)) return 0;
  const double tiny = smallest(dtype);
  const double normal = tiny / dtype_eps(dtype);
  const double a = std::fabs(exact);
  return (a < normal ? tiny : std::ldexp(dtype_eps(dtype), std::ilogb(a))) / 2;
}

Comparison compare(const OpCall& call, std::span<const View> outputs) {
  const std::vector<RefArray> want = reference_outputs(call);
  Comparison result;
  for (int o = 0; o < call.n_out; ++o) {
    const View& got = outputs[static_cast<size_t>(o)];
    const RefArray& w = want[static_cast<size_t>(o)];
    if (got.dtype != call.out[o].dtype || got.shape != call.out[o].shape) {
      result.ok = false;
      result.text = cat(call.str(), ": output ", dtype_name(got.dtype), " ", got.shape.str(),
                        ", want ", dtype_name(call.out[o].dtype), " ", call.out[o].shape.str());
      return result;
    }
    const double computing = error_bound(call, w, o);
    for_each_element(got, [&](const char* p, int64_t i) {
      const double x = load_scalar(p, got.dtype);
      const double exact = w[i];
      const double nearest = rounded(exact, got.dtype);
      // Where nothing is computed, the nearest value is the only right one.
      const double bound = computing + (computing > 0 ? rounding_bound(exact, got.dtype) : 0.0);
      result.bound = std::max(result.bound, bound);
      bool fits = false;
      double error = 0;
      if (std::isnan(exact)) {
        fits = std::isnan(x) || (!dtype_is_float(got.dtype) && x == nearest);
        if (!fits) error = std::numeric_limits<double>::infinity();
      } else if (x == nearest) {
        fits = true;
        if (std::isfinite(x) && dtype_is_float(got.dtype)) error = std::fabs(x - exact);
        if (call.op->tolerance.coef == 0) error = 0;
      } else if (std::isfinite(x) && std::isfinite(exact)) {
        error = std::fabs(x - exact);
        fits = error <= bound;
      } else {
        error = std::numeric_limits<double>::infinity();
      }
      result.max_error = std::max(result.max_error, error);
      if (fits || !result.ok) return;
      result.ok = false;
      std::ostringstream text;
      text.precision(17);
      text << call.str() << ": element " << i << " is " << x << ", want " << exact << "; error "
           << std::fabs(x - exact) << ", bound " << bound;
      result.text = text.str();
    });
  }
  return result;
}

Comparison run_case(const Case& c, const CaseRun& options) {
  std::vector<Tensor> storage;
  OpCall call = make_call(c, storage, options.seed, options.special);
  call.device = options.device;
  call.policy = options.policy;
  const auto before = contents(storage);
  const auto fail = [&](std::string_view what) {
    return Comparison{false, 0, 0, cat(call.str(), ": ", what)};
  };

  OpCall shapes = call;
  (void)plan(shapes);
  std::vector<Guarded> out;
  std::vector<View> views;
  for (int i = 0; i < call.n_out; ++i) {
    out.emplace_back(shapes.out[i].dtype, shapes.out[i].shape, options.strided_out);
    views.push_back(out.back().view);
    call.out[i] = views.back();
  }
  run(plan(call), call);
  for (const Guarded& g : out)
    if (!g.intact()) return fail("wrote outside of its output");
  if (contents(storage) != before) return fail("wrote into an input");
  Comparison result = compare(call, views);
  if (!result.ok || c.op->view == nullptr) return result;

  // The same op as a window on its input, where strides allow one.
  OpCall window = make_call(c, storage, options.seed, options.special);
  window.device = options.device;
  window.policy = options.policy;
  const Storage owner = storage.back().storage();
  const Tensor tensor = call_op1(window, &owner);
  Comparison second = compare(window, {&tensor.view(), 1});
  if (!second.ok) second.text += " (as a window)";
  return second;
}

}  // namespace lc
