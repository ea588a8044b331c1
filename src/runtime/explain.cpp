// explain(): a plan in words, and as JSON.
#include "runtime/explain.hpp"

#include "lightning_core/dispatch.hpp"
#include "runtime/json.hpp"
#include "runtime/plan.hpp"

namespace lc {
namespace {

const char* kind_name(PlanKind kind) {
  switch (kind) {
    case PlanKind::kKernel:
      return "kernel";
    case PlanKind::kView:
      return "view";
    case PlanKind::kComposed:
      return "composed";
    case PlanKind::kReference:
      return "reference";
    case PlanKind::kEmpty:
      return "empty";
  }
  return "";
}

const char* operand_name(const Plan& plan, int i) {
  return plan.op->inputs[plan.op->variadic ? 0 : static_cast<size_t>(i)].name;
}

}  // namespace

std::string explain_plan(const Plan& plan) {
  std::ostringstream out;
  out << plan.call_text << "\n"
      << "  runs      " << plan.kernel_name << " (" << kind_name(plan.kind) << ")\n"
      << "  device    requested " << device_name(plan.requested) << ", selected "
      << device_name(plan.selected);
  if (plan.fallback) out << ", fallback: " << plan.fallback_reason;
  out << "\n  policy    " << plan.policy.str() << "\n";
  for (const Candidate& c : plan.considered) {
    out << "  candidate " << c.name << ": ";
    if (!c.refusal.empty())
      out << "no, " << c.refusal;
    else
      out << (c.name == plan.kernel_name ? "chosen" : "would run, ranked lower");
    out << "\n";
  }
  for (const ConvertStep& step : plan.converts)
    out << "  copies    " << operand_name(plan, step.operand) << " to row-major "
        << dtype_name(step.dtype) << "\n";
  for (const ConvertStep& step : plan.out_temps)
    out << "  copies    out " << step.operand
        << (plan.discard_outputs >> step.operand & 1u
                ? std::string(": kept, not downloaded")
                : cat(" through a row-major temporary, ", dtype_name(step.dtype)))
        << "\n";
  for (const ComposedStep& step : plan.steps)
    out << "  step      " << step.plan->call_text << " -> " << step.plan->kernel_name << "\n";
  out << "  workspace " << plan.workspace_bytes << " bytes, implicit copies " << plan.convert_bytes
      << " bytes\n"
      << "  work      " << plan.cost.flops << " flops, " << plan.cost.bytes_read << " bytes read, "
      << plan.cost.bytes_written << " bytes written\n";
  return out.str();
}

std::string explain_plan_json(const Plan& plan) {
  Json j;
  j.object();
  j.key("call").string(plan.call_text);
  j.key("kernel").string(plan.kernel_name);
  j.key("kind").string(kind_name(plan.kind));
  j.key("requested_device").string(device_name(plan.requested));
  j.key("selected_device").string(device_name(plan.selected));
  j.key("fallback").boolean(plan.fallback);
  j.key("fallback_reason").string(plan.fallback_reason);
  j.key("policy").string(plan.policy.str());
  j.key("candidates").array();
  for (const Candidate& c : plan.considered) {
    j.object();
    j.key("name").string(c.name);
    j.key("refusal").string(c.refusal);
    j.end();
  }
  j.end();
  j.key("copies").array();
  for (const ConvertStep& step : plan.converts) j.string(operand_name(plan, step.operand));
  for (const ConvertStep& step : plan.out_temps) j.string(cat("out", step.operand));
  j.end();
  j.key("steps").array();
  for (const ComposedStep& step : plan.steps) j.raw(explain_plan_json(*step.plan));
  j.end();
  j.key("workspace_bytes").number(plan.workspace_bytes);
  j.key("implicit_copy_bytes").number(plan.convert_bytes);
  j.key("flops").number(plan.cost.flops);
  j.key("bytes_read").number(plan.cost.bytes_read);
  j.key("bytes_written").number(plan.cost.bytes_written);
  j.key("plan_id").number(static_cast<int64_t>(plan.id));
  j.end();
  return j.str();
}

std::string explain(OpCall& call) { return explain_plan(*plan_shared(call)); }
std::string explain_json(OpCall& call) { return explain_plan_json(*plan_shared(call)); }

}  // namespace lc
