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
from typing import Any

import numpy as np
import numpy.typing as npt

import lightning_core as lc

__all__ = ["Case", "Row", "Timing", "compare", "run_case"]

Call = Callable[[], Any]
OURS = "lightning_core"
REST_S = 0.15
WARM_S = 0.02
LIMIT_S = 0.02


@dataclass
class Case:
    """One row: the same work for ours and for each peer.

    `ours` and the peers return their result, materialised on the host. `expected` is the float64
    result and `bound` the largest absolute error the op's tolerance allows.
    """

    suite: str
    bench: str
    shape: str
    ours: Call
    peers: dict[str, Call]
    expected: npt.NDArray[np.float64]
    bound: float
    flops: float = 0.0
    bytes: float = 0.0
    mode: str = "one-shot"


@dataclass
class Timing:
    """Seconds a call, one number a round."""

    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


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
    bound_by: str = ""
    max_error: float | None = None
    note: str = ""


def _loops(call: Call, target_s: float) -> int:
    """Calls that fill about `target_s`, from a few warm ones."""
    start = time.perf_counter()
    call()
    once = max(time.perf_counter() - start, 1e-8)
    n = 1
    while once * n < target_s and n < 1_000_000:
        batch = min(max(int(target_s / once / 4), 1), 100_000)
        start = time.perf_counter()
        for _ in range(batch):
            call()
        once = max((time.perf_counter() - start) / batch, 1e-9)
        n = max(int(target_s / once), 1)
        if batch * once > target_s / 8:
            break
    return max(n, 1)


def _time(call: Call, loops: int) -> float:
    time.sleep(REST_S)
    warm = time.perf_counter() + WARM_S
    call()
    while time.perf_counter() < warm:
        call()
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops


def compare(
    calls: dict[str, Call], rounds: int, target_s: float, limit: Call
) -> tuple[dict[str, Timing], list[float]]:
    """Times every call `rounds` times in turn, each turn about `target_s` long; the second result
    is what `limit` returned in each round, asked before ours and after."""
    loops = {name: _loops(call, target_s) for name, call in calls.items()}
    timings = {name: Timing() for name in calls}
    limits: list[float] = []
    for _ in range(rounds):
        for name, call in calls.items():
            before = limit() if name == OURS else 0.0
            timings[name].rounds.append(_time(call, loops[name]))
            if name == OURS:
                limits.append((before + limit()) / 2)
    return timings, limits


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    q = statistics.quantiles(values, n=4, method="inclusive")
    return q[0], q[2]


def run_case(
    case: Case, rounds: int, target_s: float, peak_flops: float, peak_bandwidth: float
) -> Row:
    """Checks, then times. A result outside its bound gets a note and no time.

    The two peaks (FLOP/s, bytes/s) say which limit binds; its rate is then measured beside ours.
    """
    row = Row(case.suite, case.bench, case.shape, case.mode)
    error = float(np.max(np.abs(np.asarray(case.ours(), dtype=np.float64) - case.expected)))
    row.max_error = error
    if not error <= case.bound:
        row.note = f"wrong: error {error:.3g} above the bound {case.bound:.3g}, not timed"
        return row
    calls: dict[str, Call] = {OURS: case.ours}
    for name, call in case.peers.items():
        peer_error = float(np.max(np.abs(np.asarray(call(), dtype=np.float64) - case.expected)))
        if peer_error <= case.bound * 16:  # a peer may round more, but must compute the same thing
            calls[name] = call
        else:
            row.note += f"{name} differs by {peer_error:.3g}, left out; "
    seconds = {
        "flops": case.flops / peak_flops if peak_flops else 0.0,
        "bandwidth": case.bytes / peak_bandwidth if peak_bandwidth else 0.0,
    }
    row.bound_by = max(seconds, key=lambda k: seconds[k])
    by_flops = row.bound_by == "flops"
    timings, limits = compare(
        calls,
        rounds,
        target_s,
        lambda: lc.measure_flops(LIMIT_S) if by_flops else lc.measure_bandwidth(LIMIT_S),
    )
    ours = timings.pop(OURS)
    row.lightning_core_ms = ours.median * 1e3
    row.peer_ms = {name: t.median * 1e3 for name, t in timings.items()}
    if timings:
        row.best_peer = min(timings, key=lambda name: timings[name].median)
        best = timings[row.best_peer]
        row.ratio = ours.median / best.median
        row.ratio_low, row.ratio_high = _quartiles(
            [a / b for a, b in zip(ours.rounds, best.rounds, strict=True)]
        )
    work = case.flops if by_flops else case.bytes
    if work > 0:
        row.pct_of_peak = 100 * statistics.median(
            work / rate / t for rate, t in zip(limits, ours.rounds, strict=True)
        )
        if by_flops and row.pct_of_peak > 105:
            row.note += "above the measured peak: the measurement is wrong; "
        elif row.pct_of_peak > 105:
            row.pct_of_peak, row.bound_by = None, "cache"  # faster than memory, as caches are
    return row
