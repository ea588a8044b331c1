"""The reference's per-op policies: views of `lightning_core.Policy`."""

from __future__ import annotations

import functools
import numbers
import operator
from collections.abc import Callable
from typing import Any, TypeVar

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
    if isinstance(value, bool):
        return value
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
    if not isinstance(value, (float, numbers.Real)):
        raise TypeError(f"[{policy}] {name}: expected a number, found {value!r}")
    return float(value)


_CONVERT: dict[type, Callable[[str, str, Any], Any]] = {
    bool: _switch,
    int: _whole,
    float: _number,
}


class IoPolicy:
    """Base of the policies: attributes with defaults, which take values of their own type only.

    Raises:
        TypeError: an attribute is set to a value of another type. AttributeError: there is none of
            that name.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        # Checked here and not in properties, which would make every read a call.
        convert = _CONVERT.get(type(getattr(type(self), name, None)))
        if convert is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.__dict__[name] = convert(type(self).__name__, name, value)


class _TwoOperandIoPolicy(IoPolicy):
    upload_a: bool = True
    upload_b: bool = True
    download_out: bool = True
    synchronize: bool = True


class MatMulIoPolicy(_TwoOperandIoPolicy):
    """What a matmul moves: all attributes are bools and start True.

    Attributes:
        upload_a, upload_b: the operand is read from the argument.
        download_out: the result is written to the caller's array.
        synchronize: the call waits for its result.
    """


class MatrixElementwiseIoPolicy(_TwoOperandIoPolicy):
    """As MatMulIoPolicy, for matrix_sub and matrix_div."""


class VectorAddIoPolicy(_TwoOperandIoPolicy):
    """As MatMulIoPolicy, for vector_add."""


class AttentionIoPolicy(IoPolicy):
    """What an attention call moves, and what is applied to its result.

    Attributes:
        upload_q, upload_k, upload_v, upload_target: the operand is read from the argument.
        download_out, download_v: the result is written to the caller.
        synchronize: the call waits for its result.
        loss_every: training steps between two computed losses; 0: by shape.
        output_scale, output_bias, output_relu: out * scale + bias, then max(out, 0).
    """

    upload_q: bool = True
    upload_k: bool = True
    upload_v: bool = True
    upload_target: bool = True
    download_out: bool = True
    download_v: bool = True
    synchronize: bool = True
    loss_every: int = 1
    output_scale: float = 1.0
    output_bias: float = 0.0
    output_relu: bool = False


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
