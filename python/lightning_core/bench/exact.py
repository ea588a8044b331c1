"""What the rows must compute, in float64 NumPy: the oracle that no contender shares code with."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_core.models.minilm import Config
from lightning_core.models.weights import load_weights

__all__ = ["attention", "conv", "gelu", "layer_norm", "linear", "minilm", "softmax"]

F64 = npt.NDArray[np.float64]
_erf: Any = np.frompyfunc(math.erf, 1, 1)


def gelu(x: F64) -> F64:
    """x times the normal distribution's mass below x."""
    result: F64 = 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)).astype(np.float64))
    return result


def softmax(x: F64) -> F64:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    result: F64 = e / e.sum(axis=-1, keepdims=True)
    return result


def layer_norm(x: F64, weight: F64, bias: F64, eps: float = 1e-5) -> F64:
    """Over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    result: F64 = centred / np.sqrt(variance + eps) * weight + bias
    return result


def linear(x: F64, weight: F64, bias: F64) -> F64:
    """[..., k] by a weight [n, k]."""
    result: F64 = x @ weight.T + bias
    return result


def attention(q: F64, k: F64, v: F64, causal: bool = False) -> F64:
    """Scaled dot products over the last two axes."""
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    if causal:
        rows, columns = scores.shape[-2:]
        scores = np.where(np.tri(rows, columns, dtype=bool), scores, -np.inf)
    return softmax(scores) @ v


def conv(x: F64, weight: F64, bias: F64, stride: int = 1, padding: int = 0, groups: int = 1) -> F64:
    """[n, ci, h, w] by [co, ci / groups, kh, kw]."""
    edge = (padding, padding)
    padded = np.pad(x, ((0, 0), (0, 0), edge, edge))
    kernel = weight.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    parts = [
        np.einsum("nchwij,ocij->nohw", part, w, optimize=True)
        for part, w in zip(np.split(windows, groups, 1), np.split(weight, groups), strict=True)
    ]
    result: F64 = np.concatenate(parts, axis=1) + bias[:, None, None]
    return result


@cache
def _weights(folder: Path) -> dict[str, F64]:
    return {k: v.astype(np.float64) for k, v in load_weights(folder / "model.safetensors").items()}


def minilm(folder: Path, ids: npt.NDArray[np.int64]) -> F64:
    """Hidden states [batch, tokens, hidden] of BERT's encoder (Devlin et al. 2018), no padding."""
    c, w = Config.read(folder / "config.json"), _weights(folder)
    batch, tokens = ids.shape

    def dense(x: F64, at: str) -> F64:
        return linear(x, w[f"{at}.weight"], w[f"{at}.bias"])

    def norm(x: F64, at: str) -> F64:
        return layer_norm(x, w[f"{at}.weight"], w[f"{at}.bias"], c.layer_norm_eps)

    def heads(x: F64) -> F64:
        return x.reshape(batch, tokens, c.num_attention_heads, -1).transpose(0, 2, 1, 3)

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][:tokens]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(c.num_hidden_layers):
        at = f"encoder.layer.{i}."
        q, k, v = (heads(dense(x, f"{at}attention.self.{p}")) for p in ("query", "key", "value"))
        context = attention(q, k, v).transpose(0, 2, 1, 3).reshape(batch, tokens, -1)
        x = norm(
            dense(context, f"{at}attention.output.dense") + x, f"{at}attention.output.LayerNorm"
        )
        inner = gelu(dense(x, f"{at}intermediate.dense"))
        x = norm(dense(inner, f"{at}output.dense") + x, f"{at}output.LayerNorm")
    return x
