// What no language accepts: the lines of tests/refusals.txt, and for every op dtypes and outputs
// that do not fit. C++ (plan, run, the typed wrappers) and C give one message and write nothing.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "c_call.hpp"
#include "case_files.hpp"
#include "lightning_core/dispatch.hpp"
#include "wrapper_calls.hpp"

namespace lc {
namespace {

struct Refusal {
  std::string line;
  std::vector<std::string> parts;
};

std::vector<Refusal> refusals() {
  std::ifstream file(LC_SOURCE_DIR "/tests/refusals.txt");
  std::vector<Refusal> all;
  for (std::string text; std::getline(file, text);) {
    if (text.empty() || text[0] == '#') continue;
    Refusal r;
    for (size_t at = 0; at != std::string::npos;) {
      const size_t bar = text.find(" | ", at);
      const std::string word = text.substr(at, bar - at);
      (r.line.empty() ? r.line : r.parts.emplace_back()) = word;
      at = bar == std::string::npos ? bar : bar + 3;
    }
    all.push_back(std::move(r));
  }
  return all;
}

std::vector<Tensor> tensors_of(const OpCall& call) {
  std::vector<Tensor> in;
  for (int i = 0; i < call.n_in; ++i)
    in.push_back(call.in[i].present() ? Tensor(Storage(), call.in[i]) : Tensor());
  return in;
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

/// A typed `axis` holds one number.
bool wrapper_can_say(const OpCall& call) {
  for (size_t k = 0; k < call.op->attrs.size(); ++k)
    if (std::string_view(call.op->attrs[k].name) == "axis" && call.attr[k].n > 1) return false;
  return true;
}

/// The call is refused with one message by every surface, and `bytes` stay as they are.
std::string refused_by_all(const OpCall& call, const View& out, const std::vector<char>& bytes) {
  const std::vector<char> before = bytes;
  OpCall described = call;
  described.out[0] = out;
  const std::string message = error_of([&] { run(plan(described), described); });
  EXPECT_NE(message.find(cat("[", call.op->name, "]")), std::string::npos) << call.str() << "\n"
                                                                           << message;
  if (wrapper_can_say(call)) {
    const WrapperCall wrapper = kWrapperCalls.at(call.op->name);
    const std::string wrapped =
        error_of([&] { (void)wrapper(call, tensors_of(call), Tensor::wrap(out), {}); });
    EXPECT_EQ(wrapped, message) << call.str();
  }
  EXPECT_NE(CCall(call).run(c_array(out)), LC_SUCCESS) << call.str();
  EXPECT_EQ(lcLastErrorMessage(), message) << call.str();
  EXPECT_EQ(bytes, before) << call.str() << " wrote";
  return message;
}

TEST(Refusals, LinesOfTheFile) {
  std::map<std::string, int> lines;
  for (const Refusal& r : refusals()) {
    const OpCall call = shapes_of(parse_case(r.line));
    std::vector<char> memory(8, 7);
    const std::string message =
        refused_by_all(call, View(memory.data(), DType::kFloat32, Shape{1}), memory);
    for (const std::string& part : r.parts)
      EXPECT_NE(message.find(part), std::string::npos) << r.line << "\n" << message;
    // The same without an output.
    OpCall described = call;
    EXPECT_EQ(error_of([&] { (void)plan(described); }), message) << r.line;
    lcArray out;
    EXPECT_NE(CCall(call).infer(out), LC_SUCCESS) << r.line;
    EXPECT_EQ(lcLastErrorMessage(), message) << r.line;
    ++lines[call.op->name];
  }
  for (const char* op : {"add", "attention", "concat", "conv2d", "embedding", "layer_norm",
                         "linear", "matmul", "max_pool2d", "reshape", "softmax", "sum", "where"})
    EXPECT_GE(lines[op], 2) << op;
}

/// The first smoke line of every op.
std::vector<Case> one_line_an_op() {
  std::map<std::string, Case> first;
  for (const std::string& path : case_files())
    for (Case& c : read_cases(path, "smoke")) first.try_emplace(c.op->name, std::move(c));
  std::vector<Case> all;
  for (auto& [name, c] : first) all.push_back(std::move(c));
  EXPECT_EQ(all.size(), all_ops().size());
  return all;
}

TEST(Refusals, DtypesThatAnInputDoesNotTake) {
  for (const Case& c : one_line_an_op())
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      const ArgSpec& spec = c.op->inputs[c.op->variadic ? 0 : i];
      for (int d = 1; d < kDTypes; ++d) {
        const auto dtype = static_cast<DType>(d);
        // Any float is read as one the op takes.
        const bool converts = dtype_is_float(dtype) && (spec.dtypes & kFloatTypes) != 0;
        if (!c.inputs[i].present() || converts || (spec.dtypes & dtype_bit(dtype)) != 0) continue;
        OpCall call = shapes_of(c);
        call.in[i].dtype = dtype;
        std::vector<char> memory(8, 7);
        const std::string message =
            refused_by_all(call, View(memory.data(), DType::kFloat32, Shape{1}), memory);
        EXPECT_NE(message.find(cat("] ", spec.name)), std::string::npos) << message;
        EXPECT_NE(message.find(dtype_name(dtype)), std::string::npos) << message;
      }
    }
}

TEST(Refusals, OutputsThatDoNotFit) {
  for (const Case& c : one_line_an_op()) {
    std::vector<Tensor> storage;
    const OpCall call = make_call(c, storage, 3);
    OpCall planned = call;
    (void)plan(planned);
    const View fits = planned.out[0];
    std::vector<char> memory(static_cast<size_t>(2 * fits.nbytes()) + 64, 7);
    const auto refuses = [&](const View& out, const char* part) {
      const std::string message = refused_by_all(call, out, memory);
      EXPECT_NE(message.find("] out"), std::string::npos) << message;
      EXPECT_NE(message.find(part), std::string::npos) << message;
    };
    View out(memory.data(), fits.dtype, fits.shape);
    out.dtype = fits.dtype == DType::kInt8 ? DType::kUInt8 : DType::kInt8;
    refuses(out, dtype_name(out.dtype));
    out.dtype = fits.dtype;
    Shape longer = fits.shape;
    longer.insert(0, 2);
    refuses(View(memory.data(), fits.dtype, longer), longer.str().c_str());
    if (fits.numel() > 1) {  // several indices, one element
      for (int i = 0; i < out.rank(); ++i) out.strides[i] = 0;
      refuses(out, "strides");
    }
    // One element into an input: not the in-place call that elementwise ops allow.
    for (int i = 0; i < call.n_in; ++i) {
      if (!call.in[i].present() || call.in[i].numel() < 2) continue;
      const std::vector<char> input(storage[0].data<char>(),
                                    storage[0].data<char>() + storage[0].view().nbytes());
      refuses(View(static_cast<char*>(call.in[i].data) + dtype_size(call.in[i].dtype), fits.dtype,
                   fits.shape),
              "overlap");
      EXPECT_EQ(std::vector<char>(storage[0].data<char>(),
                                  storage[0].data<char>() + storage[0].view().nbytes()),
                input);
    }
  }
}

}  // namespace
}  // namespace lc
