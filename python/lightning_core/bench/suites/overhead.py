"""The cost of a call: 8x8 arrays, through the ops, the kept functions and `lc.api`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import lightning_core as lc
from lightning_core.bench.suites import builders as b
from lightning_core.bench.work import Array, Want, Work, uniform

__all__ = ["rows"]

INTO, ALLOCATING = Want(us=0.20), Want(us=0.35)  # where there is next to nothing to compute


def _as(work: Work, name: str, ours: Callable[..., Any], out: str = "", **changes: Any) -> Work:
    """The row through another of our functions; the peers are the eager ones, the others take
    tens of microseconds to start."""
    changes.setdefault("want", INTO if out else ALLOCATING)
    return replace(work, bench=name, ours=ours, out=out, compiled=False, jax=None, **changes)


def _torch_out(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A torch function without out=, its result copied to it: what a caller has to do."""

    def make(t: Any) -> Any:
        inner = function(t)
        return lambda *a, out: out.copy_(inner(*a))

    return make


def rows(most: int = 0) -> Iterator[Work]:
    """The suite's rows."""
    del most  # they are small as they are
    n = 8
    product = b.gemm(n, n, n)
    yield _as(product, "lc.matmul2d_into", lc.matmul2d_into, "last")
    yield _as(product, "lc.matmul out", lc.matmul, "keyword")
    yield _as(product, "lc.matmul2d", lc.matmul2d)
    yield _as(product, "lc.matmul", lc.matmul)
    vector = b.vector_add(n * n)
    yield _as(vector, "lc.vector_add", lc.vector_add)
    for name in ("add", "sub"):
        work = b.binary(name, (n, n), getattr(lc, name), name, ALLOCATING)
        yield _as(work, f"lc.{name} out", getattr(lc, name), "keyword")
        yield _as(work, f"lc.{name}", getattr(lc, name))
    difference = b.matrix_sub(n, n)
    yield _as(difference, "lc.matrix_sub", difference.ours)
    for name in ("exp", "tanh"):
        work = replace(b.unary(name, n * n), inputs=uniform((n, n)), shape=f"{n}x{n}")
        yield _as(work, f"lc.{name} out", getattr(lc, name), "keyword")
        yield _as(work, f"lc.{name}", getattr(lc, name))
    relu = replace(b.unary("relu", n * n), inputs=uniform((n, n)), shape=f"{n}x{n}")
    yield _as(
        relu, "lc.relu out", lc.relu, "keyword",
        numpy=partial(np.maximum, np.float32(0)), torch=lambda t: partial(t.clamp_min, min=0.0),
    )  # fmt: skip
    yield _as(relu, "lc.relu", lc.relu)
    yield _as(b.reduction(n, n, None), "lc.sum", lc.sum)
    yield _as(b.softmax(n, n), "lc.softmax", lc.softmax, want=b.NO_WANT)
    yield _as(b.layer_norm(n, n), "lc.layer_norm", lc.layer_norm, want=b.NO_WANT)
    yield _as(b.linear(n, n, n, packed=False), "lc.linear", lc.linear)
    yield from _attention(n)
    yield from _conv(n)


def _attention(n: int) -> Iterator[Work]:
    def api(q: Array, k: Array, v: Array) -> Any:
        return lc.api.attention(q, k, v, n, n)

    def api_into(q: Array, k: Array, v: Array, out: Array) -> Any:
        return lc.api.attention_into(q, k, v, out, n, n)

    work = b.attention(n, n)
    assert work.torch is not None
    yield _as(work, "lc.attention", lc.attention, want=b.NO_WANT)
    yield _as(work, "lc.attention2d", lc.attention2d, want=b.NO_WANT)
    yield _as(work, "lc.api.attention", api, want=b.NO_WANT)
    into = replace(work, torch=_torch_out(work.torch))
    yield _as(into, "lc.attention2d_into", lc.attention2d_into, "last", want=b.NO_WANT)
    yield _as(into, "lc.api.attention_into", api_into, "last", want=b.NO_WANT)


def _conv(n: int) -> Iterator[Work]:
    def api_into(x: Array, w: Array, bias: Array, out: Array) -> Any:
        return lc.api.conv_relu_nchw_into(x, w, bias, out, 1, 1, 1, 1)

    work = b.conv(1, 3, n, 4)
    assert work.torch is not None
    yield _as(work, "lc.api.conv_relu_nchw", work.ours, want=b.NO_WANT)
    into = replace(work, torch=_torch_out(work.torch))
    yield _as(into, "lc.api.conv_relu_nchw_into", api_into, "last", want=b.NO_WANT)
