"""Cases of the benchmark suites. Shapes are those of the product's description."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import lightning_core as lc
from lightning_core.bench import peers
from lightning_core.bench.measure import Call, Case

__all__ = ["SUITES", "quick"]

EPS = float(np.finfo(np.float32).eps)
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class _Peers:
    """Installed peers, imported once a run."""

    def __init__(self, threads: int) -> None:
        self.torch: Any = peers.torch_module(threads)
        self.jax: Any = peers.jax_module()

    def jit(self, function: Callable[..., Any], *arrays: F32) -> Call:
        """A compiled JAX call from host arrays to a host array."""
        compiled = self.jax.jit(function)
        return lambda: np.asarray(compiled(*arrays))


def _uniform(rng: np.random.Generator, *shape: int) -> F32:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def _bound(expected: F64, reduce: int, terms: float) -> float:
    """8 eps sqrt(length), scaled by the larger of the results and of the terms that are summed."""
    scale = max(float(np.max(np.abs(expected), initial=0.0)), terms)
    return 8 * EPS * float(np.sqrt(max(reduce, 1))) * scale


def _gemm(p: _Peers, rng: np.random.Generator, m: int, k: int, n: int) -> Case:
    a, b = _uniform(rng, m, k), _uniform(rng, k, n)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    calls: dict[str, Call] = {"numpy": lambda: a @ b}
    if p.torch:
        ta, tb = p.torch.from_numpy(a), p.torch.from_numpy(b)
        calls["torch"] = lambda: p.torch.mm(ta, tb).numpy()
    if p.jax:
        calls["jax"] = p.jit(lambda x, y: x @ y, a, b)
    return Case(
        "quick", "matmul", f"{m}x{k}x{n}", lambda: lc.matmul2d(a, b), calls, expected,
        _bound(expected, k, 1.0), 2.0 * m * k * n, 4.0 * (m * k + k * n + m * n),
    )  # fmt: skip


def _gemm_into(p: _Peers, rng: np.random.Generator, m: int, k: int, n: int) -> Case:
    a, b = _uniform(rng, m, k), _uniform(rng, k, n)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    out = np.empty((m, n), np.float32)
    numpy_out = np.empty((m, n), np.float32)

    def ours() -> F32:
        lc.matmul2d_into(a, b, out)
        return out

    calls: dict[str, Call] = {"numpy": lambda: np.matmul(a, b, out=numpy_out)}
    if p.torch:
        ta, tb = p.torch.from_numpy(a), p.torch.from_numpy(b)
        tout = p.torch.empty(m, n)
        view = tout.numpy()

        def torch_call() -> F32:
            p.torch.mm(ta, tb, out=tout)
            result: F32 = view
            return result

        calls["torch"] = torch_call
    return Case(
        "quick", "matmul_into", f"{m}x{k}x{n}", ours, calls, expected, _bound(expected, k, 1.0),
        2.0 * m * k * n, 4.0 * (m * k + k * n + m * n),
    )  # fmt: skip


def _vector_add(p: _Peers, rng: np.random.Generator, n: int) -> Case:
    a, b = _uniform(rng, n), _uniform(rng, n)
    expected = a.astype(np.float64) + b.astype(np.float64)
    calls: dict[str, Call] = {"numpy": lambda: a + b}
    if p.torch:
        ta, tb = p.torch.from_numpy(a), p.torch.from_numpy(b)
        calls["torch"] = lambda: (ta + tb).numpy()
    if p.jax:
        calls["jax"] = p.jit(lambda x, y: x + y, a, b)
    return Case(
        "quick", "vector_add", f"{n}", lambda: lc.vector_add(a, b), calls, expected,
        _bound(expected, 1, 2.0), float(n), 12.0 * n,
    )  # fmt: skip


def _attention(p: _Peers, rng: np.random.Generator, s: int, d: int) -> Case:
    q, k, v = (_uniform(rng, s, d) for _ in range(3))
    scores = q.astype(np.float64) @ k.astype(np.float64).T / np.sqrt(d)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    expected = weights @ v.astype(np.float64)
    calls: dict[str, Call] = {}
    if p.torch:
        tq, tk, tv = (p.torch.from_numpy(x)[None, None] for x in (q, k, v))
        sdpa = p.torch.nn.functional.scaled_dot_product_attention
        calls["torch"] = lambda: sdpa(tq, tk, tv)[0, 0].numpy()
    if p.jax:
        jnp = p.jax.numpy

        def jax_attention(x: Any, y: Any, z: Any) -> Any:
            return p.jax.nn.softmax(x @ y.T / jnp.sqrt(jnp.float32(d)), axis=-1) @ z

        calls["jax"] = p.jit(jax_attention, q, k, v)
    return Case(
        "quick", "attention", f"{s}x{d}", lambda: lc.attention2d(q, k, v), calls, expected,
        _bound(expected, s, 1.0), 4.0 * s * s * d, 16.0 * s * d,
    )  # fmt: skip


def _conv_relu(p: _Peers, rng: np.random.Generator, n: int, ci: int, h: int, co: int) -> Case:
    x, w, bias = _uniform(rng, n, ci, h, h), _uniform(rng, co, ci, 3, 3), _uniform(rng, co)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    expected = np.einsum("nchwij,ocij->nohw", windows, w.astype(np.float64), optimize=True)
    expected = np.maximum(expected + bias[None, :, None, None], 0.0)
    calls: dict[str, Call] = {}
    if p.torch:
        tx, tw, tb = (p.torch.from_numpy(a) for a in (x, w, bias))
        conv = p.torch.nn.functional.conv2d
        calls["torch"] = lambda: p.torch.relu_(conv(tx, tw, tb, padding=1)).numpy()
    if p.jax:

        def jax_conv(a: Any, b: Any, c: Any) -> Any:
            y = p.jax.lax.conv(a, b, (1, 1), "SAME") + c[None, :, None, None]
            return p.jax.nn.relu(y)

        calls["jax"] = p.jit(jax_conv, x, w, bias)
    return Case(
        "quick", "conv_relu", f"{n}x{ci}x{h}x{h}->{co}",
        lambda: lc.api.conv_relu_nchw(x, w, bias, 1, 1, 1, 1), calls, expected,
        _bound(expected, ci * 9, 1.0), 2.0 * 9 * n * ci * co * h * h,
        4.0 * (x.size + w.size + expected.size),
    )  # fmt: skip


def _minilm(p: _Peers, rng: np.random.Generator, batch: int, tokens: int) -> Case | None:
    """Hidden states of the real model; the float64 reference is the torch model in float64."""
    if p.torch is None:
        return None
    from importlib.util import find_spec

    from lightning_core.models.minilm import MiniLM, find_model
    from lightning_core.models.weights import WeightsError

    try:
        folder = find_model()
    except WeightsError:
        return None
    if find_spec("transformers") is None:
        return None
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = MiniLM(folder)
    ids = rng.integers(1000, 20000, (batch, tokens), dtype=np.int64)
    torch_ids = p.torch.from_numpy(ids)
    peer: Any = AutoModel.from_pretrained(folder, dtype=p.torch.float32).eval()
    exact: Any = AutoModel.from_pretrained(folder, dtype=p.torch.float64).eval()
    expected = exact(torch_ids).last_hidden_state.numpy()
    c = model.config
    per_token = c.num_hidden_layers * (
        2 * (4 * c.hidden_size**2 + 2 * c.hidden_size * c.intermediate_size)
        + 4 * tokens * c.hidden_size
    )
    return Case(
        "quick", "minilm", f"{batch}x{tokens}", lambda: model(ids),
        {"torch": lambda: peer(torch_ids).last_hidden_state.numpy()}, expected, 1e-4,
        float(per_token * batch * tokens),
    )  # fmt: skip


def quick(threads: int, seed: int) -> Iterator[Case]:
    """The floors of the foundation: large and small GEMM, attention, conv, streaming, the model."""
    p = _Peers(threads)
    rng = np.random.default_rng(seed)
    yield _gemm(p, rng, 1024, 1024, 1024)
    yield _gemm(p, rng, 256, 256, 256)
    yield _gemm(p, rng, 64, 64, 64)
    yield _gemm_into(p, rng, 8, 8, 8)
    yield _vector_add(p, rng, 65536)
    yield _vector_add(p, rng, 1048576)
    yield _attention(p, rng, 8, 16)
    yield _attention(p, rng, 96, 48)
    yield _attention(p, rng, 1024, 64)
    yield _conv_relu(p, rng, 1, 3, 16, 16)
    yield _conv_relu(p, rng, 2, 3, 32, 16)
    for tokens in (16, 128):
        case = _minilm(p, rng, 1, tokens)
        if case is not None:
            yield case


SUITES: dict[str, Callable[[int, int], Iterator[Case]]] = {"quick": quick}
