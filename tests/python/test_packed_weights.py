"""Packed and int8 weights of linear(): layout, equal results, what the plan says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lightning_core as lc

F32 = npt.NDArray[np.float32]


def values(rng: np.random.Generator, *shape: int) -> F32:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def close(got: F32, want: Any, length: int) -> None:
    """Sums of `length` terms: as an op's tolerance says."""
    bound = 8 * np.finfo(np.float32).eps * length**0.5 * max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


@pytest.mark.parametrize("width", [48, 16, 7])
@pytest.mark.parametrize(("out", "size"), [(1, 1), (5, 4), (48, 3), (49, 20), (100, 33)])
def test_layout(out: int, size: int, width: int) -> None:
    w = values(np.random.default_rng(out), out, size)
    packed = lc.pack_weight(w, width=width)
    panels = -(-out // width)
    assert packed.shape == (panels, size, width)
    padded = np.zeros((panels * width, size), np.float32)
    padded[:out] = w
    want = padded.reshape(panels, width, size).transpose(0, 2, 1)
    np.testing.assert_array_equal(packed, want)


@pytest.mark.parametrize("rows", [1, 2, 8, 16, 17, 70, 300])
@pytest.mark.parametrize(("out", "size"), [(10, 256), (131, 70), (384, 1536)])
def test_a_packed_weight_gives_what_the_plain_one_gives(rows: int, out: int, size: int) -> None:
    rng = np.random.default_rng(rows)
    x, w, b = values(rng, rows, size), values(rng, out, size), values(rng, out)
    want = np.maximum(x.astype(np.float64) @ w.T + b, 0)
    got = lc.linear(x, lc.pack_weight(w), b, activation="relu")
    close(got, want, size)


@pytest.mark.parametrize("rows", [1, 8, 70])
@pytest.mark.parametrize("packed", [True, False])
def test_int8_weights(rows: int, packed: bool) -> None:
    rng = np.random.default_rng(rows)
    x, w, b = values(rng, rows, 333), values(rng, 100, 333), values(rng, 100)
    q, scale = lc.quantize_weight(w)
    weight: Any = lc.pack_weight(q) if packed else q
    want = (x.astype(np.float64) @ q.T.astype(np.float64)) * scale + b
    close(lc.linear(x, weight, b, scale), want, 333)


def test_quantised_rows_reach_127_and_err_by_half_a_step() -> None:
    w = values(np.random.default_rng(0), 20, 50) * np.logspace(-3, 3, 20, dtype=np.float32)[:, None]
    w[7] = 0
    q, scale = lc.quantize_weight(w)
    assert q.dtype == np.int8 and scale.dtype == np.float32 and scale.shape == (20,)
    largest = np.abs(q.astype(np.int32)).max(axis=1)
    assert (largest[np.arange(20) != 7] == 127).all() and largest[7] == 0
    error = np.abs(q.astype(np.float64) * scale[:, None] - w)
    assert (error <= scale[:, None] * (0.5 + 1e-4)).all()


FAST = lc.Policy(precision="fast")
DOT = "no int8 dot instruction"


def explain_fast() -> str:
    with lc.PolicyScope(FAST):
        return lc.explain_call("linear x=f32:4x64 weight=i8:2x64x48 scale=f32:96")


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 40])
@pytest.mark.parametrize(("out", "size"), [(1, 1), (48, 3), (67, 130), (300, 517)])
def test_fast_int8_products_err_by_half_a_step_of_x(rows: int, out: int, size: int) -> None:
    """Where the processor has the instruction, x is rounded to int8; else nothing changes."""
    rng = np.random.default_rng(rows + size)
    x, w, b = values(rng, rows, size), values(rng, out, size), values(rng, out)
    x[0] = 0
    x[-1] *= 1e-3
    q, scale = lc.quantize_weight(w)
    exact = (x.astype(np.float64) @ q.T.astype(np.float64)) * scale + b
    with lc.PolicyScope(FAST):
        got = lc.linear(x, lc.pack_weight(q), b, scale)
        again = lc.linear(np.asfortranarray(x), lc.pack_weight(q), b, scale)
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    weights = np.abs(q.astype(np.float64)).sum(axis=1) * scale
    bound = step * weights * 0.5 * (1 + 1e-4) + 1e-5 * size**0.5
    assert (np.abs(got - exact) <= bound).all()
    np.testing.assert_array_equal(got, again)
    if DOT not in explain_fast() and size > 3:
        assert float(np.abs(got - exact)[1:].max(initial=0)) > 0 or rows == 1


def test_fast_int8_products_of_values_that_are_not_finite() -> None:
    x = np.ones((3, 10), np.float32)
    x[1, 4] = np.inf
    x[2, 9] = np.nan
    with lc.PolicyScope(FAST):
        got = lc.linear(x, lc.pack_weight(np.full((5, 10), 3, np.int8)), None, np.ones(5, "f4"))
    np.testing.assert_allclose(got[0], 30, rtol=1e-5)
    assert not np.isfinite(got[1:]).any()


def test_int8_products_are_exact_unless_the_policy_is_fast() -> None:
    exact = lc.explain_call("linear x=f32:4x64 weight=i8:2x64x48 scale=f32:96")
    assert "linear:stream" in exact.splitlines()[1]
    if DOT not in explain_fast():
        assert "linear:int8_dot" in explain_fast().splitlines()[1]


def test_the_plan_says_whether_a_weight_is_packed() -> None:
    plain = lc.explain_call("linear x=f32:4x64 weight=f32:96x64")
    assert "the weight is not packed: pack_weight() does it once" in plain
    packed = lc.explain_call("linear x=f32:4x64 weight=f32:2x64x48")
    assert "linear:stream" in packed.splitlines()[1]
