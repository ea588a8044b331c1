"""matmul in all its forms. C[m, n] = A[m, k] @ B[k, n], arguments in the order (a, b, m, k, n)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_core import _core
from lightning_core.reference.arrays import F32, Device, array, flat, out_of, returns, sizes
from lightning_core.reference.policies import MatMulIoPolicy, as_policy

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


def matmul2d(a: Any, b: Any, device: Device = None) -> F32:
    """Product of two matrices, [m, k] @ [k, n] -> [m, n] in float32.

    Raises:
        ValueError: not rank 2, or the inner dimensions differ. RuntimeError: an extent of 0.
    """
    first, second = _check_2d("matmul2d", a, b)
    result: F32 = _matmul(first, second, device=device, as_float32=True)
    return result


def matmul2d_into(a: Any, b: Any, out: F32, device: Device = None) -> None:
    """Product of two matrices into `out`, float32 of shape (m, n) or flat (m * n,); may be strided.

    Raises:
        ValueError: not rank 2, inner dimensions differ, or `out` does not fit (nothing is written).
    """
    try:
        if a.ndim == 2 and b.ndim == 2 and out.ndim == 2:
            _matmul(a, b, out=out, device=device, as_float32=True)
            return
    except AttributeError:
        pass
    first, second = _check_2d("matmul2d_into", a, b)
    window = out_of("matmul2d_into", out, (first.shape[0], second.shape[1]))
    _matmul(first, second, out=window, device=device, as_float32=True)


def matmul2d_resident_session(a: Any, b: Any) -> MatMulMetalResidentSession:
    """A resident session for the shapes of two matrices (their values are not read)."""
    from lightning_core.reference.sessions import MatMulMetalResidentSession

    first, second = _check_2d("matmul2d_resident_session", a, b)
    if first.shape[1] != second.shape[0]:
        raise ValueError(
            f"[matmul2d_resident_session] b: expected {first.shape[1]} rows, "
            f"found {second.shape[0]}"
        )
    return MatMulMetalResidentSession(first.shape[0], first.shape[1], second.shape[1])


def _flat_matmul(
    op: str,
    a: Any,
    b: Any,
    m: int,
    k: int,
    n: int,
    device: Device,
    out: Any = None,
    policy: MatMulIoPolicy | None = None,
) -> F32:
    m, k, n = sizes(op, m=m, k=k, n=n)
    first, second = flat(op, "a or b", a, (m, k)), flat(op, "a or b", b, (k, n))
    window = None if out is None else out_of(op, out, (m, n))
    io = None if policy is None else as_policy(policy)
    if window is None and policy is not None and not policy.download_out:
        window = np.zeros((m, n), np.float32)  # nothing is downloaded into the new result
    return _matmul(first, second, out=window, device=device, policy=io, as_float32=True)


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
    a flat result (a list where `a` is a list). `matmul(a, b, ...)` is the op: batched as
    `numpy.matmul`, activation(alpha * a @ b + bias), in the dtype of the operands.

    Raises:
        ValueError: shapes, attributes or `out` do not fit. RuntimeError: a size of 0 in the first
        form. TypeError: a negative size, or a dtype that is not accepted.
    """
    if k is None and n is None:
        return _matmul(
            a,
            b,
            m if bias is None else bias,  # the op's third argument is the bias
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
    return returns(a, _flat_matmul("matmul", a, b, m, k, n, device))


def matmul_np(a: Any, b: Any, m: int, k: int, n: int, device: Device = None) -> F32:
    """Product of flat operands, a flat float32 array of m * n elements."""
    return _flat_matmul("matmul_np", a, b, m, k, n, device).reshape(-1)


def matmul_np_into(a: Any, b: Any, out: F32, m: int, k: int, n: int, device: Device = None) -> None:
    """Product of flat operands into `out`, float32 of m * n elements in any shape."""
    _flat_matmul("matmul_np_into", a, b, m, k, n, device, out)


def matmul_with_policy(
    a: Any,
    b: Any,
    m: int,
    k: int,
    n: int,
    device: Device = None,
    policy: MatMulIoPolicy | None = None,
) -> Any:
    """As the flat `matmul`, under a policy. Without download the result is zeros."""
    io = MatMulIoPolicy() if policy is None else policy
    return returns(a, _flat_matmul("matmul_with_policy", a, b, m, k, n, device, None, io))


def matmul_np_with_policy(
    a: Any,
    b: Any,
    m: int,
    k: int,
    n: int,
    device: Device = None,
    policy: MatMulIoPolicy | None = None,
) -> F32:
    """As `matmul_np`, under a policy. Without download the result is zeros."""
    io = MatMulIoPolicy() if policy is None else policy
    return _flat_matmul("matmul_np_with_policy", a, b, m, k, n, device, None, io).reshape(-1)


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
    """As `matmul_np_into`, under a policy. Without download `out` is left as it is."""
    io = MatMulIoPolicy() if policy is None else policy
    _flat_matmul("matmul_np_into_with_policy", a, b, m, k, n, device, out, io)


def matmul_reset_tuning() -> None:
    """Forgets every plan and reads the environment's tuning variables again."""
    _core.reload_config()
    _core.clear_plan_cache()
