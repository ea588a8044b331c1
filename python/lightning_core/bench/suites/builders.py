"""Rows of a single op, by shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

import lightning_core as lc
from lightning_core.bench import exact
from lightning_core.bench.work import Array, Want, Work, uniform

__all__ = [
    "NO_WANT",
    "attention",
    "attention_of_model",
    "binary",
    "conv",
    "cut",
    "gemm",
    "gemm_transposed",
    "layer_norm",
    "linear",
    "linear_int8",
    "pack_weights",
    "matrix_sub",
    "reduction",
    "softmax",
    "unary",
    "vector_add",
]

NO_WANT = Want()


def cut(shapes: Iterable[tuple[int, ...]], most: int) -> Iterator[tuple[int, ...]]:
    """The shapes with no extent above `most` (0: as they are), each once."""
    small = (tuple(min(v, most) for v in shape) if most else shape for shape in shapes)
    return iter(dict.fromkeys(small))


def _product(x: Any, y: Any) -> Any:
    return x @ y


@cache
def _last_cache() -> int:
    info = lc.device_info("cpu")
    return int(info["l3_bytes"] or info["l2_bytes"])


def _streams(elements: int, arrays: int) -> Want:
    """95 % of the copy rate where so many float32 arrays fit no cache by a margin."""
    return Want(pct=95.0) if 4 * elements * arrays > 1.25 * _last_cache() else NO_WANT


def gemm(m: int, k: int, n: int, want: Want = NO_WANT) -> Work:
    """A plain product of two matrices."""
    return Work(
        "matmul", f"{m}x{k}x{n}", uniform((m, k), (k, n)), lc.matmul2d, exact=_product,
        numpy=np.matmul, torch=lambda t: t.mm, jax=lambda j: _product,
        flops=2.0 * m * k * n, reduce=k, want=want,
    )  # fmt: skip


def gemm_transposed(m: int, k: int, n: int, which: str) -> Work:
    """The product of matrices that lie transposed in memory: `which` is tn, nt or tt."""
    ta, tb = which[0] == "t", which[1] == "t"

    def product(x: Any, y: Any) -> Any:
        return (x.T if ta else x) @ (y.T if tb else y)

    return Work(
        f"matmul_{which}", f"{m}x{k}x{n}",
        uniform((k, m) if ta else (m, k), (n, k) if tb else (k, n)),
        partial(lc.matmul, trans_a=ta, trans_b=tb), exact=product,
        numpy=product, torch=lambda t: product, jax=lambda j: product,
        flops=2.0 * m * k * n, reduce=k,
    )  # fmt: skip


def pack_weights(x: Any, *arrays: Any) -> tuple[Any, ...]:
    """The inputs with every linear layer's weight, [out, in] before its bias [out], packed."""
    following = (*arrays[1:], None)
    return x, *(
        lc.pack_weight(w) if w.ndim == 2 and b is not None and b.shape == w.shape[:1] else w
        for w, b in zip(arrays, following, strict=True)
    )


def linear(m: int, k: int, n: int, want: Want = NO_WANT, *, packed: bool = True) -> Work:
    """x [m, k] by a weight [n, k] that stays the same, with a bias; or packed at every call."""

    def function(x: Any, w: Any, b: Any) -> Any:
        return x @ w.T + b

    return Work(
        "linear" if packed else "linear_plain", f"{m}x{k}x{n}", uniform((m, k), (n, k), (n,)),
        lc.linear, exact=function, once=pack_weights if packed else None,
        numpy=function, torch=lambda t: t.nn.functional.linear, jax=lambda j: function, weights=2,
        flops=2.0 * m * k * n, reduce=k, want=want,
    )  # fmt: skip


def _int8(m: int, k: int, n: int) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    def inputs(rng: np.random.Generator) -> tuple[Array, ...]:
        x, w, b = uniform((m, k), (n, k), (n,))(rng)
        q, scale = lc.quantize_weight(w)
        return x, q, scale, b

    return inputs


class _TorchInt8:
    """torch's linear layer of an int8 weight that rounds x as well; packed at the first call."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._packed: Any = None

    def __call__(self, x: Any, q: Any, scale: Any, b: Any) -> Any:
        ops = self._torch.ops.quantized
        if self._packed is None:
            zeros = self._torch.zeros(len(scale), dtype=self._torch.int64)
            w = self._torch._make_per_channel_quantized_tensor(q, scale.double(), zeros, 0)
            self._packed = ops.linear_prepack(w, b)
        return ops.linear_dynamic(x, self._packed)


def linear_int8(m: int, k: int, n: int, *, fast: bool) -> Work:
    """x [m, k] by an int8 weight with one factor a row; `fast` rounds x to int8 as well."""

    def function(x: Any, q: Any, scale: Any, b: Any) -> Any:
        return x @ (q * scale[:, None]).T + b

    def ours(x: Array, w: Any, scale: Array, b: Array) -> Any:
        return lc.linear(x, w, b, scale, policy=policy)

    policy = lc.Policy(precision="fast" if fast else "exact")
    return Work(
        "linear_int8_fast" if fast else "linear_int8", f"{m}x{k}x{n}", _int8(m, k, n), ours,
        exact=function, torch=_TorchInt8 if fast else lambda t: function, weights=3,
        once=lambda x, q, scale, b: (x, lc.pack_weight(q), scale, b), compiled=not fast,
        flops=2.0 * m * k * n, reduce=k,
        bound=k / 127 if fast else None,  # half a step of x a term, and as much for torch's 7 bits
    )  # fmt: skip


def binary(
    bench: str, sizes: tuple[int, ...], ours: Callable[..., Any], name: str, want: Want
) -> Work:
    """An elementwise op of two arrays that all libraries call `name`."""
    add = name == "add"
    function = np.add if add else np.subtract
    return Work(
        bench, "x".join(map(str, sizes)), uniform(sizes, sizes), ours, exact=function,
        numpy=function, torch=lambda t: t.add if add else t.sub,
        jax=lambda j: j.numpy.add if add else j.numpy.subtract,
        flops=float(math.prod(sizes)), terms=2.0, want=want,
    )  # fmt: skip


def vector_add(n: int) -> Work:
    """The sum of two vectors."""
    return binary("vector_add", (n,), lc.vector_add, "add", _streams(n, 3))


def matrix_sub(rows: int, cols: int) -> Work:
    """The difference of two matrices."""

    def ours(a: Array, b: Array) -> Any:
        return lc.matrix_sub(a, b, rows, cols)

    return binary("matrix_sub", (rows, cols), ours, "sub", _streams(rows * cols, 3))


def unary(name: str, n: int) -> Work:
    """An elementwise function: exp, gelu, relu, tanh or sigmoid."""
    numpy, torch, jax = _UNARY[name]
    return Work(
        name, f"{n}", uniform((n,)), getattr(lc, name), exact=numpy or exact.gelu,
        numpy=numpy, torch=torch, jax=jax, flops=float(n), terms=2.0, want=_streams(n, 2),
    )  # fmt: skip


_UNARY: dict[str, tuple[Any, Any, Any]] = {
    "exp": (np.exp, lambda t: t.exp, lambda j: j.numpy.exp),
    "gelu": (
        None,
        lambda t: t.nn.functional.gelu,
        lambda j: partial(j.nn.gelu, approximate=False),
    ),
    "tanh": (np.tanh, lambda t: t.tanh, lambda j: j.numpy.tanh),
    "relu": (
        lambda x: np.maximum(x, 0),
        lambda t: t.relu,
        lambda j: j.nn.relu,
    ),
}


def reduction(rows: int, cols: int, axis: int | None) -> Work:
    """The sum over an axis of a matrix, or over all of it."""
    over = partial(np.sum, axis=axis)
    length = {None: rows * cols, 0: rows, 1: cols}[axis]
    return Work(
        "sum" if axis is None else f"sum_axis{axis}", f"{rows}x{cols}", uniform((rows, cols)),
        lc.sum if axis is None else partial(lc.sum, axis=axis), exact=over, numpy=over,
        torch=lambda t: t.sum if axis is None else partial(t.sum, dim=axis),
        jax=lambda j: partial(j.numpy.sum, axis=axis),
        flops=float(rows * cols), reduce=length, want=_streams(rows * cols, 1),
    )  # fmt: skip


def softmax(rows: int, cols: int) -> Work:
    """Over the last axis."""
    return Work(
        "softmax", f"{rows}x{cols}", uniform((rows, cols)), lc.softmax, exact=exact.softmax,
        torch=lambda t: partial(t.softmax, dim=-1), jax=lambda j: j.nn.softmax,
        flops=4.0 * rows * cols, reduce=cols, want=_streams(rows * cols, 2),
    )  # fmt: skip


def jax_layer_norm(j: Any) -> Any:
    """Layer normalisation over the last axis, which jax has no function for."""

    def function(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred * j.lax.rsqrt(variance + 1e-5) * weight + bias

    return function


def layer_norm(rows: int, cols: int) -> Work:
    """Over the last axis, with weight and bias."""
    return Work(
        "layer_norm", f"{rows}x{cols}", uniform((rows, cols), (cols,), (cols,)), lc.layer_norm,
        exact=exact.layer_norm,
        torch=lambda t: lambda x, w, b: t.nn.functional.layer_norm(x, (cols,), w, b),
        jax=jax_layer_norm, weights=2, flops=7.0 * rows * cols, reduce=cols,
        want=_streams(rows * cols, 2),
    )  # fmt: skip


def jax_attention(j: Any, causal: bool = False) -> Any:
    """Scaled dot-product attention over the last two axes."""

    def function(q: Any, k: Any, v: Any) -> Any:
        scores = q @ j.numpy.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
        if causal:
            mask = j.numpy.tri(*scores.shape[-2:], dtype=bool)
            scores = j.numpy.where(mask, scores, -j.numpy.inf)
        return j.nn.softmax(scores, axis=-1) @ v

    return function


def attention(s: int, d: int, heads: int = 1, causal: bool = False, want: Want = NO_WANT) -> Work:
    """Attention of `heads` heads; a single one as matrices, which torch takes as one of many."""
    single = heads == 1
    shape = (s, d) if single else (1, heads, s, d)
    pairs = s * (s + 1) / 2 if causal else s * s
    ours: Callable[..., Any] = lc.attention2d if single else lc.attention
    return Work(
        "attention_causal" if causal else "attention",
        f"{s}x{d}" if single else f"{heads}x{s}x{d}",
        uniform(*[shape] * 3),
        partial(ours, causal=True) if causal else ours,
        exact=partial(exact.attention, causal=causal),
        torch=lambda t: partial(
            t.nn.functional.scaled_dot_product_attention, **({"is_causal": True} if causal else {})
        ),
        jax=partial(jax_attention, causal=causal),
        peer_view=(lambda x: x[None, None]) if single else None,
        flops=4.0 * heads * pairs * d, reduce=s, want=want,
    )  # fmt: skip


def attention_of_model(batch: int, s: int, heads: int, d: int) -> Work:
    """Attention as a transformer's layer has it: q, k and v of all heads in one array [batch, s,
    3, heads, d], the result as [batch, s, heads, d]."""

    def ours(x: Array) -> Any:
        q, k, v = x.transpose(2, 0, 3, 1, 4)
        out = np.empty((batch, s, heads, d), np.float32)
        lc.attention(q, k, v, out=out.transpose(0, 2, 1, 3))
        return out

    def expected(x: Any) -> Any:
        return exact.attention(*x.transpose(2, 0, 3, 1, 4)).transpose(0, 2, 1, 3)

    def torch(t: Any) -> Any:
        def function(x: Any) -> Any:
            q, k, v = x.permute(2, 0, 3, 1, 4)
            y = t.nn.functional.scaled_dot_product_attention(q, k, v)
            return y.transpose(1, 2).contiguous()

        return function

    def jax(j: Any) -> Any:
        def function(x: Any) -> Any:
            q, k, v = j.numpy.transpose(x, (2, 0, 3, 1, 4))
            return j.numpy.transpose(jax_attention(j)(q, k, v), (0, 2, 1, 3))

        return function

    return Work(
        "attention_of_model", f"{batch}x{heads}x{s}x{d}", uniform((batch, s, 3, heads, d)),
        ours, exact=expected, torch=torch, jax=jax,
        flops=4.0 * batch * heads * s * s * d, reduce=s,
    )  # fmt: skip


def conv_functions(
    stride: int, padding: int, groups: int
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """relu(conv2d(x, w) + bias) for torch and for jax."""

    def torch(t: Any) -> Any:
        def function(x: Any, w: Any, b: Any) -> Any:
            y = t.nn.functional.conv2d(x, w, b, stride, padding, 1, groups)
            return t.relu_(y)

        return function

    def jax(j: Any) -> Any:
        def function(x: Any, w: Any, b: Any) -> Any:
            y = j.lax.conv_general_dilated(
                x, w, (stride, stride), [(padding, padding)] * 2, feature_group_count=groups
            )
            return j.nn.relu(y + b[:, None, None])

        return function

    return torch, jax


def conv(
    n: int, ci: int, h: int, co: int, k: int = 3, stride: int = 1, pad: int = 1, groups: int = 1
) -> Work:
    """Convolution with bias and ReLU on a square image."""
    kind = "depthwise" if groups == ci > 1 else "conv"
    steps = f"{'' if stride == 1 else f's{stride}'}"
    side = (h + 2 * pad - k) // stride + 1
    torch, jax = conv_functions(stride, pad, groups)

    def ours(x: Array, w: Array, b: Array) -> Any:
        if groups == 1:
            return lc.api.conv_relu_nchw(x, w, b, stride, stride, pad, pad)
        return lc.conv2d(x, w, b, stride=stride, padding=pad, groups=groups, activation="relu")

    def expected(x: Any, w: Any, b: Any) -> Any:
        return np.maximum(exact.conv(x, w, b, stride, pad, groups), 0.0)

    return Work(
        f"{kind}_relu", f"{n}x{ci}x{h}x{h}->{co} k{k}{steps}",
        uniform((n, ci, h, h), (co, ci // groups, k, k), (co,)), ours, exact=expected,
        torch=torch, jax=jax, weights=2,
        flops=2.0 * n * co * side * side * (ci // groups) * k * k, reduce=ci // groups * k * k,
    )  # fmt: skip
