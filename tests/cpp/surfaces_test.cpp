// Every case line through all three ways to call an op from C++ and C: plan() and run(), the typed
// wrappers, lcOpCall(). They must give the same bits and write nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "c_call.hpp"
#include "case_files.hpp"
#include "lightning_core/dispatch.hpp"
#include "wrapper_calls.hpp"

namespace lc {
namespace {

/// Row-major bytes of garbage between guards.
struct Block {
  static constexpr size_t kGuard = 64;
  std::vector<unsigned char> bytes;
  View view;
  Block(DType dtype, const Shape& shape)
      : bytes(static_cast<size_t>(shape.numel() * dtype_size(dtype)) + 2 * kGuard, 0xa5),
        view(bytes.data() + kGuard, dtype, shape) {}
  [[nodiscard]] bool guards_hold() const {
    const auto whole = [](unsigned char b) { return b == 0xa5; };
    return std::all_of(bytes.begin(), bytes.begin() + kGuard, whole) &&
           std::all_of(bytes.end() - kGuard, bytes.end(), whole);
  }
};

bool same_bits(const View& a, const View& b) {
  return a.dtype == b.dtype && a.shape == b.shape &&
         (a.numel() == 0 || std::memcmp(a.data, b.data, static_cast<size_t>(a.nbytes())) == 0);
}

class Surfaces : public testing::TestWithParam<std::string> {};

TEST_P(Surfaces, GiveTheSameBits) {
  for (const Device device : computing_devices())
    for (const Case& c : case_lines(GetParam(), device)) {
      std::vector<Tensor> storage;
      OpCall call = make_call(c, storage, 5);
      call.device = device;
      OpCall first = call;
      const Tensor want = call_op1(first).contiguous();

      std::vector<Tensor> in;
      for (int i = 0; i < call.n_in; ++i)
        in.push_back(call.in[i].present() ? Tensor::wrap(call.in[i]) : Tensor());
      const WrapperCall wrapper = kWrapperCalls.at(c.op->name);
      const Tensor eager = wrapper(call, in, {}, {.device = device}).contiguous();
      EXPECT_TRUE(same_bits(eager.view(), want.view())) << c.text << " as a wrapper";
      Block block(want.dtype(), want.shape());
      (void)wrapper(call, in, Tensor::wrap(block.view), {.device = device});
      EXPECT_TRUE(same_bits(block.view, want.view())) << c.text << " as " << c.op->name << "_into";
      EXPECT_TRUE(block.guards_hold()) << c.text;

      const CCall from_c(call);
      lcArray out;
      ASSERT_EQ(from_c.infer(out), LC_SUCCESS) << c.text << ": " << lcLastErrorMessage();
      Block from_c_block(static_cast<DType>(out.dtype),
                         Shape(std::span<const int64_t>(out.shape, static_cast<size_t>(out.ndim))));
      out.data = from_c_block.view.data;
      ASSERT_EQ(from_c.run(out), LC_SUCCESS) << c.text << ": " << lcLastErrorMessage();
      EXPECT_TRUE(same_bits(from_c_block.view, want.view())) << c.text << " from C";
      EXPECT_TRUE(from_c_block.guards_hold()) << c.text;
    }
}

INSTANTIATE_TEST_SUITE_P(Files, Surfaces, testing::ValuesIn(case_files()), file_stem);

}  // namespace
}  // namespace lc
