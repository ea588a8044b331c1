// attention: softmax(scale q k^T + mask) v, never holding more than a tile of the scores.
//
// `flash` (Milakov & Gimelshein 2018, Rabe & Staats 2021, Dao et al. 2022): a tile of queries runs
// over blocks of keys and keeps a running maximum and sum. Only q is packed (scaled, in units of
// log2 e) and only o is unpacked; float16 and bfloat16 keys and values are widened block by block.
//
// `row`, for one to four queries, where most of a tile's lanes would be empty: a query at a time,
// lanes over channels.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <type_traits>

#include "backends/cpu/attention.hpp"
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/attention.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/attention_row-inl.h"
#include "backends/cpu/attention_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// What floats of storage type S are computed in.
template <typename S>
using Computed = std::conditional_t<kIsHalf<S>, float, S>;

// ---------------------------------------------------------------- flash

/// Memory that is needed next, brought to L1 while the tile at hand is computed.
class Prefetcher {
 public:
  /// Spreads what was added over so many calls of step().
  void spread(int64_t steps) { each_ = (left_ + steps - 1) / steps; }
  template <typename S>
  void add(S* at, int64_t stride, int64_t rows, int64_t cols) {
    if (rows <= 0 || cols <= 0) return;
    const uintptr_t first = reinterpret_cast<uintptr_t>(at) / kLineBytes;
    const uintptr_t last = (reinterpret_cast<uintptr_t>(at + cols) - 1) / kLineBytes;
    part_[parts_++] = {reinterpret_cast<const char*>(first * kLineBytes),
                       stride * static_cast<int64_t>(sizeof(S)), rows,
                       static_cast<int64_t>(last - first + 1), !std::is_const_v<S>};
    left_ += rows;
  }
  HWY_INLINE void step() {
    if (left_ > 0) some();
  }

 private:
  struct Part {
    const char* at;
    int64_t stride, rows, lines;
    bool written;
  };
  HWY_NOINLINE void some() {
    for (int64_t i = std::min(each_, left_); i > 0;) {
      Part& p = part_[at_];
      const int64_t rows = std::min(i, p.rows);
      for (int64_t r = 0; r < rows; ++r, p.at += p.stride)
        for (int64_t l = 0; l < p.lines; ++l)
          if (p.written)
            __builtin_prefetch(p.at + l * kLineBytes, 1, 3);
          else
            __builtin_prefetch(p.at + l * kLineBytes, 0, 3);
      i -= rows;
      left_ -= rows;
      p.rows -= rows;
      if (p.rows == 0) ++at_;
    }
  }

  Part part_[4];
  int parts_ = 0, at_ = 0;
  int64_t left_ = 0, each_ = 0;
};

template <typename T>
struct FlashScratch {
  T *qt, *st, *ot, *most, *maximum, *sum, *alpha, *scores, *mask_tile, *mask_rows;
  T *keys, *values, *rows;  ///< of half floats only
  FlashScratch(const AttentionParams& p, bool half, void* workspace) {
    T* at = static_cast<T*>(workspace);
    const auto take = [&at](int64_t n) {
      T* const r = at;
      at += n * kTile<T>;
      return r;
    };
    qt = take(p.d);
    st = take(p.key_block);
    ot = take(p.dv);
    most = take(1);
    maximum = take(1);
    sum = take(1);
    alpha = take(1);
    scores = take((p.sk + kTile<T> - 1) / kTile<T>);
    mask_tile = mask_rows = keys = values = rows = nullptr;
    if (p.mask != MaskKind::kNone) {
      mask_tile = take(p.key_block);
      mask_rows = take(p.key_block);
    }
    if (!half) return;
    rows = take(std::max(p.d, p.dv));
    keys = at;
    values = keys + p.key_block * p.d;
  }
};

/// The operands of a launch.
template <typename S>
struct FlashCall {
  const AttentionParams& p;
  Heads<const S> q, k, v;
  Heads<S> out;
  MaskView mask;
  explicit FlashCall(const Launch& launch)
      : p(launch.prepared.get<AttentionParams>()),
        q(launch.in[0]),
        k(launch.in[1]),
        v(launch.in[2]),
        out(launch.out[0]),
        mask(launch.n_in > 3 ? launch.in[3] : View()) {}
};

/// Queries [begin, end) of a head.
struct FlashItem {
  int64_t b, h, begin, end;
};

template <typename S, typename T = Computed<S>>
class FlashTask {
 public:
  FlashTask(const FlashCall<S>& call, void* workspace)
      : c_(call), p_(call.p), s_(call.p, kHalf, workspace) {
    const hn::ScalableTag<T> d;
    for (int64_t l = 0; l < kTile<T>; l += VectorLanes<T>())
      hn::Store(hn::Set(d, -std::numeric_limits<T>::infinity()), d, s_.most + l);
  }

  /// `next`: what this task probably does afterwards, or null.
  void tile(const FlashItem& item, const FlashItem* next) {
    const hn::ScalableTag<T> d;
    const int64_t n = VectorLanes<T>();
    const int64_t rows = item.end - item.begin;
    const int64_t vecs = (rows + n - 1) / n;
    const int64_t hk = item.h / p_.group;
    pack_queries(item, rows, vecs * n);
    for (int64_t l = 0; l < vecs * n; l += n) {
      hn::Store(hn::Set(d, -std::numeric_limits<T>::infinity()), d, s_.maximum + l);
      hn::Store(hn::Zero(d), d, s_.sum + l);
    }
    const int64_t keys = p_.causal ? std::min(p_.sk, item.end) : p_.sk;
    const bool fresh = head_ != c_.k.at(item.b, hk, 0);
    head_ = c_.k.at(item.b, hk, 0);
    for (int64_t j0 = 0; j0 < keys; j0 += p_.key_block) {
      Prefetcher ahead;
      if (p_.far) {
        const bool last = j0 + p_.key_block >= keys;
        if (!last && fresh) add_block(ahead, item.b, hk, j0 + p_.key_block, keys);
        if (last && next != nullptr) {
          const int64_t next_hk = next->h / p_.group;
          if (c_.k.at(next->b, next_hk, 0) != head_) add_block(ahead, next->b, next_hk, 0, p_.sk);
          ahead.add(c_.q.at(next->b, next->h, next->begin), c_.q.s, next->end - next->begin, p_.d);
        }
        if (j0 == 0) ahead.add(c_.out.at(item.b, item.h, item.begin), c_.out.s, rows, p_.dv);
      }
      block(item, hk, j0, std::min(p_.key_block, keys - j0), vecs, ahead);
    }
    finish(item, hk, rows, vecs * n, keys);
  }

 private:
  static constexpr bool kHalf = kIsHalf<S>;

  void pack_queries(const FlashItem& item, int64_t rows, int64_t lanes) {
    const hn::ScalableTag<T> d;
    const S* const q = c_.q.at(item.b, item.h, item.begin);
    const T scale = static_cast<T>(p_.scale);
    if constexpr (kHalf) {
      ConvertRows(q, c_.q.s, rows, p_.d, s_.rows);
      PackQueries(d, s_.rows, p_.d, rows, p_.d, scale, lanes, s_.qt);
    } else {
      PackQueries(d, q, c_.q.s, rows, p_.d, scale, lanes, s_.qt);
    }
  }

  void add_block(Prefetcher& ahead, int64_t b, int64_t hk, int64_t j0, int64_t keys) const {
    const int64_t nk = std::min(p_.key_block, keys - j0);
    ahead.add(c_.k.at(b, hk, j0), c_.k.s, nk, p_.d);
    ahead.add(c_.v.at(b, hk, j0), c_.v.s, nk, p_.dv);
  }

  /// A block's keys and values as T: in place, or widened. A block that holds all keys of its head
  /// stays for the next tile.
  void locate(const FlashItem& item, int64_t hk, int64_t j0, int64_t nk, const T** k, int64_t* ks,
              const T** v, int64_t* vs) {
    const S* const kb = c_.k.at(item.b, hk, j0);
    const S* const vb = c_.v.at(item.b, hk, j0);
    if constexpr (kHalf) {
      if (kb != widened_k_ || vb != widened_v_ || nk > widened_keys_) {
        ConvertRows(kb, c_.k.s, nk, p_.d, s_.keys);
        ConvertRows(vb, c_.v.s, nk, p_.dv, s_.values);
        widened_k_ = kb;
        widened_v_ = vb;
        widened_keys_ = nk;
      }
      *k = s_.keys, *ks = p_.d, *v = s_.values, *vs = p_.dv;
    } else {
      *k = kb, *ks = c_.k.s, *v = vb, *vs = c_.v.s;
    }
  }

  void block(const FlashItem& item, int64_t hk, int64_t j0, int64_t nk, int64_t vecs,
             Prefetcher& ahead) {
    const hn::ScalableTag<T> d;
    const int64_t n = VectorLanes<T>();
    const T *kb, *vb;
    int64_t ks, vs;
    locate(item, hk, j0, nk, &kb, &ks, &vb, &vs);

    // Keys of the block that each vector's queries meet: keys after the last of them are left out.
    int64_t limits[kMaxVecs];
    const bool diagonal = p_.causal && j0 + nk - 1 > item.begin;
    const int64_t together = diagonal ? DiagonalVecs<T>() : vecs;
    for (int64_t v = 0; v < vecs; ++v) {
      const int64_t last = std::min(vecs, (v / together + 1) * together);
      limits[v] = diagonal ? std::clamp<int64_t>(item.begin + last * n - j0, 0, nk) : nk;
    }
    ahead.spread((nk / kMr + p_.dv / kMr) * ((vecs + kNv - 1) / kNv) + 1);

    int64_t from = 0;
    for (int64_t first = 0; first < vecs; first += together) {
      const int64_t to = limits[first];
      if (to == from) continue;
      ForVecs(first, vecs, [&](auto kv, int64_t v) HWY_ATTR {
        ForRows<kRowsOf<kv()>>(from, to, [&](auto kr, int64_t j) HWY_ATTR {
          ahead.step();
          ScoreTile<kr(), kv()>(d, s_.qt + v * n, kb + j * ks, ks, p_.d,
                                s_.st + j * kTile<T> + v * n, s_.most + v * n);
        });
      });
      from = to;
    }
    if (p_.mask != MaskKind::kNone) {
      const auto& m = c_.mask.stride;
      ApplyMask<S>(d, p_.mask, c_.mask,
                   item.b * m[0] + item.h * m[1] + item.begin * m[2] + j0 * m[3],
                   item.end - item.begin, nk, vecs * n, s_.st, s_.mask_rows, s_.mask_tile);
    }
    if (diagonal) ApplyCausal(d, item.begin - j0, vecs, limits, s_.st);
    if (diagonal || p_.mask != MaskKind::kNone) MaximumOfBlock(d, s_.st, vecs, limits, s_.most);
    SoftmaxBlock(d, s_.st, vecs, limits, s_.most, s_.maximum, s_.sum, s_.alpha);
    ForVecs(0, vecs, [&](auto kv, int64_t v) HWY_ATTR {
      ForRows<kRowsOf<kv()>>(0, p_.dv, [&](auto kr, int64_t c) HWY_ATTR {
        ahead.step();
        ValueTile<kr(), kv()>(d, s_.st + v * n, vb + c, vs, limits + v,
                              j0 == 0 ? nullptr : s_.alpha + v * n, s_.ot + c * kTile<T> + v * n);
      });
    });
  }

  void finish(const FlashItem& item, int64_t hk, int64_t rows, int64_t lanes, int64_t keys) {
    const hn::ScalableTag<T> d;
    const int64_t n = VectorLanes<T>();
    S* const to = c_.out.at(item.b, item.h, item.begin);
    if (keys == 0) {
      for (int64_t i = 0; i < rows; ++i) std::fill_n(to + i * c_.out.s, p_.dv, S{});
      return;
    }
    bool finite = true;
    for (int64_t l = 0; l < lanes; l += n) {
      const auto sum = hn::Load(d, s_.sum + l);
      const auto inverse = hn::Div(hn::Set(d, T{1}), sum);
      // Nothing to attend: zeros.
      const auto factor = hn::IfThenZeroElse(hn::Eq(sum, hn::Zero(d)), inverse);
      auto check = hn::Zero(d);
      T* o = s_.ot + l;
      for (int64_t c = 0; c < p_.dv; ++c, o += kTile<T>) {
        const auto y = hn::Load(d, o);
        check = hn::MulAdd(y, hn::Zero(d), check);
        hn::Store(hn::Mul(y, factor), d, o);
      }
      finite = finite && hn::AllTrue(d, hn::Eq(check, hn::Zero(d)));
      hn::Store(check, d, s_.sum + l);
    }
    if constexpr (kHalf) {
      Transpose(s_.ot, kTile<T>, p_.dv, rows, s_.rows, p_.dv);
      for (int64_t i = 0; i < rows; ++i) NarrowRow(s_.rows + i * p_.dv, p_.dv, to + i * c_.out.s);
    } else {
      Transpose(s_.ot, kTile<T>, p_.dv, rows, to, c_.out.s);
    }
    if (finite) return;
    // 0 times a NaN or infinity that a mask hides is NaN: such queries again, key by key.
    const auto& m = c_.mask.stride;
    for (int64_t i = 0; i < rows; ++i) {
      if (s_.sum[i] == T{0}) continue;
      const int64_t at = item.begin + i;
      RowQuery(p_, c_.q.at(item.b, item.h, at), c_.k.at(item.b, hk, 0), c_.k.s,
               c_.v.at(item.b, hk, 0), c_.v.s, c_.mask, item.b * m[0] + item.h * m[1] + at * m[2],
               p_.causal ? std::min(p_.sk, at + 1) : p_.sk, s_.scores, to + i * c_.out.s);
    }
  }

  const FlashCall<S>& c_;
  const AttentionParams& p_;
  const FlashScratch<T> s_;
  const S* head_ = nullptr;  ///< keys of the last tile's head
  const S *widened_k_ = nullptr, *widened_v_ = nullptr;
  int64_t widened_keys_ = 0;
};

template <typename S>
void Flash(const Launch& launch) {
  const FlashCall<S> call(launch);
  const AttentionParams& p = call.p;
  // Tiles of equal numbers of vectors.
  const int64_t n = VectorLanes<Computed<S>>();
  const int64_t vecs = (p.sq + n - 1) / n;
  const int64_t per_tile = kTile<Computed<S>> / n;
  int64_t tiles = (vecs + per_tile - 1) / per_tile;
  const int64_t heads = p.batch * p.heads;
  // Equal shares of a few tiles.
  while (!p.causal && heads * tiles % p.tasks != 0 && tiles < vecs && heads * tiles < 16 * p.tasks)
    ++tiles;
  const int64_t items = heads * tiles;
  const int64_t chunk =
      std::max<int64_t>(1, heads / (8 * p.tasks)) * (heads >= 8 * p.tasks ? tiles : 1);
  std::atomic<int64_t> next_chunk{0};
  const auto find = [&](int64_t i) {
    const int64_t head = i / tiles;
    // Causal tiles grow: the long ones first.
    const int64_t tile = p.causal ? tiles - 1 - i % tiles : i % tiles;
    return FlashItem{head / p.heads, head % p.heads, vecs * tile / tiles * n,
                     std::min(p.sq, vecs * (tile + 1) / tiles * n)};
  };
  parallel_for(p.tasks, [&](int64_t t) {
    FlashTask<S> task(call, static_cast<char*>(launch.workspace) + t * p.slice);
    for (;;) {
      const int64_t begin = chunk * next_chunk.fetch_add(1, std::memory_order_relaxed);
      if (begin >= items) break;
      const int64_t end = std::min(items, begin + chunk);
      FlashItem item = find(begin);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t after = i + 1 < end ? i + 1 : end + (p.tasks - 1) * chunk;
        const FlashItem next = after < items ? find(after) : item;
        task.tile(item, after < items ? &next : nullptr);
        item = next;
      }
    }
  });
}

void LaunchFlash(const Launch& launch) {
  switch (launch.out[0].dtype) {
    case DType::kFloat16:
      return Flash<Half>(launch);
    case DType::kBFloat16:
      return Flash<BFloat>(launch);
    case DType::kFloat32:
      return Flash<float>(launch);
    default:
      return Flash<double>(launch);
  }
}

// ---------------------------------------------------------------- row

template <typename S, typename T = Computed<S>>
void Row(const Launch& launch) {
  const auto& p = launch.prepared.get<AttentionParams>();
  const Heads<const S> q(launch.in[0]), k(launch.in[1]), v(launch.in[2]);
  const Heads<S> out(launch.out[0]);
  const MaskView mask(launch.n_in > 3 ? launch.in[3] : View());
  const int64_t items = p.batch * p.heads * p.sq;
  parallel_for(p.tasks, [&](int64_t task) {
    T* const scores = reinterpret_cast<T*>(static_cast<char*>(launch.workspace) + task * p.slice);
    for (int64_t item = items * task / p.tasks; item < items * (task + 1) / p.tasks; ++item) {
      const int64_t i = item % p.sq;
      const int64_t ih = item / p.sq % p.heads;
      const int64_t ib = item / p.sq / p.heads;
      const int64_t keys = p.causal ? std::min(p.sk, i + 1) : p.sk;
      RowQuery(p, q.at(ib, ih, i), k.at(ib, ih / p.group, 0), k.s, v.at(ib, ih / p.group, 0), v.s,
               mask, ib * mask.stride[0] + ih * mask.stride[1] + i * mask.stride[2], keys, scores,
               out.at(ib, ih, i));
    }
  });
}

void LaunchRow(const Launch& launch) {
  switch (launch.out[0].dtype) {
    case DType::kFloat16:
      return Row<Half>(launch);
    case DType::kBFloat16:
      return Row<BFloat>(launch);
    case DType::kFloat32:
      return Row<float>(launch);
    default:
      return Row<double>(launch);
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {

HWY_EXPORT(LaunchFlash);
HWY_EXPORT(LaunchRow);

namespace {

constexpr int64_t kRowQueries = 4;     ///< most queries `row` takes
constexpr double kFlopsPerTask = 3e5;  ///< below that a second thread costs more than it gives

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

AttentionParams attention_params(const OpCall& call, Prepared& prepared) {
  const View &q = call.in[0], &k = call.in[1], &v = call.in[2];
  AttentionParams p{};
  const int rank = q.rank();
  p.batch = rank == 4 ? q.shape[0] : 1;
  p.heads = rank >= 3 ? q.shape.back(2) : 1;
  const int64_t kv_heads = rank >= 3 ? k.shape.back(2) : 1;
  p.group = p.heads / std::max<int64_t>(kv_heads, 1);
  p.sq = q.shape.back(1);
  p.sk = k.shape.back(1);
  p.d = q.shape.back();
  p.dv = v.shape.back();
  double scale = call.real("scale");
  if (scale == 0) scale = p.d > 0 ? 1 / std::sqrt(static_cast<double>(p.d)) : 1;
  p.scale = scale * 1.4426950408889634074;
  p.causal = call.flag("causal");
  if (call.n_in > 3 && call.in[3].present())
    p.mask = call.in[3].dtype == DType::kBool ? MaskKind::kBool : MaskKind::kAdd;
  for (int i = 0; i < 3; ++i)
    if (call.in[i].shape.back() != 1 && call.in[i].strides.back() != 1)
      prepared.contiguous_inputs |= 1u << i;
  const View& out = call.out[0];
  if (out.shape.back() != 1 && out.strides.back() != 1) prepared.contiguous_outputs = 1;
  return p;
}

/// Tasks for `items` pieces of work; fills workspace and estimate.
void finish(const OpCall& call, const DeviceInfo& info, AttentionParams p, int64_t items,
            int64_t slice, double share_of_peak, Prepared& prepared) {
  const double flops = 2.0 * static_cast<double>(p.batch * p.heads * p.sq) *
                       static_cast<double>(p.sk * (p.d + p.dv)) * (p.causal ? 0.5 : 1.0);
  const auto worth = static_cast<int64_t>(std::min(flops / kFlopsPerTask, 1e6));
  p.tasks = std::max<int64_t>(1, std::min({static_cast<int64_t>(num_threads()), items, worth}));
  p.slice = round_up(slice, 64);
  prepared.workspace_bytes = p.slice * p.tasks;
  if (info.peak_flops > 0) {
    const double width = call.out[0].dtype == DType::kFloat64 ? 2.0 : 1.0;
    const double threads = std::max(1, info.threads);
    prepared.estimate_ns =
        100 + 1e9 * flops * width * threads /
                  (info.peak_flops * share_of_peak * static_cast<double>(p.tasks));
  }
  prepared.set(p);
}

void prepare_flash(const OpCall& call, const DeviceInfo& info, Prepared& prepared) {
  AttentionParams p = attention_params(call, prepared);
  const DType dtype = call.out[0].dtype;
  const bool half = (kHalfTypes & dtype_bit(dtype)) != 0;
  const int64_t element = half ? 4 : dtype_size(dtype);
  const int64_t tile = kTileBytes / element;
  // Blocks of nearly equal length, whose scores take at most half of L1.
  const int64_t most = std::clamp<int64_t>(info.l1_bytes / 2 / kTileBytes / 8 * 8, 32, 128);
  const int64_t blocks = std::max<int64_t>(1, (p.sk + most - 1) / most);
  p.key_block = std::max<int64_t>(8, round_up((p.sk + blocks - 1) / blocks, 8));
  int64_t rows = p.d + p.dv + p.key_block + 4 + (p.sk + tile - 1) / tile;
  if (p.mask != MaskKind::kNone) rows += 2 * p.key_block;
  int64_t bytes = rows * kTileBytes;
  if (half) bytes += std::max(p.d, p.dv) * kTileBytes + p.key_block * (p.d + p.dv) * element;
  // Data that lies past the caches: measured, it starts to matter at a quarter of L3.
  const int64_t elements =
      p.batch * p.heads * p.sq * (p.d + p.dv) +
      p.batch * (p.heads / std::max<int64_t>(p.group, 1)) * p.sk * (p.d + p.dv);
  p.far = elements * dtype_size(dtype) > std::max(info.l2_bytes, info.l3_bytes / 4);
  const int64_t items = p.batch * p.heads * ((p.sq + tile - 1) / tile);
  finish(call, info, p, items, bytes, 0.6, prepared);
}

Support supports_row(const OpCall& call, const DeviceInfo&) {
  const int64_t sq = call.in[0].shape.back(1);
  if (sq > kRowQueries)
    return Support::no("more than " + std::to_string(kRowQueries) +
                       " queries a head: " + std::to_string(sq));
  return Support::yes();
}

void prepare_row(const OpCall& call, const DeviceInfo& info, Prepared& prepared) {
  const AttentionParams p = attention_params(call, prepared);
  finish(call, info, p, p.batch * p.heads * p.sq,
         round_up(p.sk, 16) * std::max<int64_t>(dtype_size(call.out[0].dtype), 4), 0.1, prepared);
}

}  // namespace
}  // namespace lc::cpu

LC_KERNELS(attention) {
  using namespace lc::cpu;
  kernels.push_back({.op = "attention",
                     .name = "row",
                     .isa = isa_name(),
                     .supports = supports_row,
                     .prepare = prepare_row,
                     .launch = LC_KERNEL_PTR(LaunchRow),
                     .floats = kFloatTypes});
  kernels.push_back({.op = "attention",
                     .name = "flash",
                     .isa = isa_name(),
                     .prepare = prepare_flash,
                     .launch = LC_KERNEL_PTR(LaunchFlash),
                     .floats = kFloatTypes});
}
#endif  // HWY_ONCE
