// embedding: rows of a table gathered by index. Indices are in range (OpDef::check_data).
#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/strided_loop.hpp"
#include "backends/cpu/thread_pool.hpp"

namespace lc::cpu {
namespace {

void prepare_embedding(const OpCall& call, const DeviceInfo&, Prepared& prepared) {
  // Rows are written one behind the other; a strided output goes through a temporary.
  prepared.contiguous_outputs = 1;
  prepared.estimate_ns = static_cast<double>(call.out[0].nbytes()) * 0.05;
}

template <typename Index>
void gather_rows(const View& indices, const View& weight, char* out) {
  const int64_t size = dtype_size(weight.dtype);
  const int64_t width = weight.shape[1];
  const int64_t bytes = width * size;
  const int64_t row_stride = weight.strides[0] * size;
  const int64_t column_stride = weight.shape[1] == 1 ? size : weight.strides[1] * size;
  const char* table = weight.ptr<char>();
  const int64_t n = indices.numel();
  const double ns = 5 + 0.05 * static_cast<double>(bytes);
  parallel_ranges(n, range_grain(n, ns), [&](int64_t begin, int64_t end) {
    int64_t index[kMaxRank];
    const Index* p = indices.ptr<Index>();
    int64_t rest = begin;
    for (int i = indices.rank() - 1; i >= 0; --i) {
      index[i] = rest % indices.shape[i];
      rest /= indices.shape[i];
      p += index[i] * indices.strides[i];
    }
    for (int64_t row = begin; row < end; ++row) {
      copy_row(table + static_cast<int64_t>(*p) * row_stride, column_stride, out + row * bytes,
               size, width, size);
      for (int i = indices.rank() - 1; i >= 0; --i) {
        p += indices.strides[i];
        if (++index[i] < indices.shape[i]) break;
        p -= indices.strides[i] * indices.shape[i];
        index[i] = 0;
      }
    }
  });
}

void launch_embedding(const Launch& launch) {
  char* out = launch.out[0].ptr<char>();
  if (launch.in[0].dtype == DType::kInt32) {
    gather_rows<int32_t>(launch.in[0], launch.in[1], out);
  } else {
    gather_rows<int64_t>(launch.in[0], launch.in[1], out);
  }
}

}  // namespace
}  // namespace lc::cpu

LC_KERNELS(embedding) {
  kernels.push_back({.op = "embedding",
                     .name = "rows",
                     .prepare = lc::cpu::prepare_embedding,
                     .launch = lc::cpu::launch_embedding,
                     .floats = kFloatTypes});
}
