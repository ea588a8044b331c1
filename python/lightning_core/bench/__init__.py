"""Benchmarks against installed peers: equal work, equal residency, ratios from one run.

`suites/` declares rows as `Work`, `work.py` makes a `Case` of one (inputs, float64 result, a call
for each peer of `peers.py`), `measure.py` checks and times it, `run.py` walks a suite, `report.py`
and `page.py` write what came out.
"""

from __future__ import annotations

__all__ = ["exact", "measure", "page", "peers", "report", "roofline", "run", "suites", "work"]
