"""The reference's per-op policies: views of `lightning_core.Policy`."""

from __future__ import annotations

from lightning_core import _core

__all__ = ["MatMulIoPolicy", "MatrixElementwiseIoPolicy", "VectorAddIoPolicy", "as_policy"]


class MatMulIoPolicy:
    """What a call with two operands moves: all attributes are bools and start True.

    Attributes:
        upload_a, upload_b: the operand is read from the argument.
        download_out: the result is written to the caller's array.
        synchronize: the call waits for its result.
    """

    __slots__ = ("download_out", "synchronize", "upload_a", "upload_b")

    def __init__(self) -> None:
        self.upload_a = True
        self.upload_b = True
        self.download_out = True
        self.synchronize = True


class MatrixElementwiseIoPolicy(MatMulIoPolicy):
    """As MatMulIoPolicy, for matrix_sub and matrix_div."""

    __slots__ = ()


class VectorAddIoPolicy(MatMulIoPolicy):
    """As MatMulIoPolicy, for vector_add."""

    __slots__ = ()


def as_policy(policy: MatMulIoPolicy) -> _core.Policy:
    """The policy value these flags stand for."""
    return _core.Policy(
        upload=(1 if policy.upload_a else 0) | (2 if policy.upload_b else 0) | ~3,
        download=-1 if policy.download_out else ~1,
        sync="auto" if policy.synchronize else "never",
    )
