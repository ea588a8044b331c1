"""Single ops at the shapes the product is measured by, and at those of ResNet-50 and MobileNet."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_core.bench.suites import builders as b
from lightning_core.bench.work import Want, Work

__all__ = ["rows"]

GEMM = [(n, n, n) for n in (64, 256, 512, 896, 1024, 1536, 2048, 3072)] + [(4096, 1024, 4096)]
GEMM_PCT = {64: 50.0, 256: 80.0}  # of the FMA peak, by m; from 896 on 92
SKINNY = [
    (1, 1024, 1024), (1, 4096, 4096), (8, 1024, 1024), (8, 1024, 4096),  # few rows
    (1024, 1024, 8), (4096, 1024, 16),  # few columns
    (1024, 8, 1024), (2048, 16, 2048),  # short sums
]  # fmt: skip
LINEAR = [(1, 1024, 4096), (8, 1024, 4096), (16, 384, 1536), (128, 384, 1536)]
INT8 = [(1, 1024, 4096), (1, 4096, 4096), (8, 1024, 4096), (8, 4096, 4096)]
TRANSPOSED = [(512, 512, 512), (1024, 1024, 1024)]
ATTENTION = [(8, 16), (8, 32), (12, 12), (96, 48), (256, 64), (512, 64), (1024, 64)]
HEADS = [(12, s, d) for s in (128, 256, 512, 1024) for d in (32, 64, 128)]
MINILM = [(1, 16), (1, 128), (32, 16), (32, 128)]  # batch, tokens; 12 heads of 32, side by side
CONV = [(1, 3, 16), (1, 3, 24), (2, 3, 16), (1, 3, 28), (1, 3, 32), (2, 3, 32)]
RESNET = [  # n, ci, h, co, k, stride, pad: every layer of ResNet-18 and ResNet-50, some in batches
    (1, 3, 224, 64, 7, 2, 3), (8, 3, 224, 64, 7, 2, 3),
    (1, 64, 56, 64, 3, 1, 1), (1, 128, 28, 128, 3, 1, 1), (1, 256, 14, 256, 3, 1, 1),
    (1, 512, 7, 512, 3, 1, 1), (8, 64, 56, 64, 3, 1, 1), (8, 256, 14, 256, 3, 1, 1),
    (1, 64, 56, 128, 3, 2, 1), (1, 128, 28, 256, 3, 2, 1), (1, 256, 14, 512, 3, 2, 1),
    (1, 128, 56, 128, 3, 2, 1), (1, 256, 28, 256, 3, 2, 1), (1, 512, 14, 512, 3, 2, 1),
    (1, 64, 56, 64, 1, 1, 0), (1, 64, 56, 256, 1, 1, 0), (1, 256, 56, 64, 1, 1, 0),
    (1, 256, 56, 128, 1, 1, 0), (1, 128, 28, 512, 1, 1, 0), (1, 512, 28, 128, 1, 1, 0),
    (1, 512, 28, 256, 1, 1, 0), (1, 256, 14, 1024, 1, 1, 0), (1, 1024, 14, 256, 1, 1, 0),
    (1, 1024, 14, 512, 1, 1, 0), (1, 512, 7, 2048, 1, 1, 0), (1, 2048, 7, 512, 1, 1, 0),
    (8, 512, 7, 2048, 1, 1, 0), (8, 1024, 14, 256, 1, 1, 0),
    (1, 64, 56, 128, 1, 2, 0), (1, 128, 28, 256, 1, 2, 0), (1, 256, 14, 512, 1, 2, 0),
    (1, 256, 56, 512, 1, 2, 0), (1, 512, 28, 1024, 1, 2, 0), (1, 1024, 14, 2048, 1, 2, 0),
]  # fmt: skip
DEPTHWISE = [(32, 112), (144, 56), (512, 14), (576, 14), (960, 7)]
VECTORS = [(65536,), (262144,), (1048576,), (4194304,)]
MATRICES = [(512, 512), (1024, 1024), (2048, 1024), (4096, 2048)]
ELEMENTWISE = [(65536,), (1048576,), (8388608,)]
REDUCED = [(256, 256), (1024, 1024), (8192, 2048)]


def _gemm_want(m: int) -> Want:
    return Want(pct=GEMM_PCT.get(m, 92.0 if m >= 896 else None))


def _attention_want(s: int, heads: int) -> Want:
    return Want(pct=70.0 if heads > 1 or s >= 1024 else None)


def rows(most: int = 0) -> Iterator[Work]:
    """The suite's rows."""
    for m, k, n in b.cut(GEMM, most):
        yield b.gemm(m, k, n, _gemm_want(m))
    for m, k, n in b.cut(SKINNY, most):
        yield b.gemm(m, k, n)
    for m, k, n in b.cut(LINEAR, most):
        yield b.linear(m, k, n)
        yield b.linear(m, k, n, packed=False)
    for m, k, n in b.cut(INT8, most):
        for fast in (False, True):
            yield b.linear_int8(m, k, n, fast=fast)
    for m, k, n in b.cut(TRANSPOSED, most):
        for which in ("tn", "nt", "tt"):
            yield b.gemm_transposed(m, k, n, which)
    for s, d in b.cut(ATTENTION, most):
        yield b.attention(s, d, want=_attention_want(s, 1))
    for heads, s, d in b.cut(HEADS, most):
        yield b.attention(s, d, heads, want=_attention_want(s, heads))
    for heads, s, d in b.cut([(1, 1024, 64), *HEADS], most):
        yield b.attention(s, d, heads, causal=True, want=_attention_want(s, heads))
    for batch, s in b.cut(MINILM, most):
        yield b.attention_of_model(batch, s, 12, 32)
    for n, ci, h in b.cut(CONV, most):
        yield b.conv(n, ci, h, 16)
    for n, ci, h, co, k, stride, pad in b.cut(RESNET, most):
        yield b.conv(n, ci, h, co, k, stride, pad)
    for c, h in b.cut(DEPTHWISE, most):
        yield b.conv(1, c, h, c, groups=c)
    for (n,) in b.cut(VECTORS, most):
        yield b.vector_add(n)
    for height, width in b.cut(MATRICES, most):
        yield b.matrix_sub(height, width)
    for name in ("exp", "gelu", "relu"):
        for (n,) in b.cut(ELEMENTWISE, most):
            yield b.unary(name, n)
    for height, width in b.cut(REDUCED, most):
        for axis in (None, 0, 1):
            yield b.reduction(height, width, axis)
        yield b.softmax(height, width)
        yield b.layer_norm(height, width)
