"""Chains of eager calls: every step a call of its own, its result on the host."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_core.bench.suites import builders as b
from lightning_core.bench.suites import chains as c
from lightning_core.bench.work import Work

__all__ = ["rows"]

CONV_ATTENTION = [(48, 48), (192, 48), (192, 8), (96, 48)]
FFN = [(512, 768, 3072), (1024, 768, 3072)]
LN_PROJ = [(1024, 1024, 1024), (2048, 1024, 1024)]
MLP = [(64, 784, 256, 10)]
EMBEDDING_FFN = [(512, 768, 3072)]


def rows(most: int = 0) -> Iterator[Work]:
    """The suite's rows."""
    for s, d in b.cut(CONV_ATTENTION, most):
        yield c.conv_attention(s, d)
    for m, width, inner in b.cut(FFN, most):
        yield c.ffn(m, width, inner)
    for m, k, n in b.cut(LN_PROJ, most):
        yield c.ln_proj(m, k, n)
    for m, k, inner, n in b.cut(MLP, most):
        yield c.mlp(m, k, inner, n)
    for m, width, inner in b.cut(EMBEDDING_FFN, most):
        yield c.embedding_ffn(m, width, inner)
