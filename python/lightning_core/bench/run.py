"""Walks a suite: builds, checks and times the rows that are asked for."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from lightning_core.bench.measure import (
    OURS,
    Case,
    Contender,
    Limits,
    Row,
    Samples,
    check,
    sample,
    summarise,
)
from lightning_core.bench.peers import Peers
from lightning_core.bench.work import Work, build

__all__ = ["Outcome", "Settings", "run", "select"]


@dataclass(frozen=True)
class Settings:
    """rounds: turns of ours and each peer; seconds: length of a turn; seed: of the inputs;
    repeats: times the suite is walked."""

    rounds: int
    seconds: float
    seed: int = 0
    repeats: int = 1


@dataclass
class Outcome:
    """Rows of all repeats together, and ours summed over the suite in each repeat."""

    rows: list[Row] = field(default_factory=list)
    totals_ms: list[float] = field(default_factory=list)

    @property
    def variation_pct(self) -> float | None:
        """Coefficient of variation of the totals; None for a single one."""
        if len(self.totals_ms) < 2:
            return None
        return 100 * statistics.stdev(self.totals_ms) / statistics.mean(self.totals_ms)


def select(works: Iterable[Work], only: str) -> list[Work]:
    """The rows whose name, "bench shape", the regular expression is found in.

    Raises:
        ValueError: it is no regular expression, or no row has it.
    """
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise ValueError(
            f"[bench] only: expected a regular expression, found {only!r}: {error}"
        ) from error
    works = list(works)
    found = [work for work in works if pattern.search(work.name)]
    if not found:
        names = ", ".join(sorted({work.bench for work in works}))
        raise ValueError(f"[bench] only: expected part of a row's name, found {only!r}; {names}")
    return found


def run(
    suite: str,
    works: list[Work],
    peers: Peers,
    limits: Limits,
    settings: Settings,
    progress: Callable[[str, bool], None] = lambda text, done: None,
) -> Outcome:
    """Runs the rows; `progress` is told what goes on and whether that ends a row."""
    outcome = Outcome()
    kept: list[tuple[Case, Row, dict[str, Contender], Samples]] = []
    for repeat in range(settings.repeats):
        total = 0.0
        for i, work in enumerate(works):
            if repeat == 0:
                progress(f"{work.name}: preparing", False)
                case = build(work, suite, peers, settings.seed)
                row, contenders = check(case)
                samples = Samples()
            else:
                case, row, contenders, samples = kept[i]
            progress(work.name, False)
            if contenders:
                limit = partial(limits.now, limits.binding(case))
                new = sample(contenders, settings.rounds, settings.seconds, limit)
                total += new.median(OURS) * 1e3
                samples.extend(new)
            if repeat == 0:
                outcome.rows.append(row)
                if settings.repeats > 1:
                    kept.append((case, row, contenders, samples))
            if contenders and repeat == settings.repeats - 1:
                summarise(case, row, samples, limits)
            progress(work.name, True)
        outcome.totals_ms.append(total)
    return outcome
