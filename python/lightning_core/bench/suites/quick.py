"""A row of each kind, in a minute or two."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from lightning_core.bench.suites import builders as b
from lightning_core.bench.suites import chains as c
from lightning_core.bench.suites import model, overhead
from lightning_core.bench.work import Want, Work

__all__ = ["rows"]


def rows(most: int = 0) -> Iterator[Work]:
    """The suite's rows."""
    for m, k, n in b.cut([(1024,) * 3, (256,) * 3, (64,) * 3], most):
        yield b.gemm(m, k, n, Want(pct={1024: 92.0, 256: 80.0, 64: 50.0}.get(m)))
    yield from islice(overhead.rows(), 1)
    for (n,) in b.cut([(65536,), (1048576,)], most):
        yield b.vector_add(n)
    for s, d in b.cut([(8, 16), (96, 48), (1024, 64)], most):
        yield b.attention(s, d)
    for n, ci, h in b.cut([(1, 3, 16), (2, 3, 32)], most):
        yield b.conv(n, ci, h, 16)
    for m, width, inner in b.cut([(512, 768, 3072)], most):
        yield c.ffn(m, width, inner)
    yield from islice(model.rows(most), 2)
