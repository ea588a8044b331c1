"""Every op from Python: all case files against the float64 reference, and NumPy or torch on random
shapes, strides and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import FLOATS, Array, close, eps, reference_attention, strided

import lightning_core as lc

CASES = sorted((Path(__file__).resolve().parent.parent / "cases").glob("*.txt"))
DEVICES = ["cpu", "cuda", "metal"]  # one that is not here falls back to the CPU


def call(case: lc.Case, **keywords: Any) -> Any:
    inputs = case.inputs
    return getattr(lc._core, case.op)(*inputs, **case.attrs, **keywords)


# ---------------------------------------------------------------- case files


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
@pytest.mark.parametrize("section", ["smoke", "full"])
def test_cases_match_the_reference(path: Path, section: str, device: str) -> None:
    failures = []
    for case in lc.read_cases(str(path), section):
        problem = case.check(call(case, device=device))
        if problem:
            failures.append(f"{case.text}: {problem}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_cases_write_strided_outputs_and_nothing_else(path: Path) -> None:
    for case in lc.read_cases(str(path), "smoke"):
        want = np.asarray(call(case)) if "bf16" not in case.text else None
        if want is None or want.ndim == 0:
            continue
        shape = tuple(2 * s + 1 for s in want.shape)
        guarded = np.full(shape, 77).astype(want.dtype)
        if want.dtype == np.bool_:
            guarded[...] = True
        window = guarded[tuple(slice(1, None, 2) for _ in shape)]
        before = guarded.copy()
        result = call(case, out=window)
        assert result is window
        assert case.check(window) == "", case.text
        before[tuple(slice(1, None, 2) for _ in shape)] = window
        np.testing.assert_array_equal(guarded, before, err_msg=case.text)


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_cases_leave_inputs_alone_and_repeat_bit_for_bit(path: Path) -> None:
    for case in lc.read_cases(str(path), "smoke"):
        inputs = case.inputs
        before = [None if x is None else np.array(np.asarray(x)) for x in inputs if not _bf16(x)]
        function = getattr(lc._core, case.op)
        first = function(*inputs, **case.attrs)
        second = function(*inputs, **case.attrs)
        if not _bf16(first):
            assert np.asarray(first).tobytes() == np.asarray(second).tobytes(), case.text
        after = [x for x in inputs if not _bf16(x)]
        for x, y in zip(before, after, strict=True):
            if x is not None:
                np.testing.assert_array_equal(x, np.asarray(y))


def _bf16(x: Any) -> bool:
    return isinstance(x, lc.Tensor) and x.dtype() == "bfloat16"


# ---------------------------------------------------------------- elementwise


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values_follow_numpy(dtype: Any) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, 1.0, -1.0] * 5, dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(lc.sqrt(x), np.sqrt(x))
        np.testing.assert_array_equal(lc.maximum(x, 0.5), np.maximum(x, dtype(0.5)))
        np.testing.assert_array_equal(lc.relu(x), np.maximum(x, dtype(0)))
        np.testing.assert_array_equal(lc.div(dtype(1) + x * 0, x), (1 + x * 0) / x)
        np.testing.assert_array_equal(lc.equal(x, x), x == x)
        assert np.isnan(lc.max(x))
        assert lc.argmax(x) == 0  # the first NaN wins
    np.testing.assert_array_equal(np.signbit(lc.neg(x)), np.signbit(-x))


def test_python_numbers_take_the_dtype_of_the_array() -> None:
    for dtype in FLOATS:
        x = np.arange(6, dtype=dtype)
        for got in (lc.mul(x, 2), lc.mul(2.0, x), lc.add(x, True * 1)):
            assert got.dtype == dtype
        np.testing.assert_array_equal(lc.sub(1, x), 1 - x)
    assert lc.add(1, 2).dtype == np.float32
    assert float(lc.add([1, 2, 3], 1)[2]) == 4.0


def test_mixed_floats_promote() -> None:
    a, b = np.ones(3, np.float32), np.full(3, 0.1)
    got = lc.add(a, b)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, a + b)


# ---------------------------------------------------------------- products


@given(data=st.data())
def test_matmul_broadcasts_like_numpy(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    m, k, n = (data.draw(st.integers(0, 20)) for _ in range(3))
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3))
    a = data.draw(strided((*shapes.input_shapes[0], m, k), dtype, -2, 2))
    b = data.draw(strided((*shapes.input_shapes[1], k, n), dtype, -2, 2))
    want = np.matmul(a.astype(np.float64), b.astype(np.float64))
    terms = 4.0 * max(k, 1)
    got = lc.matmul(a, b)
    assert got.dtype == dtype
    assert got.shape == want.shape
    assert np.max(np.abs(got - want), initial=0.0) <= 8 * eps(dtype) * np.sqrt(max(k, 1)) * terms


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_matmul_epilogue(dtype: Any, trans_a: int, trans_b: int, rng: np.random.Generator) -> None:
    a, b = rng.uniform(-1, 1, (37, 53)).astype(dtype), rng.uniform(-1, 1, (53, 29)).astype(dtype)
    bias = rng.uniform(-1, 1, 29).astype(dtype)
    x = 0.5 * (a.astype(np.float64) @ b.astype(np.float64)) + bias
    got = lc.matmul(
        np.ascontiguousarray(a.T) if trans_a else a,
        np.ascontiguousarray(b.T) if trans_b else b,
        bias=bias, trans_a=bool(trans_a), trans_b=bool(trans_b), alpha=0.5, activation="relu",
    )  # fmt: skip
    close(got, np.maximum(x, 0), dtype, 53)


def test_vectors_multiply_like_numpy(rng: np.random.Generator) -> None:
    a, v = rng.random((4, 6)).astype(np.float32), rng.random(6).astype(np.float32)
    w = rng.random(4).astype(np.float32)
    for x, y in ((a, v), (w, a), (v, v)):
        got = lc.matmul(x, y)
        assert got.shape == np.matmul(x, y).shape
        np.testing.assert_allclose(got, x @ y, rtol=1e-6)


def test_linear_matches_torch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x = rng.uniform(-1, 1, (2, 5, 33)).astype(np.float32)
    weight, bias = rng.uniform(-1, 1, (17, 33)).astype(np.float32), np.ones(17, np.float32)
    functional = torch.nn.functional
    want = functional.gelu(
        functional.linear(*(torch.from_numpy(t).double() for t in (x, weight, bias)))
    )
    close(lc.linear(x, weight, bias, activation="gelu"), want.numpy(), np.float32, 33)


# ---------------------------------------------------------------- attention, conv, pooling


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask_kind", [None, "bool", "float"])
@pytest.mark.parametrize(
    ("hq", "hkv", "sq", "sk", "d", "dv"),
    [(4, 2, 19, 33, 8, 8), (2, 2, 1, 70, 16, 5), (3, 1, 40, 40, 24, 24)],
)
def test_attention(
    dtype: Any, causal: bool, mask_kind: str | None, hq: int, hkv: int, sq: int, sk: int, d: int,
    dv: int, rng: np.random.Generator,
) -> None:  # fmt: skip
    q = rng.uniform(-2, 2, (2, sq, hq, d)).astype(dtype).transpose(0, 2, 1, 3)
    k = rng.uniform(-2, 2, (2, hkv, sk, d)).astype(dtype)
    v = rng.uniform(-2, 2, (2, hkv, sk, dv)).astype(dtype)
    mask: Array | None = None
    if mask_kind == "bool":
        mask = rng.random((2, 1, sq, sk)) < 0.6
        mask[0, 0, 0] = False  # a row that may attend nothing
    elif mask_kind == "float":
        mask = rng.uniform(-3, 3, (1, 1, sq, sk)).astype(dtype)
    got = lc.attention(q, k, v, mask, causal=causal, scale=0.3)
    want = reference_attention(q, k, v, mask, causal, 0.3)
    close(got, want, dtype, sk, coef=8)
    if mask_kind == "bool":
        assert not got[0, :, 0].any()


def test_attention_ranks_agree(rng: np.random.Generator) -> None:
    q, k, v = (rng.uniform(-1, 1, (3, 12, 8)).astype(np.float32) for _ in range(3))
    three = lc.attention(q, k, v)
    np.testing.assert_array_equal(lc.attention(q[None], k[None], v[None])[0], three)
    close(lc.attention(q[1], k[1], v[1]), three[1].astype(np.float64), np.float32, 12)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("c", "oc", "groups", "kernel", "stride", "padding", "dilation"),
    [
        (3, 8, 1, (3, 3), (1, 1), (1, 1), (1, 1)),
        (4, 6, 2, (3, 2), (2, 1), (0, 2), (1, 2)),
        (5, 5, 5, (1, 1), (1, 1), (0, 0), (1, 1)),
        (2, 3, 1, (5, 5), (3, 2), (2, 2), (1, 1)),
    ],
)
def test_conv2d_matches_torch(
    dtype: Any, c: int, oc: int, groups: int, kernel: tuple[int, int], stride: tuple[int, int],
    padding: tuple[int, int], dilation: tuple[int, int], rng: np.random.Generator,
) -> None:  # fmt: skip
    torch = pytest.importorskip("torch")
    x = rng.uniform(-1, 1, (2, c, 13, 17)).astype(dtype)
    weight = rng.uniform(-1, 1, (oc, c // groups, *kernel)).astype(dtype)
    bias = rng.uniform(-1, 1, oc).astype(dtype)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    want = torch.nn.functional.conv2d(
        *(torch.from_numpy(t).double() for t in (x, weight, bias)), **options
    ).numpy()
    length = kernel[0] * kernel[1] * (c // groups)
    close(lc.conv2d(x, weight, bias, **options), want, dtype, length)
    strided = np.ascontiguousarray(x[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]
    relu = lc.conv2d(strided, weight, bias, activation="relu", **options)
    close(relu, np.maximum(want, 0), dtype, length)


def test_pooling_matches_torch(rng: np.random.Generator) -> None:
    functional = pytest.importorskip("torch").nn.functional
    import torch

    x = rng.uniform(-1, 1, (2, 3, 11, 13)).astype(np.float32)
    tx = torch.from_numpy(x).double()
    for ceil_mode in (False, True):
        options: dict[str, Any] = {"padding": 1, "ceil_mode": ceil_mode}
        got = lc.max_pool2d(x, kernel=3, stride=2, **options)
        close(got, functional.max_pool2d(tx, 3, 2, **options).numpy(), np.float32)
        for count in (False, True):
            got = lc.avg_pool2d(x, kernel=(3, 2), count_include_pad=count, **options)
            want = functional.avg_pool2d(tx, (3, 2), count_include_pad=count, **options)
            close(got, want.numpy(), np.float32, 6)


# ---------------------------------------------------------------- reductions, norms


@given(data=st.data())
def test_reductions_match_numpy(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7))
    x = data.draw(strided(shape, dtype, -4, 4))
    axes = data.draw(
        st.one_of(st.none(), st.sets(st.integers(-len(shape), len(shape) - 1), min_size=1))
    )
    if axes is not None and len({a % len(shape) for a in axes}) != len(axes):
        axes = {a % len(shape) for a in axes}
    axis = None if axes is None else tuple(axes)
    keep = data.draw(st.booleans())
    wide = x.astype(np.float64)
    count = x.size if axis is None else int(np.prod([shape[a] for a in axis]))
    terms = 4.0 * count
    got = lc.sum(x, axes=axis, keepdims=keep)
    want = wide.sum(axis=axis, keepdims=keep)
    assert got.shape == want.shape
    assert np.max(np.abs(got - want)) <= 8 * eps(dtype) * np.sqrt(count) * terms
    close(lc.mean(x, axes=axis, keepdims=keep), wide.mean(axis=axis, keepdims=keep), dtype, count)
    np.testing.assert_array_equal(
        lc.max(x, axis=axis, keepdims=keep), x.max(axis=axis, keepdims=keep)
    )
    np.testing.assert_array_equal(
        lc.min(x, axis=axis, keepdims=keep), x.min(axis=axis, keepdims=keep)
    )
    one = data.draw(st.integers(-len(shape), len(shape) - 1))
    got = lc.argmax(x, axis=one, keepdims=keep)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, np.argmax(x, axis=one, keepdims=keep))
    np.testing.assert_array_equal(lc.argmin(x), np.argmin(x))


@given(data=st.data())
def test_softmax_and_norms(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=40))
    x = data.draw(strided(shape, dtype, -6, 6))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    wide = x.astype(np.float64)
    e = np.exp(wide - wide.max(axis=axis, keepdims=True))
    soft = e / e.sum(axis=axis, keepdims=True)
    close(lc.softmax(x, axis=axis), soft, dtype, shape[axis])
    close(lc.log_softmax(x, axis=axis), np.log(soft), dtype, shape[axis])
    mean, var = wide.mean(-1, keepdims=True), wide.var(-1, keepdims=True)
    weight = np.linspace(-1, 1, shape[-1]).astype(dtype)
    close(
        lc.layer_norm(x, weight, weight, eps=1e-2),
        (wide - mean) / np.sqrt(var + 1e-2) * weight + weight, dtype, shape[-1],
    )  # fmt: skip
    rms = wide / np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + 1e-2) * weight
    close(lc.rms_norm(x, weight, eps=1e-2), rms, dtype, shape[-1])


# ---------------------------------------------------------------- shapes and data movement


@given(data=st.data())
def test_metadata_ops_are_windows(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.int64, np.bool_, np.int8]))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5))
    x = (np.arange(np.prod(shape)) % 100).reshape(shape).astype(dtype)
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    t = lc.transpose(x, axes=axes)
    np.testing.assert_array_equal(t, x.transpose(axes))
    assert np.shares_memory(t, x)
    r = lc.reshape(x, (-1,))
    np.testing.assert_array_equal(r, x.reshape(-1))
    assert np.shares_memory(r, x)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    start, stop = data.draw(st.integers(-6, 6)), data.draw(st.integers(-6, 6))
    step = data.draw(st.sampled_from([1, 2, -1, -2]))
    index = [slice(None)] * len(shape)
    index[axis] = slice(start, stop, step)
    s = lc.slice(x, axis=axis, start=start, stop=stop, step=step)
    np.testing.assert_array_equal(s, x[tuple(index)])
    # A reshape that no window can show is a copy.
    np.testing.assert_array_equal(lc.reshape(t, (x.size,)), t.reshape(-1))
    b = lc.broadcast_to(x, (2, *shape))
    np.testing.assert_array_equal(b, np.broadcast_to(x, (2, *shape)))
    assert not b.flags.writeable


def test_windows_write_through_and_keep_their_memory() -> None:
    x = np.zeros((4, 6), np.float32)
    window = lc.transpose(x)
    window[1, 2] = 5
    assert x[2, 1] == 5
    del x
    assert window[1, 2] == 5
    readonly = np.arange(4.0)
    readonly.flags.writeable = False
    assert not lc.reshape(readonly, (2, 2)).flags.writeable


@given(data=st.data())
def test_concat_matches_numpy(data: st.DataObject) -> None:
    shape = list(data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for i in range(data.draw(st.integers(1, 5))):
        shape[axis] = data.draw(st.integers(0, 4))
        parts.append(np.full(shape, i, np.float32)[..., ::-1])
    want = np.concatenate(parts, axis=axis)
    np.testing.assert_array_equal(lc.concat(*parts, axis=axis), want)
    np.testing.assert_array_equal(lc.concat(parts, axis), want)


def test_embedding_and_where(rng: np.random.Generator) -> None:
    weight = rng.random((10, 6)).astype(np.float32)
    for dtype in (np.int32, np.int64):
        indices = rng.integers(0, 10, (3, 4)).astype(dtype)
        np.testing.assert_array_equal(lc.embedding(indices, weight), weight[indices])
    np.testing.assert_array_equal(lc.embedding([1, 2], weight), weight[[1, 2]])
    condition = rng.random((5, 1)) < 0.5
    a, b = rng.random((5, 4)), rng.random(4)
    np.testing.assert_array_equal(lc.where(condition, a, b), np.where(condition, a, b))


@pytest.mark.parametrize(
    "source", ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool"]
)
@pytest.mark.parametrize(
    "target", ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool"]
)
def test_cast_matches_numpy(source: str, target: str) -> None:
    x = np.array([0, 1, 2, 3, 100], source) if source != "bool" else np.array([True, False])
    got = lc.cast(x, target)
    assert got.dtype == np.dtype(target)
    np.testing.assert_array_equal(got, x.astype(target))
    np.testing.assert_array_equal(lc.cast(x, dtype=np.dtype(target)), x.astype(target))
    np.testing.assert_array_equal(lc.copy(x[::-1]), x[::-1])


def test_bfloat16_travels_in_a_tensor() -> None:
    x = np.array([1.0, 0.1, -3.14159, np.inf, 3e38], np.float32)
    half = lc.cast(x, "bfloat16")
    assert half.dtype() == "bfloat16"
    back = np.asarray(lc.cast(half, "float32"))
    bits = x.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    np.testing.assert_array_equal(back, rounded)


# ---------------------------------------------------------------- calling conventions


def test_inputs_without_a_copy(traced: None) -> None:
    torch = pytest.importorskip("torch")
    t = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    np.testing.assert_array_equal(lc.add(t, t.t().contiguous().t()), (t + t).numpy())
    assert np.shares_memory(lc.reshape(t, (6,)), t.numpy())
    np.testing.assert_array_equal(lc.add(memoryview(np.ones(3)), 1), np.full(3, 2.0))
    import array

    np.testing.assert_array_equal(lc.add(array.array("f", [1, 2]), 1), [2, 3])
    assert all(e["bytes_copied"] == 0 for e in lc.runtime_trace_events())


def test_odd_memory_is_read_right() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(lc.neg(x.astype(">f4")), -x)
    raw = np.zeros(49, np.uint8)
    raw[1:].view(np.uint8)[:] = np.frombuffer(x.tobytes(), np.uint8)
    misaligned = raw[1:].view(np.float32).reshape(3, 4)
    np.testing.assert_array_equal(lc.neg(misaligned), -x)
    record = np.zeros(3, dtype=[("a", "u1"), ("b", "<f4")])
    record["b"] = [1, 2, 3]
    np.testing.assert_array_equal(lc.neg(record["b"]), [-1, -2, -3])
    np.testing.assert_array_equal(
        lc.add(np.broadcast_to(np.float32(2), (3, 3)), 1), np.full((3, 3), 3)
    )


def test_keywords_and_positions_agree(rng: np.random.Generator) -> None:
    x = rng.random((1, 2, 6, 6)).astype(np.float32)
    w = rng.random((3, 2, 3, 3)).astype(np.float32)
    want = lc.conv2d(x, w, None, (2, 2), (1, 1))
    np.testing.assert_array_equal(lc.conv2d(weight=w, x=x, padding=1, stride=[2, 2]), want)
    out = np.empty_like(want)
    assert lc.conv2d(x, w, stride=2, padding=(1, 1), out=out) is out
    np.testing.assert_array_equal(out, want)


def test_large_results_reuse_pool_memory() -> None:
    x = np.ones(1 << 20, np.float32)
    y = lc.add(x, 1)
    address = y.ctypes.data
    assert y.flags.writeable and y.flags.c_contiguous
    assert address % 64 == 0
    del y
    addresses = {lc.add(x, 1).ctypes.data for _ in range(4)}
    assert address in addresses


def test_signatures_and_docs() -> None:
    import inspect

    for name in lc.op_names():
        function = getattr(lc._core, name)
        parameters = inspect.signature(function).parameters
        assert {"out", "device", "policy"} <= set(parameters), name
        assert len(function.__doc__) > 40
        schema = lc.op_schema(name)
        for row in schema["attrs"]:
            assert row["name"] in parameters
