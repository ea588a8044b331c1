// The reference's probes of Apple's frameworks. This build has none of them: each call returns
// kNotSupported, with -1 as the time.
#pragma once

#include <cstddef>
#include <string>

#include "lightning_core/core/runtime.hpp"

namespace lightning_core::apple {

runtime::Status benchmarkCoreMLInference(const std::string& model_path, std::size_t n, int iters,
                                         double* avg_ms);
runtime::Status benchmarkMpsGraphVectorAdd(std::size_t n, int iters, double* avg_ms);
runtime::Status benchmarkMpsGraphTrainStep(std::size_t n, int iters, double* avg_ms);

}  // namespace lightning_core::apple
