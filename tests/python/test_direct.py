"""Functions that serve plain calls without Python code: the same answers as their Python code."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from surface import F32, SURFACE, Array, arguments_of, function_of, result_of, uniform

import lightning_core as lc

DIRECT = [name for name in SURFACE if hasattr(function_of(name), "__wrapped__")]
EACH = pytest.mark.parametrize("name", DIRECT)


def plain(name: str) -> dict[str, Any]:
    """Arguments of a call that needs no Python code."""
    given = arguments_of(name, result_of(name)[0])
    return {key: value for key, value in given.items() if key != "device"}


def python_calls(call: Callable[[], Any]) -> int:
    """Python functions that a call enters, itself not counted."""
    entered = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal entered
        entered += event == "call"

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered - 1


def answer_of(function: Callable[..., Any], given: dict[str, Any]) -> tuple[Any, ...]:
    """Result and output, or the error, in a form that compares."""
    out = given.get("out")
    if isinstance(out, np.ndarray) and out.flags.writeable:
        out[...] = 9
    try:
        result = function(**given)
    except Exception as error:
        return type(error), str(error), repr(out)
    values = [x for x in (result, out) if isinstance(x, np.ndarray)]
    return (
        type(result),
        [(x.shape, x.dtype, x.flags.c_contiguous, x.tobytes()) for x in values],
        result if isinstance(result, list) else None,
    )


def test_which_are_direct() -> None:
    assert len(DIRECT) == 16


@EACH
def test_plain_calls_enter_no_python_code(name: str) -> None:
    function, given = function_of(name), plain(name)
    assert python_calls(lambda: function(**given)) == 0
    assert python_calls(lambda: function(*given.values())) == 0
    assert python_calls(lambda: function(*given.values(), None)) == 0  # the device
    assert python_calls(lambda: function(*given.values(), "cpu")) > 0


def test_the_op_itself_enters_no_python_code() -> None:
    a, out = uniform(1, 4, 4), np.empty((4, 4), F32)
    bias = uniform(2, 4)
    for call in (
        lambda: lc.matmul(a, a),
        lambda: lc.matmul(a, a, bias),
        lambda: lc.matmul(a, a, out=out, activation="relu", bias=bias),
        lambda: lc.matmul(a.T, a, trans_a=True, alpha=2.0, device="cpu", policy=lc.Policy()),
    ):
        assert python_calls(call) == 0
    for given in ({"as_float32": True}, {"trace_as": "x"}):  # only the op's own function has these
        with pytest.raises(TypeError, match="unexpected keyword"):
            lc.matmul(a, a, **given)
    with pytest.raises(TypeError, match="bias"):
        lc.matmul(a, a, bias, bias=bias)
    with pytest.raises(TypeError, match="all three"):
        lc.matmul(a, a, k=4)


def odd_values(name: str, key: str, value: Any) -> list[Any]:
    """What else may come for an argument."""
    if not isinstance(value, np.ndarray):
        return [None, 0, 1, -1, 2**40, 2**70, True, False, 1.5, "x", np.int64(3), np.bool_(True)]
    read_only = value.copy()
    read_only.flags.writeable = False
    misaligned = (
        np.frombuffer(bytearray(b"x" + value.tobytes()), np.uint8)[1:]
        .view(F32)
        .reshape(value.shape)
    )
    return [
        value.tolist(),
        value.astype(np.float64),
        value.astype(np.int16),
        value.astype(">f4"),
        value[..., :-1],
        value[:0],
        value.ravel(),
        value[None],
        np.repeat(value, 2, axis=-1)[..., ::2],
        value[::-1],
        np.asfortranarray(value),
        np.broadcast_to(value[..., :1], value.shape),
        value.view(np.recarray) if key != "out" else value.reshape(-1, 1),
        lc.Tensor(list(value.shape)),
        read_only,
        misaligned.reshape(value.shape),
        None,
        3,
        "text",
    ]


@EACH
def test_odd_arguments_get_the_answer_of_the_python_code(name: str) -> None:
    function, given = function_of(name), plain(name)
    assert answer_of(function, given) == answer_of(function.__wrapped__, given)
    for key, value in given.items():
        for odd in odd_values(name, key, value):
            changed = {**given, key: odd}
            want = answer_of(function.__wrapped__, changed)
            assert answer_of(function, changed) == want, (key, odd)


@EACH
def test_policies_and_settings_in_force_count(name: str) -> None:
    function, given = function_of(name), plain(name)
    usual = answer_of(function, given)
    for policy in (
        lc.Policy(kernel="reference"),
        lc.Policy(strict=True),
        lc.Policy(download=0),
        lc.Policy(upload=0),
        lc.Policy(precision="fast", sync="always"),
    ):
        with lc.policy(policy):
            got = answer_of(function, given)
            assert got == answer_of(function.__wrapped__, given), policy
        assert answer_of(function, given) == usual
    lc.set_config("LC_DEVICE", "null")
    try:
        event = traced(lambda: function(**given))
        assert event["selected_device"] == "null"
    finally:
        lc.reload_config()
    assert answer_of(function, given) == usual
    lc.clear_plan_cache()
    assert answer_of(function, given) == usual


def traced(call: Callable[[], Any]) -> dict[str, Any]:
    lc.runtime_trace_clear()
    lc.runtime_trace_enable(True)
    try:
        call()
    finally:
        lc.runtime_trace_enable(False)
    (event,) = (e for e in lc.runtime_trace_events() if e["type"] == "op_dispatch")
    lc.runtime_trace_clear()
    return dict(event)


@EACH
def test_one_event_as_from_the_python_code(name: str) -> None:
    function, given = function_of(name), plain(name)
    changing = ("timestamp_ns", "duration_ns")
    got, want = (
        {key: value for key, value in traced(lambda f=f: f(**given)).items() if key not in changing}
        for f in (function, function.__wrapped__)
    )
    assert got == want


def test_shapes_in_turn() -> None:
    arrays = [uniform(i, n, n) for i, n in enumerate((1, 2, 3, 8, 17, 33))]
    for a, b in itertools.product(arrays, arrays):
        for x in (a, b, a.T, b):
            want = x.astype(np.float64) @ x
            out = np.full(x.shape, 7, F32)
            lc.matmul2d_into(x, x, out)
            assert np.abs(out - want).max() <= 1e-4 * np.abs(want).max()
            flat = np.ascontiguousarray(x).ravel()
            assert np.array_equal(lc.vector_add(flat, flat), flat * 2)


@EACH
def test_they_are_functions_to_tools(name: str) -> None:
    function = function_of(name)
    assert inspect.isroutine(function)
    assert function.__name__ == name.removeprefix("api.")
    assert function.__module__.startswith("lightning_core.reference.")
    assert inspect.getdoc(function)
    assert function.__name__ in repr(function)
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function
    holder = type("Holder", (), {"method": function})
    assert holder.method is function
    assert holder().method.__func__ is function


def test_only_functions_with_a_form_are_made_direct() -> None:
    def unknown() -> None: ...

    with pytest.raises(ValueError, match="unknown"):
        lc._core.direct(unknown)
    with pytest.raises(AttributeError):
        lc._core.direct(3)
    with pytest.raises(TypeError):
        type(lc.matmul2d)()


def least_us(calls: list[Callable[[], Any]]) -> list[float]:
    """Of each, measured in turn; the least: what disturbs a run only adds."""
    least = [float("inf")] * len(calls)
    for _ in range(30):
        for i, call in enumerate(calls):
            start = time.perf_counter_ns()
            for _ in range(500):
                call()
            least[i] = min(least[i], (time.perf_counter_ns() - start) / 500e3)
    return least


def test_a_small_call_costs_little() -> None:
    a: Array = uniform(1, 8, 8)
    out = np.empty((8, 8), F32)
    flat = a.ravel()
    numpy_into, *ours = least_us(
        [
            lambda: np.matmul(a, a, out=out),
            lambda: lc.matmul2d_into(a, a, out),
            lambda: lc.matmul_np_into(flat, flat, out, 8, 8, 8),
            lambda: lc.matmul(a, a, out=out),
            lambda: lc.add(a, a, out=out),
            lambda: lc.matmul2d(a, a),
            lambda: lc.vector_add(a, a),
            lambda: lc.matrix_sub(a, a, 8, 8),
            lambda: lc.relu(a),
        ]
    )
    assert statistics.fmean(ours) <= 0.4 * numpy_into, (ours, numpy_into)
    assert max(ours) <= 0.6 * numpy_into, (ours, numpy_into)
