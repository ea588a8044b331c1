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


X = np.ones((2, 2), np.float32)
IMAGE = np.ones((1, 1, 4, 4), np.float32)
FLAT = X.reshape(-1)


def tensor() -> lc.Tensor:
    return lc.Tensor([4])


def product_session() -> lc.MatMulMetalResidentSession:
    return lc.MatMulMetalResidentSession(2, 2, 2)


# Every place that takes a size: the argument that the refusal names, the call.
SIZES: dict[str, tuple[str, Any]] = {
    "reshape": ("shape", lambda n: lc.reshape(X, (n, 2))),
    "broadcast_to": ("shape|out", lambda n: lc.broadcast_to(X, (n, 2, 2))),
    "stride": ("stride", lambda n: lc.conv2d(IMAGE, X[None, None], stride=n)),
    "padding": ("padding", lambda n: lc.conv2d(IMAGE, X[None, None], padding=(n, 0))),
    "dilation": ("dilation", lambda n: lc.conv2d(IMAGE, X[None, None], dilation=n)),
    "groups": ("groups", lambda n: lc.conv2d(IMAGE, X[None, None], groups=n)),
    "kernel": ("kernel", lambda n: lc.max_pool2d(IMAGE, kernel=n)),
    "Tensor": ("shape", lambda n: lc.Tensor([2, n])),
    "Tensor64": ("shape", lambda n: lc.Tensor64((n,))),
    "zeros": ("shape", lambda n: lc.Tensor.zeros([n])),
    "from_numpy_array": ("shape", lambda n: lc.Tensor.from_numpy_array(X, [n])),
    "Tensor.reshape": ("shape", lambda n: tensor().reshape([n])),
    "Tensor.view": ("shape", lambda n: tensor().view([n, 1])),
    "matmul session": ("k|a", lambda n: lc.MatMulMetalResidentSession(2, n, 2)),
    "add session": ("n|a", lambda n: lc.VectorAddMetalResidentSession(n)),
    "sub session": ("rows|a", lambda n: lc.MatrixElemwiseMetalResidentSession(n, 2)),
    "conv session": ("batch|x", lambda n: lc.Conv2dMetalResidentSession(n, 1, 4, 4, 1, 2, 2)),
    "conv session's padding": (
        "pad_h|padding",
        lambda n: lc.Conv2dMetalResidentSession(1, 1, 4, 4, 1, 2, 2, 1, 1, n),
    ),
    "AttentionSession": ("seq_len", lambda n: lc.AttentionSession(n, 4)),
    "matmul": ("m|a", lambda n: lc.matmul(FLAT, FLAT, n, 2, 2)),
    "matmul_np": ("k|a", lambda n: lc.matmul_np(FLAT, FLAT, 2, n, 2)),
    "matrix_sub": ("rows|a", lambda n: lc.matrix_sub(X, X, n, 2)),
    "conv2d_nchw": ("stride|stride_h", lambda n: lc.conv2d_nchw(IMAGE, X[None, None], None, n)),
    "attention_forward": ("seq_len|q", lambda n: lc.attention_forward(X, X, X, n, 2)),
    "api.attention": ("head_dim|q", lambda n: lc.api.attention(X, X, X, 2, n)),
    "pipeline": (
        "seq_len",
        lambda n: lc.api.conv_attention_torchstrong_nchw(IMAGE, X[None, None], None, n, 2),
    ),
}
# Only what is past 64 bits is no number of these: the reference answers the rest differently.
OFFSETS: dict[str, tuple[str, Any]] = {
    "slice": ("start", lambda n: lc.slice(X, start=n)),
    "softmax": ("axis", lambda n: lc.softmax(X, axis=n)),
    "sum": ("axes", lambda n: lc.sum(X, axes=n)),
    "Tensor.slice": ("axis", lambda n: tensor().slice(n, 0, 1)),
    "Tensor.slice's end": ("end", lambda n: tensor().slice(0, 0, n)),
    "slice_copy": ("start", lambda n: tensor().slice_copy(0, n, 1)),
    "slice_copy_numpy": ("end", lambda n: tensor().slice_copy_numpy(0, 0, n)),
    "read_strided's shape": ("out_shape", lambda n: tensor().read_strided([n], [1])),
    "read_strided's strides": ("source_strides", lambda n: tensor().read_strided([2], [n])),
    "read_strided's offset": ("offset_elements", lambda n: tensor().read_strided([2], [1], n)),
    "storage": (
        "storage_numel",
        lambda n: tensor().view([4]).validate_contract_for_storage(n),
    ),
    "repeat_count": (
        "repeat_count",
        lambda n: product_session().run_batch_sync_into(X, X, np.empty_like(X), n),
    ),
}


@pytest.mark.parametrize("size", [2**62, 2**63, 2**63 + 1, 2**64, 10**30], ids=hex)
@pytest.mark.parametrize("place", SIZES)
def test_sizes_beyond_memory(place: str, size: int) -> None:
    argument, call = SIZES[place]
    message = rf"^\[\w+\] ({argument})\b.*: expected .*, found "
    with pytest.raises(ValueError, match=message):
        call(size)


@pytest.mark.parametrize("size", [2**63, 2**64, 10**30], ids=hex)
@pytest.mark.parametrize("place", OFFSETS)
def test_offsets_beyond_64_bits(place: str, size: int) -> None:
    argument, call = OFFSETS[place]
    with pytest.raises(ValueError, match=rf"\] {argument}: expected .*, found {size}"):
        call(size)


@pytest.mark.parametrize("size", [-1, -(2**63) - 1])
@pytest.mark.parametrize("place", [p for p in SIZES if p not in ("reshape", "reference")])
def test_negative_sizes(place: str, size: int) -> None:
    # The reference answers negative sizes with TypeError.
    argument, call = SIZES[place]
    with pytest.raises((ValueError, TypeError), match=rf"\] ({argument})\b.*expected .*, found "):
        call(size)


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
    """The first smoke line of every op whose arrays are NumPy's (bfloat16 comes as a Tensor)."""
    found: dict[str, lc.Case] = {}
    for path in sorted((TESTS / "cases").glob("*.txt")):
        for case in lc.read_cases(str(path), "smoke"):
            if not any(isinstance(x, lc.Tensor) for x in case.inputs):
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
