"""Arrays that hypothesis draws, and what the tests compare results with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

FLOATS = [np.float32, np.float64]
Array = npt.NDArray[Any]


def eps(dtype: Any) -> float:
    return float(np.finfo(dtype).eps)


def close(got: Array, want: Array, dtype: Any, length: int = 1, coef: float = 8.0) -> None:
    """|got - want| <= coef * eps * sqrt(length) * scale, and the same NaN and infinities."""
    got, want = np.asarray(got), np.asarray(want, dtype=np.float64)
    assert got.dtype == dtype
    assert got.shape == want.shape
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite].astype(dtype))
    scale = max(float(np.max(np.abs(want[finite]), initial=0.0)), 1.0)
    error = np.max(np.abs(got[finite].astype(np.float64) - want[finite]), initial=0.0)
    assert error <= coef * eps(dtype) * np.sqrt(max(length, 1)) * scale


def specials(dtype: Any) -> list[float]:
    """NaN, infinities, signed zeros, denormals and the smallest normal numbers of a dtype."""
    info = np.finfo(dtype)
    small = [float(info.smallest_subnormal), float(info.smallest_normal), 3e-39, 1e-320]
    small = [float(dtype(x)) for x in small]
    return [np.nan, np.inf, -np.inf, 0.0, -0.0, *small, *(-x for x in small)]


@st.composite
def strided(
    draw: st.DrawFn,
    shape: tuple[int, ...],
    dtype: Any,
    low: float,
    high: float,
    special: list[float] | None = None,
) -> Array:
    """An array of `shape` with any strides NumPy makes: sliced, reversed, transposed.

    Its values lie in [low, high], or are some of `special`.
    """
    steps = [draw(st.sampled_from([1, 1, 2, -1])) for _ in shape]
    order = draw(st.permutations(range(len(shape))))
    base_shape = [shape[i] * abs(steps[i]) for i in order]
    values: Any = st.floats(low, high, width=32)
    if special is not None:
        values = st.one_of(values, st.sampled_from(special))
    base = draw(hnp.arrays(dtype, tuple(base_shape), elements=values, fill=values))
    array = base.transpose(np.argsort(order)) if shape else base
    return array[tuple(slice(None, None, s) for s in steps)] if shape else array


@st.composite
def broadcast_arrays(
    draw: st.DrawFn, count: int, low: float, high: float, special: bool = False
) -> tuple[Array, ...]:
    """Arrays of one dtype whose shapes broadcast."""
    shapes = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=4, max_side=6, min_side=0)
    )
    dtype = draw(st.sampled_from(FLOATS))
    extra = specials(dtype) if special else None
    return tuple(draw(strided(s, dtype, low, high, extra)) for s in shapes.input_shapes)


def reference_attention(
    q: Array, k: Array, v: Array, mask: Array | None, causal: bool, scale: float
) -> Array:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    groups = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    scores = np.einsum("bhid,bhjd->bhij", q, k) * (scale or 1 / np.sqrt(q.shape[-1]))
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    if causal:
        i, j = np.indices(scores.shape[-2:])
        scores = np.where(j > i, -np.inf, scores)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = weights.sum(axis=-1, keepdims=True)
    return np.einsum("bhij,bhjd->bhid", np.divide(weights, total, where=total > 0, out=weights), v)


def reference_convolution(
    x: Array, weight: Array, bias: Array | None, stride: tuple[int, int],
    padding: tuple[int, int], dilation: tuple[int, int], groups: int,
) -> Array:  # fmt: skip
    """Cross-correlation of NCHW with OIHW in float64."""
    wide, kernel = x.astype(np.float64), weight.astype(np.float64)
    n, out_channels = x.shape[0], weight.shape[0]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    padded = np.pad(wide, ((0, 0), (0, 0), *((p, p) for p in padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    windows = windows.reshape(n, groups, x.shape[1] // groups, *windows.shape[2:])
    kernel = kernel.reshape(groups, out_channels // groups, *weight.shape[1:])
    y = np.einsum("ngchwij,gocij->ngohw", windows, kernel)
    y = y.reshape(n, out_channels, *y.shape[3:])
    return y if bias is None else y + bias.astype(np.float64)[:, None, None]


def reference_pool(
    x: Array, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    kind: str, count_pad: bool = True,
) -> Array:  # fmt: skip
    """max or avg of windows in float64, without hanging ones."""

    def windows(values: Array, fill: float) -> Array:
        padded = np.pad(values, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=fill)
        view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
        return view[:, :, :: stride[0], :: stride[1]]

    wide = x.astype(np.float64)
    if kind == "max":
        return windows(wide, -np.inf).max(axis=(-2, -1))
    count = windows(np.ones_like(wide), 1.0 if count_pad else 0.0).sum(axis=(-2, -1))
    return windows(wide, 0.0).sum(axis=(-2, -1)) / count
