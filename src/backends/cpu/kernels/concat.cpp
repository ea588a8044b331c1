// concat: each input is copied into its slice of the output.
#include "backends/cpu/convert.hpp"
#include "backends/cpu/kernel_list.hpp"

namespace lc::cpu {
namespace {

struct Params {
  int axis;
};

void prepare_concat(const OpCall& call, const DeviceInfo&, Prepared& prepared) {
  const int64_t axis = call.integer("axis");
  const int rank = call.out[0].rank();
  prepared.estimate_ns = static_cast<double>(call.out[0].nbytes()) * 0.03;
  prepared.set(Params{static_cast<int>(axis < 0 ? axis + rank : axis)});
}

void launch_concat(const Launch& launch) {
  const int axis = launch.prepared.get<Params>().axis;
  View to = launch.out[0];
  for (int k = 0; k < launch.n_in; ++k) {
    const View& from = launch.in[k];
    to.shape[axis] = from.shape[axis];
    strided_copy(from, to);
    to.data = to.ptr<char>() + from.shape[axis] * to.strides[axis] * dtype_size(to.dtype);
  }
}

}  // namespace
}  // namespace lc::cpu

LC_KERNELS(concat) {
  kernels.push_back({.op = "concat",
                     .name = "strided",
                     .prepare = lc::cpu::prepare_concat,
                     .launch = lc::cpu::launch_concat,
                     .floats = kFloatTypes});
}
