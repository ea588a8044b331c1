#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <sstream>
#include <tuple>

#include "compat/bridge.hpp"
#include "lightning_core/core/apple_ml.hpp"
#include "lightning_core/core/models/graph_fastpath.hpp"
#include "runtime/config.hpp"
#include "runtime/fork_mutex.hpp"

namespace lightning_core {

namespace apple {
namespace {

runtime::Status absent(double* avg_ms) {
  if (avg_ms != nullptr) *avg_ms = -1.0;
  lc::set_last_error("[apple] Core ML and MPSGraph: not built into this library");
  return runtime::Status::kNotSupported;
}

}  // namespace

runtime::Status benchmarkCoreMLInference(const std::string&, std::size_t, int, double* avg_ms) {
  return absent(avg_ms);
}
runtime::Status benchmarkMpsGraphVectorAdd(std::size_t, int, double* avg_ms) {
  return absent(avg_ms);
}
runtime::Status benchmarkMpsGraphTrainStep(std::size_t, int, double* avg_ms) {
  return absent(avg_ms);
}

}  // namespace apple

namespace models {
namespace {

constexpr const char* kHeader =
    "#family,mode,num_nodes,num_edges,feature_dim,edge_chunk_size,node_batch_size,"
    "resident_aggregation,tiny_update_cpu_crossover_n";

using Key = std::tuple<int, int, std::size_t, std::size_t, std::size_t>;

struct Cache {
  lc::ForkMutex mutex{lc::LockRank::kCompat};
  std::map<Key, GraphSparseFriendlyPolicy> table;
  bool loaded = false;
  bool dirty = false;
};
Cache& cache() {
  static auto* c = new Cache;
  return *c;
}

/// The file the user asked for; empty: the cache lives in memory alone.
std::string cache_path() {
  std::string path;
  (void)lc::compat::guard([&] {
    for (const lc::ConfigVar& row : lc::config_table())
      if (std::string_view(row.name) == "CJ_GRAPH_POLICY_CACHE_FILE")
        path = lc::config_string("CJ_GRAPH_POLICY_CACHE_FILE");
  });
  return path;
}

/// Nine numbers between commas; a line that is anything else is skipped.
void load(Cache& c, const std::string& path) {
  c.loaded = true;
  if (path.empty()) return;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    std::size_t v[9];
    bool good = line.find('-') == std::string::npos;
    char comma = 0;
    for (int i = 0; i < 9 && good; ++i) {
      good = static_cast<bool>(fields >> v[i]);
      if (good && i < 8) good = static_cast<bool>(fields >> comma) && comma == ',';
    }
    if (!good || !(fields >> std::ws).eof() || v[0] > 7 || v[1] > 1 || v[5] == 0 || v[6] == 0 ||
        v[7] > 1)
      continue;
    c.table[{static_cast<int>(v[0]), static_cast<int>(v[1]), v[2], v[3], v[4]}] = {v[5], v[6],
                                                                                   v[7] != 0, v[8]};
  }
}

void save(Cache& c, const std::string& path) {
  if (!c.dirty || path.empty()) return;
  const std::string temporary = lc::cat(path, ".", std::random_device{}());
  {
    std::ofstream out(temporary, std::ios::trunc);
    out << kHeader << '\n';
    for (const auto& [key, p] : c.table) {
      const auto& [family, mode, nodes, edges, features] = key;
      out << family << ',' << mode << ',' << nodes << ',' << edges << ',' << features << ','
          << p.edge_chunk_size << ',' << p.node_batch_size << ','
          << (p.resident_aggregation ? 1 : 0) << ',' << p.tiny_update_cpu_crossover_n << '\n';
    }
    if (!out.flush()) return;
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error)
    std::filesystem::remove(temporary, error);
  else
    c.dirty = false;
}

}  // namespace

GraphSparseFriendlyPolicy makeGraphSparseFriendlyPolicyCached(ModelFamily family,
                                                              ExecutionMode mode,
                                                              std::size_t num_nodes,
                                                              std::size_t num_edges,
                                                              std::size_t feature_dim) {
  const std::string path = cache_path();  // takes a lock of its own
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  if (!c.loaded) load(c, path);
  const Key key{static_cast<int>(family), static_cast<int>(mode), num_nodes, num_edges,
                feature_dim};
  const auto found = c.table.find(key);
  if (found != c.table.end()) return found->second;
  const GraphSparseFriendlyPolicy p =
      makeGraphSparseFriendlyPolicy(family, mode, num_nodes, num_edges, feature_dim);
  c.table.emplace(key, p);
  c.dirty = true;
  save(c, path);
  return p;
}

void saveGraphPolicyCacheIfDirty() {
  const std::string path = cache_path();
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  save(c, path);
}

LC_AT_LOAD(cache())

}  // namespace models
}  // namespace lightning_core
