// The plan of this thread's last lcOpCall() or lcOpInfer(), for lcReport("explain").
#pragma once

#include "lightning_core/dispatch.hpp"

namespace lc::capi {

[[nodiscard]] PlanPtr& last_plan();

}  // namespace lc::capi
