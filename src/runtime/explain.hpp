#pragma once

#include <string>

namespace lc {

class Plan;

[[nodiscard]] std::string explain_plan(const Plan& plan);
[[nodiscard]] std::string explain_plan_json(const Plan& plan);

}  // namespace lc
