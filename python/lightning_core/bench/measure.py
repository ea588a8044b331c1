"""Timing ours, the peers and the machine's limit in turn (A B C A B C ...), so that a drifting
machine moves them all.

Some peers' threads keep their cores busy for a tenth of a second after a call (OpenBLAS), and a
pool that slept needs some calls until the system has spread it over the cores again. Each turn
therefore starts with a rest and untimed calls: everybody is measured alone and warm.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from timeit import Timer
from typing import Any

import numpy as np
import numpy.typing as npt

import lightning_core as lc

__all__ = ["Case", "Contender", "Limits", "Row", "Samples", "brief", "check", "sample", "summarise"]

Call = Callable[[], Any]
OURS = "lightning_core"
REST_S = 0.15
WARM_S = 0.02
LIMIT_S = 0.02
FEW_ROUNDS = 3  # what a peer gets that takes more than FAR times as long as the best
FAR = 2.0


@dataclass(frozen=True)
class Contender:
    """A call that returns an array on the host, or fills `out`."""

    call: Call
    out: Any = None

    def result(self) -> npt.NDArray[np.float64]:
        """What one call computes; an output that was not written shows as NaN."""
        if self.out is None:
            return np.asarray(self.call(), dtype=np.float64)
        self.out[...] = float("nan")
        self.call()
        return np.asarray(self.out, dtype=np.float64)


@dataclass
class Case:
    """A row ready to run: the same work for ours and for each peer.

    `expected` is the float64 result, `bound` the largest absolute error the op's tolerance allows,
    `want_*` what `work.Want` says.
    """

    suite: str
    bench: str
    shape: str
    ours: Contender
    peers: dict[str, Contender]
    expected: npt.NDArray[np.float64]
    bound: float
    flops: float = 0.0
    bytes: float = 0.0
    mode: str = "one-shot"
    want_ratio: float = 1.0
    want_pct: float | None = None
    want_us: float | None = None
    note: str = ""


@dataclass
class Row:
    """Result of a case. Times in milliseconds; ratios are ours over the peer (below 1: faster)."""

    suite: str
    bench: str
    shape: str
    mode: str
    lightning_core_ms: float | None = None
    peer_ms: dict[str, float] = field(default_factory=dict)
    best_peer: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    pct_of_peak: float | None = None
    bound_by: str = ""  # flops, bandwidth, or cache: faster than memory
    gflops: float | None = None
    intensity: float | None = None  # flops a byte
    short: str = ""  # in which respect the row falls short of what is asked
    max_error: float | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """As `--only` sees it."""
        return f"{self.bench} {self.shape}"


@dataclass(frozen=True)
class Limits:
    """The machine's peaks: which of them binds a row is decided by these."""

    flops: float
    bandwidth: float

    @classmethod
    def measured(cls) -> Limits:
        """The best of three: a thread that still sleeps, or a neighbour, halves a single one."""
        found = [lc.measure_peak() for _ in range(3)]
        return cls(max(f["flops"] for f in found), max(f["bandwidth"] for f in found))

    def binding(self, case: Case) -> str:
        """flops or bandwidth, whichever would take the case longer."""
        if case.flops * self.bandwidth >= case.bytes * self.flops:
            return "flops"
        return "bandwidth"

    @staticmethod
    def now(kind: str) -> float:
        """The rate of this moment, in a window of LIMIT_S."""
        return lc.measure_flops(LIMIT_S) if kind == "flops" else lc.measure_bandwidth(LIMIT_S)


@dataclass
class Samples:
    """Seconds a call of each contender, a number a round, and the limit's rate in each round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    limits: list[float] = field(default_factory=list)

    def extend(self, other: Samples) -> None:
        """Adds another run's rounds."""
        for name, values in other.seconds.items():
            self.seconds.setdefault(name, []).extend(values)
        self.limits += other.limits

    def median(self, name: str) -> float:
        """Seconds a call."""
        return statistics.median(self.seconds[name])


def _timer(call: Call) -> Callable[[int], float]:
    """Seconds of n calls, made as a user writes them, `f(a, b, out=c)`: a closure around an 8x8
    product would add a fifth to it."""
    if not isinstance(call, partial):
        return Timer(call).timeit
    given = {f"a{i}": value for i, value in enumerate(call.args)}
    arguments = [*given, *(f"{name}={name}" for name in call.keywords)]
    given |= {"f": call.func, **call.keywords}
    setup = "; ".join(f"{name} = given[{name!r}]" for name in given)
    return Timer(f"f({', '.join(arguments)})", setup, globals={"given": given}).timeit


def _loops(timer: Callable[[int], float], target_s: float) -> int:
    """Calls that fill about `target_s`."""
    n = 1
    while (took := timer(n)) < target_s / 8 and n < 1_000_000:
        n *= 2 if took < target_s / 64 else 8
    return max(round(n * target_s / max(took, 1e-9)), 1)


def _turn(timer: Callable[[int], float], loops: int) -> float:
    """Seconds a call, after a rest and untimed calls."""
    time.sleep(REST_S)
    warm = time.perf_counter() + WARM_S
    few = max(loops // 16, 1)
    timer(few)
    while time.perf_counter() < warm:
        timer(few)
    return timer(loops) / loops


def _far(samples: Samples) -> set[str]:
    """Peers that take more than FAR times as long as the best one."""
    medians = {name: samples.median(name) for name in samples.seconds if name != OURS}
    best = min(medians.values(), default=0.0)
    return {name for name, median in medians.items() if median > FAR * best}


def sample(
    contenders: dict[str, Contender], rounds: int, target_s: float, limit: Callable[[], float]
) -> Samples:
    """Times every contender in turn, each turn about `target_s` long.

    All get `rounds` turns, but for peers that are far behind the best one: they get three. `limit`
    is asked right before and right after ours.
    """
    timers = {name: _timer(contender.call) for name, contender in contenders.items()}
    loops = {name: _loops(timer, target_s) for name, timer in timers.items()}
    samples = Samples({name: [] for name in contenders})
    for done in range(rounds):
        if done == FEW_ROUNDS:
            for name in _far(samples):
                del timers[name]
        for name, timer in timers.items():
            before = limit() if name == OURS else 0.0
            samples.seconds[name].append(_turn(timer, loops[name]))
            if name == OURS:
                samples.limits.append((before + limit()) / 2)
    return samples


def brief(error: Exception) -> str:
    """An exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _error(contender: Contender, expected: npt.NDArray[np.float64]) -> float:
    """Largest absolute error; infinite where the result has another size."""
    result = contender.result()
    if result.size != expected.size:
        return float("inf")
    return float(np.max(np.abs(result.reshape(expected.shape) - expected), initial=0.0))


def check(case: Case) -> tuple[Row, dict[str, Contender]]:
    """The row without times, and who computes the right thing: nobody else is timed."""
    row = Row(case.suite, case.bench, case.shape, case.mode)
    notes = [case.note] if case.note else []
    contenders: dict[str, Contender] = {}
    row.max_error = _error(case.ours, case.expected)
    if row.max_error <= case.bound:  # NaN is not
        contenders[OURS] = case.ours
        for name, peer in case.peers.items():
            try:
                error = _error(peer, case.expected)
            except Exception as failure:  # a peer that cannot do this row is a blank cell
                notes.append(f"{name}: {brief(failure)}")
                continue
            if error <= case.bound * 16:  # a peer may round more, but must compute the same thing
                contenders[name] = peer
            else:
                notes.append(f"{name} differs by {error:.3g}, left out")
    else:
        row.short = f"wrong: error {row.max_error:.3g} above the bound {case.bound:.3g}, not timed"
        notes.append(row.short)
    row.note = "; ".join(notes)
    return row, contenders


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    q = statistics.quantiles(values, n=4, method="inclusive")
    return q[0], q[2]


def _shortfall(case: Case, row: Row, kind: str) -> str:
    """What the case asks for and the row does not reach; "" where it reaches all."""
    found = []
    if row.ratio is not None and row.ratio > case.want_ratio:
        found.append(f"{row.ratio:.2f} of {row.best_peer}, wanted {case.want_ratio:.2f}")
    if case.want_pct and row.pct_of_peak is not None and row.pct_of_peak < case.want_pct:
        found.append(f"{row.pct_of_peak:.0f} % of {kind}, wanted {case.want_pct:.0f} %")
    us = (row.lightning_core_ms or 0.0) * 1e3
    if case.want_us is not None and us > case.want_us:
        found.append(f"{us:.2f} us, wanted {case.want_us:.2f} us")
    return "; ".join(found)


def summarise(case: Case, row: Row, samples: Samples, limits: Limits) -> Row:
    """Fills in medians, the ratio to the best peer and the share of the limit that binds."""
    kind = limits.binding(case)
    ours = samples.seconds[OURS]
    middle = samples.median(OURS)
    row.lightning_core_ms = middle * 1e3
    row.peer_ms = {name: samples.median(name) * 1e3 for name in samples.seconds if name != OURS}
    most = max((len(samples.seconds[name]) for name in row.peer_ms), default=0)
    full = [name for name in row.peer_ms if len(samples.seconds[name]) == most]
    if full:
        row.best_peer = min(full, key=samples.median)
        row.ratio = middle / samples.median(row.best_peer)
        row.ratio_low, row.ratio_high = _quartiles(
            [a / b for a, b in zip(ours, samples.seconds[row.best_peer], strict=False)]
        )
    if case.flops and case.bytes:
        row.gflops = case.flops / middle / 1e9
        row.intensity = case.flops / case.bytes
    work = case.flops if kind == "flops" else case.bytes
    row.bound_by = kind
    if work > 0:
        row.pct_of_peak = 100 * statistics.median(
            work / rate / t for rate, t in zip(samples.limits, ours, strict=True)
        )
        if row.pct_of_peak > 105 and kind == "flops":
            note = "above the measured peak: the measurement is wrong"
            row.note = "; ".join(filter(None, [row.note, note]))
        elif row.pct_of_peak > 105:
            row.pct_of_peak, row.bound_by = None, "cache"
    row.short = _shortfall(case, row, kind)
    return row
