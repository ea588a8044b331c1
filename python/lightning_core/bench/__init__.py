"""Benchmarks against installed peers: equal work, equal residency, ratios from one run."""

from __future__ import annotations

__all__ = ["measure", "peers", "report", "suites"]
