"""Lightning Core: a small, fast operator runtime that says what it does.

`import lightning_core as lc` gives one function an op (`lc.matmul`, `lc.attention`, ...), the
functions of the package `lightning-core` 0.1.17 under their own names, tensors, policies, and the
reports: `runtime_trace_timeline`, `explain_call`, `runtime_backend_capabilities`.
"""

from __future__ import annotations

from lightning_core import api
from lightning_core._core import *  # noqa: F403  every op, by the list the module exports
from lightning_core._core import (
    Case,
    Policy,
    PolicyScope,
    SafetensorsFile,
    Session,
    Tensor,
    Tensor64,
    Tensor64View,
    TensorView,
    __version__,
    backend_name,
    clear_plan_cache,
    config_table,
    cuda_available,
    current_policy,
    default_policy,
    device_info,
    explain_call,
    from_dlpack,
    measure_bandwidth,
    measure_flops,
    measure_peak,
    memory_model_name,
    memory_stats,
    metal_available,
    num_threads,
    op_names,
    op_schema,
    parse_case,
    plan_cache_stats,
    read_cases,
    reload_config,
    runtime_active_backend_capabilities,
    runtime_active_backend_interfaces,
    runtime_backend_capabilities,
    runtime_backend_interfaces,
    runtime_sync_apply,
    runtime_sync_apply_default,
    runtime_sync_policy_get,
    runtime_sync_policy_set,
    runtime_trace_capacity,
    runtime_trace_clear,
    runtime_trace_enable,
    runtime_trace_enabled,
    runtime_trace_events,
    runtime_trace_timeline,
    set_config,
    set_default_policy,
    trace_chrome_json,
    trace_lines,
)
from lightning_core._core import __all__ as _ops_exported
from lightning_core.quantize import quantize_weight
from lightning_core.reference.attention import (
    AttentionIoPolicy,
    AttentionSession,
    attention2d,
    attention2d_into,
    attention2d_session,
    attention_forward,
    attention_forward_with_policy,
    clear_attention2d_session_cache,
)
from lightning_core.reference.conv import (
    conv2d_nchw,
    conv2d_nchw_into,
    conv2d_nchw_metal_resident,
)
from lightning_core.reference.elementwise import matrix_sub, vector_add
from lightning_core.reference.integrated import (
    clear_attention_session_cache as clear_integrated_attention_session_cache,
)
from lightning_core.reference.matmul import (
    matmul,
    matmul2d,
    matmul2d_into,
    matmul2d_resident_session,
    matmul_np,
    matmul_np_into,
    matmul_np_into_with_policy,
    matmul_np_with_policy,
    matmul_reset_tuning,
    matmul_with_policy,
)
from lightning_core.reference.policies import (
    MatMulIoPolicy,
    MatrixElementwiseIoPolicy,
    VectorAddIoPolicy,
)
from lightning_core.reference.sessions import (
    Conv2dMetalResidentSession,
    MatMulMetalResidentSession,
    MatrixElemwiseMetalResidentSession,
    VectorAddMetalResidentSession,
)

policy = PolicyScope
"""`with lc.policy(lc.Policy(strict=True)):` sets the policy of this thread's calls."""

lightning_conv_relu_nchw = api.conv_relu_nchw
lightning_conv_relu_nchw_into = api.conv_relu_nchw_into
lightning_attention = api.attention
lightning_attention_into = api.attention_into
lightning_conv_attention_torchstrong_nchw = api.conv_attention_torchstrong_nchw
lightning_conv_attention_torchstrong_nchw_into = api.conv_attention_torchstrong_nchw_into
lightning_conv_attention_torchstrong_nchw_ab_report = api.conv_attention_torchstrong_nchw_ab_report


def ops() -> dict[str, str]:
    """Every op's name with its documentation."""
    return {name: str(op_schema(name)["doc"]) for name in op_names()}


__all__ = [
    "AttentionIoPolicy",
    "AttentionSession",
    "Case",
    "Conv2dMetalResidentSession",
    "MatMulIoPolicy",
    "MatMulMetalResidentSession",
    "MatrixElementwiseIoPolicy",
    "MatrixElemwiseMetalResidentSession",
    "Policy",
    "PolicyScope",
    "SafetensorsFile",
    "Session",
    "Tensor",
    "Tensor64",
    "Tensor64View",
    "TensorView",
    "VectorAddIoPolicy",
    "VectorAddMetalResidentSession",
    "__version__",
    "api",
    "attention2d",
    "attention2d_into",
    "attention2d_session",
    "attention_forward",
    "attention_forward_with_policy",
    "backend_name",
    "clear_attention2d_session_cache",
    "clear_integrated_attention_session_cache",
    "clear_plan_cache",
    "config_table",
    "conv2d_nchw",
    "conv2d_nchw_into",
    "conv2d_nchw_metal_resident",
    "cuda_available",
    "current_policy",
    "default_policy",
    "device_info",
    "explain_call",
    "from_dlpack",
    "lightning_attention",
    "lightning_attention_into",
    "lightning_conv_attention_torchstrong_nchw",
    "lightning_conv_attention_torchstrong_nchw_ab_report",
    "lightning_conv_attention_torchstrong_nchw_into",
    "lightning_conv_relu_nchw",
    "lightning_conv_relu_nchw_into",
    "matmul",
    "matmul2d",
    "matmul2d_into",
    "matmul2d_resident_session",
    "matmul_np",
    "matmul_np_into",
    "matmul_np_into_with_policy",
    "matmul_np_with_policy",
    "matmul_reset_tuning",
    "matmul_with_policy",
    "matrix_sub",
    "measure_bandwidth",
    "measure_flops",
    "measure_peak",
    "memory_model_name",
    "memory_stats",
    "metal_available",
    "num_threads",
    "op_names",
    "op_schema",
    "ops",
    "parse_case",
    "plan_cache_stats",
    "policy",
    "quantize_weight",
    "read_cases",
    "reload_config",
    "runtime_active_backend_capabilities",
    "runtime_active_backend_interfaces",
    "runtime_backend_capabilities",
    "runtime_backend_interfaces",
    "runtime_sync_apply",
    "runtime_sync_apply_default",
    "runtime_sync_policy_get",
    "runtime_sync_policy_set",
    "runtime_trace_capacity",
    "runtime_trace_clear",
    "runtime_trace_enable",
    "runtime_trace_enabled",
    "runtime_trace_events",
    "runtime_trace_timeline",
    "set_config",
    "set_default_policy",
    "trace_chrome_json",
    "trace_lines",
    "vector_add",
]
__all__ += _ops_exported
