"""conv2d_nchw: cross-correlation, x NCHW, w OIHW, zero padding, no dilation, no ReLU."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_core import _core
from lightning_core.reference.arrays import F32, Device, array, direct, out_of

__all__ = ["conv2d_nchw", "conv2d_nchw_into", "conv2d_nchw_metal_resident", "convolve"]


def convolve(
    op: str,
    x: Any,
    w: Any,
    bias: Any,
    strides: tuple[int, int],
    padding: tuple[int, int],
    device: Device,
    activation: str,
    out: Any = None,
) -> F32:
    """The convolution behind all names: checks, then the op."""
    image, weight = array(op, "x", x), array(op, "w", w)
    for name, value in (("x", image), ("w", weight)):
        if value.ndim != 4:
            raise ValueError(f"[{op}] {name}: expected rank 4, found shape {value.shape}")
        if 0 in value.shape:
            raise RuntimeError(f"invalid value: [{op}] {name}: found shape {value.shape}")
    added = None if bias is None else array(op, "bias", bias).reshape(-1)
    for name, size in zip(
        ("stride_h", "stride_w", "pad_h", "pad_w"), strides + padding, strict=True
    ):
        if size < 0:
            raise TypeError(f"[{op}] {name}: expected 0 or more, found {size}")
    return _core.conv2d(
        image,
        weight,
        added,
        stride=strides,
        padding=padding,
        activation=activation,
        out=out,
        device=device,
        as_float32=True,
        trace_as="conv2d_nchw",
    )


@direct
def conv2d_nchw(
    x: Any,
    w: Any,
    bias: Any = None,
    stride_h: int = 1,
    stride_w: int = 1,
    pad_h: int = 0,
    pad_w: int = 0,
    device: Device = None,
) -> F32:
    """Convolution of [n, c, h, w] with [oc, c, kh, kw], to [n, oc, oh, ow] in float32.

    Raises:
        ValueError: not rank 4, channels or bias length differ, a stride of 0, or a kernel larger
            than the padded input. RuntimeError: an extent of 0.
    """
    return convolve("conv2d_nchw", x, w, bias, (stride_h, stride_w), (pad_h, pad_w), device, "none")


def window_of(op: str, out: Any) -> F32:
    """`out`, checked to be a writeable rank-4 float32 array; the op checks its shape."""
    if not isinstance(out, np.ndarray) or out.ndim != 4:
        found = f"shape {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(f"[{op}] out: expected a rank-4 float32 ndarray, found {found}")
    return out_of(op, out, out.shape)


@direct
def conv2d_nchw_into(
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
    """As `conv2d_nchw`, into a float32 `out` of exactly the result's shape; may be strided."""
    window = window_of("conv2d_nchw_into", out)
    convolve(
        "conv2d_nchw_into", x, w, bias, (stride_h, stride_w), (pad_h, pad_w), device, "none", window
    )


def conv2d_nchw_metal_resident(
    x: Any,
    w: Any,
    bias: Any,
    out: F32,
    stride_h: int = 1,
    stride_w: int = 1,
    pad_h: int = 0,
    pad_w: int = 0,
    phase: str = "run",
    apply_relu: bool = False,
) -> None:
    """One phase of a resident convolution: start, run, run_batch_sync[:N], sync or finish.

    Every phase uploads and computes from the arguments; `finish` and `run_batch_sync` write `out`.
    Hold a `Conv2dMetalResidentSession` to keep operands resident from one phase to the next.

    Raises:
        ValueError: an unknown phase, a stride of 0, or sizes that do not fit. TypeError: a phase
            that is no string. RuntimeError: an extent of 0.
    """
    from lightning_core.reference.sessions import Conv2dMetalResidentSession

    op = "conv2d_nchw_metal_resident"
    if not isinstance(phase, str):
        raise TypeError(f"[{op}] phase: expected a string, found {phase!r}")
    word, _, count = phase.partition(":")
    if word not in ("start", "run", "run_batch_sync", "sync", "finish"):
        raise ValueError(
            f"[{op}] phase: expected start, run, run_batch_sync[:N], sync, finish, found {phase!r}"
        )
    repeat = 8
    if count:
        if word != "run_batch_sync" or not count.isdigit():
            raise ValueError(f"[{op}] phase: expected run_batch_sync:N, found {phase!r}")
        repeat = int(count)
    image, weight = array(op, "x", x), array(op, "w", w)
    if image.ndim != 4 or weight.ndim != 4:
        raise ValueError(f"[{op}] x, w: expected rank 4, found {image.shape} and {weight.shape}")
    batch, channels, height, width = image.shape
    out_channels, _, kernel_h, kernel_w = weight.shape
    session = Conv2dMetalResidentSession(
        batch,
        channels,
        height,
        width,
        out_channels,
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        pad_h,
        pad_w,
        apply_relu,
        has_bias=bias is not None,
    )
    session.start_into(image, weight, bias, out)
    if word == "run":
        session.run_into(image, weight, bias, out)
    elif word == "run_batch_sync":
        session.run_batch_sync_into(image, weight, bias, out, repeat)
    elif word == "sync":
        session.sync_into(image, weight, bias, out)
    elif word == "finish":
        session.finish_into(image, weight, bias, out)
