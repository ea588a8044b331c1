#include "backends/cpu/elementwise.hpp"

#include <algorithm>

#include "backends/cpu/convert.hpp"
#include "backends/cpu/strided_loop.hpp"
#include "backends/cpu/thread_pool.hpp"
#include "hwy/cache_control.h"

namespace lc::cpu {
namespace {

constexpr double kRangeNs = 2000;      ///< least work worth handing to another thread
constexpr int64_t kTile = 1024;        ///< elements of a stack tile
constexpr int64_t kTileRows = 16;      ///< rows of a tile read from a transposed operand
constexpr int64_t kUnit = 16384;       ///< elements a unit takes where nothing needs a tile
constexpr int64_t kShortRow = 32;      ///< rows below this are packed, several to a block
constexpr int64_t kStreamTile = 8192;  ///< bytes computed in cache before they are streamed out

struct Params {
  BlockFn fn;
  int64_t n;
  int64_t grain;  ///< 0: inline
  double ns;
  int32_t n_in;
  uint32_t scalars;
  uint8_t in_size[kMaxElementwiseInputs];
  uint8_t out_size;
  bool flat;                         ///< all operands contiguous or of one value
  bool stream;                       ///< out is written past the caches
  bool streams;                      ///< by fn itself
  CastFn widen;                      ///< of every input, before fn; null: fn takes them as they are
  CastFn narrow;                     ///< of the output, behind fn; null: none
  StridedLoop loop;                  ///< where not flat; its base is set at launch
  int64_t offset[kMaxLoopOperands];  ///< bytes from an operand's data to its base
};

void run_block(const Params& p, const void* const* in, unsigned scalars, void* out, int64_t n) {
  if (p.widen == nullptr) [[likely]] {
    p.fn(in, scalars, out, n);
    return;
  }
  alignas(64) float tile[kMaxElementwiseInputs + 1][kTile];
  const void* ptr[kMaxElementwiseInputs];
  for (int k = 0; k < p.n_in; ++k) {
    ptr[k] = tile[k];
    if ((scalars >> k & 1) != 0) p.widen(in[k], tile[k], 1);
  }
  for (int64_t i = 0; i < n; i += kTile) {
    const int64_t m = std::min(kTile, n - i);
    for (int k = 0; k < p.n_in; ++k)
      if ((scalars >> k & 1) == 0)
        p.widen(static_cast<const char*>(in[k]) + i * p.in_size[k], tile[k], m);
    char* to = static_cast<char*>(out) + i * p.out_size;
    if (p.narrow == nullptr) {
      p.fn(ptr, scalars, to, m);
    } else {
      p.fn(ptr, scalars, tile[kMaxElementwiseInputs], m);
      p.narrow(tile[kMaxElementwiseInputs], to, m);
    }
  }
}

void run_flat(const Params& p, const View* in, void* out, int64_t b, int64_t e) {
  const void* ptr[kMaxElementwiseInputs];
  const auto point = [&](int64_t at) {
    for (int k = 0; k < p.n_in; ++k)
      ptr[k] = static_cast<const char*>(in[k].data) +
               ((p.scalars >> k & 1) != 0 ? 0 : at * p.in_size[k]);
  };
  char* dst = static_cast<char*>(out);
  const auto run = [&](int64_t from, int64_t to, unsigned flags) {
    if (from >= to) return;
    point(from);
    run_block(p, ptr, p.scalars | flags, dst + from * p.out_size, to - from);
  };
  if (!p.stream) {
    run(b, e, 0);
    return;
  }
  const auto past = -reinterpret_cast<intptr_t>(dst + b * p.out_size) & (kStreamBytes - 1);
  if (p.streams && past % p.out_size == 0) {
    const int64_t first = std::min(b + past / p.out_size, e);
    const int64_t last = e - (e - first) % (kStreamBytes / p.out_size);
    run(b, first, 0);
    run(first, last, kStreamOut);
    hwy::FlushStream();
    run(last, e, 0);
    return;
  }
  alignas(64) char tile[kStreamTile];
  const int64_t step = kStreamTile / p.out_size;
  for (int64_t i = b; i < e; i += step) {
    const int64_t n = std::min(step, e - i);
    point(i);
    run_block(p, ptr, p.scalars, tile, n);
    stream_bytes(tile, dst + i * p.out_size, n * p.out_size);
  }
}

struct Tile {
  alignas(64) char bytes[kTile * 8];
};

/// Rows too short to be blocks of their own: operands are gathered row by row into tiles.
void run_packed(const Params& p, const StridedLoop& l) {
  const int64_t n = l.inner();
  const int64_t rows = l.outer(l.rank - 1);
  const int64_t tile_rows = kTile / n;
  const bool out_dense = l.dense(0, p.out_size);
  uint32_t scalars = 0;
  for (int k = 0; k < p.n_in; ++k) {
    bool one = true;
    for (int i = 0; i < l.rank; ++i) one = one && l.stride[k + 1][i] == 0;
    scalars |= one ? 1u << k : 0u;
  }
  const int64_t grain = std::max(range_grain(rows, (p.ns + 2) * static_cast<double>(n)), tile_rows);
  parallel_ranges(rows, grain, [&](int64_t begin, int64_t end) {
    Tile in_tile[kMaxElementwiseInputs];
    Tile out_tile;
    const void* ptr[kMaxElementwiseInputs];
    for (int k = 0; k < p.n_in; ++k)
      ptr[k] = (scalars >> k & 1) != 0 ? l.base[k + 1] : in_tile[k].bytes;
    for (int64_t r = begin; r < end; r += tile_rows) {
      const int64_t stop = std::min(end, r + tile_rows);
      int64_t at = 0;
      for_outer(l, l.rank - 1, r, stop, [&](char* const* row) {
        for (int k = 0; k < p.n_in; ++k)
          if ((scalars >> k & 1) == 0)
            copy_row(row[k + 1], l.inner_stride(k + 1), in_tile[k].bytes + at * p.in_size[k],
                     p.in_size[k], n, p.in_size[k]);
        at += n;
      });
      if (out_dense) {
        run_block(p, ptr, scalars, l.base[0] + r * n * p.out_size, at);
        continue;
      }
      run_block(p, ptr, scalars, out_tile.bytes, at);
      at = 0;
      for_outer(l, l.rank - 1, r, stop, [&](char* const* row) {
        copy_row(out_tile.bytes + at * p.out_size, p.out_size, row[0], l.inner_stride(0), n,
                 p.out_size);
        at += n;
      });
    }
  });
}

enum class Access : uint8_t { kDirect, kScalar, kGather, kTransposed };

/// Blocks of rows x columns over the two innermost dims.
void run_blocks(const Params& p, StridedLoop& l) {
  // A dim along which an operand with a strided inner dim is contiguous goes next to the inner one.
  for (int k = 1; k < l.operands; ++k) {
    const int64_t size = p.in_size[k - 1];
    if (l.inner_stride(k) == size || l.inner_stride(k) == 0) continue;
    int at = -1;
    for (int i = 0; i + 1 < l.rank; ++i)
      if (l.stride[k][i] == size) at = i;
    if (at < 0) continue;
    l.move_dim(at, l.rank - 2);
    break;
  }
  Access access[kMaxLoopOperands];
  bool tiled = false;
  bool transposed = false;
  uint32_t scalars = 0;
  for (int k = 0; k < l.operands; ++k) {
    const int64_t size = k == 0 ? p.out_size : p.in_size[k - 1];
    const int64_t stride = l.inner_stride(k);
    if (stride == size) {
      access[k] = Access::kDirect;
    } else if (stride == 0 && k > 0) {
      access[k] = Access::kScalar;
      scalars |= 1u << (k - 1);
    } else {
      const bool t = k > 0 && l.rank > 1 && l.stride[k][l.rank - 2] == size;
      access[k] = t ? Access::kTransposed : Access::kGather;
      tiled = true;
      transposed = transposed || t;
    }
  }
  const int64_t cols = l.inner();
  const int64_t rows = l.rank > 1 ? l.extent[l.rank - 2] : 1;
  const int64_t bc = std::min(cols, transposed ? kTile / kTileRows : tiled ? kTile : kUnit);
  const int64_t br = std::min(rows, transposed ? kTileRows
                                    : tiled    ? kTile / bc
                                               : std::max<int64_t>(1, kUnit / bc));
  const int64_t row_blocks = (rows + br - 1) / br;
  const int64_t col_blocks = (cols + bc - 1) / bc;
  const int outer_dims = std::max(l.rank - 2, 0);
  const int64_t outer = l.outer(outer_dims);
  const int64_t per_outer = row_blocks * col_blocks;
  const double ns = p.ns + (tiled ? 1.0 : 0.0);

  const auto block = [&](char* const* at, int64_t r0, int64_t c0) {
    const int64_t nr = std::min(br, rows - r0);
    const int64_t nc = std::min(bc, cols - c0);
    Tile tile[kMaxLoopOperands];
    const void* ptr[kMaxElementwiseInputs];
    const char* src[kMaxLoopOperands];
    int64_t pitch[kMaxLoopOperands];
    for (int k = 0; k < l.operands; ++k) {
      const int64_t size = k == 0 ? p.out_size : p.in_size[k - 1];
      const int64_t row_stride = l.rank > 1 ? l.stride[k][l.rank - 2] : 0;
      const char* from = at[k] + r0 * row_stride + c0 * l.inner_stride(k);
      if (access[k] == Access::kDirect || access[k] == Access::kScalar) {
        src[k] = from;
        pitch[k] = row_stride;
        continue;
      }
      src[k] = tile[k].bytes;
      pitch[k] = nc * size;
      if (k == 0) continue;
      if (access[k] == Access::kTransposed) {
        transpose_block(from, l.inner_stride(k), tile[k].bytes, nc * size, nc, nr, size);
      } else {
        for (int64_t r = 0; r < nr; ++r)
          copy_row(from + r * row_stride, l.inner_stride(k), tile[k].bytes + r * nc * size, size,
                   nc, size);
      }
    }
    char* out = const_cast<char*>(src[0]);
    for (int64_t r = 0; r < nr; ++r) {
      for (int k = 0; k < p.n_in; ++k) ptr[k] = src[k + 1] + r * pitch[k + 1];
      run_block(p, ptr, scalars, out + r * pitch[0], nc);
    }
    if (access[0] != Access::kDirect) {
      const int64_t row_stride = l.rank > 1 ? l.stride[0][l.rank - 2] : 0;
      char* to = at[0] + r0 * row_stride + c0 * l.inner_stride(0);
      for (int64_t r = 0; r < nr; ++r)
        copy_row(out + r * pitch[0], p.out_size, to + r * row_stride, l.inner_stride(0), nc,
                 p.out_size);
    }
  };

  const int64_t units = outer * per_outer;
  const int64_t grain = range_grain(units, ns * static_cast<double>(bc * br));
  parallel_ranges(units, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t o = begin / per_outer;
      const int64_t stop = std::min(end, (o + 1) * per_outer);
      for_outer(l, outer_dims, o, o + 1, [&](char* const* at) {
        for (; begin < stop; ++begin) {
          const int64_t b = begin - o * per_outer;
          block(at, b / col_blocks * br, b % col_blocks * bc);
        }
      });
    }
  });
}

}  // namespace

int64_t range_grain(int64_t n, double ns) {
  const double parts =
      std::min(static_cast<double>(n) * ns / kRangeNs, static_cast<double>(num_threads()));
  if (parts < 2) return n > 0 ? n : 1;
  const auto grain = static_cast<int64_t>(static_cast<double>(n) / parts) + 1;
  return grain > 1024 ? (grain + 63) / 64 * 64 : grain;
}

void prepare_elementwise(const OpCall& call, const DeviceInfo& info, BlockFn fn, double ns,
                         bool streams, Prepared& prepared, bool wide) {
  Params p;
  p.fn = fn;
  p.streams = streams;
  p.widen = p.narrow = nullptr;
  if (wide && (kHalfTypes & dtype_bit(call.in[0].dtype)) != 0) {
    ns += 0.05 * (call.n_in + 1);
    p.streams = false;  // fn writes to the tile that is converted
    p.widen = cast_function(call.in[0].dtype, DType::kFloat32);
    if (call.out[0].dtype == call.in[0].dtype)
      p.narrow = cast_function(DType::kFloat32, call.in[0].dtype);
  }
  p.ns = ns;
  p.n_in = call.n_in;
  p.scalars = 0;
  const View& out = call.out[0];
  p.n = out.numel();
  p.out_size = static_cast<uint8_t>(dtype_size(out.dtype));
  p.flat = out.is_contiguous();
  int64_t traffic = p.n * p.out_size;
  for (int k = 0; k < p.n_in; ++k) {
    const View& in = call.in[k];
    p.in_size[k] = static_cast<uint8_t>(dtype_size(in.dtype));
    traffic += in.nbytes();
    const int64_t n = in.numel();
    if (n == p.n) {
      p.flat = p.flat && in.is_contiguous();
    } else if (n == 1) {
      p.scalars |= 1u << k;
    } else {
      p.flat = false;
    }
  }
  const int64_t grain = range_grain(p.n, ns);
  // A tile between costs more than a plain store up to twice that size.
  p.stream = p.flat && worth_streaming(p.streams ? traffic : traffic / 2, info.l3_bytes);
  p.grain = grain < p.n || p.stream ? grain : 0;
  if (!p.flat) {
    static char somewhere;  // views may have no data yet
    View views[kMaxLoopOperands];
    const View* operands[kMaxLoopOperands];
    for (int k = 0; k <= p.n_in; ++k) {
      views[k] = k == 0 ? out : call.in[k - 1];
      views[k].data = &somewhere;
      operands[k] = views + k;
    }
    p.loop = make_loop(out.shape, operands, p.n_in + 1);
    for (int k = 0; k <= p.n_in; ++k) p.offset[k] = p.loop.base[k] - &somewhere;
  }
  prepared.estimate_ns = static_cast<double>(p.n) * ns;
  prepared.set(p);
}

void launch_elementwise(const Launch& launch) {
  const Params& p = launch.prepared.get<Params>();
  if (p.flat) {
    void* out = launch.out[0].data;
    if (p.grain == 0) {
      const void* ptr[kMaxElementwiseInputs];
      for (int k = 0; k < p.n_in; ++k) ptr[k] = launch.in[k].data;
      run_block(p, ptr, p.scalars, out, p.n);
    } else {
      parallel_ranges(p.n, p.grain,
                      [&](int64_t b, int64_t e) { run_flat(p, launch.in, out, b, e); });
    }
    return;
  }
  StridedLoop l = p.loop;
  for (int k = 0; k < l.operands; ++k)
    l.base[k] = (k == 0 ? launch.out[0] : launch.in[k - 1]).ptr<char>() + p.offset[k];
  if (l.rank > 1 && l.inner() < kShortRow) {
    run_packed(p, l);
  } else {
    run_blocks(p, l);
  }
}

}  // namespace lc::cpu
