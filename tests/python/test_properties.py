"""Every op on shapes, strides, broadcasts and values that hypothesis thinks of, against NumPy in
float64: NaN, infinities and denormals among them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import (
    FLOATS,
    Array,
    broadcast_arrays,
    close,
    reference_attention,
    reference_convolution,
    reference_pool,
    specials,
    strided,
)

import lightning_core as lc

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

# ---------------------------------------------------------------- elementwise

# Exact: the same bits, NaN where NumPy has NaN.
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "maximum": np.maximum, "minimum": np.minimum, "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "equal": np.equal,
    "not_equal": np.not_equal,
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
@given(pair=broadcast_arrays(2, -8, 8, special=True))
def test_binary_broadcasts_like_numpy(name: str, pair: tuple[Array, Array]) -> None:
    got = getattr(lc, name)(*pair)
    want = BINARY[name](*pair)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@given(pair=broadcast_arrays(2, 0.5, 4))
def test_power(pair: tuple[Array, Array]) -> None:
    a, b = pair
    close(lc.pow(a, b), np.power(a.astype(np.float64), b.astype(np.float64)), a.dtype, coef=8)


@given(data=st.data(), pair=broadcast_arrays(3, -8, 8, special=True))
def test_where_broadcasts_like_numpy(data: st.DataObject, pair: tuple[Array, ...]) -> None:
    shape, a, b = pair
    condition = data.draw(hnp.arrays(np.bool_, shape.shape))
    got = lc.where(condition, a, b)
    want = np.where(condition, a, b)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x.ravel()]).reshape(x.shape)


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


# The formula, the range of the values, and whether NaN, infinities and denormals are among them:
# not where the formula has no limit at minus infinity.
UNARY: dict[str, tuple[Any, float, float, bool]] = {
    "neg": (np.negative, -10, 10, True), "abs": (np.abs, -10, 10, True),
    "sign": (np.sign, -10, 10, True), "square": (np.square, -10, 10, True),
    "floor": (np.floor, -10, 10, True), "ceil": (np.ceil, -10, 10, True),
    "round": (np.round, -10, 10, True),
    "sqrt": (np.sqrt, 0, 100, True), "rsqrt": (lambda x: 1 / np.sqrt(x), 0.0078125, 100, True),
    "reciprocal": (lambda x: 1 / x, 0.125, 10, True), "exp": (np.exp, -10, 10, True),
    "expm1": (np.expm1, -10, 10, True), "log": (np.log, 0.0078125, 100, True),
    "log1p": (np.log1p, -0.875, 100, True), "sin": (np.sin, -10, 10, True),
    "cos": (np.cos, -10, 10, True), "tanh": (np.tanh, -10, 10, True),
    "erf": (erf, -5, 5, True), "relu": (lambda x: np.maximum(x, 0), -10, 10, True),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), -10, 10, True),
    "softplus": (lambda x: np.logaddexp(0, x), -10, 10, True),
    "gelu": (lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))), -5, 5, False),
    "gelu_tanh": (gelu_tanh, -5, 5, False),
    "silu": (lambda x: x / (1 + np.exp(-x)), -10, 10, False),
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
@given(data=st.data())
def test_unary_matches_numpy(name: str, data: st.DataObject) -> None:
    formula, low, high, special = UNARY[name]
    dtype = data.draw(st.sampled_from(FLOATS))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
    x = data.draw(strided(shape, dtype, low, high, specials(dtype) if special else None))
    want = formula(x.astype(np.float64)).astype(dtype)  # what overflows the dtype is infinite
    # Scales of a result are those of one element here: 1 / denormal is no measure for the others.
    got = getattr(lc, name)(x)
    assert got.dtype == dtype and got.shape == want.shape
    for g, w in zip(got.ravel(), want.ravel(), strict=True):
        close(np.asarray(g), np.asarray(w), dtype, coef=8)


def test_every_elementwise_op_has_a_property() -> None:
    elementwise = {
        name
        for name in lc.op_names()
        if not lc.op_schema(name)["attrs"]
        and {i["name"] for i in lc.op_schema(name)["inputs"]} <= {"x", "a", "b"}
    }
    assert elementwise - {"copy"} == {*UNARY, *BINARY, "pow"}


# ---------------------------------------------------------------- networks


@given(data=st.data())
def test_attention(data: st.DataObject) -> None:
    integers = st.integers
    dtype = data.draw(st.sampled_from(FLOATS))
    batch, heads, group = (data.draw(integers(1, 3)) for _ in range(3))
    sq, sk, d, dv = (data.draw(integers(1, 12)) for _ in range(4))
    q = data.draw(strided((batch, heads * group, sq, d), dtype, -2, 2))
    k = data.draw(strided((batch, heads, sk, d), dtype, -2, 2))
    v = data.draw(strided((batch, heads, sk, dv), dtype, -2, 2))
    causal = data.draw(st.booleans())
    mask: Array | None = None
    kind = data.draw(st.sampled_from(["none", "bool", "float"]))
    if kind != "none":
        shapes = [(sk,), (sq, 1), (sq, sk), (batch, 1, 1, sk), (batch, heads * group, sq, sk)]
        shape = data.draw(st.sampled_from(shapes))
        if kind == "bool":
            mask = data.draw(hnp.arrays(np.bool_, shape))
        else:
            mask = data.draw(strided(shape, dtype, -3, 3, [-np.inf]))
    got = lc.attention(q, k, v, mask, causal=causal, scale=0.25)
    close(got, reference_attention(q, k, v, mask, causal, 0.25), dtype, sk, coef=16)


@given(data=st.data())
def test_conv2d(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    dtype = data.draw(st.sampled_from(FLOATS))
    groups, c, oc = (data.draw(st.integers(1, 3)) for _ in range(3))
    batch = data.draw(st.integers(0, 2))
    kernel, stride, padding, dilation = pair(1, 4), pair(1, 3), pair(0, 3), pair(1, 3)
    size = [
        data.draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), 14))
        for k, p, d in zip(kernel, padding, dilation, strict=True)
    ]
    x = data.draw(strided((batch, groups * c, *size), dtype, -2, 2))
    weight = data.draw(strided((groups * oc, c, *kernel), dtype, -2, 2))
    bias = data.draw(st.one_of(st.none(), strided((groups * oc,), dtype, -2, 2)))
    options: dict[str, Any] = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
    }  # fmt: skip
    want = reference_convolution(x, weight, bias, **options)
    got = lc.conv2d(x, weight, bias, **options)
    length = c * kernel[0] * kernel[1]
    close(got, want, dtype, length, coef=8 * 4)  # terms of up to 4, which may cancel
    relu = lc.conv2d(x, weight, bias, activation="relu", **options)
    np.testing.assert_array_equal(relu, np.maximum(got, 0))


@given(data=st.data())
def test_pooling(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    kernel, stride = (
        (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))) for _ in range(2)
    )
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    size = [
        data.draw(st.integers(max(1, k - 2 * p), 12)) for k, p in zip(kernel, padding, strict=True)
    ]
    shape = (data.draw(st.integers(0, 2)), data.draw(st.integers(1, 3)), *size)
    x = data.draw(strided(shape, dtype, -4, 4, specials(dtype)))
    options: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
    want = reference_pool(x, **options, kind="max")
    np.testing.assert_array_equal(lc.max_pool2d(x, **options), want.astype(dtype))
    x = data.draw(strided(shape, dtype, -4, 4))
    for count in (True, False):
        want = reference_pool(x, **options, kind="avg", count_pad=count)
        got = lc.avg_pool2d(x, count_include_pad=count, **options)
        close(got, want, dtype, kernel[0] * kernel[1], coef=8 * 4)


@given(data=st.data())
def test_linear(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    batch = data.draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4))
    k, n = data.draw(st.integers(0, 20)), data.draw(st.integers(1, 20))
    x = data.draw(strided((*batch, k), dtype, -2, 2))
    weight = data.draw(strided((n, k), dtype, -2, 2))
    bias = data.draw(st.one_of(st.none(), strided((n,), dtype, -2, 2)))
    want = x.astype(np.float64) @ weight.astype(np.float64).T
    if bias is not None:
        want = want + bias
    close(lc.linear(x, weight, bias), want, dtype, k, coef=8 * 4)


@given(data=st.data())
def test_embedding(data: st.DataObject) -> None:
    rows, width = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 6))
    dtype = data.draw(st.sampled_from(FLOATS))
    weight = data.draw(strided((rows, width), dtype, -4, 4, specials(dtype)))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    index = data.draw(st.sampled_from([np.int32, np.int64]))
    indices = data.draw(hnp.arrays(index, shape, elements=st.integers(0, rows - 1)))
    if indices.ndim:
        indices = indices[::-1].repeat(2, axis=-1)[..., ::2]
    np.testing.assert_array_equal(lc.embedding(indices, weight), weight[indices])


NUMBERS = ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool"]


@given(data=st.data())
def test_cast(data: st.DataObject) -> None:
    source, target = (data.draw(st.sampled_from(NUMBERS)) for _ in range(2))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    # Numbers that every target holds: NumPy leaves the others open.
    low = -100 if target not in ("uint8", "bool") and source not in ("uint8", "bool") else 0
    whole = st.integers(low, 1 if source == "bool" else 100)
    x = data.draw(hnp.arrays(source, shape, elements=whole))
    if x.ndim:
        x = x[..., ::-1]
    got = lc.cast(x, target)
    assert got.dtype == np.dtype(target)
    np.testing.assert_array_equal(got, x.astype(target))


@pytest.mark.parametrize("pair", [("float64", "float32"), ("float32", "float64")])
@given(data=st.data())
def test_cast_rounds_floats_like_numpy(pair: tuple[str, str], data: st.DataObject) -> None:
    source, target = pair
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5))
    x = data.draw(hnp.arrays(source, shape))  # any bits
    np.testing.assert_array_equal(lc.cast(x, target), x.astype(target))
