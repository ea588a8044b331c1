"""The reference's per-op policies: views of `lightning_core.Policy`."""

from __future__ import annotations

import functools
import numbers
import operator
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from lightning_core import _core
from lightning_core.reference.arrays import flag

__all__ = [
    "AttentionIoPolicy",
    "IoPolicy",
    "MatMulIoPolicy",
    "MatrixElementwiseIoPolicy",
    "VectorAddIoPolicy",
    "as_policy",
    "of_kind",
]


def _switch(policy: str, name: str, value: Any) -> bool:
    on = flag(policy, name, value)
    if on != value:
        raise TypeError(f"[{policy}] {name}: expected a bool, 0 or 1, found {value!r}")
    return on


def _whole(policy: str, name: str, value: Any) -> int:
    try:
        return int(operator.index(value))
    except TypeError as error:
        raise TypeError(f"[{policy}] {name}: expected an integer, found {value!r}") from error


def _number(policy: str, name: str, value: Any) -> float:
    if not isinstance(value, numbers.Real):
        raise TypeError(f"[{policy}] {name}: expected a number, found {value!r}")
    return float(value)


class IoPolicy:
    """Base of the policies: an attribute takes values of its own type only, else a TypeError."""

    # Checked on writing, so that reading stays the plain read of a slot.
    __slots__ = ()
    _kinds: ClassVar[dict[str, Callable[[str, str, Any], Any]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self._kinds.get(name)
        if kind is not None:
            value = kind(type(self).__name__, name, value)
        object.__setattr__(self, name, value)


class _TwoOperandIoPolicy(IoPolicy):
    """What a call with two operands moves: all attributes are bools and start True.

    Attributes:
        upload_a, upload_b: the operand is read from the argument.
        download_out: the result is written to the caller's array.
        synchronize: the call waits for its result.
    """

    __slots__ = ("download_out", "synchronize", "upload_a", "upload_b")
    _kinds = dict.fromkeys(__slots__, _switch)
    upload_a: bool
    upload_b: bool
    download_out: bool
    synchronize: bool

    def __init__(self) -> None:
        self.upload_a = True
        self.upload_b = True
        self.download_out = True
        self.synchronize = True


class MatMulIoPolicy(_TwoOperandIoPolicy):
    """What a matmul moves: `upload_a`, `upload_b`, `download_out`, `synchronize`, all True."""

    __slots__ = ()


class MatrixElementwiseIoPolicy(_TwoOperandIoPolicy):
    """As MatMulIoPolicy, for matrix_sub and matrix_div."""

    __slots__ = ()


class VectorAddIoPolicy(_TwoOperandIoPolicy):
    """As MatMulIoPolicy, for vector_add."""

    __slots__ = ()


class AttentionIoPolicy(IoPolicy):
    """What an attention call moves, and what is applied to its result.

    Attributes:
        upload_q, upload_k, upload_v, upload_target: the operand is read from the argument.
        download_out, download_v: the result is written to the caller.
        synchronize: the call waits for its result.
        loss_every: training steps between two computed losses; 0: by shape.
        output_scale, output_bias, output_relu: out * scale + bias, then max(out, 0).
    """

    __slots__ = (
        "download_out",
        "download_v",
        "loss_every",
        "output_bias",
        "output_relu",
        "output_scale",
        "synchronize",
        "upload_k",
        "upload_q",
        "upload_target",
        "upload_v",
    )
    _kinds = {
        **dict.fromkeys(__slots__, _switch),
        "loss_every": _whole,
        "output_bias": _number,
        "output_scale": _number,
    }
    upload_q: bool
    upload_k: bool
    upload_v: bool
    upload_target: bool
    download_out: bool
    download_v: bool
    synchronize: bool
    loss_every: int
    output_scale: float
    output_bias: float
    output_relu: bool

    def __init__(self) -> None:
        self.upload_q = True
        self.upload_k = True
        self.upload_v = True
        self.upload_target = True
        self.download_out = True
        self.download_v = True
        self.synchronize = True
        self.loss_every = 1
        self.output_scale = 1.0
        self.output_bias = 0.0
        self.output_relu = False


P = TypeVar("P", bound=IoPolicy)


def of_kind(op: str, policy: Any, kind: type[P]) -> P:
    """`policy`; TypeError where it is of another class."""
    if isinstance(policy, kind):
        return policy
    raise TypeError(f"[{op}] policy: expected {kind.__name__}, found {type(policy).__name__}")


@functools.lru_cache
def _under(current: _core.Policy, upload: int, download: bool, synchronize: bool) -> _core.Policy:
    return _core.Policy(
        upload=upload,
        download=-1 if download else ~1,
        sync=current.sync if synchronize else "never",
        precision=current.precision,
        strict=current.strict,
        kernel=current.kernel,
    )


def as_policy(policy: MatMulIoPolicy | AttentionIoPolicy) -> _core.Policy:
    """The policy in force, with these transfers and waits in place of its own."""
    if isinstance(policy, AttentionIoPolicy):
        upload = policy.upload_q | policy.upload_k << 1 | policy.upload_v << 2 | ~7
    else:
        upload = policy.upload_a | policy.upload_b << 1 | ~3
    return _under(_core.current_policy(), upload, policy.download_out, policy.synchronize)
