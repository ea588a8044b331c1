// Finding plans. A call is described by a short array of words (op, device, policy, dtypes, shapes,
// strides where not row-major, attributes); equal words mean an equal plan. Three levels, each in
// front of the next:
//   recent   the plan this thread found last for the op: compared with the call word by word
//   table    of this thread, direct-mapped by a hash of the words
//   map      of the process, under a lock
// The first two take no lock and allocate nothing.
#include <atomic>
#include <bit>
#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/config.hpp"
#include "runtime/fork_mutex.hpp"
#include "runtime/hot_thread_local.hpp"
#include "runtime/memory.hpp"
#include "runtime/planner.hpp"

namespace lc {
namespace {

// Head, inputs and outputs (header, dims, strides each), attributes (count and values each).
constexpr size_t kKeyWords = 4 +
                             static_cast<size_t>(kMaxInputs + kMaxOutputs) * (1 + 2 * kMaxRank) +
                             kMaxAttrs * (1 + kMaxRank);

struct Key {
  uint64_t words[kKeyWords + 1];  // and a zero behind an odd number of them
  size_t n = 0;
  uint64_t hash = 0;
};

/// Gives a view's words to `take` while that returns true; whether it took all.
template <typename Take>
[[gnu::always_inline]] inline bool view_words(const View& v, Take&& take) {
  const bool contiguous = v.is_contiguous();
  if (!take(static_cast<uint64_t>(v.dtype) | static_cast<uint64_t>(v.rank()) << 8 |
            static_cast<uint64_t>(contiguous) << 16 | static_cast<uint64_t>(v.device.kind) << 24))
    return false;
  for (int i = 0; i < v.rank(); ++i)
    if (!take(static_cast<uint64_t>(v.shape[i]))) return false;
  if (!contiguous)
    for (int i = 0; i < v.rank(); ++i)
      if (!take(static_cast<uint64_t>(v.strides[i]))) return false;
  return true;
}

/// The words of a call, likewise.
template <typename Take>
[[gnu::always_inline]] inline bool call_words(const OpCall& call, Take&& take) {
  const OpDef& op = *call.op;
  const Policy& p = call.policy;
  if (!take(static_cast<uint64_t>(op.id) | static_cast<uint64_t>(call.n_in) << 16 |
            static_cast<uint64_t>(call.device.kind) << 24 |
            static_cast<uint64_t>(call.device.index) << 32 |
            static_cast<uint64_t>(call.compute_dtype) << 40) ||
      !take(uint64_t{p.upload} << 32 | p.download) ||
      !take(static_cast<uint64_t>(p.sync) | static_cast<uint64_t>(p.precision) << 8 |
            static_cast<uint64_t>(p.strict) << 16 |
            static_cast<uint64_t>(p.trace_sync_boundary) << 17 | uint64_t{p.kernel} << 32) ||
      !take(config_epoch()))
    return false;
  for (int i = 0; i < call.n_in; ++i)
    if (!view_words(call.in[i], take)) return false;
  for (int i = 0; i < call.n_out; ++i) {
    const bool given = call.out[i].data != nullptr;
    if (!(given ? view_words(call.out[i], take) : take(0))) return false;
  }
  const AttrValue* a = call.attr;
  for (const AttrSpec& spec : op.attrs) {
    if (spec.kind == AttrKind::kFloat) {
      if (!take(std::bit_cast<uint64_t>(a->f))) return false;
    } else if (spec.kind != AttrKind::kInts) {
      if (!take(static_cast<uint64_t>(a->i[0]))) return false;
    } else {
      if (!take(static_cast<uint64_t>(static_cast<int64_t>(a->n)))) return false;
      for (const int64_t v : a->ints())
        if (!take(static_cast<uint64_t>(v))) return false;
    }
    ++a;
  }
  return true;
}

/// A sum of products of neighbouring words, which do not wait for one another: a chain through all
/// of them takes three times as long.
uint64_t hash_of(const Key& key) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15ull;
  uint64_t h = key.n;
  uint64_t salt = 0x243f6a8885a308d3ull;
  for (size_t i = 0; i < key.n; i += 2) {
    const uint64_t x = key.words[i] ^ salt;
    const uint64_t y = key.words[i + 1] ^ (salt >> 32 | salt << 32);
    h += (x ^ x >> 32) * (y | 1) + (y ^ y >> 29) * kOdd;
    salt *= kOdd;
  }
  h = (h ^ h >> 32) * kOdd;
  return h ^ h >> 29;
}

void describe(const OpCall& call, Key& key) {
  uint64_t* to = key.words;
  call_words(call, [&](uint64_t w) {
    *to++ = w;
    return true;
  });
  *to = 0;
  key.n = static_cast<size_t>(to - key.words);
  key.hash = hash_of(key);
}

bool same_call(const Plan& plan, const OpCall& call) {
  // The plan's words end where those of a call with an equal head, ranks and counts do.
  const uint64_t* at = plan.key.data();
  return call_words(call, [&](uint64_t w) { return *at++ == w; });
}

bool same_key(const Plan& plan, const Key& key) {
  return plan.key.size() == key.n && std::memcmp(plan.key.data(), key.words, key.n * 8) == 0;
}

struct Slot {
  uint64_t hash = 0;
  PlanPtr plan;
};
constexpr size_t kSlots = 512;   // 12 KiB a thread
constexpr size_t kRecent = 256;  // ops; past that they share

struct ThreadTable {
  Slot slots[kSlots];
  Slot* recent[kRecent] = {};  // by op
  uint64_t generation = 0;
  uint64_t hits = 0;
};

struct SharedMap {
  ForkMutex mutex{LockRank::kPlans};
  std::unordered_multimap<uint64_t, PlanPtr> plans;
  uint64_t hits = 0;
  uint64_t misses = 0;
  std::vector<std::unique_ptr<ThreadTable>> late_tables;
};
SharedMap& shared_map() {
  static auto* map = new SharedMap;  // never destroyed: threads may outlive static destruction
  return *map;
}
LC_HOT_THREAD_LOCAL ThreadTable* t_table = nullptr;
constinit thread_local bool t_table_gone = false;

struct TableOwner {
  ~TableOwner() {
    delete t_table;
    t_table = nullptr;
    t_table_gone = true;
  }
};

[[gnu::noinline]] ThreadTable& make_table() {
  auto table = std::make_unique<ThreadTable>();
  if (!t_table_gone) {
    thread_local TableOwner owner;
    (void)&owner;
    t_table = table.release();
    return *t_table;
  }
  // A thread that ends may still call, from the destructors of its other thread_local objects. What
  // it uses then is kept: nothing tells when it is done.
  SharedMap& map = shared_map();
  const std::lock_guard lock(map.mutex);
  map.late_tables.push_back(std::move(table));
  t_table = map.late_tables.back().get();
  return *t_table;
}
ThreadTable& thread_table() { return t_table != nullptr ? *t_table : make_table(); }

std::atomic<uint64_t> g_generation{1};

PlanPtr find_or_make(const OpCall& call, const Key& key) {
  SharedMap& map = shared_map();
  {
    const std::lock_guard lock(map.mutex);
    const auto [begin, end] = map.plans.equal_range(key.hash);
    for (auto it = begin; it != end; ++it)
      if (same_key(*it->second, key)) {
        ++map.hits;
        return it->second;
      }
  }
  check_memory_config();
  // Made outside the lock: a composed plan asks for the plans of its steps.
  std::unique_ptr<Plan> made = make_plan(call);
  made->key.assign(key.words, key.words + key.n);
  PlanPtr plan = std::move(made);
  const auto limit = static_cast<size_t>(config_int("LC_PLAN_CACHE_ENTRIES"));
  const std::lock_guard lock(map.mutex);
  ++map.misses;
  // Shapes that keep changing must not grow the map without bound; plans are cheap to make again.
  if (map.plans.size() >= limit) map.plans.clear();
  map.plans.emplace(key.hash, plan);
  return plan;
}

/// The table's slot that holds the plan of a call which is not the op's recent one.
[[gnu::noinline]] Slot& find_slot(ThreadTable& table, const OpCall& call) {
  Key key;
  describe(call, key);
  Slot& slot = table.slots[key.hash >> 55];
  if (slot.hash == key.hash && slot.plan && same_key(*slot.plan, key)) {
    ++table.hits;
  } else {
    slot.plan = find_or_make(call, key);
    slot.hash = key.hash;
  }
  table.recent[static_cast<size_t>(call.op->id) % kRecent] = &slot;
  return slot;
}

const PlanPtr& look_up(OpCall& call) {
  ThreadTable& table = thread_table();
  const uint64_t generation = g_generation.load(std::memory_order_acquire);
  if (table.generation != generation) [[unlikely]] {
    for (Slot& slot : table.slots) slot = Slot{};
    table.generation = generation;
  }
  Slot* found = table.recent[static_cast<size_t>(call.op->id) % kRecent];
  if (found != nullptr && found->plan && same_call(*found->plan, call)) [[likely]]
    ++table.hits;
  else
    found = &find_slot(table, call);
  const Slot& slot = *found;
  const Plan& plan = *slot.plan;
  for (int i = 0; i < call.n_out; ++i)
    if (call.out[i].data == nullptr) {
      call.out[i] = plan.out[i];
      call.out[i].device = plan.selected;
    }
  if (plan.kind == PlanKind::kView)
    call.out[0].data = static_cast<char*>(call.in[0].data) + plan.view_offset;
  return slot.plan;
}

}  // namespace

const Plan& plan(OpCall& call) { return *look_up(call); }
PlanPtr plan_shared(OpCall& call) { return look_up(call); }

PlanCacheStats plan_cache_stats() {
  const uint64_t hits = thread_table().hits;
  SharedMap& map = shared_map();
  const std::lock_guard lock(map.mutex);
  return {hits, map.hits, map.misses, map.plans.size()};
}

void clear_plan_cache() {
  {
    SharedMap& map = shared_map();
    const std::lock_guard lock(map.mutex);
    map.plans.clear();
  }
  g_generation.fetch_add(1, std::memory_order_release);
}

LC_AT_LOAD(shared_map())

}  // namespace lc
