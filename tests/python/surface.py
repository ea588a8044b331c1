"""The functions of the kept surface: names, operands and float64 results, for test_surface_*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lightning_core as lc

F32 = np.float32
Array = Any


def close(got: Any, want: Any, length: int) -> None:
    """|got - want| <= 8 * eps * sqrt(length) * max |want|, shape and dtype exactly."""
    got, want = np.asarray(got, F32 if isinstance(got, list) else None), np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, F32)
    bound = 8 * np.finfo(F32).eps * np.sqrt(length) * np.abs(want).max()
    assert np.abs(got.astype(np.float64) - want).max() <= bound


def softmax_attention(q: Array, k: Array, v: Array, causal: bool) -> Array:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = q @ k.T / np.sqrt(q.shape[1])
    if causal:
        scores = np.where(np.tri(len(q), dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True) @ v


def convolution(x: Array, w: Array, bias: Array, steps: tuple[int, ...]) -> Array:
    """Cross-correlation of NCHW with OIHW; steps: stride_h, stride_w, pad_h, pad_w."""
    sh, sw, ph, pw = steps
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows[:, :, ::sh, ::sw], w.astype(np.float64))
    return y if bias is None else y + bias.astype(np.float64)[:, None, None]


def conv_attention(y: Array, seq_len: int, head_dim: int) -> Array:
    """q, k, v: consecutive runs of relu(y) in memory order, repeated where it is too short."""
    need = seq_len * head_dim
    values = np.resize(np.maximum(y, 0), 3 * need).reshape(3, seq_len, head_dim)
    return softmax_attention(*values, False).ravel()


def uniform(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(F32)


# ---------------------------------------------------------------- names, orders, defaults

CONV = "stride_h=1 stride_w=1 pad_h=0 pad_w=0"
# Parameters as the reference orders them; its device is "metal", ours None: the preferred one.
SURFACE = {
    "matmul2d": "a b device=None",
    "matmul2d_into": "a b out device=None",
    "matmul2d_resident_session": "a b",
    "matmul": "a b m k n device=None",
    "matmul_np": "a b m k n device=None",
    "matmul_np_into": "a b out m k n device=None",
    "matmul_with_policy": "a b m k n device=None policy=None",
    "matmul_np_with_policy": "a b m k n device=None policy=None",
    "matmul_np_into_with_policy": "a b out m k n device=None policy=None",
    "vector_add": "a b device=None",
    "matrix_sub": "a b rows cols device=None",
    "conv2d_nchw": f"x w bias=None {CONV} device=None",
    "conv2d_nchw_into": f"x w bias out {CONV} device=None",
    "conv2d_nchw_metal_resident": f"x w bias out {CONV} phase='run' apply_relu=False",
    "attention2d": "q k v causal=False device=None",
    "attention2d_into": "q k v out causal=False device=None",
    "attention2d_session": "q causal=False device=None",
    "attention_forward": "q k v seq_len head_dim causal=False device=None",
    "attention_forward_with_policy": "q k v seq_len head_dim causal=False device=None policy=None",
    "AttentionSession": "seq_len head_dim causal=False device=None",
    "api.conv_relu_nchw": f"x w bias=None {CONV} device=None",
    "api.conv_relu_nchw_into": f"x w bias out {CONV} device=None",
    "api.attention": "q k v seq_len head_dim causal=False device=None",
    "api.attention_into": "q k v out seq_len head_dim causal=False device=None",
    "api.conv_attention_torchstrong_nchw":
        f"x w bias seq_len head_dim {CONV} device=None execution_mode='eager'",
    "api.conv_attention_torchstrong_nchw_into":
        f"x w bias out seq_len head_dim {CONV} device=None execution_mode='eager'",
    "api.conv_attention_torchstrong_nchw_ab_report":
        f"x w bias seq_len head_dim {CONV} device=None warmup=1 repeat=5 atol=0.0001 rtol=0.0001",
}  # fmt: skip
NAMES = pytest.mark.parametrize("name", SURFACE)
INTEGRATED = [name.removeprefix("api.") for name in SURFACE if name.startswith("api.")]

BOOLS_OF_OPS = ("causal", "apply_relu")
M, K, N = 5, 7, 3
SEQ, DIM = 6, 4
STEPS = (2, 1, 1, 2)
NUMBERS = {
    "m": M, "k": K, "n": N, "rows": M, "cols": K, "seq_len": SEQ, "head_dim": DIM,
    "causal": True, "device": "cpu", "execution_mode": "graph", "warmup": 0, "repeat": 2,
    "atol": 1e-3, "rtol": 1e-2, "phase": "finish", "apply_relu": True,
    **dict(zip(("stride_h", "stride_w", "pad_h", "pad_w"), STEPS, strict=True)),
}  # fmt: skip


def function_of(name: str) -> Callable[..., Any]:
    return getattr(lc.api, name[4:]) if name.startswith("api.") else getattr(lc, name)


def parameters_of(name: str) -> list[str]:
    return [word.split("=")[0] for word in SURFACE[name].split()]


def operands_of(name: str) -> dict[str, Array]:
    """Arrays for a function's array parameters."""
    if "conv" in name:
        return {"x": uniform(1, 2, 3, 6, 7), "w": uniform(2, 8, 3, 3, 3), "bias": uniform(3, 8)}
    if "ttention" in name:
        return {key: uniform(seed, SEQ, DIM) for seed, key in enumerate("qkv")}
    second = (K, N) if "matmul" in name else (M, K)
    return {"a": uniform(4, M, K), "b": uniform(5, *second)}


def policy_of(name: str) -> Any:
    return lc.AttentionIoPolicy() if "ttention" in name else lc.MatMulIoPolicy()


def result_of(name: str) -> tuple[Array, int]:
    """What a function of SURFACE answers to these arguments, in float64, and the sums' length."""
    given = operands_of(name)
    if "conv" in name:
        y = convolution(given["x"], given["w"], given["bias"], STEPS)
        if "attention" in name:
            return conv_attention(y, SEQ, DIM), 27 + SEQ + DIM
        return (np.maximum(y, 0) if "relu" in name or "resident" in name else y), 27
    if "ttention" in name:
        want = softmax_attention(given["q"], given["k"], given["v"], True)
        return (want.ravel() if "forward" in name else want), SEQ + DIM
    a, b = (given[key].astype(np.float64) for key in "ab")
    if "matmul" in name:
        return (a @ b if "2d" in name else (a @ b).ravel()), K
    return (a + b if name == "vector_add" else a - b).ravel(), 1


def arguments_of(name: str, want: Array) -> dict[str, Any]:
    """Every argument by name, in the reference's order."""
    given = {**NUMBERS, **operands_of(name), "policy": policy_of(name)}
    given["out"] = np.full(want.shape, 9, F32)
    return {word: given[word] for word in parameters_of(name)}
