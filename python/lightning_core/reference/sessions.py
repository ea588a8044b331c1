"""Resident sessions: operands stay where they are computed, each session with its own buffers.

`start` uploads and computes; `run` computes on what is resident; `sync` waits; `finish` waits and
downloads. A batch computes its products one after the other and downloads once, unless its name
says `no_download`. Sizes are checked before anything is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lightning_core import _core
from lightning_core.reference.arrays import F32, apart, flag, flat, out_of, sizes

__all__ = [
    "Conv2dMetalResidentSession",
    "MatMulMetalResidentSession",
    "MatrixElemwiseMetalResidentSession",
    "VectorAddMetalResidentSession",
]


class _Resident:
    """One session of the core with the checks and forms that the reference's classes share."""

    def __init__(
        self,
        name: str,
        op: str,
        shapes: list[tuple[int, ...]],
        out_shape: tuple[int, ...],
        attrs: dict[str, Any] | None = None,
        trace_as: str = "",
    ) -> None:
        self._name = name
        self._shapes = shapes
        self._out_shape = out_shape
        schema = _core.op_schema(op)
        self._names = [operand["name"] for operand in schema["inputs"]]
        self._in_place = bool(schema["inplace"])
        self._session = _core.Session(
            op, [list(s) for s in shapes], attrs or {}, "float32", "", trace_as
        )

    def _inputs(self, values: tuple[Any, ...]) -> list[Any]:
        return [
            flat(self._name, f"operand {i}", value, shape)
            for i, (value, shape) in enumerate(zip(values, self._shapes, strict=True))
        ]

    def _start(self, values: tuple[Any, ...]) -> None:
        self._session.start(*self._inputs(values))

    def _ensure(self, values: tuple[Any, ...]) -> None:
        """Uploads and computes if no start did."""
        if not self._session.resident(0):
            self._start(values)

    def _run(self, values: tuple[Any, ...]) -> None:
        if self._session.resident(0):
            self._session.run()
        else:
            self._start(values)

    def _sync(self, values: tuple[Any, ...]) -> None:
        self._ensure(values)
        self._session.sync()

    def _run_batch(self, values: tuple[Any, ...], repeat: int) -> None:
        if not self._session.resident(0):
            for i, value in enumerate(self._inputs(values)):
                self._session.upload(i, value)
        self._session.run_batch(repeat)

    def _checked(self, values: tuple[Any, ...], out: Any) -> F32:
        """Operands and output fit and lie apart, though only some calls use them; the output."""
        self._inputs(values)
        window = out_of(self._name, out, self._out_shape)
        apart(self._name, window, dict(zip(self._names, values, strict=False)), self._in_place)
        return window

    def _start_into(self, values: tuple[Any, ...], out: Any) -> None:
        self._checked(values, out)
        self._start(values)

    def _run_into(self, values: tuple[Any, ...], out: Any) -> None:
        self._checked(values, out)
        self._run(values)

    def _sync_into(self, values: tuple[Any, ...], out: Any) -> None:
        self._checked(values, out)
        self._sync(values)

    def _finish_into(self, values: tuple[Any, ...], out: Any) -> None:
        window = self._checked(values, out)
        self._ensure(values)
        self._session.finish(window)

    def _batch_into(self, values: tuple[Any, ...], out: Any, count: int, download: bool) -> None:
        (repeat,) = sizes(self._name, repeat_count=count)
        window = self._checked(values, out)
        self._run_batch(values, repeat)
        if download:
            self._session.finish(window)

    def _list(
        self, values: tuple[Any, ...], out_size: int, phase: Callable[[tuple[Any, ...]], None]
    ) -> list[float]:
        """A phase in the reference's list form: the resident result, downloaded."""
        (size,) = sizes(self._name, out_size=out_size)
        out = np.empty(self._out_shape, np.float32)
        if size != out.size:
            raise ValueError(f"[{self._name}] out_size: expected {out.size}, found {size}")
        self._inputs(values)
        phase(values)
        self._session.finish(out)
        result: list[float] = out.reshape(-1).tolist()
        return result


class _TwoOperands(_Resident):
    """The phases of a session of two operands, a and b."""

    def start_into(self, a: Any, b: Any, out: F32) -> None:
        """Uploads and computes; `out` is checked and not written."""
        self._start_into((a, b), out)

    def run_into(self, a: Any, b: Any, out: F32) -> None:
        """Computes on what is resident; uploads first if nothing is."""
        self._run_into((a, b), out)

    def sync_into(self, a: Any, b: Any, out: F32) -> None:
        """Waits for what was started; uploads and computes first if nothing is resident."""
        self._sync_into((a, b), out)

    def finish_into(self, a: Any, b: Any, out: F32) -> None:
        """Waits, and downloads into `out`; uploads and computes first if nothing is resident."""
        self._finish_into((a, b), out)

    def start(self, a: Any, b: Any, out_size: int) -> list[float]:
        """Uploads, computes and returns the result."""
        return self._list((a, b), out_size, self._start)

    def run(self, a: Any, b: Any, out_size: int) -> list[float]:
        """Computes on what is resident and returns the result."""
        return self._list((a, b), out_size, self._run)

    def finish(self, a: Any, b: Any, out_size: int) -> list[float]:
        """Waits and returns the result."""
        return self._list((a, b), out_size, self._ensure)


class MatMulMetalResidentSession(_TwoOperands):
    """C[m, n] = A[m, k] @ B[k, n] with resident operands."""

    def __init__(self, m: int, k: int, n: int) -> None:
        """RuntimeError for a size of 0, TypeError for a negative one."""
        m, k, n = sizes("MatMulMetalResidentSession", m=m, k=k, n=n)
        super().__init__("MatMulMetalResidentSession", "matmul", [(m, k), (k, n)], (m, n))

    def run_batch_sync_into(self, a: Any, b: Any, out: F32, repeat_count: int) -> None:
        """`repeat_count` products on what is resident, one wait, one download."""
        self._batch_into((a, b), out, repeat_count, True)

    def run_batch_sync_no_download_into(self, a: Any, b: Any, out: F32, repeat_count: int) -> None:
        """As `run_batch_sync_into`, without the download."""
        self._batch_into((a, b), out, repeat_count, False)

    def run_batch_sync_cached_no_download(self, repeat_count: int) -> None:
        """`repeat_count` products on what is resident.

        Raises:
            RuntimeError: nothing is resident, or a count of 0.
        """
        (repeat,) = sizes(self._name, repeat_count=repeat_count)
        if not self._session.resident(0):
            raise RuntimeError(
                "not supported: [MatMulMetalResidentSession] a: expected resident operands, "
                "found none; call start_into first"
            )
        self._session.run_batch(repeat)

    def sync(self, a: Any, b: Any, out_size: int) -> list[float]:
        """Waits and returns the result."""
        return self._list((a, b), out_size, self._sync)

    def run_batch_sync(self, a: Any, b: Any, out_size: int, repeat_count: int) -> list[float]:
        """`repeat_count` products on what is resident; the result."""
        (repeat,) = sizes(self._name, repeat_count=repeat_count)
        return self._list((a, b), out_size, lambda values: self._run_batch(values, repeat))


class VectorAddMetalResidentSession(_TwoOperands):
    """a + b of n elements with resident operands."""

    def __init__(self, n: int) -> None:
        """RuntimeError for a size of 0, TypeError for a negative one."""
        (n,) = sizes("VectorAddMetalResidentSession", n=n)
        super().__init__(
            "VectorAddMetalResidentSession", "add", [(n,), (n,)], (n,), None, "vector_add"
        )

    def add(self, a: Any, b: Any, out_size: int) -> list[float]:
        """One addition from upload to download."""
        return self._list((a, b), out_size, self._start)


class MatrixElemwiseMetalResidentSession:
    """a - b and a / b of [rows, cols] matrices, each of the two with operands of its own."""

    def __init__(self, rows: int, cols: int) -> None:
        """RuntimeError for a size of 0, TypeError for a negative one."""
        name = "MatrixElemwiseMetalResidentSession"
        shape = sizes(name, rows=rows, cols=cols)
        self._sub = _TwoOperands(name, "sub", [shape, shape], shape, None, "matrix_sub")
        self._div = _TwoOperands(name, "div", [shape, shape], shape, None, "matrix_div")

    def sub_start_into(self, a: Any, b: Any, out: F32) -> None:
        """Uploads and computes a - b; `out` is checked and not written."""
        self._sub.start_into(a, b, out)

    def sub_run_into(self, a: Any, b: Any, out: F32) -> None:
        """Computes a - b on what is resident."""
        self._sub.run_into(a, b, out)

    def sub_finish_into(self, a: Any, b: Any, out: F32) -> None:
        """Waits, and downloads a - b into `out`."""
        self._sub.finish_into(a, b, out)

    def div_start_into(self, a: Any, b: Any, out: F32) -> None:
        """Uploads and computes a / b; `out` is checked and not written."""
        self._div.start_into(a, b, out)

    def div_run_into(self, a: Any, b: Any, out: F32) -> None:
        """Computes a / b on what is resident."""
        self._div.run_into(a, b, out)

    def div_finish_into(self, a: Any, b: Any, out: F32) -> None:
        """Waits, and downloads a / b into `out`."""
        self._div.finish_into(a, b, out)

    def sub_start(self, a: Any, b: Any, out_size: int) -> list[float]:
        """Uploads, computes and returns a - b."""
        return self._sub.start(a, b, out_size)

    def sub_run(self, a: Any, b: Any, out_size: int) -> list[float]:
        """Computes a - b on what is resident and returns it."""
        return self._sub.run(a, b, out_size)

    def sub_finish(self, a: Any, b: Any, out_size: int) -> list[float]:
        """Waits and returns a - b."""
        return self._sub.finish(a, b, out_size)

    def div_start(self, a: Any, b: Any, out_size: int) -> list[float]:
        """Uploads, computes and returns a / b."""
        return self._div.start(a, b, out_size)

    def div_run(self, a: Any, b: Any, out_size: int) -> list[float]:
        """Computes a / b on what is resident and returns it."""
        return self._div.run(a, b, out_size)

    def div_finish(self, a: Any, b: Any, out_size: int) -> list[float]:
        """Waits and returns a / b."""
        return self._div.finish(a, b, out_size)

    def sub(self, a: Any, b: Any, out_size: int) -> list[float]:
        """One a - b from upload to download."""
        return self._sub.start(a, b, out_size)

    def div(self, a: Any, b: Any, out_size: int) -> list[float]:
        """One a / b from upload to download."""
        return self._div.start(a, b, out_size)


class Conv2dMetalResidentSession(_Resident):
    """conv2d (with ReLU unless told otherwise) with resident image, weight and bias."""

    def __init__(
        self,
        batch: int,
        in_channels: int,
        in_h: int,
        in_w: int,
        out_channels: int,
        kernel_h: int,
        kernel_w: int,
        stride_h: int = 1,
        stride_w: int = 1,
        pad_h: int = 0,
        pad_w: int = 0,
        apply_relu: bool = True,
        *,
        has_bias: bool = True,
    ) -> None:
        """A session for one shape.

        Raises:
            RuntimeError: an extent of 0. ValueError: a stride of 0, or a kernel larger than the
            padded input. TypeError: a size that is negative or no integer, or a relu that is no
            bool.
        """
        name = "Conv2dMetalResidentSession"
        n, c, h, w, oc, kh, kw = sizes(
            name,
            batch=batch,
            in_channels=in_channels,
            in_h=in_h,
            in_w=in_w,
            out_channels=out_channels,
            kernel_h=kernel_h,
            kernel_w=kernel_w,
        )
        sh, sw, ph, pw = sizes(
            name, 0, stride_h=stride_h, stride_w=stride_w, pad_h=pad_h, pad_w=pad_w
        )
        if sh == 0 or sw == 0:
            raise ValueError(f"[{name}] stride: expected 1 or more, found {(sh, sw)}")
        room_h, room_w = h + 2 * ph, w + 2 * pw
        if kh > room_h or kw > room_w:
            raise ValueError(
                f"[{name}] kernel: expected one within the padded input {(room_h, room_w)}, "
                f"found {(kh, kw)}"
            )
        shapes: list[tuple[int, ...]] = [(n, c, h, w), (oc, c, kh, kw)]
        if has_bias:
            shapes.append((oc,))
        out = (n, oc, (room_h - kh) // sh + 1, (room_w - kw) // sw + 1)
        attrs = {
            "stride": [sh, sw],
            "padding": [ph, pw],
            "activation": "relu" if flag(name, "apply_relu", apply_relu) else "none",
        }
        super().__init__(name, "conv2d", shapes, out, attrs, "conv2d_nchw")
        self._has_bias = has_bias

    def _inputs(self, values: tuple[Any, ...]) -> list[Any]:
        if self._has_bias and values[2] is None:
            raise RuntimeError(
                "invalid value: [Conv2dMetalResidentSession] bias: expected an array, found None"
            )
        return super()._inputs(values if self._has_bias else values[:2])

    def start_into(self, x: Any, w: Any, bias: Any, out: F32) -> None:
        """Uploads and computes; `out` is checked and not written."""
        self._start_into((x, w, bias), out)

    def run_into(self, x: Any, w: Any, bias: Any, out: F32) -> None:
        """Computes on what is resident; uploads first if nothing is."""
        self._run_into((x, w, bias), out)

    def sync_into(self, x: Any, w: Any, bias: Any, out: F32) -> None:
        """Waits for what was started; uploads and computes first if nothing is resident."""
        self._sync_into((x, w, bias), out)

    def finish_into(self, x: Any, w: Any, bias: Any, out: F32) -> None:
        """Waits, and downloads into `out`; uploads and computes first if nothing is resident."""
        self._finish_into((x, w, bias), out)

    def run_batch_sync_into(self, x: Any, w: Any, bias: Any, out: F32, repeat_count: int) -> None:
        """`repeat_count` convolutions on what is resident, one wait, one download."""
        self._batch_into((x, w, bias), out, repeat_count, True)
