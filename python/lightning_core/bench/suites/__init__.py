"""The suites, one file each; `builders.py` and `chains.py` declare the rows they share.

Every suite is a function from the largest extent it may use (0: as the suite is) to its rows, so
that the tests run all of them on small arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lightning_core.bench.suites import kernel, ml, model, overhead, pipeline, quick
from lightning_core.bench.work import Work

__all__ = ["SUITES"]

SUITES: dict[str, Callable[[int], Iterator[Work]]] = {
    "quick": quick.rows,
    "kernel": kernel.rows,
    "pipeline": pipeline.rows,
    "ml": ml.rows,
    "overhead": overhead.rows,
    "model": model.rows,
}
