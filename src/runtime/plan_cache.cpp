// Finding plans. A call is described by a short array of words (op, device, policy, dtypes, shapes,
// strides where not row-major, attributes); equal words mean an equal plan. Each thread keeps a
// small direct-mapped table in front of one locked map, so a warm look-up hashes about twenty words
// and compares them: no lock, no allocation, no string.
#include <atomic>
#include <bit>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "runtime/config.hpp"
#include "runtime/fork_mutex.hpp"
#include "runtime/planner.hpp"

namespace lc {
namespace {

// Head, inputs and outputs (header, dims, strides each), attributes (count and values each).
constexpr size_t kKeyWords = 4 +
                             static_cast<size_t>(kMaxInputs + kMaxOutputs) * (1 + 2 * kMaxRank) +
                             kMaxAttrs * (1 + kMaxRank);

struct Key {
  uint64_t words[kKeyWords];
  size_t n = 0;
  uint64_t hash = 0;
  void push(uint64_t w) { words[n++] = w; }
};

void push_view(Key& key, const View& v) {
  const bool contiguous = v.is_contiguous();
  key.push(static_cast<uint64_t>(v.dtype) | static_cast<uint64_t>(v.rank()) << 8 |
           static_cast<uint64_t>(contiguous) << 16 | static_cast<uint64_t>(v.device.kind) << 24);
  for (int i = 0; i < v.rank(); ++i) key.push(static_cast<uint64_t>(v.shape[i]));
  if (!contiguous)
    for (int i = 0; i < v.rank(); ++i) key.push(static_cast<uint64_t>(v.strides[i]));
}

void describe(const OpCall& call, Key& key) {
  const OpDef& op = *call.op;
  const Policy& p = call.policy;
  key.push(static_cast<uint64_t>(op.id) | static_cast<uint64_t>(call.n_in) << 16 |
           static_cast<uint64_t>(call.device.kind) << 24 |
           static_cast<uint64_t>(call.device.index) << 32 |
           static_cast<uint64_t>(call.compute_dtype) << 40);
  key.push(uint64_t{p.upload} << 32 | p.download);
  key.push(static_cast<uint64_t>(p.sync) | static_cast<uint64_t>(p.precision) << 8 |
           static_cast<uint64_t>(p.strict) << 16 |
           static_cast<uint64_t>(p.trace_sync_boundary) << 17 | uint64_t{p.kernel} << 32);
  key.push(config_epoch());
  for (int i = 0; i < call.n_in; ++i) push_view(key, call.in[i]);
  for (int i = 0; i < call.n_out; ++i) {
    if (call.out[i].data != nullptr)
      push_view(key, call.out[i]);
    else
      key.push(0);
  }
  for (size_t k = 0; k < op.attrs.size(); ++k) {
    const AttrValue& a = call.attr[k];
    if (op.attrs[k].kind == AttrKind::kFloat) {
      key.push(std::bit_cast<uint64_t>(a.f));
    } else if (op.attrs[k].kind != AttrKind::kInts) {
      key.push(static_cast<uint64_t>(a.i[0]));
    } else {
      key.push(static_cast<uint64_t>(static_cast<int64_t>(a.n)));
      for (const int64_t v : a.ints()) key.push(static_cast<uint64_t>(v));
    }
  }
  uint64_t h = 0x243f6a8885a308d3ull;
  for (size_t i = 0; i < key.n; ++i) {
    h = (h ^ key.words[i]) * 0x9e3779b97f4a7c15ull;
    h ^= h >> 29;
  }
  key.hash = h;
}

bool same_key(const Plan& plan, const Key& key) {
  return plan.key.size() == key.n && std::memcmp(plan.key.data(), key.words, key.n * 8) == 0;
}

struct Slot {
  uint64_t hash = 0;
  PlanPtr plan;
};
constexpr size_t kSlots = 512;  // 12 KiB a thread

struct ThreadTable {
  Slot slots[kSlots];
  uint64_t generation = 0;
  uint64_t hits = 0;
};

ThreadTable& thread_table() {
  thread_local ThreadTable table;
  return table;
}

struct SharedMap {
  ForkMutex mutex{LockRank::kPlans};
  std::unordered_multimap<uint64_t, PlanPtr> plans;
  uint64_t hits = 0;
  uint64_t misses = 0;
};
SharedMap& shared_map() {
  static auto* map = new SharedMap;  // never destroyed: threads may outlive static destruction
  return *map;
}
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

const PlanPtr& look_up(OpCall& call) {
  Key key;
  describe(call, key);
  ThreadTable& table = thread_table();
  const uint64_t generation = g_generation.load(std::memory_order_acquire);
  if (table.generation != generation) [[unlikely]] {
    for (Slot& slot : table.slots) slot = Slot{};
    table.generation = generation;
  }
  Slot& slot = table.slots[key.hash >> 55];
  if (slot.hash == key.hash && slot.plan && same_key(*slot.plan, key)) [[likely]] {
    ++table.hits;
  } else {
    PlanPtr plan = find_or_make(call, key);
    slot.plan = std::move(plan);
    slot.hash = key.hash;
  }
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
  SharedMap& map = shared_map();
  const std::lock_guard lock(map.mutex);
  return {thread_table().hits, map.hits, map.misses, map.plans.size()};
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
