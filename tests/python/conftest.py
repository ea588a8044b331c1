"""Shared fixtures. Tests never name a backend other than by asking which devices exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import lightning_core as lc

settings.register_profile(
    "lightning_core",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("lightning_core")

CASES = Path(__file__).resolve().parent.parent / "cases"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def traced() -> Iterator[None]:
    """An empty trace that is on during the test and off and empty after it."""
    lc.runtime_trace_clear()
    lc.runtime_trace_enable(True)
    yield
    lc.runtime_trace_enable(False)
    lc.runtime_trace_clear()
