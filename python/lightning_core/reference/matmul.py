"""matmul in all its forms. C[m, n] = A[m, k] @ B[k, n], arguments in the order (a, b, m, k, n)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_core import _core
from lightning_core.reference.arrays import F32, Device, array, direct, flat, out_of, returns, sizes
from lightning_core.reference.policies import MatMulIoPolicy, as_policy, of_kind

if TYPE_CHECKING:
    from lightning_core.reference.sessions import MatMulMetalResidentSession

__all__ = [
    "matmul",
    "matmul2d",
    "matmul2d_into",
    "matmul2d_resident_session",
    "matmul_np",
    "matmul_np_into",
    "matmul_np_into_with_policy",
    "matmul_np_with_policy",
    "matmul_reset_tuning",
    "matmul_with_policy",
]

_matmul = _core.matmul


def _check_2d(op: str, a: Any, b: Any) -> tuple[Any, Any]:
    first, second = array(op, "a", a), array(op, "b", b)
    for name, value in (("a", first), ("b", second)):
        if value.ndim != 2:
            raise ValueError(f"[{op}] {name}: expected rank 2, found shape {value.shape}")
        if 0 in value.shape:
            raise RuntimeError(f"invalid value: [{op}] {name}: found shape {value.shape}")
    return first, second


def _product_sizes(op: str, a: Any, b: Any) -> tuple[int, int, int]:
    """(m, k, n) of two matrices; ValueError where the inner dimensions differ."""
    (m, k), (rows, n) = a.shape, b.shape
    if rows != k:
        raise ValueError(f"[{op}] b: expected {k} rows (as many as a has columns), found {rows}")
    return m, k, n


@direct
def matmul2d(a: Any, b: Any, device: Device = None) -> F32:
    """Product of two matrices, [m, k] @ [k, n] -> [m, n] in float32.

    Raises:
        ValueError: not rank 2, or the inner dimensions differ. RuntimeError: an extent of 0.
    """
    first, second = _check_2d("matmul2d", a, b)
    result: F32 = _matmul(first, second, device=device, as_float32=True)
    return result


@direct
def matmul2d_into(a: Any, b: Any, out: F32, device: Device = None) -> None:
    """Product of two matrices into `out`, float32 of shape (m, n) or flat (m * n,); may be strided.

    Raises:
        ValueError: not rank 2, inner dimensions differ, or `out` does not fit (nothing is written).
        RuntimeError: an extent of 0.
    """
    op = "matmul2d_into"
    first, second = _check_2d(op, a, b)
    m, _, n = _product_sizes(op, first, second)
    shape = (m, n)
    window = out_of(op, out, shape)
    if window is not out and out.ndim != 1:
        raise ValueError(f"[{op}] out: expected shape {shape} or its flat form, found {out.shape}")
    _matmul(first, second, out=window, device=device, as_float32=True)


def matmul2d_resident_session(a: Any, b: Any) -> MatMulMetalResidentSession:
    """A resident session for the shapes of two matrices (their values are not read)."""
    from lightning_core.reference.sessions import MatMulMetalResidentSession

    op = "matmul2d_resident_session"
    return MatMulMetalResidentSession(*_product_sizes(op, *_check_2d(op, a, b)))


def _policy_of(op: str, policy: MatMulIoPolicy | None) -> MatMulIoPolicy:
    return MatMulIoPolicy() if policy is None else of_kind(op, policy, MatMulIoPolicy)


def _flat_matmul(
    op: str,
    a: Any,
    b: Any,
    m: int,
    k: int,
    n: int,
    device: Device,
    policy: MatMulIoPolicy | None = None,
) -> F32:
    m, k, n = sizes(op, m=m, k=k, n=n)
    first, second = flat(op, "a or b", a, (m, k)), flat(op, "a or b", b, (k, n))
    if policy is None:
        return _matmul(first, second, device=device, as_float32=True)
    # Nothing is downloaded into a new result without download: zeros then.
    out = None if policy.download_out else np.zeros((m, n), np.float32)
    io = as_policy(policy)
    return _matmul(first, second, out=out, device=device, policy=io, as_float32=True)


def _flat_matmul_into(
    op: str,
    a: Any,
    b: Any,
    out: Any,
    m: int,
    k: int,
    n: int,
    device: Device,
    policy: MatMulIoPolicy | None = None,
) -> None:
    m, k, n = sizes(op, m=m, k=k, n=n)
    first, second = flat(op, "a or b", a, (m, k)), flat(op, "a or b", b, (k, n))
    window = out_of(op, out, (m, n))
    io = None if policy is None else as_policy(policy)
    _matmul(first, second, out=window, device=device, policy=io, as_float32=True)


@functools.partial(direct, native=_matmul)
def matmul(
    a: Any,
    b: Any,
    m: Any = None,
    k: Any = None,
    n: Any = None,
    device: Device = None,
    *,
    bias: Any = None,
    trans_a: bool = False,
    trans_b: bool = False,
    alpha: float = 1.0,
    activation: str = "none",
    out: Any = None,
    policy: _core.Policy | None = None,
) -> Any:
    """Matrix product, in two forms.

    `matmul(a, b, m, k, n, device)` is the reference's: flat operands of m * k and k * n elements,
    a flat result (a list where `a` is a list). `matmul(a, b, bias, ...)` is the op: batched as
    `numpy.matmul`, activation(alpha * a @ b + bias), in the dtype of the operands.

    Raises:
        ValueError: shapes, attributes or `out` do not fit. RuntimeError: a size of 0 in the first
        form. TypeError: a negative size, a dtype that is not accepted, or an argument that the
        form does not take.
    """
    if k is None and n is None:
        if m is not None:  # the op's third argument is the bias
            if bias is not None:
                raise TypeError("[matmul] bias: expected one, found a second by position")
            bias = m
        return _matmul(
            a,
            b,
            bias,
            trans_a=trans_a,
            trans_b=trans_b,
            alpha=alpha,
            activation=activation,
            out=out,
            device=device,
            policy=policy,
        )
    if m is None or k is None or n is None:
        raise TypeError("[matmul] m, k, n: expected all three sizes or none")
    given = (
        (bias is not None and "bias")
        or (trans_a and "trans_a")
        or (trans_b and "trans_b")
        or (alpha != 1.0 and "alpha")
        or (activation != "none" and "activation")
        or (out is not None and "out")
        or (policy is not None and "policy")
    )
    if given:
        raise TypeError(f"[matmul] {given}: expected none with m, k and n, found one")
    return returns(a, _flat_matmul("matmul", a, b, m, k, n, device))


@direct
def matmul_np(a: Any, b: Any, m: int, k: int, n: int, device: Device = None) -> F32:
    """Product of flat operands, a flat float32 array of m * n elements."""
    return _flat_matmul("matmul_np", a, b, m, k, n, device).reshape(-1)


@direct
def matmul_np_into(a: Any, b: Any, out: F32, m: int, k: int, n: int, device: Device = None) -> None:
    """Product of flat operands into `out`, float32 of m * n elements in any shape."""
    _flat_matmul_into("matmul_np_into", a, b, out, m, k, n, device)


def matmul_with_policy(
    a: Any,
    b: Any,
    m: int,
    k: int,
    n: int,
    device: Device = None,
    policy: MatMulIoPolicy | None = None,
) -> Any:
    """As the flat `matmul`, under a policy, else TypeError; without download it is zeros."""
    op = "matmul_with_policy"
    return returns(a, _flat_matmul(op, a, b, m, k, n, device, _policy_of(op, policy)))


def matmul_np_with_policy(
    a: Any,
    b: Any,
    m: int,
    k: int,
    n: int,
    device: Device = None,
    policy: MatMulIoPolicy | None = None,
) -> F32:
    """As `matmul_np`, under a policy, else TypeError; without download it is zeros."""
    op = "matmul_np_with_policy"
    return _flat_matmul(op, a, b, m, k, n, device, _policy_of(op, policy)).reshape(-1)


def matmul_np_into_with_policy(
    a: Any,
    b: Any,
    out: F32,
    m: int,
    k: int,
    n: int,
    device: Device = None,
    policy: MatMulIoPolicy | None = None,
) -> None:
    """As `matmul_np_into`, under a policy, else TypeError; without download `out` stays."""
    op = "matmul_np_into_with_policy"
    _flat_matmul_into(op, a, b, out, m, k, n, device, _policy_of(op, policy))


def matmul_reset_tuning() -> None:
    """Forgets every plan and reads the environment's tuning variables again."""
    _core.reload_config()
    _core.clear_plan_cache()
