"""A row as it is declared, and the case that is made of it when its turn comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from lightning_core.bench.measure import Case, Contender
from lightning_core.bench.peers import Peers

__all__ = ["Want", "Work", "build", "uniform"]

Array = npt.NDArray[Any]
Inputs = Callable[[np.random.Generator], tuple[Array, ...]]
Function = Callable[..., Any]
EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Want:
    """What a row is to reach; None: not asked for.

    ratio: ours over the best peer, at most. pct: share of the measured limit, at least.
    us: microseconds a call, at most.
    """

    ratio: float = 1.0
    pct: float | None = None
    us: float | None = None


@dataclass(frozen=True)
class Work:
    """One row: what is computed, by ours and by each peer that can express it.

    `ours` and `numpy` take the input arrays; `torch` and `jax` are given their module and return
    the function, so that declaring a row imports neither. torch's function also makes the rows of
    torch.compile, ONNX Runtime and OpenVINO.
    """

    bench: str
    shape: str
    inputs: Inputs
    ours: Function
    exact: Function  # of the inputs, floats in float64
    numpy: Function | None = None
    torch: Callable[[Any], Function] | None = None
    jax: Callable[[Any], Function] | None = None
    peer_view: Callable[[Array], Array] | None = None  # how peers want to see each input
    weights: int = 0  # so many last inputs never change: constants in a peer's compiled model
    once: Callable[..., tuple[Any, ...]] | None = None  # inputs to ours: packs those weights
    out: str = ""  # an output the caller owns: ours takes it as "keyword" or "last", peers as out=
    compiled: bool = True  # also beside torch.compile, ONNX Runtime and OpenVINO
    flops: float = 0.0
    bytes: float = 0.0  # 0: the inputs and the result, each once
    reduce: int = 1  # length of the longest sum, for the error's bound
    terms: float = 1.0  # magnitude of what is summed
    bound: float | None = None  # largest absolute error, where the rule above does not fit
    want: Want = Want()

    @property
    def name(self) -> str:
        """What `--only` searches."""
        return f"{self.bench} {self.shape}"


def uniform(*shapes: tuple[int, ...]) -> Inputs:
    """float32 arrays of these shapes, values in [-1, 1)."""
    return lambda rng: tuple(rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes)


def _exact_of(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _ours(work: Work, arrays: tuple[Array, ...], shape: tuple[int, ...]) -> Contender:
    if work.once is not None:
        arrays = work.once(*arrays)
    if not work.out:
        return Contender(partial(work.ours, *arrays))
    out = np.empty(shape, np.float32)
    if work.out == "last":
        return Contender(partial(work.ours, *arrays, out), out)
    return Contender(partial(work.ours, *arrays, out=out), out)


def build(work: Work, suite: str, peers: Peers, seed: int) -> Case:
    """Inputs, the float64 result and a contender for ours and every peer that is installed.

    The inputs depend on the seed and the row's name only, not on which rows are selected.
    """
    arrays = work.inputs(np.random.default_rng([seed, crc32(work.name.encode())]))
    expected = np.asarray(work.exact(*map(_exact_of, arrays)), np.float64)
    scale = max(float(np.max(np.abs(expected), initial=0.0)), work.terms)
    bound = 8 * EPS * float(np.sqrt(max(work.reduce, 1))) * scale
    contenders, notes = peers.contenders(work, arrays, expected.shape)
    return Case(
        suite=suite,
        bench=work.bench,
        shape=work.shape,
        ours=_ours(work, arrays, expected.shape),
        peers=contenders,
        expected=expected,
        bound=bound if work.bound is None else work.bound,
        flops=work.flops,
        bytes=work.bytes or float(sum(a.nbytes for a in arrays) + 4 * expected.size),
        mode="into" if work.out else "one-shot",
        want_ratio=work.want.ratio,
        want_pct=work.want.pct,
        want_us=work.want.us,
        note="; ".join(notes),
    )
