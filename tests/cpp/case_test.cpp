// The case lines of tests/cases: their parser, and every op on every device against its float64
// reference.
#include "runtime/case.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "case_files.hpp"
#include "lightning_core/dispatch.hpp"
#include "runtime/plan.hpp"
#include "tensor/scalar.hpp"

namespace lc {
namespace {

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(CaseLine, ReadsOperandsAndAttributes) {
  const Case c = parse_case(
      "  attention q=f32:2x8x64 k=f32:2x9x64:t v=f32:2x9x32:sn causal=1 scale=0.5  # note");
  EXPECT_STREQ(c.op->name, "attention");
  EXPECT_EQ(c.text, "attention q=f32:2x8x64 k=f32:2x9x64:t v=f32:2x9x32:sn causal=1 scale=0.5");
  ASSERT_EQ(c.inputs.size(), 4u);
  EXPECT_EQ(c.inputs[0].shape, (Shape{2, 8, 64}));
  EXPECT_EQ(c.inputs[1].layout, "t");
  EXPECT_FALSE(c.inputs[3].present());
  EXPECT_TRUE(c.attrs[0].flag());
  EXPECT_EQ(c.attrs[1].f, 0.5);
}

TEST(CaseLine, ReadsScalarsListsWordsAndVariadicInputs) {
  EXPECT_EQ(parse_case("neg x=f64:").inputs[0].shape.rank(), 0);
  EXPECT_EQ(parse_case("sum x=f32:2x3 axes=").attrs[0].n, 0);
  EXPECT_FALSE(parse_case("sum x=f32:2x3").attrs[0].given());
  EXPECT_EQ(parse_case("sum x=f32:2x3 axes=0,-1").attrs[0].i[1], -1);
  EXPECT_EQ(parse_case("matmul a=f32:2x2 b=f32:2x2 activation=gelu").attrs[3].i[0], 2);
  EXPECT_EQ(parse_case("cast x=f32:2 dtype=bf16").attrs[0].i[0],
            static_cast<int64_t>(DType::kBFloat16));
  EXPECT_EQ(parse_case("concat xs0=f32:2 xs1=f32:3").inputs.size(), 2u);
}

TEST(CaseLine, RefusesWhatItDoesNotUnderstand) {
  const std::pair<const char*, const char*> lines[] = {
      {"", "an op"},
      {"matmull a=f32:2", "matmull"},
      {"matmul a=f32:2x2", "[case] b"},
      {"matmul a=f32:2x2 b=f32:2x2 c=f32:2", "\"c\""},
      {"matmul a=f32:2x2 b=f32:2x2 b=f32:2x2", "once"},
      {"matmul a=f32:2x2 b=f32:2x2 alpha=1 alpha=1", "once"},
      {"matmul a=f32:2x2 b=f32:2x2 alpha=one", "a number"},
      {"matmul a=f32:2x2 b=f32:2x2 trans_a=2", "0 or 1"},
      {"matmul a=f32:2x2 b=f32:2x2 activation=swish", "one of none, relu"},
      {"matmul a=f32:2x2 b", "name=value"},
      {"neg x=f31:2", "a dtype"},
      {"neg x=f32", "dtype:extents"},
      {"neg x=f32:2x", "extents"},
      {"neg x=f32:-2", "extents"},
      {"neg x=f32:99999999999999999999", "extents"},
      {"neg x=f32:4611686018427387904", "2^62"},
      {"neg x=f32:1x1x1x1x1x1x1x1x1", "at most 8"},
      {"neg x=f32:2:q", "layout letters"},
      {"neg x=f32:2:ss", "once"},
      {"neg x=f32:2:t", "rank 2"},
      {"neg x=f32:2:s:s", "dtype:extents"},
      {"sum x=f32:2 axes=0,,1", "integers"},
      {"softmax x=f32:2 axis=1.5", "an integer"},
      {"reshape x=f32:2", "[case] shape"},
      {"concat xs1=f32:2", "xs0"},
      {"concat axis=0", "at least one"},
  };
  for (const auto& [line, part] : lines) {
    const std::string message = error_of([text = line] { (void)parse_case(text); });
    EXPECT_NE(message.find(part), std::string::npos) << line << "\n" << message;
    EXPECT_NE(message.find(cat("\"", line, "\"")), std::string::npos) << message;
  }
}

TEST(CaseLine, LayoutsArePlacedInMemoryAsSaid) {
  std::vector<Tensor> storage;
  const auto strides = [&](const char* layout) {
    return make_call(parse_case(cat("neg x=f32:2x3x4", layout)), storage).in[0].strides;
  };
  EXPECT_EQ(strides(""), (Strides{12, 4, 1}));
  EXPECT_EQ(strides(":t"), (Strides{12, 1, 3}));
  EXPECT_EQ(strides(":s"), (Strides{24, 8, 2}));
  EXPECT_EQ(strides(":strided"), (Strides{24, 8, 2}));
  EXPECT_EQ(strides(":n"), (Strides{12, 4, -1}));
  EXPECT_EQ(strides(":b"), (Strides{0, 4, 1}));
  EXPECT_EQ(strides(":ts"), (Strides{24, 1, 6}));
  const View u = make_call(parse_case("neg x=f32:3:u"), storage).in[0];
  EXPECT_EQ(reinterpret_cast<uintptr_t>(u.data) % 64, 4u);
  const View b = make_call(parse_case("neg x=f32:2x3:tb"), storage).in[0];
  EXPECT_EQ(b.strides, (Strides{0, 1}));
}

TEST(CaseLine, ValuesDependOnTheSeedOnlyAndStayInTheDomain) {
  std::vector<Tensor> storage;
  const auto values = [&](const char* line, int input, uint64_t seed) {
    const OpCall call = make_call(parse_case(line), storage, seed);
    std::vector<double> v;
    for_each_element(call.in[input], [&](const char* p, int64_t) {
      v.push_back(load_scalar(p, call.in[input].dtype));
    });
    return v;
  };
  EXPECT_EQ(values("add a=f32:50 b=f32:50", 0, 1), values("add a=f32:50 b=f32:50", 0, 1));
  EXPECT_EQ(values("add a=f32:50 b=f32:50", 0, 1), values("add a=f32:50:n b=f32:50", 0, 1));
  EXPECT_NE(values("add a=f32:50 b=f32:50", 0, 1), values("add a=f32:50 b=f32:50", 0, 2));
  EXPECT_NE(values("add a=f32:50 b=f32:50", 0, 1), values("add a=f32:50 b=f32:50", 1, 1));
  for (const double x : values("add a=f32:500 b=f32:1", 0, 1)) EXPECT_TRUE(x >= -1 && x < 1) << x;
  for (const double x : values("log x=f32:500", 0, 1)) EXPECT_GT(x, 0);
  for (const double x : values("div a=f32:1 b=f32:500", 1, 1)) EXPECT_GE(std::fabs(x), 0.5);
  for (const double x : values("embedding indices=i64:500 weight=f32:7x2", 0, 1))
    EXPECT_TRUE(x >= 0 && x < 7) << x;
  const auto mask = values("attention q=f32:50x2 k=f32:9x2 v=f32:9x2 mask=bool:50x9", 3, 1);
  for (size_t row = 0; row < 50; ++row) EXPECT_EQ(mask[row * 9], 1);
  EXPECT_LT(std::count(mask.begin(), mask.end(), 1.0), 450);
}

TEST(CaseLine, ComparisonFindsWhatIsWrong) {
  std::vector<Tensor> storage;
  OpCall call = make_call(parse_case("add a=f32:4 b=f32:4"), storage);
  (void)plan(call);
  std::vector<float> y(4);
  for (int i = 0; i < 4; ++i) y[i] = call.in[0].ptr<float>()[i] + call.in[1].ptr<float>()[i];
  const View out(y.data(), DType::kFloat32, Shape{4});
  EXPECT_TRUE(compare(call, {&out, 1}).ok);
  y[2] += 1e-3f;
  const Comparison wrong = compare(call, {&out, 1});
  EXPECT_FALSE(wrong.ok);
  EXPECT_NEAR(wrong.max_error, 1e-3, 1e-6);
  EXPECT_NE(wrong.text.find("element 2"), std::string::npos) << wrong.text;
  for (const float bad : {std::nanf(""), INFINITY}) {
    y[2] = bad;
    EXPECT_FALSE(compare(call, {&out, 1}).ok);
  }
  const View shorter(y.data(), DType::kFloat32, Shape{3});
  EXPECT_FALSE(compare(call, {&shorter, 1}).ok);
}

TEST(CaseFile, SectionsAndErrors) {
  const auto path = std::filesystem::temp_directory_path() / "lc_case_file_test.txt";
  const auto write = [&](const char* text) { std::ofstream(path) << text; };
  write("# head\n[smoke]\nneg x=f32:2\n\n[full]\nneg x=f32:3 # c\nneg x=f64:4\n");
  EXPECT_EQ(read_cases(path.string()).size(), 3u);
  EXPECT_EQ(read_cases(path.string(), "smoke").size(), 1u);
  EXPECT_EQ(read_cases(path.string(), "perf").size(), 0u);
  EXPECT_EQ(with_other_floats(read_cases(path.string(), "full")).size(), 5u);
  const std::vector<Case> all = with_other_floats(read_cases(path.string(), "smoke"));
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[1].text, "neg x=f64:2");
  EXPECT_EQ(all[2].text, "neg x=f16:2");
  EXPECT_EQ(all[3].text, "neg x=bf16:2");
  EXPECT_EQ(with_other_floats(read_cases(path.string(), "smoke"), 0).size(), 1u);
  write("[smoke]\nneg x=f32:2\nneg y=f32:2\n");
  EXPECT_NE(error_of([&] { (void)read_cases(path.string()); }).find(".txt:3: "), std::string::npos);
  write("[slow]\n");
  EXPECT_NE(error_of([&] { (void)read_cases(path.string()); }).find("[slow]"), std::string::npos);
  write("neg x=f32:2\n");
  EXPECT_NE(error_of([&] { (void)read_cases(path.string()); }).find("section"), std::string::npos);
  EXPECT_NE(error_of([&] { (void)read_cases(path.string(), "quick"); }).find("quick"),
            std::string::npos);
  std::filesystem::remove(path);
  EXPECT_NE(error_of([&] { (void)read_cases(path.string()); }).find("readable"), std::string::npos);
}

TEST(CaseFile, EveryOpHasCasesAndEveryLineReadsBack) {
  std::set<std::string> seen[3];
  std::set<std::string> empty;
  std::set<std::string> one;  // every operand of a single element
  const char* sections[] = {"smoke", "full", "perf"};
  for (const std::string& path : case_files())
    for (int s = 0; s < 3; ++s)
      for (const Case& c : read_cases(path, sections[s])) {
        seen[s].insert(c.op->name);
        const auto numel = [](const CaseInput& in) { return in.present() ? in.shape.numel() : 1; };
        if (std::any_of(c.inputs.begin(), c.inputs.end(),
                        [&](const CaseInput& in) { return numel(in) == 0; }))
          empty.insert(c.op->name);
        if (std::all_of(c.inputs.begin(), c.inputs.end(),
                        [&](const CaseInput& in) { return numel(in) == 1; }))
          one.insert(c.op->name);
        OpCall call = shapes_of(c);
        ASSERT_EQ(error_of([&] { plan(call); }), "") << c.text;
        const Cost cost = c.op->cost(call);
        EXPECT_TRUE(std::isfinite(cost.flops) && cost.flops >= 0) << c.text;
        EXPECT_TRUE(cost.bytes_read >= 0 && cost.bytes_written >= 0) << c.text;
        const std::string text = call.str();
        EXPECT_EQ(shapes_of(parse_case(text)).str(), text) << c.text;
      }
  for (const OpDef* op : all_ops()) {
    EXPECT_EQ(seen[0].count(op->name), 1u) << op->name << " has no smoke case";
    EXPECT_EQ(seen[1].count(op->name), 1u) << op->name << " has no full case";
    EXPECT_EQ(empty.count(op->name), 1u) << op->name << " has no case of an empty input";
    EXPECT_EQ(one.count(op->name), 1u) << op->name << " has no case of single elements";
  }
}

class Cases : public testing::TestWithParam<std::string> {};

/// Runs every line on every device.
void expect_reference(const std::string& path, const CaseRun& options) {
  for (const Device device : computing_devices())
    for (const Case& c : case_lines(path, device)) {
      CaseRun run = options;
      run.device = device;
      const Comparison r = run_case(c, run);
      EXPECT_TRUE(r.ok) << r.text << " (on " << device_name(device) << ")";
    }
}

TEST_P(Cases, MatchTheReference) { expect_reference(GetParam(), {}); }

TEST_P(Cases, MatchTheReferenceIntoAStridedOutput) {
  expect_reference(GetParam(), {.seed = 2, .strided_out = true});
}

TEST_P(Cases, NanInfinityAndDenormalsMatchTheReference) {
  expect_reference(GetParam(), {.seed = 4, .special = true});
}

TEST_P(Cases, ComposedOpsMatchTheReference) {
  Policy composed;
  composed.kernel = intern_kernel("composed");
  for (const Device device : computing_devices())
    for (const Case& c : case_lines(GetParam(), device)) {
      if (c.op->compose == nullptr) continue;
      // A composition rounds after every op.
      const Comparison r = run_case(c, {.device = device, .policy = composed, .seed = 3});
      EXPECT_LE(r.max_error, 8 * r.bound) << r.text;
      EXPECT_TRUE(r.ok || r.bound > 0) << r.text;
    }
}

// The reference would take what a kernel refuses, and the answers would still be right.
TEST_P(Cases, RunOnKernelsOfTheCpu) {
  for (const Case& c : case_lines(GetParam())) {
    std::vector<Tensor> storage;
    OpCall call = make_call(c, storage);
    call.device = Device{};
    const Plan& p = plan(call);
    EXPECT_FALSE(p.fallback) << c.text << ": " << p.fallback_reason;
    EXPECT_TRUE(p.kind == PlanKind::kKernel || p.kind == PlanKind::kView ||
                p.kind == PlanKind::kEmpty)
        << c.text << " runs as " << p.kernel_name;
  }
}

TEST_P(Cases, ArePlannedForADeviceThatIsNotHere) {
  for (const Case& c : case_lines(GetParam())) {
    std::vector<Tensor> storage;
    OpCall call = make_call(c, storage);
    OpCall here = call;
    (void)plan(here);
    call.device = Device{DeviceKind::kNull, 0};
    const Plan& p = plan(call);
    EXPECT_EQ(p.selected.kind, DeviceKind::kNull) << c.text;
    EXPECT_FALSE(p.fallback) << c.text;
    EXPECT_EQ(call.out[0].dtype, here.out[0].dtype) << c.text;
    EXPECT_EQ(call.out[0].shape, here.out[0].shape) << c.text;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Cases, testing::ValuesIn(case_files()), file_stem);

}  // namespace
}  // namespace lc
