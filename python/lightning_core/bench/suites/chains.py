"""Rows of several ops in a chain."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import lightning_core as lc
from lightning_core.bench import exact
from lightning_core.bench.suites.builders import (
    conv_functions,
    jax_attention,
    jax_layer_norm,
    pack_weights,
)
from lightning_core.bench.work import Array, Work, uniform

__all__ = ["conv_attention", "embedding_ffn", "ffn", "ln_proj", "mlp"]

VOCABULARY = 8192


def _dense(x: Any, w: Any, b: Any) -> Any:
    return x @ w.T + b


def _ours_two(activation: str, x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Any:
    return lc.linear(lc.linear(x, w1, b1, activation=activation), w2, b2)


def _two(activation: Any, dense: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    """linear, activation, linear in any library."""
    return dense(activation(dense(x, w1, b1)), w2, b2)


def _two_layers(bench: str, m: int, k: int, inner: int, n: int, gelu: bool) -> Work:
    def torch(t: Any) -> Any:
        f = t.nn.functional
        return partial(_two, f.gelu if gelu else t.relu_, f.linear)

    def jax(j: Any) -> Any:
        return partial(_two, partial(j.nn.gelu, approximate=False) if gelu else j.nn.relu, _dense)

    return Work(
        bench, f"{m}x{k}->{inner}->{n}", uniform((m, k), (inner, k), (inner,), (n, inner), (n,)),
        partial(_ours_two, "gelu" if gelu else "relu"),
        exact=partial(_two, exact.gelu if gelu else partial(np.maximum, 0.0), _dense),
        numpy=None if gelu else partial(_two, partial(np.maximum, np.float32(0)), _dense),
        torch=torch, jax=jax, weights=4, once=pack_weights,
        flops=2.0 * m * inner * (k + n), reduce=k + inner,
    )  # fmt: skip


def ffn(m: int, width: int, inner: int) -> Work:
    """A transformer's feed-forward block: linear, GELU, linear."""
    return _two_layers("ffn", m, width, inner, width, gelu=True)


def mlp(m: int, k: int, inner: int, n: int) -> Work:
    """A classifier of two layers with a ReLU between."""
    return _two_layers("mlp", m, k, inner, n, gelu=False)


def embedding_ffn(m: int, width: int, inner: int) -> Work:
    """Rows of a table by index, through a feed-forward block."""
    block = ffn(m, width, inner)
    vocabulary = min(VOCABULARY, 16 * m)

    def inputs(rng: np.random.Generator) -> tuple[Array, ...]:
        x, *weights = block.inputs(rng)
        table = rng.uniform(-1, 1, (vocabulary, width)).astype(np.float32)
        return (rng.integers(0, vocabulary, m), table, *weights)

    def ours(ids: Array, table: Array, *weights: Array) -> Any:
        return block.ours(lc.embedding(ids, table), *weights)

    def torch(t: Any) -> Any:
        assert block.torch is not None
        two = block.torch(t)
        return lambda ids, table, *w: two(t.nn.functional.embedding(ids, table), *w)

    def jax(j: Any) -> Any:
        assert block.jax is not None
        two = block.jax(j)
        return lambda ids, table, *w: two(table[ids], *w)

    return Work(
        "embedding_ffn", block.shape, inputs, ours, torch=torch, jax=jax, weights=5,
        once=lambda ids, *weights: (ids, *pack_weights(*weights)),
        exact=lambda ids, table, *w: block.exact(table[ids], *w), flops=block.flops,
        bytes=8.0 * m + 4.0 * (3 * m * width + 2 * width * inner), reduce=block.reduce,
    )  # fmt: skip


def ln_proj(m: int, k: int, n: int) -> Work:
    """LayerNorm, then a linear layer."""

    def chain(norm: Any, dense: Any, x: Any, g: Any, s: Any, w: Any, b: Any) -> Any:
        return dense(norm(x, g, s), w, b)

    def torch(t: Any) -> Any:
        f = t.nn.functional
        return partial(chain, lambda x, g, s: f.layer_norm(x, (k,), g, s), f.linear)

    return Work(
        "ln_proj", f"{m}x{k}->{n}", uniform((m, k), (k,), (k,), (n, k), (n,)),
        partial(chain, lc.layer_norm, lc.linear), exact=partial(chain, exact.layer_norm, _dense),
        torch=torch, jax=lambda j: partial(chain, jax_layer_norm(j), _dense),
        weights=4, once=pack_weights, flops=2.0 * m * k * n + 7.0 * m * k, reduce=2 * k,
    )  # fmt: skip


def conv_attention(s: int, d: int) -> Work:
    """conv 3->16 on 8x8 with ReLU; q, k and v are its memory in order, repeated where too short."""
    need, have = s * d, 16 * 8 * 8
    times = -(-3 * need // have)
    torch_conv, jax_conv = conv_functions(1, 1, 1)

    def ours(x: Array, w: Array, b: Array) -> Any:
        return lc.api.conv_attention_torchstrong_nchw(
            x, w, b, s, d, pad_h=1, pad_w=1, execution_mode="eager"
        )

    def expected(x: Any, w: Any, b: Any) -> Any:
        y = np.maximum(exact.conv(x, w, b, 1, 1), 0.0)
        return exact.attention(*np.resize(y, (3, s, d))).reshape(-1)

    def torch(t: Any) -> Any:
        conv, attend = torch_conv(t), t.nn.functional.scaled_dot_product_attention

        def function(x: Any, w: Any, b: Any) -> Any:
            y = conv(x, w, b).reshape(-1)
            y = y if times == 1 else y.repeat(times)
            q, k, v = y[: 3 * need].reshape(3, 1, 1, s, d)
            return attend(q, k, v).reshape(-1)

        return function

    def jax(j: Any) -> Any:
        conv, attend = jax_conv(j), jax_attention(j)

        def function(x: Any, w: Any, b: Any) -> Any:
            q, k, v = j.numpy.resize(conv(x, w, b), (3, s, d))
            return attend(q, k, v).reshape(-1)

        return function

    return Work(
        "conv_attention", f"3->16 8x8 {s}x{d}", uniform((1, 3, 8, 8), (16, 3, 3, 3), (16,)),
        ours, exact=expected, torch=torch, jax=jax, weights=2,
        flops=2.0 * 16 * 64 * 27 + 4.0 * s * s * d, bytes=4.0 * (192 + 432 + 16 + 5 * need),
        reduce=27 + s,
    )  # fmt: skip
