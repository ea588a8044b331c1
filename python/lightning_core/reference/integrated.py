"""The integrated functions: `lc.api.NAME` and `lc.lightning_NAME`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lightning_core import _core
from lightning_core.reference.arrays import F32, Device, addressable, direct, out_of, sizes
from lightning_core.reference.attention import attend, operands_of
from lightning_core.reference.conv import convolve, window_of

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


@direct
def conv_relu_nchw(
    x: Any,
    w: Any,
    bias: Any = None,
    stride_h: int = 1,
    stride_w: int = 1,
    pad_h: int = 0,
    pad_w: int = 0,
    device: Device = None,
) -> F32:
    """relu(conv2d): [n, c, h, w] with [oc, c, kh, kw] to [n, oc, oh, ow] in float32.

    Raises:
        ValueError: shapes, strides or bias do not fit. RuntimeError: an extent of 0.
    """
    return convolve(
        "conv_relu_nchw", x, w, bias, (stride_h, stride_w), (pad_h, pad_w), device, "relu"
    )


@direct
def conv_relu_nchw_into(
    x: Any,
    w: Any,
    bias: Any,
    out: F32,
    stride_h: int = 1,
    stride_w: int = 1,
    pad_h: int = 0,
    pad_w: int = 0,
    device: Device = None,
) -> None:
    """As `conv_relu_nchw`, into a float32 `out` of exactly the result's shape; may be strided."""
    op = "conv_relu_nchw_into"
    convolve(
        op, x, w, bias, (stride_h, stride_w), (pad_h, pad_w), device, "relu", window_of(op, out)
    )


@direct
def attention(
    q: Any,
    k: Any,
    v: Any,
    seq_len: int,
    head_dim: int,
    causal: bool = False,
    device: Device = None,
) -> F32:
    """Single-head attention; rank in is rank out: flat for 1-D operands, 2-D for 2-D ones.

    Raises:
        ValueError: a size does not fit. RuntimeError: a size of 0. TypeError: a causal that is no
            bool or integer.
    """
    op = "attention"
    shape = sizes(op, seq_len=seq_len, head_dim=head_dim)
    first, second, third = operands_of(op, q, k, v, shape)
    result = attend(op, first, second, third, causal, device)
    return result if np.ndim(q) == 2 else result.reshape(-1)


@direct
def attention_into(
    q: Any,
    k: Any,
    v: Any,
    out: F32,
    seq_len: int,
    head_dim: int,
    causal: bool = False,
    device: Device = None,
) -> None:
    """As `attention`, into a float32 `out` of seq_len * head_dim elements in any shape."""
    op = "attention_into"
    shape = sizes(op, seq_len=seq_len, head_dim=head_dim)
    first, second, third = operands_of(op, q, k, v, shape)
    attend(op, first, second, third, causal, device, out_of(op, out, shape))


def clear_attention_session_cache() -> None:
    """Kept for the reference's callers: plans are cached for all ops; this forgets them."""
    _core.clear_plan_cache()


def _pipeline(
    op: str,
    x: Any,
    w: Any,
    bias: Any,
    seq_len: int,
    head_dim: int,
    strides: tuple[int, int],
    padding: tuple[int, int],
    device: Device,
    execution_mode: str,
    out: F32 | None = None,
) -> F32:
    """conv+ReLU, then q, k and v from its memory in order, repeated where it is too short."""
    if execution_mode not in ("eager", "graph"):
        raise ValueError(
            f"[{op}] execution_mode: expected 'eager' or 'graph', found {execution_mode!r}"
        )
    shape = sizes(op, seq_len=seq_len, head_dim=head_dim)
    addressable(op, "seq_len and head_dim", (3, *shape))
    need = shape[0] * shape[1]
    y = convolve(op, x, w, bias, strides, padding, device, "relu").reshape(-1)
    if y.size < 3 * need:
        y = np.resize(y, 3 * need)
    q, k, v = (y[i * need : (i + 1) * need].reshape(shape) for i in range(3))
    return attend(op, q, k, v, False, device, out)


def conv_attention_torchstrong_nchw(
    x: Any,
    w: Any,
    bias: Any,
    seq_len: int,
    head_dim: int,
    stride_h: int = 1,
    stride_w: int = 1,
    pad_h: int = 0,
    pad_w: int = 0,
    device: Device = None,
    execution_mode: str = "eager",
) -> F32:
    """conv+ReLU into attention, a flat float32 array of seq_len * head_dim elements.

    q, k and v are consecutive runs of seq_len * head_dim values of the convolution's result in
    NCHW order, which is repeated cyclically where it is too short.

    Args:
        execution_mode: "eager" or "graph"; both give the same result. Until the graph compiler is
            built, "graph" runs the same plans as "eager".

    Raises:
        ValueError: shapes do not fit, or an unknown mode. RuntimeError: a size of 0.
    """
    return _pipeline(
        "conv_attention_torchstrong_nchw",
        x,
        w,
        bias,
        seq_len,
        head_dim,
        (stride_h, stride_w),
        (pad_h, pad_w),
        device,
        execution_mode,
    ).reshape(-1)


def conv_attention_torchstrong_nchw_into(
    x: Any,
    w: Any,
    bias: Any,
    out: F32,
    seq_len: int,
    head_dim: int,
    stride_h: int = 1,
    stride_w: int = 1,
    pad_h: int = 0,
    pad_w: int = 0,
    device: Device = None,
    execution_mode: str = "eager",
) -> None:
    """As `conv_attention_torchstrong_nchw`, into a float32 `out` of seq_len * head_dim elements."""
    op = "conv_attention_torchstrong_nchw_into"
    shape = sizes(op, seq_len=seq_len, head_dim=head_dim)
    _pipeline(
        op,
        x,
        w,
        bias,
        seq_len,
        head_dim,
        (stride_h, stride_w),
        (pad_h, pad_w),
        device,
        execution_mode,
        out_of(op, out, shape),
    )


def _mean_ms(call: Callable[[], Any], warmup: int, repeat: int) -> float:
    for _ in range(warmup):
        call()
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat * 1e3


def conv_attention_torchstrong_nchw_ab_report(
    x: Any,
    w: Any,
    bias: Any,
    seq_len: int,
    head_dim: int,
    stride_h: int = 1,
    stride_w: int = 1,
    pad_h: int = 0,
    pad_w: int = 0,
    device: Device = None,
    warmup: int = 1,
    repeat: int = 5,
    atol: float = 1e-4,
    rtol: float = 1e-4,
) -> dict[str, Any]:
    """Eager against graph: results compared, mean times of `repeat` calls, and the winner.

    Raises:
        ValueError: a repeat of 0, a negative warm-up or tolerance.
    """
    op = "conv_attention_torchstrong_nchw_ab_report"
    if repeat < 1 or warmup < 0:
        raise ValueError(f"[{op}] repeat: expected 1 or more, found {repeat} (warmup {warmup})")
    if atol < 0 or rtol < 0:
        raise ValueError(f"[{op}] atol, rtol: expected 0 or more, found {atol}, {rtol}")

    def call(mode: str) -> F32:
        return conv_attention_torchstrong_nchw(
            x, w, bias, seq_len, head_dim, stride_h, stride_w, pad_h, pad_w, device, mode
        )

    eager, graph = call("eager").astype(np.float64), call("graph").astype(np.float64)
    difference = np.abs(eager - graph)
    eager_ms = _mean_ms(lambda: call("eager"), warmup, repeat)
    graph_ms = _mean_ms(lambda: call("graph"), warmup, repeat)
    winner = "tie" if graph_ms == eager_ms else "graph" if graph_ms < eager_ms else "eager"
    return {
        "seq_len": seq_len,
        "head_dim": head_dim,
        "warmup": warmup,
        "repeat": repeat,
        "device": device if device is not None else _core.backend_name(),
        "allclose": bool(np.all(difference <= atol + rtol * np.abs(eager))),
        "max_abs_diff": float(difference.max()),
        "mean_abs_diff": float(difference.mean()),
        "max_rel_diff": float((difference / np.maximum(np.abs(eager), 1e-12)).max()),
        "atol": atol,
        "rtol": rtol,
        "eager_ms": eager_ms,
        "graph_ms": graph_ms,
        "graph_over_eager": graph_ms / eager_ms,
        "eager_over_graph": eager_ms / graph_ms,
        "winner": winner,
    }
