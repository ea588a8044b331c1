"""pytest plugin of scripts/soak: every hypothesis test gets SOAK_FACTOR times its examples."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

FACTOR = int(os.environ.get("SOAK_FACTOR", "20"))


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Overrides each test's own settings; parametrised items share one function."""
    seen: set[int] = set()
    for item in items:
        # A bound method hides the function that carries the settings.
        test = getattr(item.obj, "__func__", item.obj) if hasattr(item, "obj") else None
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if own is None or id(test) in seen:
            continue
        seen.add(id(test))
        test._hypothesis_internal_use_settings = settings(  # type: ignore[union-attr]
            own, max_examples=own.max_examples * FACTOR, deadline=None
        )
    print(f"soak: {len(seen)} hypothesis tests, {FACTOR} times their examples")
