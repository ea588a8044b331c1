"""Argument checks that the reference's functions share."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from lightning_core import _core

__all__ = [
    "F32",
    "Array",
    "Device",
    "addressable",
    "apart",
    "array",
    "direct",
    "flag",
    "flat",
    "out_of",
    "returns",
    "sizes",
]

Function = TypeVar("Function", bound=Callable[..., Any])

F32 = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
Device = str | None
"""A device's name; None: the preferred device."""


def direct(function: Function, native: Callable[..., Any] | None = None) -> Function:
    """`function`, whose plain calls (float32 ndarrays whose sizes fit) run without Python code.

    All others run it. `native` is the op where a call without sizes is one of that op.
    """
    return cast(Function, functools.update_wrapper(_core.direct(function, native), function))


def sizes(op: str, least: int = 1, **values: Any) -> tuple[int, ...]:
    """Sizes as ints, of `least` (0 or 1) or more.

    Raises:
        TypeError: not an integer, or negative.
        ValueError: 2^63 or more.
        RuntimeError: zero below `least`, as the reference answers it ("invalid value").
    """
    checked = []
    for name, value in values.items():
        size = operator.index(value)
        if size < 0:
            raise TypeError(f"[{op}] {name}: expected a size of {least} or more, found {size}")
        if size < least:
            raise RuntimeError(f"invalid value: [{op}] {name}: expected 1 or more, found 0")
        if size >= 2**63:
            raise ValueError(f"[{op}] {name}: expected a size below 2^63, found {size}")
        checked.append(size)
    return tuple(checked)


def addressable(op: str, name: str, shape: tuple[int, ...]) -> None:
    """Refuses a shape of more float32 bytes than an array may have.

    Raises:
        ValueError: more than 2^62 of them.
    """
    count = 4
    for extent in shape:
        count *= extent
    if count > 2**62:
        raise ValueError(
            f"[{op}] {name}: expected at most 2^62 bytes, found shape {shape} of float32"
        )


def flag(op: str, name: str, value: Any) -> bool:
    """A bool, NumPy's bool or an integer as a bool; TypeError for anything else."""
    if isinstance(value, (bool, int, np.bool_, np.integer)):
        return bool(value)
    raise TypeError(f"[{op}] {name}: expected a bool, found {value!r}")


def array(op: str, name: str, value: Any) -> npt.NDArray[Any]:
    """An ndarray without a copy where `value` is one; lists become float32.

    Raises:
        TypeError: not an array, or text, or a list that is no array of numbers.
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        if isinstance(value, (list, tuple)):
            return np.array(value, dtype=np.float32)
        if not isinstance(value, (str, bytes)):
            return np.asarray(value)
        reason = "text"
    except (TypeError, ValueError) as error:
        reason = str(error)
    raise TypeError(
        f"[{op}] {name}: expected an array of numbers, found {type(value).__name__} ({reason})"
    )


def flat(op: str, name: str, value: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """`value` under a shape of as many elements.

    Raises:
        ValueError: the number of elements is another.
    """
    found = array(op, name, value)
    wanted = 1
    for extent in shape:
        wanted *= extent
    if found.size != wanted:
        raise ValueError(
            f"[{op}] {name} shape mismatch: expected {wanted} elements, found {found.size}"
        )
    return found.reshape(shape)


def out_of(op: str, out: Any, shape: tuple[int, ...]) -> F32:
    """A window of `shape` on the caller's output, which results are written into.

    It is `out` itself, and no other object, where that has the shape.

    Raises:
        ValueError: not a writeable float32 array of as many elements, or one that cannot be seen
            under the shape without a copy.
    """
    if not isinstance(out, np.ndarray) or out.dtype != np.float32:
        found = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(f"[{op}] out: expected a float32 ndarray, found {found}")
    if not out.flags.writeable:
        raise ValueError(f"[{op}] out: expected a writeable array, found a read-only one")
    wanted = 1
    for extent in shape:
        wanted *= extent
    if out.size != wanted:
        raise ValueError(f"[{op}] out: expected {wanted} elements, found {out.size}")
    if out.shape == shape:
        return out
    window: F32 = out.view()
    try:
        window.shape = shape
    except AttributeError as error:
        raise ValueError(
            f"[{op}] out: expected an array of shape {shape}, or a contiguous one, "
            f"found shape {out.shape} with strides {out.strides}"
        ) from error
    return window


def apart(op: str, out: F32, operands: dict[str, Any], in_place: bool) -> None:
    """Refuses an output that shares memory with an operand.

    With `in_place` it may be exactly an operand, as elementwise ops allow.

    Raises:
        ValueError: they overlap, as far as the ops can tell.
    """
    for name, value in operands.items():
        if value is None or isinstance(value, (list, tuple)):
            continue  # lists are copied
        found = array(op, name, value)
        if not np.may_share_memory(out, found):
            continue
        same = found.ctypes.data == out.ctypes.data and found.size == out.size
        alike = found.strides == out.strides or (
            found.flags.c_contiguous and out.flags.c_contiguous
        )
        if in_place and same and alike and found.dtype == out.dtype:
            continue
        if _core.may_overlap(out, found):
            raise ValueError(
                f"[{op}] out: expected memory that no input shares, found an overlap with {name}; "
                "write into another array"
            )


def returns(like: Any, result: F32) -> Any:
    """A flat list for a list, a flat array for an array."""
    values = result.reshape(-1)
    return values.tolist() if isinstance(like, (list, tuple)) else values
