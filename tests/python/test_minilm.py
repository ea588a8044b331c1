"""The real model on our ops against transformers on torch, and hostile weight files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightning_core as lc
from lightning_core.models.minilm import Config, MiniLM, SentenceEncoder, find_model
from lightning_core.models.weights import WeightsError, load_weights, require

torch = pytest.importorskip("torch", reason="torch is the oracle of the model tests")
transformers = pytest.importorskip("transformers", reason="holds the torch model")


@pytest.fixture(scope="module")
def ours() -> MiniLM:
    return MiniLM(find_model())


@pytest.fixture(scope="module")
def theirs() -> Any:
    model = transformers.AutoModel.from_pretrained(find_model(), dtype=torch.float32)
    return model.eval()


@pytest.mark.parametrize(
    ("batch", "tokens", "padding"),
    [
        (1, 1, "none"),
        (1, 16, "none"),
        (3, 7, "right"),
        (2, 33, "right"),
        (4, 12, "left"),
        (2, 9, "random"),
        (1, 128, "none"),
        (5, 64, "right"),
        (1, 300, "none"),
        (1, 512, "right"),
    ],
)
def test_hidden_states_match_torch(
    ours: MiniLM, theirs: Any, batch: int, tokens: int, padding: str
) -> None:
    rng = np.random.default_rng(batch * 1000 + tokens)
    ids = rng.integers(0, ours.config.vocab_size, (batch, tokens), dtype=np.int64)
    mask = np.ones((batch, tokens), np.bool_)
    for row in range(batch):
        cut = int(rng.integers(1, tokens + 1))
        if padding == "right":
            mask[row, cut:] = False
        elif padding == "left":
            mask[row, : tokens - cut] = False
        elif padding == "random":
            mask[row] = rng.random(tokens) < 0.5
            mask[row, 0] = True
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(ids), attention_mask=torch.from_numpy(mask.astype(np.int64))
        ).last_hidden_state.numpy()
    got = ours(ids, None if padding == "none" else mask)
    assert got.dtype == np.float32
    assert float(np.abs(got - expected).max()) <= 1e-4


def test_forward_runs_wholly_on_the_dispatcher(ours: MiniLM) -> None:
    lc.runtime_trace_clear()
    lc.runtime_trace_enable(True)
    ours(np.arange(8, dtype=np.int64)[None])
    lc.runtime_trace_enable(False)
    ops = [e["op"] for e in lc.runtime_trace_events() if e["type"] == "op_dispatch"]
    layers = ours.config.num_hidden_layers
    assert ops.count("attention") == layers
    assert ops.count("linear") == 4 * layers
    assert ops.count("layer_norm") == 2 * layers + 1
    assert ops.count("add") == 2 * layers + 2
    assert ops.count("embedding") == 1


class NoArithmetic(np.ndarray[Any, Any]):
    """An array that holds results and refuses to compute."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        raise AssertionError(f"the model computes {ufunc.__name__} with NumPy")

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.empty_like:  # memory for an op to write into
            return super().__array_function__(func, types, args, kwargs)
        raise AssertionError(f"the model computes {func.__name__} with NumPy")


class GuardedOps:
    """The ops, whose results are such arrays."""

    def __getattr__(self, name: str) -> Any:
        op = getattr(lc, name)

        def call(*args: Any, **keywords: Any) -> Any:
            result = op(*args, **keywords)
            return result.view(NoArithmetic) if isinstance(result, np.ndarray) else result

        return call


def test_no_number_is_computed_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """From ids to hidden states, their mean and the nearest lines."""
    texts = ["a cat", "a longer line about a dog", "rain"]
    encoder = SentenceEncoder()
    want = encoder.encode(texts)
    monkeypatch.setattr("lightning_core.models.minilm.lc", GuardedOps())
    guarded = SentenceEncoder()  # weights are joined by ops too
    ids, mask = guarded.tokenize(texts)
    hidden = guarded.model(ids, mask)
    assert isinstance(hidden, NoArithmetic)
    unit = guarded.pool(hidden, mask)
    assert isinstance(unit, NoArithmetic)
    assert np.array_equal(guarded.encode(texts), want)
    lc.runtime_trace_clear()
    lc.runtime_trace_enable(True)
    hits = guarded.nearest("a kitten", texts, unit)
    guarded.pool(hidden, mask)
    lc.runtime_trace_enable(False)
    assert [i for i, _ in hits][0] == 0
    ops = {e["op"] for e in lc.runtime_trace_events() if e["type"] == "op_dispatch"}
    assert {"cast", "mul", "sum", "maximum", "div", "square", "sqrt", "matmul"} <= ops
    with pytest.raises(AssertionError, match="NumPy"):
        np.add(unit, unit)


def test_same_input_gives_the_same_bits(ours: MiniLM) -> None:
    ids = np.arange(1, 65, dtype=np.int64).reshape(2, 32)
    assert np.array_equal(ours(ids), ours(ids))


def test_encoder_finds_the_related_sentence() -> None:
    encoder = SentenceEncoder()
    texts = [
        "The cat sleeps on the sofa.",
        "Interest rates rose again this spring.",
        "A kitten naps in the sun.",
    ]
    vectors = encoder.encode(texts, batch_size=2)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    hits = encoder.nearest("sleeping cats", texts, vectors, top=2)
    assert {i for i, _ in hits} == {0, 2}
    assert hits[0][1] >= hits[1][1]


def test_encoder_matches_sentence_transformers() -> None:
    library = pytest.importorskip("sentence_transformers", reason="comes with the model package")
    texts = ["Hello world", "A longer sentence about matrix products, with a comma.", "x"]
    expected = library.SentenceTransformer(str(find_model()), device="cpu").encode(
        texts, normalize_embeddings=True
    )
    assert float(np.abs(SentenceEncoder().encode(texts) - expected).max()) <= 1e-4


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (np.zeros(4, np.int64), None, "rank 2"),
        (np.zeros((1, 513), np.int64), None, "512"),
        (np.zeros((1, 4), np.int64), np.ones((1, 5), np.bool_), "attention_mask"),
        (np.full((1, 4), 10**6, np.int64), None, "embedding"),
        (np.full((1, 4), -1, np.int64), None, "embedding"),
    ],
)
def test_bad_tokens_are_refused(ours: MiniLM, ids: Any, mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ours(ids, mask)


def _safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _entry(shape: list[int], begin: int, end: int) -> bytes:
    return json.dumps(
        {"a": {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}}
    ).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 4,
        _safetensors(b"{}", length=2**63),
        _safetensors(b"{}", length=10**9),
        _safetensors(b"not json"),
        _safetensors(_entry([4], 0, 16), b"\x00" * 8),  # truncated data
        _safetensors(_entry([2**62], 0, 16), b"\x00" * 16),  # shape beyond the data
        _safetensors(_entry([4], 16, 0), b"\x00" * 16),  # offsets the wrong way round
        _safetensors(_entry([-4], 0, 16), b"\x00" * 16),
        _safetensors(_entry([4], 0, 2**63), b"\x00" * 16),
    ],
)
def test_hostile_weight_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="model.safetensors"):
        load_weights(path)


def test_missing_or_foreign_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="found none"):
        load_weights(tmp_path / "none.safetensors")
    weights = {"a.weight": np.zeros((2, 2), np.float64)}
    with pytest.raises(WeightsError, match="b.weight"):
        require(weights, "b.weight")
    with pytest.raises(WeightsError, match="float32"):
        require(weights, "a.weight")
    with pytest.raises(WeightsError, match="shape"):
        require({"a": np.zeros((2, 2), np.float32)}, "a", (3, 2))


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"num_attention_heads": 7}])
def test_config_of_another_model_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    config = json.loads((find_model() / "config.json").read_text(encoding="utf-8"))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(WeightsError, match=next(iter(change))):
        Config.read(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(WeightsError, match="config.json"):
        Config.read(path)
