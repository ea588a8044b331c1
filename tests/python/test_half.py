"""float16 and bfloat16 from Python: NumPy and ml_dtypes arrays, torch tensors, Tensors; results
against torch's, which also computes in float32 and rounds once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lightning_core as lc

torch = pytest.importorskip("torch")

Array = npt.NDArray[Any]
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
UNARY = {
    "neg": torch.neg, "abs": torch.abs, "sign": torch.sign, "square": torch.square,
    "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "reciprocal": torch.reciprocal, "exp": torch.exp,
    "expm1": torch.expm1, "log": torch.log, "log1p": torch.log1p, "sin": torch.sin,
    "cos": torch.cos, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "erf": torch.erf,
    "relu": torch.relu, "gelu": lambda x: 0.5 * x * torch.special.erfc(-x / 2**0.5),
    "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus, "floor": torch.floor, "ceil": torch.ceil,
    "round": torch.round,
}  # fmt: skip
BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
    "maximum": torch.maximum, "minimum": torch.minimum,
}  # fmt: skip


def as_torch(x: Any) -> Any:
    return torch.from_dlpack(x) if isinstance(x, lc.Tensor) else torch.from_numpy(x)


def every_value(dtype: str) -> Any:
    return torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(DTYPES[dtype])


def steps_apart(a: Any, b: Any) -> Any:
    """Units in the last place between two tensors; 0 where both are NaN."""

    def place(x: Any) -> Any:
        bits = x.contiguous().view(torch.int16).to(torch.int32)
        return torch.where(bits < 0, -(bits & 0x7FFF), bits)

    both = torch.isnan(a) & torch.isnan(b)
    return torch.where(both, 0, (place(a) - place(b)).abs())


def inputs(dtype: str, values: Any) -> Any:
    """What a caller would pass: NumPy's float16, torch's bfloat16."""
    return values.numpy() if dtype == "float16" else values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_unary_ops_on_every_value(name: str, dtype: str) -> None:
    x = every_value(dtype)
    if name in ("sin", "cos"):
        x = x[x.abs() < 1e4]
    got = as_torch(getattr(lc, name)(inputs(dtype, x)))
    assert got.dtype == DTYPES[dtype]
    rounded = UNARY[name](x.double()).to(torch.float32).to(DTYPES[dtype])
    if name in ("neg", "abs", "relu", "floor", "ceil", "round", "sign"):
        nan = torch.isnan(x)
        assert torch.equal(got[~nan], UNARY[name](x)[~nan])
        assert bool(torch.isnan(got[nan]).all())
        return
    assert int(steps_apart(got, rounded).max()) <= 1
    # All but the few whose float32 result lies at a tie.
    assert float((steps_apart(got, rounded) > 0).float().mean()) < 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_binary_ops_match_torch_bit_for_bit(name: str, dtype: str) -> None:
    x = every_value(dtype)
    generator = torch.Generator().manual_seed(1)
    y = x[torch.randperm(len(x), generator=generator)]
    got = as_torch(getattr(lc, name)(inputs(dtype, x), inputs(dtype, y)))
    want = BINARY[name](x, y)
    assert int(steps_apart(got, want).max()) == 0


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_strided_and_broadcast_operands(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(sorted(DTYPES)))
    rows, cols = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70))
    step = data.draw(st.sampled_from([1, 2, 3]))
    a = torch.randn(rows * step, cols * step, dtype=torch.float32).to(DTYPES[dtype])
    a = a[::step, ::step]
    if data.draw(st.booleans()):
        a = torch.randn(cols, rows).to(DTYPES[dtype]).t()
    b = torch.randn(*data.draw(st.sampled_from([(cols,), (rows, 1), (1, 1), (rows, cols)])))
    b = b.to(DTYPES[dtype])
    got = as_torch(lc.mul(inputs(dtype, a), inputs(dtype, b)))
    assert torch.equal(got, a * b)
    assert torch.equal(as_torch(lc.less(inputs(dtype, a), inputs(dtype, b))), a < b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place_and_into_outputs(dtype: str) -> None:
    x = torch.randn(70, 90).to(DTYPES[dtype])
    held = lc.from_dlpack(x)
    assert lc.exp(held, out=held) is held
    want = lc.from_dlpack(torch.zeros_like(x))
    lc.copy(held, out=want)
    assert torch.equal(x, as_torch(want))  # the tensor's own memory
    assert bool(torch.isfinite(x).all()) and bool((x > 0).all())


def rounding_errors(got: Any, want: Any, dtype: str) -> float:
    """Largest error in halves of the dtype's last place, beyond float32's own."""
    exact = want.double()
    step = torch.finfo(DTYPES[dtype]).eps * 2.0 ** torch.floor(torch.log2(exact.abs()))
    step = step.clamp(min=float(torch.finfo(DTYPES[dtype]).smallest_normal) * 2**-7)
    own = 64 * 2.0**-24 * float(exact.abs().max())
    return float((((got.double() - exact).abs() - own) / (step / 2)).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 64, 1000, 9000])
def test_rows_are_rounded_once(dtype: str, n: int) -> None:
    x, w, b = torch.randn(5, n), torch.randn(n), torch.randn(n)
    x, w, b = (t.to(DTYPES[dtype]) for t in (x, w, b))
    f = torch.nn.functional
    wide, wide_w, wide_b = x.double(), w.double(), b.double()
    cases = {
        "softmax": (lc.softmax(inputs(dtype, x)), f.softmax(wide, -1)),
        "log_softmax": (lc.log_softmax(inputs(dtype, x)), f.log_softmax(wide, -1)),
        "sum": (lc.sum(inputs(dtype, x), axes=1), wide.sum(1)),
        "mean": (lc.mean(inputs(dtype, x), axes=0), wide.mean(0)),
    }
    if n > 1:
        args: Any = [inputs(dtype, t) for t in (x, w, b)]
        cases["layer_norm"] = (
            lc.layer_norm(args[0], args[1], args[2], eps=1e-5),
            f.layer_norm(wide, (n,), wide_w, wide_b, 1e-5),
        )  # fmt: skip
    for name, (got, want) in cases.items():
        assert as_torch(got).dtype == DTYPES[dtype]
        assert rounding_errors(as_torch(got), want, dtype) <= 1.001, name


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_are_rounded_once(dtype: str) -> None:
    f = torch.nn.functional

    def half(*shape: int) -> Any:
        return torch.randn(*shape).to(DTYPES[dtype])

    a, b = half(30, 70), half(70, 40)
    got = as_torch(lc.matmul(inputs(dtype, a), inputs(dtype, b)))
    assert rounding_errors(got, a.double() @ b.double(), dtype) <= 1.001
    x, w, bias = half(9, 64), half(20, 64), half(20)
    got = as_torch(lc.linear(*(inputs(dtype, t) for t in (x, w, bias))))
    assert rounding_errors(got, f.linear(x.double(), w.double(), bias.double()), dtype) <= 1.001
    x, w = half(2, 4, 9, 9), half(6, 4, 3, 3)
    got = as_torch(lc.conv2d(inputs(dtype, x), inputs(dtype, w), padding=1))
    assert rounding_errors(got, f.conv2d(x.double(), w.double(), padding=1), dtype) <= 1.001
    got = as_torch(lc.max_pool2d(inputs(dtype, x), 2))
    assert torch.equal(got, f.max_pool2d(x, 2))
    q, k, v = half(2, 3, 50, 32), half(2, 3, 60, 32), half(2, 3, 60, 16)
    for queries in (50, 1):  # a tile of queries, and one
        part = q[:, :, :queries].contiguous()
        got = as_torch(lc.attention(*(inputs(dtype, t) for t in (part, k, v))))
        want = f.scaled_dot_product_attention(part.double(), k.double(), v.double())
        assert rounding_errors(got, want, dtype) <= 1.001


def test_promotion_follows_numpy_and_torch() -> None:
    half = np.ones(3, np.float16)
    brain = torch.ones(3, dtype=torch.bfloat16)
    assert lc.add(half, half).dtype == np.float16
    assert lc.add(half, 2.5).dtype == np.float16
    assert lc.add(half, np.ones(3, np.float32)).dtype == np.float32
    assert lc.add(half, np.ones(3)).dtype == np.float64
    mixed = lc.add(half, brain)
    assert as_torch(mixed).dtype == torch.float32
    assert lc.add(brain, 2).dtype() == "bfloat16"


def test_bfloat16_tensors_share_memory_with_torch() -> None:
    x = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)
    t = lc.from_dlpack(x.t())
    assert (t.shape(), t.strides(), t.dtype()) == ([4, 3], [1, 4], "bfloat16")
    lc.mul(t, 2, out=t)
    assert x.flatten().tolist() == [2 * i for i in range(12)]
    again = torch.from_dlpack(t)
    assert again.data_ptr() == x.data_ptr()
    assert torch.equal(again, x.t())
    del x
    again += 1  # the memory outlives the tensor it came from
    assert t.to_list()[0] == 1
    window = lc.transpose(torch.ones(2, 5, dtype=torch.bfloat16), (1, 0))
    assert window.shape() == [5, 2]


def test_bfloat16_lists_become_values_not_bits() -> None:
    t: Any = lc.cast(np.zeros(3, np.float32), "bfloat16")
    t.from_list([1, 2.5, -3])
    assert t.to_list() == [1, 2.5, -3]


def test_arrays_of_ml_dtypes() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = np.arange(12).astype(bfloat16).reshape(3, 4)
    got = lc.add(x, x)
    assert isinstance(got, np.ndarray) and got.dtype == bfloat16
    np.testing.assert_array_equal(got.astype(np.float32), 2 * np.arange(12).reshape(3, 4))
    window = lc.transpose(x, (1, 0))
    assert window.dtype == bfloat16 and np.shares_memory(window, x)
    out = np.zeros((3, 4), bfloat16)[:, ::-1]
    assert lc.mul(x, 3, out=out) is out
    np.testing.assert_array_equal(out.astype(np.float32), 3 * np.arange(12).reshape(3, 4))
    assert lc.cast(x, "float32").dtype == np.float32
    # Without such an array in the call, bfloat16 stays in a Tensor.
    assert isinstance(lc.cast(np.ones(2, np.float32), "bfloat16"), lc.Tensor)


def test_other_dlpack_dtypes_keep_their_error() -> None:
    with pytest.raises(TypeError):
        lc.neg(torch.ones(3, dtype=torch.complex32))
    with pytest.raises((BufferError, RuntimeError, TypeError)):
        lc.from_dlpack(torch.ones(3, dtype=torch.float8_e4m3fn))
