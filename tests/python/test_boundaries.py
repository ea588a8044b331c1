"""Where Python's objects meet the ops: conversions, windows, lifetimes, refused arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightning_core as lc


def test_windows_never_convert() -> None:
    x = np.arange(6.0)
    assert np.array_equal(lc.reshape(x, (3, 2), as_float32=True), x.reshape(3, 2))
    assert lc.reshape(x, (3, 2), as_float32=True).dtype == np.float32
    small = np.arange(8, dtype=np.int8)
    assert np.array_equal(lc.reshape(small, (8,), as_float32=True), small)
    m = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(lc.transpose(m, as_float32=True), m.T)


def test_words_that_are_no_words() -> None:
    a = np.ones(3, np.float32)
    for keywords in ({"trace_as": 5}, {"device": "\ud800"}, {"device": 3}, {"policy": "fast"}):
        with pytest.raises((TypeError, ValueError)):
            lc.add(a, 1.0, **keywords)  # type: ignore[call-overload]
    for dtype in ("\ud800", "float99", 7):
        with pytest.raises((TypeError, ValueError)):
            lc.cast(a, dtype)


def test_a_result_that_stays_nowhere_is_refused() -> None:
    a = np.ones(3, np.float32)
    keep = lc.Policy(download=0)
    with pytest.raises(RuntimeError, match="download"):
        lc.add(a, a, policy=keep)
    out = np.full(3, 5, np.float32)
    lc.add(a, a, out=out, policy=keep)
    assert (out == 5).all()


def test_numbers_keep_their_kind() -> None:
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert np.array_equal(lc.embedding(1, table), table[1])
    for bad in (1.7, float("nan")):
        with pytest.raises(TypeError, match="indices"):
            lc.embedding(bad, table)
    wide = np.ones(2)
    assert lc.where(np.array([True, False]), wide, 0.1).tolist() == [1.0, 0.1]


class Unaligned:
    """Exports memory one byte off its alignment."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_dlpack_never_writes_read_only_memory() -> None:
    frozen = np.arange(4, dtype=np.float32)
    frozen.flags.writeable = False
    t = lc.from_dlpack(frozen)
    lc.add(t, t, out=t)
    assert frozen.tolist() == [0, 1, 2, 3]
    assert t.to_list() == [0, 2, 4, 6]
    raw = np.zeros(17, np.uint8)[1:].view(np.float32)
    raw[:] = [1, 2, 3, 4]
    assert lc.from_dlpack(Unaligned(raw)).to_list() == [1, 2, 3, 4]


def test_bfloat16_is_never_mistaken_for_integers() -> None:
    half = lc.cast(np.ones(2, np.float32), "bfloat16")
    with pytest.raises(TypeError, match="bfloat16"):
        np.asarray(half)
    assert half.to_list() == [1.0, 1.0]


def test_an_unfinished_tensor_is_no_array() -> None:
    with pytest.raises(TypeError):
        lc.neg(lc.Tensor.__new__(lc.Tensor))


@pytest.mark.parametrize("name", lc.op_names())
def test_every_op_names_itself_when_refused(name: str) -> None:
    function = getattr(lc, name) if name != "matmul" else lc.matmul
    schema = lc.op_schema(name)
    required = {a["name"]: 1 for a in schema["attrs"] if a["required"]}
    if name == "cast":
        required = {"dtype": "float32"}
    good = [np.ones((2, 2), np.float32) for _ in schema["inputs"]]
    with pytest.raises(TypeError):
        function(*good, no_such_argument=1, **required)
    with pytest.raises(ValueError, match="device"):
        function(*good, device="tpu", **required)
    with pytest.raises(TypeError, match=rf"\[{name}\]"):
        function(*[object() for _ in schema["inputs"]], **required)
    with pytest.raises((TypeError, ValueError), match=rf"\[{name}\]"):
        function(*[None for _ in schema["inputs"]], **required)
    deep = [np.ones((1,) * 9, np.float32) for _ in schema["inputs"]]
    with pytest.raises((TypeError, ValueError)):
        function(*deep, **required)


@pytest.mark.parametrize("size", [2**63, -(2**63) - 1, 2**62, -1])
def test_sizes_beyond_reason(size: int) -> None:
    x = np.ones((2, 2), np.float32)
    for call in (
        lambda: lc.reshape(x, (size, 2)),
        lambda: lc.broadcast_to(x, (size, 2, 2)),
        lambda: lc.conv2d(np.ones((1, 1, 4, 4), np.float32), x[None, None], stride=size),
        lambda: lc.max_pool2d(np.ones((1, 1, 4, 4), np.float32), kernel=size),
    ):
        if call is not None and size == -1 and "reshape" in call.__code__.co_names:
            continue  # -1 is the extent that reshape fills in
        with pytest.raises((ValueError, MemoryError, OverflowError)):
            call()


def test_memory_that_is_not_there() -> None:
    lc.set_config("LC_TEST_FAIL_ALLOC_ABOVE", "100000")
    try:
        with pytest.raises(MemoryError, match="memory"):
            lc.add(np.ones(100_000, np.float32), 1.0)
        out = np.full((300, 300), 5, np.float32)
        with pytest.raises(MemoryError):
            lc.matmul(out.copy(), out.copy(), out=out)
        assert (out == 5).all()
    finally:
        lc.set_config("LC_TEST_FAIL_ALLOC_ABOVE", "0")


# ---------------------------------------------------------------- refusals, as C++ and C have them

TESTS = Path(__file__).resolve().parent.parent
REFUSALS = [
    line.split(" | ")
    for line in (TESTS / "refusals.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
DTYPES = {
    "f32": "float32", "f64": "float64", "f16": "float16", "i8": "int8", "u8": "uint8",
    "i32": "int32", "i64": "int64", "bool": "bool",
}  # fmt: skip


def shapes_of(line: str) -> dict[str, Any]:
    """Operands of a case line by name, of one element each in memory: some lines are huge."""
    operands = {}
    for word in line.split()[1:]:
        name, value = word.split("=")
        dtype, colon, extents = value.partition(":")
        if colon:
            shape = tuple(int(e) for e in extents.split("x") if e)
            operands[name] = np.broadcast_to(np.zeros((), DTYPES[dtype]), shape)
    return operands


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row[0])
def test_refusals(row: list[str]) -> None:
    line, *parts = row
    case = lc.parse_case(line)
    function = getattr(lc._core, case.op)
    operands = shapes_of(line)
    positional = list(operands.values()) if case.op == "concat" else []
    named: dict[str, Any] = {} if positional else operands
    out = np.full(1, 7, np.float32)
    for keywords in ({}, {"out": out}):
        with pytest.raises((ValueError, TypeError)) as raised:
            function(*positional, **named, **case.attrs, **keywords)
        for part in (f"[{case.op}]", *parts):
            assert part in str(raised.value), line
    assert out[0] == 7


def first_cases() -> dict[str, lc.Case]:
    """The first smoke line of every op."""
    found: dict[str, lc.Case] = {}
    for path in sorted((TESTS / "cases").glob("*.txt")):
        for case in lc.read_cases(str(path), "smoke"):
            found.setdefault(case.op, case)
    return found


@pytest.mark.parametrize("name", lc.op_names())
def test_outputs_that_do_not_fit(name: str) -> None:
    """Read-only, overlapping, of another shape or dtype: refused by every op, nothing written."""
    case = first_cases()[name]
    function = getattr(lc._core, name)
    inputs = case.inputs
    want = np.asarray(function(*inputs, **case.attrs))
    frozen = np.zeros_like(want)
    frozen.flags.writeable = False
    other = np.int8 if want.dtype != np.int8 else np.uint8
    memory = np.zeros(4096, np.uint8)
    outputs: list[tuple[Any, str]] = [
        (frozen, "read-only|writeable"),
        (np.zeros((2, *want.shape), want.dtype), "shape"),
        (np.zeros(want.shape, other), "dtype"),
        ([1.0], "list"),
    ]
    if want.size > 1:
        shared = np.lib.stride_tricks.as_strided(
            memory.view(want.dtype), want.shape, (0,) * want.ndim
        )
        outputs.append((shared, "strides|read-only|writeable"))
    for i, x in enumerate(inputs):
        if x is None or x.size < 2:
            continue
        # The same values in memory that the output reaches into, one element on.
        home = memory.view(x.dtype)[: x.size].reshape(x.shape)
        home[...] = x
        at = memory[max(x.itemsize, want.itemsize) :]
        out = at[: at.size // want.itemsize * want.itemsize].view(want.dtype)[: want.size]
        overlapping = [home if k == i else other for k, other in enumerate(inputs)]
        with pytest.raises(ValueError, match=rf"\[{name}\] out: .*overlap"):
            function(*overlapping, **case.attrs, out=out.reshape(want.shape))
        assert np.array_equal(home, x)
        memory[...] = 0
    for bad, words in outputs:
        before = np.array(bad)
        with pytest.raises((ValueError, TypeError), match=rf"\[{name}\] out: .*({words})"):
            function(*inputs, **case.attrs, out=bad)
        assert np.array_equal(np.array(bad), before)
