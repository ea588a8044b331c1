"""The kept convolutions, attention, policies, resident sessions and the pipeline of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from surface import (
    DIM,
    F32,
    NUMBERS,
    SEQ,
    STEPS,
    SURFACE,
    K,
    M,
    N,
    arguments_of,
    close,
    conv_attention,
    convolution,
    function_of,
    operands_of,
    result_of,
    softmax_attention,
    uniform,
)

import lightning_core as lc

# ---------------------------------------------------------------- convolution


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "steps"),
    [
        ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 0, 0)),
        ((1, 3, 8, 8), (16, 3, 3, 3), (1, 1, 1, 1)),
        ((2, 16, 9, 11), (33, 16, 3, 3), (1, 1, 1, 1)),
        ((3, 5, 7, 6), (4, 5, 1, 1), (2, 3, 0, 0)),
        ((1, 2, 10, 9), (3, 2, 5, 2), (1, 2, 2, 1)),
        ((1, 2, 4, 5), (3, 2, 4, 5), (7, 7, 0, 0)),
        ((1, 1, 2, 2), (2, 1, 3, 3), (1, 1, 2, 3)),
    ],
)
@pytest.mark.parametrize("with_bias", [True, False])
def test_convolutions(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], steps: tuple[int, ...], with_bias: bool
) -> None:
    x, w = uniform(1, *x_shape), uniform(2, *w_shape)
    bias = uniform(3, w_shape[0]) if with_bias else None
    want = convolution(x, w, bias, steps)
    h, width = (
        (x_shape[i + 2] + 2 * steps[i + 2] - w_shape[i + 2]) // steps[i] + 1 for i in (0, 1)
    )
    assert want.shape == (x_shape[0], w_shape[0], h, width)
    length = int(np.prod(w_shape[1:])) + 1
    plain, relu = lc.conv2d_nchw(x, w, bias, *steps), lc.api.conv_relu_nchw(x, w, bias, *steps)
    close(plain, want, length)
    np.testing.assert_array_equal(relu, np.maximum(plain, 0))
    outs = [np.full(want.shape, 9, F32) for _ in range(4)]
    lc.conv2d_nchw_into(x, w, bias, outs[0], *steps)
    lc.conv2d_nchw_metal_resident(x, w, bias, outs[1], *steps, "finish")
    lc.api.conv_relu_nchw_into(x, w, bias, outs[2], *steps)
    lc.conv2d_nchw_metal_resident(x, w, bias, outs[3], *steps, "finish", True)
    for out, same in zip(outs, (plain, plain, relu, relu), strict=True):
        close(out, same.astype(np.float64), length)


@pytest.mark.parametrize("name", [n for n in SURFACE if "conv" in n])
def test_convolutions_of_wrong_shapes(name: str) -> None:
    want, _ = result_of(name)
    given = arguments_of(name, want)
    x, w, bias = given["x"], given["w"], given["bias"]
    wrong: list[dict[str, Any]] = [
        {"x": x[0]}, {"x": x[None]}, {"w": w[0]}, {"w": w[:, :2]}, {"x": x[:, :1]},
        {"x": x[:, :, :1], "pad_h": 0}, {"x": x[:, :, :, :2], "pad_w": 0}, {"bias": bias[:7]},
        {"bias": bias[:1]}, {"bias": np.zeros(0, F32)},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(ValueError):
            function_of(name)(**{**given, **change})
    for empty in ({"x": x[:0]}, {"w": w[:0], "bias": bias[:0]}):
        with pytest.raises(RuntimeError, match="invalid value"):
            function_of(name)(**{**given, **empty})
    if "out" in given:
        assert (given["out"] == 9).all()


PHASES = ["start", "run", "sync", "run_batch_sync", "run_batch_sync:1", "run_batch_sync:3"]


@pytest.mark.parametrize("phase", PHASES)
def test_resident_phases(phase: str) -> None:
    name = "conv2d_nchw_metal_resident"
    want, length = result_of(name)
    given = {**arguments_of(name, want), "phase": phase}
    assert lc.conv2d_nchw_metal_resident(**given) is None
    if phase.startswith("run_batch_sync"):
        close(given["out"], want, length)
    else:
        assert (given["out"] == 9).all()  # only a download writes
    without = {**given, "bias": None}
    lc.conv2d_nchw_metal_resident(**without)  # the bias is optional in every phase


@pytest.mark.parametrize(
    "phase", ["", "go", "RUN", "start:2", "run_batch_sync:x", "run_batch_sync:-1", "batch"]
)
def test_words_that_are_no_phases(phase: str) -> None:
    given = arguments_of("conv2d_nchw_metal_resident", result_of("conv2d_nchw")[0])
    with pytest.raises(ValueError, match="phase"):
        lc.conv2d_nchw_metal_resident(**{**given, "phase": phase})
    assert (given["out"] == 9).all()


def test_a_phase_that_is_no_word() -> None:
    given = arguments_of("conv2d_nchw_metal_resident", result_of("conv2d_nchw")[0])
    with pytest.raises(TypeError):
        lc.conv2d_nchw_metal_resident(**{**given, "phase": 3})


# ---------------------------------------------------------------- attention


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("seq", "dim"), [(1, 1), (1, 64), (2, 3), (33, 16), (70, 128), (129, 64)])
def test_attention_agrees_in_all_forms(seq: int, dim: int, causal: bool) -> None:
    q, k, v = (2 * uniform(seed, seq, dim) for seed in range(3))
    want = softmax_attention(q, k, v, causal)
    shaped = lc.attention2d(q, k, v, causal)
    close(shaped, want, seq + dim)
    if causal:
        np.testing.assert_array_equal(shaped[0], v[0])  # the first row sees itself only
    sizes = (seq, dim, causal)
    session = lc.AttentionSession(*sizes)
    forms = [
        lc.attention_forward(q, k, v, *sizes), lc.attention_forward_with_policy(q, k, v, *sizes),
        lc.api.attention(q, k, v, *sizes).ravel(), session.forward(q, k, v),
        lc.attention2d_session(q, causal).forward(q, k, v),
        session.forward_with_policy(q, k, v, lc.AttentionIoPolicy()),
    ]  # fmt: skip
    outs = [np.empty((seq, dim), F32) for _ in range(4)]
    lc.attention2d_into(q, k, v, outs[0], causal)
    lc.api.attention_into(q, k, v, outs[1], *sizes)
    assert session.forward_into(q=q, k=k, v=v, out=outs[2]) is None
    policy = lc.AttentionIoPolicy()
    assert session.forward_with_policy_into(q=q, k=k, v=v, out=outs[3], policy=policy) is None
    for form in forms + [out.ravel() for out in outs]:
        np.testing.assert_array_equal(np.asarray(form, F32), shaped.ravel())


@pytest.mark.parametrize("name", [n for n in SURFACE if n.endswith("attention2d_into")] + [
    "attention2d", "attention_forward", "attention_forward_with_policy", "api.attention",
    "api.attention_into",
])  # fmt: skip
def test_attention_of_wrong_shapes(name: str) -> None:
    want, _ = result_of(name)
    given = arguments_of(name, want)
    for key in "qkv":
        with pytest.raises(ValueError):
            function_of(name)(**{**given, key: given[key][:-1]})
    if "2d" in name:
        for change in (lambda x: x[0], lambda x: x[None]):
            with pytest.raises(ValueError):
                function_of(name)(**{**given, **{key: change(given[key]) for key in "qkv"}})
    if "out" in given:
        assert (given["out"] == 9).all()


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (2.0, 0.0), (1.0, -0.25), (-3.0, 0.5)])
@pytest.mark.parametrize("relu", [False, True])
def test_a_policy_s_epilogue(scale: float, bias: float, relu: bool) -> None:
    q, k, v = operands_of("attention2d").values()
    plain = softmax_attention(q, k, v, True)
    want = plain * scale + bias
    want = np.maximum(want, 0) if relu else want
    policy = lc.AttentionIoPolicy()
    policy.output_scale, policy.output_bias, policy.output_relu = scale, bias, relu
    session = lc.AttentionSession(SEQ, DIM, True)
    out = np.empty((SEQ, DIM), F32)
    session.forward_with_policy_into(q, k, v, out, policy)
    close(out, want, SEQ + DIM)
    close(session.forward(q, k, v), plain.ravel(), SEQ + DIM)  # the policy was that call's only
    assert session.set_default_policy(policy) is None
    session.forward_into(q, k, v, out)
    close(out, want, SEQ + DIM)
    close(session.forward(q, k, v), want.ravel(), SEQ + DIM)
    trained, _, _ = session.train_step(q, k, v, v, 0.1)
    close(trained, plain.ravel(), SEQ + DIM)  # training applies no epilogue


def test_training_by_position_keyword_and_policy() -> None:
    q, k, v, target = (uniform(seed, SEQ, DIM) for seed in range(4))
    names = ("q", "k", "v", "target", "learning_rate")
    given = dict(zip(names, (q, k, v, target, 0.5), strict=True))
    policy = lc.AttentionIoPolicy()
    results = [
        lc.AttentionSession(SEQ, DIM).train_step(*given.values()),
        lc.AttentionSession(SEQ, DIM).train_step(**given),
        lc.AttentionSession(SEQ, DIM).train_step_with_policy(*given.values(), policy),
        lc.AttentionSession(SEQ, DIM).train_step_with_policy(**given, policy=policy),
    ]
    for out, updated, loss in results:
        assert isinstance(out, list) and isinstance(updated, list) and type(loss) is float
        assert (out, updated, loss) == results[0]
    assert results[0][1] != v.ravel().tolist()
    np.testing.assert_array_equal(v, uniform(2, SEQ, DIM))  # the caller's V stays
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(RuntimeError, match="invalid value"):
            lc.AttentionSession(SEQ, DIM).train_step(q, k, v, target, rate)
    for i in range(4):
        wrong = [x[:-1] if i == j else x for j, x in enumerate((q, k, v, target))]
        with pytest.raises(ValueError):
            lc.AttentionSession(SEQ, DIM).train_step(*wrong, 0.5)


@pytest.mark.parametrize(
    ("seq", "dim", "device", "every", "period"),
    [
        (4, 3, "cpu", None, 1), (4, 3, "cpu", 3, 3), (4, 3, "cpu", 0, 4), (4, 3, "metal", None, 4),
        (4, 3, "metal", 2, 2), (256, 64, "cpu", 0, 32), (256, 128, "cpu", 0, 16),
        (512, 64, "cpu", 0, 8), (1024, 128, "metal", None, 8),
    ],
)  # fmt: skip
def test_losses_are_sampled(
    seq: int, dim: int, device: str, every: int | None, period: int
) -> None:
    session = lc.AttentionSession(seq, dim, False, device)
    if every is not None:
        policy = lc.AttentionIoPolicy()
        policy.loss_every = every
        session.set_default_policy(policy)
    q, k, v = (uniform(seed, seq, dim) for seed in range(3))
    losses = [session.train_step(q, k, v, v + i, 0.1)[2] for i in range(period + 1)]
    assert len(set(losses[:period])) == 1  # the last value again
    assert losses[period] != losses[0]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((0, 4), RuntimeError), ((4, 0), RuntimeError), ((-1, 4), TypeError), ((1.5, 4), TypeError),
     ((4,), TypeError), ((4, 4, False, "tpu"), ValueError), ((4, 4, False, 3), TypeError)],
)  # fmt: skip
def test_attention_sessions_that_are_none(arguments: tuple[Any, ...], error: type) -> None:
    with pytest.raises(error):
        lc.AttentionSession(*arguments)


# ---------------------------------------------------------------- policies

BOOLS = ["upload_a", "upload_b", "download_out", "synchronize"]
POLICIES: dict[str, dict[str, Any]] = {
    "MatMulIoPolicy": dict.fromkeys(BOOLS, True),
    "MatrixElementwiseIoPolicy": dict.fromkeys(BOOLS, True),
    "VectorAddIoPolicy": dict.fromkeys(BOOLS, True),
    "AttentionIoPolicy": {
        **dict.fromkeys(["upload_q", "upload_k", "upload_v", "upload_target", "download_out",
                         "download_v", "synchronize"], True),
        "loss_every": 1, "output_scale": 1.0, "output_bias": 0.0, "output_relu": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_policies_read_and_write(name: str) -> None:
    policy, other = getattr(lc, name)(), getattr(lc, name)()
    for word, default in POLICIES[name].items():
        value = getattr(policy, word)
        assert value == default and type(value) is type(default), word
        changed = not value if type(value) is bool else type(value)(7)
        setattr(policy, word, changed)
        assert getattr(policy, word) == changed
        assert getattr(other, word) == default  # each its own
    with pytest.raises(AttributeError):
        policy.no_such_flag = True
    with pytest.raises(TypeError):
        getattr(lc, name)(True)


@pytest.mark.parametrize("name", POLICIES)
def test_policies_refuse_what_is_no_flag(name: str) -> None:
    policy = getattr(lc, name)()
    for word, default in POLICIES[name].items():
        kind = type(default)
        for right in (np.True_, 1, np.int64(0)) if kind is bool else (kind(3), np.int64(3)):
            setattr(policy, word, right)
            assert getattr(policy, word) == right and type(getattr(policy, word)) is kind
        for wrong in ("always", None, [1], 2 if kind is bool else 1j):
            with pytest.raises(TypeError, match=word):
                setattr(policy, word, wrong)
        assert getattr(policy, word) == right


@pytest.mark.parametrize("flag", ["upload_a", "upload_b", "synchronize"])
@pytest.mark.parametrize("device", ["cpu", "metal"])
def test_one_shot_products_do_not_depend_on_uploads(flag: str, device: str) -> None:
    if lc.runtime_backend_capabilities(device)["available"] and device != "cpu":
        pytest.skip("the policy is honoured there: nothing is resident")
    want, length = result_of("matmul_np")
    policy = lc.MatMulIoPolicy()
    setattr(policy, flag, False)
    a, b = operands_of("matmul").values()
    close(lc.matmul_np_with_policy(a, b, M, K, N, device, policy), want, length)


# ---------------------------------------------------------------- resident sessions


def matmul_session() -> Any:
    return lc.MatMulMetalResidentSession(M, K, N)


def conv_session() -> Any:
    return lc.Conv2dMetalResidentSession(2, 3, 6, 7, 8, 3, 3, *STEPS)


SESSIONS: dict[str, tuple[Callable[[], Any], str, list[str], str]] = {
    # key: how it is made, the function with its result, phases of its list forms, their prefix
    "matmul": (matmul_session, "matmul", ["start", "run", "finish", "sync"], ""),
    "sub": (lambda: lc.MatrixElemwiseMetalResidentSession(M, K), "matrix_sub",
            ["start", "run", "finish", ""], "sub"),
    "add": (lambda: lc.VectorAddMetalResidentSession(M * K), "vector_add",
            ["start", "run", "finish", "add"], ""),
    "conv": (conv_session, "conv2d_nchw_metal_resident", [], ""),
}  # fmt: skip


def method(key: str, phase: str) -> str:
    prefix = SESSIONS[key][3]
    return f"{prefix}_{phase}" if prefix and phase else prefix or phase


@pytest.mark.parametrize("key", ["matmul", "sub", "add"])
def test_session_methods_that_return_lists(key: str) -> None:
    make, name, phases, _ = SESSIONS[key]
    want, length = result_of(name)
    a, b = operands_of(name).values()
    for phase in phases:
        session = make()
        for first in (a, a.ravel().tolist()):
            result = getattr(session, method(key, phase))(first, b, want.size)
            assert isinstance(result, list)
            close(result, want, length)
        for wrong in (want.size - 1, want.size + 1):
            with pytest.raises(ValueError, match="out_size"):
                getattr(session, method(key, phase))(a, b, wrong)
    assert getattr(make(), method(key, phases[0]))(a=a, b=b, out_size=want.size) == result


@pytest.mark.parametrize("key", SESSIONS)
def test_session_methods_that_write(key: str) -> None:
    make, name, _, _ = SESSIONS[key]
    want, length = result_of(name)
    given = list(operands_of(name).values())
    session = make()
    out = np.full(want.size, 9, F32).reshape(want.shape)
    phases = ["start", "run", "finish"] + (["sync"] if key in ("matmul", "conv") else [])
    for phase in sorted(phases, key=["start", "run", "sync", "finish"].index):
        assert (out == 9).all()  # only finish downloads
        assert getattr(session, f"{method(key, phase)}_into")(*given, out) is None
    close(out, want, length)
    for phase in phases:
        call = getattr(make(), f"{method(key, phase)}_into")
        for wrong in (np.full(want.size - 1, 9, F32), np.full(want.shape, 9.0), None):
            with pytest.raises(ValueError, match="out"):
                call(*given, wrong)
        with pytest.raises(ValueError):
            call(given[0][:-1], *given[1:], out)


def test_quotients() -> None:
    a, b = uniform(1, M, K), uniform(2, M, K) + 2
    want = (a.astype(np.float64) / b).ravel()
    for form in ("div", "div_start", "div_run", "div_finish"):
        session = lc.MatrixElemwiseMetalResidentSession(rows=M, cols=K)
        close(getattr(session, form)(a, b, M * K), want, 1)
    session = lc.MatrixElemwiseMetalResidentSession(M, K)
    out = np.full(M * K, 9, F32)
    assert session.div_start_into(a, b, out) is None
    assert session.div_run_into(a, b, out) is None
    assert (out == 9).all()
    assert session.div_finish_into(a, b, out) is None
    close(out, want, 1)


@pytest.mark.parametrize("key", ["matmul", "conv"])
def test_session_batches_download_once(key: str) -> None:
    make, name, _, _ = SESSIONS[key]
    want, length = result_of(name)
    given = list(operands_of(name).values())
    out = np.full(want.shape, 9, F32)
    session = make()
    assert session.run_batch_sync_into(*given, out=out, repeat_count=3) is None
    close(out, want, length)
    for count, error in ((0, RuntimeError), (-1, TypeError), (1.5, TypeError)):
        with pytest.raises(error):
            session.run_batch_sync_into(*given, out, count)
    if key == "matmul":
        listed = make().run_batch_sync(*given, out_size=want.size, repeat_count=2)
        assert isinstance(listed, list)
        close(listed, want, length)
        out[:] = 9
        session.run_batch_sync_no_download_into(*given, out=out, repeat_count=2)
        session.run_batch_sync_cached_no_download(repeat_count=2)
        assert (out == 9).all()
        with pytest.raises(RuntimeError, match="invalid value"):
            session.run_batch_sync_cached_no_download(0)
        with pytest.raises(RuntimeError, match="invalid value"):
            session.run_batch_sync_no_download_into(*given, out, 0)


def test_conv_sessions_apply_relu_unless_told_otherwise() -> None:
    x, w, bias = operands_of("conv2d_nchw").values()
    want = convolution(x, w, bias, STEPS)
    sizes = {
        "batch": 2, "in_channels": 3, "in_h": 6, "in_w": 7, "out_channels": 8, "kernel_h": 3,
        "kernel_w": 3, **{key: NUMBERS[key] for key in ("stride_h", "stride_w", "pad_h", "pad_w")},
    }  # fmt: skip
    for relu in (True, False):
        session = lc.Conv2dMetalResidentSession(**sizes, apply_relu=relu)
        out = np.empty(want.shape, F32)
        session.finish_into(x, w, bias, out)
        close(out, np.maximum(want, 0) if relu else want, 27)
    plain = lc.Conv2dMetalResidentSession(2, 3, 6, 7, 8, 3, 3)  # stride 1, no padding, ReLU
    out = np.empty((2, 8, 4, 5), F32)
    plain.finish_into(x, w, bias, out)
    close(out, np.maximum(convolution(x, w, bias, (1, 1, 0, 0)), 0), 27)


@pytest.mark.parametrize(
    ("cls", "sizes"),
    [
        ("MatMulMetalResidentSession", (2, 3, 4)), ("VectorAddMetalResidentSession", (5,)),
        ("MatrixElemwiseMetalResidentSession", (2, 3)),
        ("Conv2dMetalResidentSession", (1, 1, 2, 2, 1, 1, 1)),
    ],
)  # fmt: skip
def test_sessions_of_sizes_that_are_none(cls: str, sizes: tuple[int, ...]) -> None:
    make = getattr(lc, cls)
    for i in range(len(sizes)):
        for wrong, error in (
            (0, RuntimeError),
            (-1, TypeError),
            (1.5, TypeError),
            ("2", TypeError),
        ):
            with pytest.raises(error):
                make(*sizes[:i], wrong, *sizes[i + 1 :])
        for size in (2**62, 2**63, 2**64 + 1, 10**30):
            with pytest.raises(ValueError, match=r"\[\w+\] \w+: expected .*, found "):
                make(*sizes[:i], size, *sizes[i + 1 :])
    with pytest.raises(TypeError):
        make(*sizes[:-1])


@pytest.mark.parametrize("phase", ["start", "run", "finish"])
@pytest.mark.parametrize("key", SESSIONS)
def test_session_outputs_lie_apart_from_inputs(key: str, phase: str) -> None:
    make, name, _, _ = SESSIONS[key]
    given = operands_of(name)
    want, _ = result_of(name)
    first, shape = next(iter(given)), next(iter(given.values())).shape
    room = np.zeros(max(want.size, given[first].size) + 1, F32)
    inside = room[: given[first].size].reshape(shape)
    inside[...] = given[first]
    before = room.copy()
    call = getattr(make(), f"{method(key, phase)}_into")
    with pytest.raises(ValueError, match=rf"\] out: .* found an overlap with {first}"):
        call(**{**given, first: inside}, out=room[1 : want.size + 1])
    frozen = np.zeros(want.shape, F32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"\] out: expected a writeable array"):
        call(**given, out=frozen)
    assert np.array_equal(room, before) and not frozen.any()


def test_sessions_of_elementwise_ops_write_in_place_as_the_ops_do() -> None:
    for key in ("sub", "add"):
        make, name, _, _ = SESSIONS[key]
        want, length = result_of(name)
        a, b = operands_of(name).values()
        getattr(make(), f"{method(key, 'finish')}_into")(a, b, a.reshape(-1))
        close(a.reshape(want.shape), want, length)
    # Interleaved memory is not shared memory.
    make, name, _, _ = SESSIONS["add"]
    a, b = operands_of(name).values()
    both = np.zeros((a.size, 2), F32)
    both[:, 0] = a.reshape(-1)
    make().finish_into(both[:, 0], b, both[:, 1])
    assert np.array_equal(both[:, 0], a.reshape(-1))


@pytest.mark.parametrize("policy", [None, lc.AttentionIoPolicy()])
def test_attention_session_outputs_lie_apart_from_inputs(policy: Any) -> None:
    q, k, v = operands_of("attention2d").values()
    before = q.copy(), k.copy(), v.copy()
    session = lc.AttentionSession(SEQ, DIM)
    for name, out in (("q", q), ("k", k), ("v", v)):
        with pytest.raises(ValueError, match=rf"\] out: .* found an overlap with {name}"):
            if policy is None:
                session.forward_into(q, k, v, out)
            else:
                session.forward_with_policy_into(q, k, v, out, policy)
    assert all(np.array_equal(*pair) for pair in zip(before, (q, k, v), strict=True))


@pytest.mark.parametrize("key", SESSIONS)
def test_session_methods_take_keywords(key: str) -> None:
    make, name, _, _ = SESSIONS[key]
    want, length = result_of(name)
    out = np.full(want.shape, 9, F32)
    getattr(make(), f"{method(key, 'finish')}_into")(**operands_of(name), out=out)
    close(out, want, length)


@pytest.mark.parametrize("key", ["matmul", "add", "conv"])
def test_session_methods_count_their_arguments(key: str) -> None:
    make, name, _, _ = SESSIONS[key]
    want, _ = result_of(name)
    given = list(operands_of(name).values())
    out = np.full(want.shape, 9, F32)
    for arguments in ((), given[:2], (*given, out, out)):
        with pytest.raises(TypeError):
            make().finish_into(*arguments)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"stride_h": 0}, ValueError), ({"stride_w": 0}, ValueError), ({"stride_h": -1}, TypeError),
        ({"pad_h": -1}, TypeError), ({"pad_w": 0.5}, TypeError), ({"apply_relu": "no"}, TypeError),
    ],
)  # fmt: skip
def test_steps_that_are_none(wrong: dict[str, Any], error: type) -> None:
    with pytest.raises(error, match="stride" if error is ValueError else None):
        lc.Conv2dMetalResidentSession(2, 3, 6, 7, 8, 3, 3, **wrong)


# ---------------------------------------------------------------- convolution into attention


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    ("seq", "dim", "steps"),
    [(1, 1, (1, 1, 1, 1)), (7, 5, (1, 1, 1, 1)), (16, 64, (1, 1, 1, 1)), (40, 33, (2, 1, 0, 1))],
)
def test_convolution_into_attention(
    seq: int, dim: int, steps: tuple[int, ...], with_bias: bool, mode: str
) -> None:
    x, w, bias = operands_of("conv2d_nchw").values()
    bias = bias if with_bias else None
    want = conv_attention(convolution(x, w, bias, steps), seq, dim)
    call = (x, w, bias, seq, dim, *steps, None, mode)
    close(lc.api.conv_attention_torchstrong_nchw(*call), want, 27 + seq + dim)
    out = np.empty((seq, dim), F32)
    lc.lightning_conv_attention_torchstrong_nchw_into(*call[:3], out, *call[3:])
    close(out.ravel(), want, 27 + seq + dim)


@pytest.mark.parametrize("name", [n for n in SURFACE if "execution_mode" in SURFACE[n]])
def test_words_that_are_no_modes(name: str) -> None:
    want, _ = result_of(name)
    for mode in ("Eager", "lazy", ""):
        with pytest.raises(ValueError, match="execution_mode"):
            function_of(name)(**{**arguments_of(name, want), "execution_mode": mode})


def test_ab_report_rows() -> None:
    x, w, _ = operands_of("conv2d_nchw").values()
    report = lc.api.conv_attention_torchstrong_nchw_ab_report(x, w, None, SEQ, DIM)
    kinds = {
        "seq_len": int, "head_dim": int, "warmup": int, "repeat": int, "device": str,
        "allclose": bool, "max_abs_diff": float, "mean_abs_diff": float, "max_rel_diff": float,
        "atol": float, "rtol": float, "eager_ms": float, "graph_ms": float,
        "graph_over_eager": float, "eager_over_graph": float, "winner": str,
    }  # fmt: skip
    assert {key: type(value) for key, value in report.items()} == kinds
    given = {"seq_len": SEQ, "head_dim": DIM, "warmup": 1, "repeat": 5, "atol": 1e-4, "rtol": 1e-4}
    assert {key: report[key] for key in given} == given
    assert report["allclose"] and 0 <= report["mean_abs_diff"] <= report["max_abs_diff"] <= 1e-5
    eager, graph = report["eager_ms"], report["graph_ms"]
    assert eager > 0 and graph > 0
    assert report["graph_over_eager"] == pytest.approx(graph / eager)
    assert report["eager_over_graph"] == pytest.approx(eager / graph)
    assert report["winner"] == ("tie" if eager == graph else "graph" if graph < eager else "eager")


@pytest.mark.parametrize("wrong", [{"repeat": 0}, {"atol": -1e-9}, {"rtol": -1.0}, {"warmup": -1}])
def test_ab_report_refuses(wrong: dict[str, Any]) -> None:
    given = arguments_of("api.conv_attention_torchstrong_nchw_ab_report", np.empty(SEQ * DIM, F32))
    with pytest.raises(ValueError, match=next(iter(wrong))):
        lc.api.conv_attention_torchstrong_nchw_ab_report(**{**given, **wrong})
