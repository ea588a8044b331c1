"""`lc.api`: the integrated functions under their short names."""

from __future__ import annotations

from lightning_core.reference.integrated import (
    attention,
    attention_into,
    clear_attention_session_cache,
    conv_attention_torchstrong_nchw,
    conv_attention_torchstrong_nchw_ab_report,
    conv_attention_torchstrong_nchw_into,
    conv_relu_nchw,
    conv_relu_nchw_into,
)

__all__ = [
    "attention",
    "attention_into",
    "clear_attention_session_cache",
    "conv_attention_torchstrong_nchw",
    "conv_attention_torchstrong_nchw_ab_report",
    "conv_attention_torchstrong_nchw_into",
    "conv_relu_nchw",
    "conv_relu_nchw_into",
]
