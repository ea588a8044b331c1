"""vector_add and matrix_sub."""

from __future__ import annotations

from typing import Any

from lightning_core import _core
from lightning_core.reference.arrays import Device, array, direct, flat, returns, sizes

__all__ = ["matrix_sub", "vector_add"]


@direct
def vector_add(a: Any, b: Any, device: Device = None) -> Any:
    """Sum of two arrays of as many elements, flat.

    Args:
        a, b: arrays (any dtype, converted to float32) or lists.
        device: "cpu", "metal", "cuda", "null" or None, the preferred one.

    Returns:
        A float32 array of shape (a.size,); a list where `a` is a list.

    Raises:
        ValueError: the sizes differ, or the device word is unknown.
        RuntimeError: the arrays are empty.
    """
    first = array("vector_add", "a", a)
    second = array("vector_add", "b", b)
    (n,) = sizes("vector_add", n=first.size)
    if second.size != n:
        raise ValueError(f"[vector_add] b: expected {n} elements (as a), found {second.size}")
    result = _core.add(
        first.reshape(n),
        second.reshape(n),
        device=device,
        as_float32=True,
        trace_as="vector_add",
    )
    return returns(a, result)


@direct
def matrix_sub(a: Any, b: Any, rows: int, cols: int, device: Device = None) -> Any:
    """a - b of two [rows, cols] matrices, flat.

    Returns:
        A float32 array of shape (rows * cols,); a list where `a` is a list.

    Raises:
        ValueError: a size does not fit. RuntimeError: a size is 0. TypeError: a negative size.
    """
    rows, cols = sizes("matrix_sub", rows=rows, cols=cols)
    result = _core.sub(
        flat("matrix_sub", "a", a, (rows, cols)),
        flat("matrix_sub", "b", b, (rows, cols)),
        device=device,
        as_float32=True,
        trace_as="matrix_sub",
    )
    return returns(a, result)
