"""The kept functions: names and defaults, words and types, lists, outputs, products, sums."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from surface import (
    BOOLS_OF_OPS,
    DIM,
    F32,
    INTEGRATED,
    NAMES,
    SEQ,
    SURFACE,
    Array,
    K,
    M,
    N,
    arguments_of,
    close,
    function_of,
    operands_of,
    parameters_of,
    result_of,
    uniform,
)

import lightning_core as lc


@NAMES
def test_parameters_and_their_defaults(name: str) -> None:
    found = []
    for p in inspect.signature(function_of(name)).parameters.values():
        if p.kind is p.KEYWORD_ONLY:
            continue  # ours
        found.append(p.name if p.default is p.empty else f"{p.name}={p.default!r}")
    if name == "matmul":  # without sizes it is the op
        found = [word.replace("=None", "") if word[0] in "mkn" else word for word in found]
    assert " ".join(found) == SURFACE[name]


@NAMES
def test_positions_and_keywords_give_the_right_result(name: str) -> None:
    want, length = result_of(name)
    results = []
    for by_keyword in (False, True):
        given = arguments_of(name, want)
        before = {key: x.copy() for key, x in given.items() if isinstance(x, np.ndarray)}
        call = function_of(name)
        result = call(**given) if by_keyword else call(*given.values())
        if "out" in given:
            assert result is None
            result = given["out"]
        for key, x in before.items():
            assert key == "out" or np.array_equal(given[key], x), key
        if name.endswith("with_policy") and "ttention" in name:
            assert isinstance(result, list)
        results.append(result)
    if name.endswith("report"):
        assert [r["allclose"] for r in results] == [True, True]
    elif name.endswith("resident_session"):
        assert all(type(r) is lc.MatMulMetalResidentSession for r in results)
    elif name.endswith(("2d_session", "AttentionSession")):
        q, k, v = operands_of(name).values()
        for session in results:
            assert type(session) is lc.AttentionSession
            close(session.forward(q, k, v), want.ravel(), length)
    else:
        close(results[0], want, length)
        assert np.array_equal(results[0], results[1])


@NAMES
def test_arguments_that_are_missing_or_unknown(name: str) -> None:
    want, _ = result_of(name)
    given = arguments_of(name, want)
    call = function_of(name)
    required = [word for word in SURFACE[name].split() if "=" not in word]
    for count in range(len(required)):
        if name == "matmul" and count in (2, 3):
            continue  # the op's forms: a, b and a, b, bias
        with pytest.raises(TypeError):
            call(*(given[word] for word in required[:count]))
    with pytest.raises(TypeError):
        call(**given, no_such_argument=1)


def test_integrated_functions_have_two_names() -> None:
    for name in INTEGRATED:
        assert getattr(lc, f"lightning_{name}") is getattr(lc.api, name)
    assert len(INTEGRATED) == 7
    assert lc.clear_integrated_attention_session_cache() is None
    assert lc.api.clear_attention_session_cache() is None
    assert lc.clear_attention2d_session_cache() is None


@pytest.mark.parametrize("name", INTEGRATED)
def test_direct_aliases(name: str) -> None:
    assert getattr(lc.api, f"{name}_lightning_direct") is getattr(lc, f"lightning_{name}")


# ---------------------------------------------------------------- words and types

WITH_DEVICE = [name for name in SURFACE if "device=" in SURFACE[name]]
WITH_POLICY = [name for name in SURFACE if "policy=" in SURFACE[name]]
WITH_OUT = [name for name in SURFACE if " out " in SURFACE[name]]


@pytest.mark.parametrize("name", WITH_DEVICE)
def test_device_words(name: str) -> None:
    want, length = result_of(name)
    given = arguments_of(name, want)
    for word in ("CPU", "gpu", "mps", ""):
        with pytest.raises(ValueError, match="device"):
            function_of(name)(**{**given, "device": word})
    for no_word in (0, b"cpu"):
        with pytest.raises(TypeError):
            function_of(name)(**{**given, "device": no_word})
    if "out" in given:
        assert (given["out"] == 9).all()
    for word in (None, "metal", "cuda"):
        result = function_of(name)(**{**given, "device": word})
        if "out" in given:
            close(given["out"], want, length)
        elif isinstance(result, (list, np.ndarray)):
            close(result, want, length)
        elif isinstance(result, dict):
            assert result["device"] == (word or lc.backend_name())
        else:
            close(result.forward(*operands_of(name).values()), want.ravel(), length)


@pytest.mark.parametrize("name", WITH_POLICY)
def test_a_policy_of_another_kind_is_a_type_error(name: str) -> None:
    want, _ = result_of(name)
    other = lc.MatMulIoPolicy() if "ttention" in name else lc.AttentionIoPolicy()
    for wrong in (other, lc.VectorAddIoPolicy(), lc.Policy(), 3):
        with pytest.raises(TypeError, match="policy"):
            function_of(name)(**{**arguments_of(name, want), "policy": wrong})


@pytest.mark.parametrize("wrong", [3, None, lc.MatMulIoPolicy()], ids=lambda x: type(x).__name__)
def test_a_session_s_policy_of_another_kind_is_a_type_error(wrong: Any) -> None:
    session = lc.AttentionSession(2, 2)
    x, out = uniform(1, 2, 2), np.full((2, 2), 9, F32)
    calls = [
        lambda: session.set_default_policy(wrong),
        lambda: session.forward_with_policy(x, x, x, wrong),
        lambda: session.forward_with_policy_into(x, x, x, out, wrong),
        lambda: session.train_step_with_policy(x, x, x, x, 0.1, wrong),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="policy"):
            call()
    assert (out == 9).all()


@pytest.mark.parametrize("name", [n for n in SURFACE if "causal=" in SURFACE[n]])
def test_flags_are_bools_and_integers(name: str) -> None:
    given = arguments_of(name, result_of(name)[0])
    for right in (True, np.True_, 0, np.int64(1)):
        function_of(name)(**{**given, "causal": right})
    for wrong in ("no", None, 1.0, [True]):
        with pytest.raises(TypeError, match="causal"):
            function_of(name)(**{**given, "causal": wrong})


SIZES = [
    (name, word)
    for name in SURFACE
    for word in parameters_of(name)
    if isinstance(arguments_of(name, np.empty(1))[word], int) and word not in BOOLS_OF_OPS
]


@pytest.mark.parametrize(("name", "word"), SIZES)
def test_sizes_are_whole_numbers(name: str, word: str) -> None:
    given = arguments_of(name, result_of(name)[0])
    for wrong in (1.5, "1", None):
        if wrong is not None or (name, word) != ("matmul", "m"):  # None: another form
            with pytest.raises(TypeError):
                function_of(name)(**{**given, word: wrong})
    if "out" in given:
        assert (given["out"] == 9).all()


@pytest.mark.parametrize(("name", "word"), SIZES)
def test_sizes_are_not_negative_nor_zero(name: str, word: str) -> None:
    given = arguments_of(name, result_of(name)[0])
    with pytest.raises((TypeError, ValueError)):
        function_of(name)(**{**given, word: -1})
    if not word.startswith(("pad", "warmup")):
        strides = word.startswith(("stride", "repeat"))
        with pytest.raises((RuntimeError, ValueError) if strides else RuntimeError) as refused:
            function_of(name)(**{**given, word: 0})
        assert strides or "invalid value" in str(refused.value)
    if "out" in given:
        assert (given["out"] == 9).all()


@pytest.mark.parametrize("name", [n for n in SURFACE if "stride_h" in SURFACE[n]])
def test_a_stride_of_zero_is_a_value_error(name: str) -> None:
    want, _ = result_of(name)
    for word in ("stride_h", "stride_w"):
        with pytest.raises(ValueError, match="stride"):
            function_of(name)(**{**arguments_of(name, want), word: 0})


CASTS = ["f8", "f2", "g", ">f4", ">f8", "?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


@pytest.mark.parametrize("dtype", CASTS)
@pytest.mark.parametrize(
    "name", ["matmul2d", "vector_add", "matrix_sub", "conv2d_nchw", "attention2d", "api.attention"]
)
def test_arrays_of_any_number_type_are_converted(name: str, dtype: str) -> None:
    want, _ = result_of(name)
    given = arguments_of(name, want)
    whole = {
        key: np.abs(x * 4).round().astype(F32) for key, x in given.items()
        if isinstance(x, np.ndarray)
    }  # fmt: skip
    plain = function_of(name)(**{**given, **whole})
    cast = function_of(name)(
        **{**given, **{k: x.astype(dtype).astype(F32) for k, x in whole.items()}}
    )
    given |= {key: x.astype(dtype) for key, x in whole.items()}
    result = function_of(name)(**given)
    assert isinstance(result, np.ndarray) and result.dtype == F32
    np.testing.assert_array_equal(result, cast)
    assert plain.shape == result.shape


GIVES_ARRAYS = [n for n in SURFACE if not n.lower().endswith(("session", "report"))]


@pytest.mark.parametrize("name", GIVES_ARRAYS)
def test_arrays_of_any_layout_are_read(name: str) -> None:
    want, length = result_of(name)
    layouts: list[Callable[[Array], Array]] = [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(F32).reshape(x.shape),
    ]
    for layout in layouts:
        given = arguments_of(name, want)
        given |= {key: layout(x) for key, x in operands_of(name).items()}
        result = function_of(name)(**given)
        close(given.get("out", result), want, length)


@pytest.mark.parametrize("name", [n for n in SURFACE if not n.lower().endswith("session")])
def test_what_is_no_array_is_a_type_error(name: str) -> None:
    want, _ = result_of(name)
    given = arguments_of(name, want)
    first = next(iter(operands_of(name)))
    texts = np.full(given[first].shape, "x")
    for wrong in (texts, given[first] * 1j):
        with pytest.raises(TypeError):
            function_of(name)(**{**given, first: wrong})


@pytest.mark.parametrize("name", ["matmul2d", "matmul", "vector_add", "attention2d"])
def test_text_is_a_type_error(name: str) -> None:
    want, _ = result_of(name)
    given = arguments_of(name, want)
    for wrong in ("x", b"x", ["x"], [[1, 2], [3]]):
        with pytest.raises(TypeError):
            function_of(name)(**{**given, next(iter(given)): wrong})


# ---------------------------------------------------------------- lists, flat and shaped


LISTS = ["matmul", "matmul_with_policy", "vector_add", "matrix_sub", "attention_forward"]


@pytest.mark.parametrize("name", LISTS)
def test_lists_give_lists_and_arrays_give_flat_arrays(name: str) -> None:
    want, length = result_of(name)
    given = arguments_of(name, want)
    arrays = operands_of(name)
    listed = function_of(name)(**{**given, **{k: x.ravel().tolist() for k, x in arrays.items()}})
    assert isinstance(listed, list) and all(type(value) is float for value in listed)
    close(listed, want, length)
    for form in (np.ravel, np.asarray, lambda x: x.ravel().astype(np.float64)):
        result = function_of(name)(**{**given, **{k: form(x) for k, x in arrays.items()}})
        assert isinstance(result, np.ndarray) and result.ndim == 1
        assert result.flags.c_contiguous and result.flags.writeable
        assert result.tolist() == listed


@pytest.mark.parametrize("name", ["matmul_np", "matmul_np_with_policy", "api.attention"])
def test_array_functions_give_arrays_for_lists_too(name: str) -> None:
    want, length = result_of(name)
    given = arguments_of(name, want)
    given |= {key: x.ravel().tolist() for key, x in operands_of(name).items()}
    result = function_of(name)(**given)
    assert isinstance(result, np.ndarray)
    close(result, want.ravel(), length)


def test_attention_with_policy_is_a_list_for_arrays_and_lists() -> None:
    want, length = result_of("attention_forward_with_policy")
    q, k, v = operands_of("attention2d").values()
    for form in (lambda x: x, np.ravel, lambda x: x.ravel().tolist()):
        result = lc.attention_forward_with_policy(form(q), form(k), form(v), SEQ, DIM, True)
        assert isinstance(result, list)
        close(result, want, length)


def test_integrated_attention_keeps_the_rank() -> None:
    want, length = result_of("api.attention")
    q, k, v = operands_of("api.attention").values()
    close(lc.api.attention(q, k, v, SEQ, DIM, True), want, length)
    flat = lc.lightning_attention(q.ravel(), k.ravel(), v.ravel(), SEQ, DIM, True)
    close(flat, want.ravel(), length)


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize("name", WITH_OUT)
def test_outputs_that_do_not_fit_are_refused_and_kept(name: str) -> None:
    want, _ = result_of(name)
    given = arguments_of(name, want)
    frozen = np.full(want.shape, 9, F32)
    frozen.flags.writeable = False
    wrong = [
        frozen, np.full(want.shape, 9.0), np.full(want.shape, 9, np.int32),
        np.full(want.size + 1, 9, F32), np.full(want.size - 1, 9, F32),
        np.full((*want.shape[:-1], want.shape[-1] + 1), 9, F32), want.tolist(),
    ]  # fmt: skip
    for out in wrong:
        with pytest.raises(ValueError, match="out"):
            function_of(name)(**{**given, "out": out})
        if isinstance(out, np.ndarray):
            assert (out == 9).all()


@pytest.mark.parametrize("name", WITH_OUT)
def test_no_output_is_no_place_for_a_result(name: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        function_of(name)(**{**arguments_of(name, result_of(name)[0]), "out": None})


@pytest.mark.parametrize("name", WITH_OUT)
def test_strided_outputs_are_written(name: str) -> None:
    want, length = result_of(name)
    if name.startswith(("matmul_np", "api.attention")):
        want = want.reshape((M, N) if "matmul" in name else (SEQ, DIM))
    guarded = np.full((*want.shape[:-1], 2 * want.shape[-1]), 9, F32)
    function_of(name)(**{**arguments_of(name, want), "out": guarded[..., ::2]})
    close(guarded[..., ::2], want, length)
    assert (guarded[..., 1::2] == 9).all()


ANY_SHAPE = [
    "matmul_np_into", "matmul_np_into_with_policy", "api.attention_into",
    "api.conv_attention_torchstrong_nchw_into",
]  # fmt: skip


@pytest.mark.parametrize("name", ANY_SHAPE)
def test_flat_functions_write_outputs_of_any_shape(name: str) -> None:
    want, length = result_of(name)
    for shape in ((want.size,), (want.size, 1), (1, 3, want.size // 3)):
        given = {**arguments_of(name, want), "out": np.full(shape, 9, F32)}
        assert function_of(name)(**given) is None
        close(given["out"], want.reshape(shape), length)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("matmul2d_into", (N, M)), ("matmul2d_into", (M * N, 1)),
        ("matmul2d_into", (1, M, N)),
        ("attention2d_into", (DIM, SEQ)), ("attention2d_into", (SEQ * DIM,)),
        ("attention2d_into", (1, SEQ, DIM)), ("conv2d_nchw_into", (-1,)),
        ("conv2d_nchw_into", (2, 8, -1, 3)), ("api.conv_relu_nchw_into", (-1,)),
        ("api.conv_relu_nchw_into", (8, 2, 3, -1)),
    ],
)  # fmt: skip
def test_shaped_functions_want_outputs_of_their_shape(name: str, shape: tuple[int, ...]) -> None:
    want, _ = result_of(name)
    out = np.full(want.shape, 9, F32).reshape(shape)
    with pytest.raises(ValueError, match="out"):
        function_of(name)(**{**arguments_of(name, want), "out": out})
    assert (out == 9).all()


def test_matmul2d_into_a_flat_output() -> None:
    want, length = result_of("matmul2d")
    out = np.full(M * N, 9, F32)
    assert lc.matmul2d_into(*operands_of("matmul2d").values(), out) is None
    close(out, want.ravel(), length)


@pytest.mark.parametrize("shapes", [((0, 3), (3, 2)), ((2, 0), (0, 2)), ((2, 3), (3, 0))], ids=str)
@pytest.mark.parametrize("form", ["matmul2d", "session", "into", "into flat"])
def test_matrices_without_elements(form: str, shapes: tuple[tuple[int, int], ...]) -> None:
    a, b = (np.zeros(shape, F32) for shape in shapes)
    out = np.full((a.shape[0], b.shape[1]), 9, F32)
    with pytest.raises(RuntimeError, match="invalid value"):
        if form == "matmul2d":
            lc.matmul2d(a, b)
        elif form == "session":
            lc.matmul2d_resident_session(a, b)
        else:
            lc.matmul2d_into(a, b, out.ravel() if form == "into flat" else out)
    assert (out == 9).all()


# ---------------------------------------------------------------- products


@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(1, 1, 1), (1, 64, 64), (64, 64, 1), (1, 300, 1), (2, 500, 33), (33, 70, 65), (130, 257, 96)],
)
def test_products_agree_in_all_forms(m: int, k: int, n: int) -> None:
    a, b = uniform(m, m, k), uniform(n, k, n)
    want = a.astype(np.float64) @ b.astype(np.float64)
    shaped = lc.matmul2d(a, b)
    close(shaped, want, k)
    sizes = (m, k, n)
    forms = [
        lc.matmul(a.ravel(), b.ravel(), *sizes), lc.matmul(a, b, *sizes),
        lc.matmul(a.ravel().tolist(), b.ravel().tolist(), *sizes),
        lc.matmul_np(a, b, *sizes), lc.matmul_with_policy(a, b, *sizes),
        lc.matmul_np_with_policy(a, b, *sizes, "metal", lc.MatMulIoPolicy()),
    ]  # fmt: skip
    outs = [np.empty(m * n, F32) for _ in range(3)]
    lc.matmul2d_into(a, b, outs[0])
    lc.matmul_np_into(a, b, outs[1], *sizes)
    lc.matmul_np_into_with_policy(a, b, outs[2], *sizes)
    for form in forms + outs:  # bit for bit
        np.testing.assert_array_equal(form, shaped.ravel())


@pytest.mark.parametrize("name", [n for n in SURFACE if "m k n" in SURFACE[n]])
def test_flat_products_of_wrong_sizes(name: str) -> None:
    want, _ = result_of(name)
    given = arguments_of(name, want)
    for wrong in ({"m": M + 1}, {"k": K - 1}, {"n": N + 2}, {"m": 2**40}):
        with pytest.raises(ValueError, match="a or b shape mismatch"):
            function_of(name)(**{**given, **wrong})


@pytest.mark.parametrize("name", ["matmul2d", "matmul2d_into", "matmul2d_resident_session"])
def test_shaped_products_want_two_matrices(name: str) -> None:
    want, _ = result_of(name)
    given = arguments_of(name, want)
    a, b = given["a"], given["b"]
    for wrong in ({"a": a[0]}, {"b": b[0]}, {"a": a[None]}, {"b": b[None]}, {"b": a}, {"a": b}):
        with pytest.raises(ValueError):
            function_of(name)(**{**given, **wrong})
    if "out" in given:
        assert (given["out"] == 9).all()


@pytest.mark.parametrize(
    "keywords",
    [
        {"bias": np.ones(N, F32)}, {"out": np.full(M * N, 9, F32)}, {"trans_a": True},
        {"trans_b": True}, {"alpha": 2.0}, {"activation": "relu"},
        {"policy": lc.Policy(download=0)},
    ],
    ids=lambda keywords: next(iter(keywords)),
)  # fmt: skip
def test_the_op_s_arguments_are_not_lost_with_sizes(keywords: dict[str, Any]) -> None:
    a, b = operands_of("matmul").values()
    with pytest.raises(TypeError, match=next(iter(keywords))):
        lc.matmul(a, b, M, K, N, **keywords)


def test_a_bias_is_given_once() -> None:
    a, b = operands_of("matmul").values()
    bias = np.ones(N, F32)
    np.testing.assert_array_equal(lc.matmul(a, b, bias), lc.matmul(a, b, bias=bias))
    with pytest.raises(TypeError, match="bias"):
        lc.matmul(a, b, bias, bias=bias)


# ---------------------------------------------------------------- elementwise


def test_elementwise_is_exact_at_every_size() -> None:
    for size in (1, 2, 15, 16, 17, 63, 1000, 70_001):
        a, b = uniform(size, size), uniform(size + 1, size)
        for rows in (1, size):
            result = lc.matrix_sub(a, b, rows, size // rows)
            assert result.dtype == F32
            np.testing.assert_array_equal(result, a - b)
        np.testing.assert_array_equal(lc.vector_add(a, b), a + b)


def test_vector_add_counts_elements_and_not_shapes() -> None:
    a = uniform(1, 4, 6)
    for b in (a.ravel(), a.reshape(6, 4), a.reshape(2, 3, 4)):
        assert lc.vector_add(a, b).shape == (24,)
    for b in (a[:3], a[0], a[:, :1]):  # nothing is broadcast
        with pytest.raises(ValueError, match="24"):
            lc.vector_add(a, b)
    assert lc.vector_add([1, 2], [3, 4]) == [4.0, 6.0]


def test_matrix_sub_checks_both_operands() -> None:
    a = uniform(1, 4, 6)
    for first, second in ((a, a[:3]), (a[:3], a)):
        with pytest.raises(ValueError, match="shape mismatch"):
            lc.matrix_sub(first, second, 4, 6)


def test_nan_and_infinity_pass_through() -> None:
    a = np.array([np.nan, np.inf, -np.inf, 1], F32)
    b = np.array([1, np.inf, np.inf, np.nan], F32)
    np.testing.assert_array_equal(lc.vector_add(a, b), [np.nan, np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(lc.matrix_sub(a, b, 2, 2), [np.nan, np.nan, -np.inf, np.nan])
    np.testing.assert_array_equal(lc.matmul2d(a[:, None], b[None]), a[:, None] * b[None])
