"""MiniLM-L6, the sentence-embedding model: tokens in, hidden states out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lightning_core.bench import exact
from lightning_core.bench.suites.builders import cut
from lightning_core.bench.work import Array, Inputs, Want, Work
from lightning_core.models.minilm import Config, MiniLM, find_model
from lightning_core.models.weights import WeightsError

__all__ = ["minilm", "rows"]

SHAPES = [(1, 16), (1, 128), (32, 128)]
RATIOS = {(1, 16): 0.62, (1, 128): 0.81, (32, 128): 0.84}  # of the best peer
BOUND = 1e-4  # hidden states are of order 1, six layers deep

_ours = cache(MiniLM)


@cache
def _theirs(torch: Any, folder: Path) -> Any:
    """transformers' model as a module from ids to hidden states."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    inner: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    class HiddenStates(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, ids: Any) -> Any:
            return self.inner(ids).last_hidden_state

    return HiddenStates().eval()


def _ids(batch: int, tokens: int) -> Inputs:
    return lambda rng: (rng.integers(1000, 20000, (batch, tokens), dtype=np.int64),)


def minilm(folder: Path, batch: int, tokens: int) -> Work:
    """The whole encoder; torch's model is transformers'."""
    c = Config.read(folder / "config.json")
    matrices = c.num_hidden_layers * (
        4 * c.hidden_size**2 + 2 * c.hidden_size * c.intermediate_size
    )
    scores = c.num_hidden_layers * 2 * tokens * c.hidden_size
    states = 4.0 * batch * tokens * c.hidden_size
    torch: Callable[[Any], Any] | None = partial(_theirs, folder=folder)

    def ours(ids: Array) -> Any:
        return _ours(folder)(ids)

    return Work(
        "minilm", f"{batch}x{tokens}", _ids(batch, tokens), ours,
        exact=partial(exact.minilm, folder), torch=torch if find_spec("transformers") else None,
        flops=2.0 * (matrices + scores) * batch * tokens, bytes=4.0 * matrices + 2 * states,
        bound=BOUND, want=Want(ratio=RATIOS.get((batch, tokens), 1.0)),
    )  # fmt: skip


def rows(most: int = 0) -> Iterator[Work]:
    """The suite's rows; none where the model's package is not installed."""
    try:
        folder = find_model()
    except WeightsError:
        return
    for batch, tokens in cut(SHAPES, most):
        yield minilm(folder, batch, tokens)
