// The reference's policies for message passing on graphs.
#pragma once

#include <cstddef>

#include "lightning_core/core/model_customization.hpp"
#include "lightning_core/core/ops.hpp"

namespace lightning_core::models {

struct GraphSparseFriendlyPolicy {
  std::size_t edge_chunk_size = 4096;  ///< edges of one transfer
  std::size_t node_batch_size = 512;   ///< nodes of one repeated step
  bool resident_aggregation = true;
  std::size_t tiny_update_cpu_crossover_n = std::size_t{2} << 20;  ///< elements
};

inline GraphSparseFriendlyPolicy makeGraphSparseFriendlyPolicy(ModelFamily family,
                                                               ExecutionMode mode,
                                                               std::size_t num_nodes,
                                                               std::size_t num_edges,
                                                               std::size_t feature_dim) {
  (void)feature_dim;
  const ModelCustomization c = makeAggressiveCustomization(family, mode);
  GraphSparseFriendlyPolicy p;
  p.resident_aggregation = c.resident_io;
  p.tiny_update_cpu_crossover_n = c.vector_oneshot_crossover_n;
  // Attention over edges does twice the work an edge, and large graphs amortise larger pieces.
  const std::size_t work = family == ModelFamily::kGat ? 2 : 1;
  p.edge_chunk_size *= work * (num_edges >= (std::size_t{1} << 20) ? 2 : 1);
  p.node_batch_size *= work * (num_nodes >= (std::size_t{1} << 18) ? 2 : 1);
  return p;
}

/// The same, remembered for the process and, with CJ_GRAPH_POLICY_CACHE_FILE set, in that file.
GraphSparseFriendlyPolicy makeGraphSparseFriendlyPolicyCached(ModelFamily family,
                                                              ExecutionMode mode,
                                                              std::size_t num_nodes,
                                                              std::size_t num_edges,
                                                              std::size_t feature_dim);
/// Writes the file if there is one and something is new. Atomic; a failure leaves the old file.
void saveGraphPolicyCacheIfDirty();

inline ops::MatMulIoPolicy makeGraphProjectionPolicy(const GraphSparseFriendlyPolicy& p,
                                                     LoopStage stage) {
  return detail::matMulForStage(p.resident_aggregation, stage);
}
inline ops::VectorAddIoPolicy makeGraphUpdatePolicy(const GraphSparseFriendlyPolicy& p,
                                                    LoopStage stage) {
  return detail::vectorForStage(p.resident_aggregation, stage);
}

}  // namespace lightning_core::models
