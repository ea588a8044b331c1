"""Linear layers and streaming ops, as machine-learning code calls them."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_core.bench.suites import builders as b
from lightning_core.bench.suites.kernel import MATRICES, VECTORS
from lightning_core.bench.work import Work

__all__ = ["rows"]

LINEAR = [
    (1024, 1024, 512), (2048, 1024, 512), (4096, 1024, 1024),
    (1, 1024, 1024), (8, 1024, 4096), (128, 384, 1536),
]  # fmt: skip


def rows(most: int = 0) -> Iterator[Work]:
    """The suite's rows."""
    for m, k, n in b.cut(LINEAR, most):
        yield b.linear(m, k, n)
    for height, width in b.cut(MATRICES, most):
        yield b.matrix_sub(height, width)
    for (n,) in b.cut(VECTORS, most):
        yield b.vector_add(n)
