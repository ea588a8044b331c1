"""`lc.api`: the integrated functions under their short names.

`NAME_lightning_direct` is this library's own function whatever `NAME` comes to stand for.
"""

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

attention_lightning_direct = attention
attention_into_lightning_direct = attention_into
conv_attention_torchstrong_nchw_lightning_direct = conv_attention_torchstrong_nchw
conv_attention_torchstrong_nchw_ab_report_lightning_direct = (
    conv_attention_torchstrong_nchw_ab_report
)
conv_attention_torchstrong_nchw_into_lightning_direct = conv_attention_torchstrong_nchw_into
conv_relu_nchw_lightning_direct = conv_relu_nchw
conv_relu_nchw_into_lightning_direct = conv_relu_nchw_into

__all__ = [
    "attention",
    "attention_into",
    "attention_into_lightning_direct",
    "attention_lightning_direct",
    "clear_attention_session_cache",
    "conv_attention_torchstrong_nchw",
    "conv_attention_torchstrong_nchw_ab_report",
    "conv_attention_torchstrong_nchw_ab_report_lightning_direct",
    "conv_attention_torchstrong_nchw_into",
    "conv_attention_torchstrong_nchw_into_lightning_direct",
    "conv_attention_torchstrong_nchw_lightning_direct",
    "conv_relu_nchw",
    "conv_relu_nchw_into",
    "conv_relu_nchw_into_lightning_direct",
    "conv_relu_nchw_lightning_direct",
]
