"""Programs written for lightning-core 0.1.17: its names, forms and returns, its defects mended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lightning_core as lc

F32 = np.float32
DEVICES = [None, "cpu", "metal", "cuda"]


def values(rng: np.random.Generator, *shape: int) -> Any:
    return rng.uniform(-1, 1, shape).astype(F32)


def close(got: Any, want: Any, length: int = 1) -> None:
    want = np.asarray(want, np.float64)
    bound = 8 * np.finfo(F32).eps * np.sqrt(length) * max(1.0, float(np.abs(want).max()))
    assert np.asarray(got).shape == want.shape
    assert float(np.abs(np.asarray(got, np.float64) - want).max()) <= bound


def softmax_attention(q: Any, k: Any, v: Any, causal: bool = False) -> Any:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = q @ k.T / np.sqrt(q.shape[1])
    if causal:
        scores = np.where(np.tri(len(q), dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True) @ v


@pytest.mark.parametrize("device", DEVICES)
def test_matmul_in_all_forms(rng: np.random.Generator, device: str | None) -> None:
    a, b = values(rng, 5, 7), values(rng, 7, 3)
    want = a.astype(np.float64) @ b
    close(lc.matmul2d(a, b, device), want, 7)
    flat = lc.matmul(a.ravel(), b.ravel(), 5, 7, 3, device)
    assert isinstance(flat, np.ndarray) and flat.shape == (15,)
    close(flat, want.ravel(), 7)
    listed = lc.matmul(a.ravel().tolist(), b.ravel().tolist(), 5, 7, 3, device)
    assert isinstance(listed, list)
    close(listed, want.ravel(), 7)
    close(lc.matmul_np(a, b, 5, 7, 3, device), want.ravel(), 7)
    for out in (np.empty((5, 3), F32), np.empty(15, F32)):
        lc.matmul_np_into(a, b, out, 5, 7, 3, device)
        close(out.reshape(5, 3), want, 7)
        lc.matmul2d_into(a, b, out, device)
        close(out.reshape(5, 3), want, 7)
    assert lc.matmul(a, b).shape == (5, 3)  # the op's form


def test_wrong_dtypes_come_in_but_never_out(rng: np.random.Generator) -> None:
    a, b = values(rng, 4, 4), values(rng, 4, 4)
    want = a.astype(np.float64) @ b
    close(lc.matmul2d(a.astype(np.float64), b.T.copy().T), want, 4)
    close(lc.matmul2d((a * 8).astype(np.int32), np.eye(4)), (a * 8).astype(np.int32), 4)
    for bad in (np.zeros((4, 4)), np.zeros((4, 5), F32), np.zeros(15, F32)):
        before = bad.copy()
        with pytest.raises(ValueError, match="out"):
            lc.matmul2d_into(a, b, bad)
        assert np.array_equal(bad, before)
    frozen = np.zeros((4, 4), F32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="out"):
        lc.matmul2d_into(a, b, frozen)
    strided = np.zeros((4, 8), F32)
    lc.matmul2d_into(a, b, strided[:, ::2])
    close(strided[:, ::2], want, 4)
    assert not strided[:, 1::2].any()


@pytest.mark.parametrize("device", DEVICES)
def test_elementwise(rng: np.random.Generator, device: str | None) -> None:
    a, b = values(rng, 6, 5), values(rng, 6, 5)
    assert np.array_equal(lc.vector_add(a, b, device), (a + b).ravel())
    assert isinstance(lc.vector_add([1.0, 2.0], [3.0, 4.0], device), list)
    assert np.array_equal(lc.matrix_sub(a.ravel(), b.ravel(), 6, 5, device), (a - b).ravel())
    with pytest.raises(ValueError):
        lc.vector_add(a, b[:5], device)
    with pytest.raises(ValueError):
        lc.matrix_sub(a, b, 6, 6, device)


def test_devices_fall_back_and_say_so(rng: np.random.Generator, traced: None) -> None:
    a = values(rng, 4, 4)
    for device in ("metal", "cuda", "cpu"):
        lc.runtime_trace_clear()
        lc.matmul2d(a, a, device)
        lc.attention2d(a, a, a, False, device)
        for event in lc.runtime_trace_events():
            assert event["requested_device"] == device
            here = lc.runtime_backend_capabilities(device)["available"]
            assert event["selected_device"] == (device if here else "cpu")
            assert event["fallback"] is not here
    for word in ("CPU", "gpu", "", "mps"):
        with pytest.raises(ValueError, match="device"):
            lc.matmul2d(a, a, word)


def test_sizes_of_zero_and_below() -> None:
    a = np.zeros((0, 3), F32)
    with pytest.raises(RuntimeError, match="invalid value"):
        lc.matmul2d(a, np.zeros((3, 2), F32))
    with pytest.raises(RuntimeError, match="invalid value"):
        lc.matmul([], [], 0, 0, 0)
    with pytest.raises(RuntimeError, match="invalid value"):
        lc.vector_add([], [])
    with pytest.raises(TypeError):
        lc.matmul([1.0], [1.0], -1, 1, 1)
    with pytest.raises(TypeError):
        lc.matmul([1.0], [1.0], 1.0, 1, 1)
    with pytest.raises(ValueError, match="shape mismatch"):
        lc.matmul([1.0], [1.0], 2, 1, 1)


@pytest.mark.parametrize("device", DEVICES)
def test_conv(rng: np.random.Generator, device: str | None) -> None:
    x, w, bias = values(rng, 2, 3, 8, 9), values(rng, 4, 3, 3, 3), values(rng, 4)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::1]
    want = np.einsum("nchwij,ocij->nohw", windows, w) + bias[None, :, None, None]
    close(lc.conv2d_nchw(x, w, bias, 2, 1, 1, 2, device), want, 27)
    relu = np.maximum(want, 0)
    close(lc.api.conv_relu_nchw(x, w, bias, 2, 1, 1, 2, device), relu, 27)
    close(lc.lightning_conv_relu_nchw(x, w, bias, 2, 1, 1, 2, device), relu, 27)
    out = np.empty(want.shape, F32)
    lc.conv2d_nchw_into(x, w, bias, out, 2, 1, 1, 2, device)
    close(out, want, 27)
    lc.api.conv_relu_nchw_into(x, w, bias, out, 2, 1, 1, 2, device)
    close(out, relu, 27)
    lc.conv2d_nchw_metal_resident(x, w, bias, out, 2, 1, 1, 2, "run_batch_sync:3")
    close(out, want, 27)
    with pytest.raises(ValueError):
        lc.conv2d_nchw(x, w[:, :2], bias)
    with pytest.raises(ValueError):
        lc.conv2d_nchw(x, w, bias, 0)
    with pytest.raises(ValueError):
        lc.conv2d_nchw(x[:, :, :2], w, bias)
    with pytest.raises(ValueError):
        lc.conv2d_nchw(x, w, bias[:3])
    with pytest.raises(ValueError, match="phase"):
        lc.conv2d_nchw_metal_resident(x, w, bias, out, phase="go")


@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_all_forms(rng: np.random.Generator, causal: bool) -> None:
    q, k, v = (values(rng, 12, 8) for _ in range(3))
    want = softmax_attention(q, k, v, causal)
    close(lc.attention2d(q, k, v, causal), want, 12)
    out = np.empty((12, 8), F32)
    lc.attention2d_into(q, k, v, out, causal)
    close(out, want, 12)
    close(lc.attention_forward(q.ravel(), k.ravel(), v.ravel(), 12, 8, causal), want.ravel(), 12)
    assert isinstance(lc.attention_forward(q.ravel().tolist(), k, v, 12, 8), list)
    close(lc.api.attention(q, k, v, 12, 8, causal), want, 12)
    close(lc.api.attention(q.ravel(), k.ravel(), v.ravel(), 12, 8, causal), want.ravel(), 12)
    session = lc.attention2d_session(q, causal)
    close(session.forward(q, k, v), want.ravel(), 12)
    session.forward_into(q, k, v, out)
    close(out, want, 12)
    with pytest.raises(ValueError):
        lc.attention2d(q, k[:5], v)
    with pytest.raises(ValueError):
        lc.attention2d_into(q, k, v, np.empty(96, F32))


def test_attention_policy_applies_to_the_result(rng: np.random.Generator) -> None:
    q, k, v = (values(rng, 6, 4) for _ in range(3))
    policy = lc.AttentionIoPolicy()
    policy.output_scale, policy.output_bias, policy.output_relu = 2.0, -0.1, True
    want = np.maximum(softmax_attention(q, k, v) * 2 - 0.1, 0)
    close(lc.attention_forward_with_policy(q, k, v, 6, 4, policy=policy), want.ravel(), 6)
    policy = lc.AttentionIoPolicy()
    policy.download_out = False
    out = np.full((6, 4), 7, F32)
    lc.AttentionSession(6, 4).forward_with_policy_into(q, k, v, out, policy)
    assert (out == 7).all()


def test_train_step(rng: np.random.Generator) -> None:
    q, k, v, target = (values(rng, 9, 5) for _ in range(4))
    out, updated, loss = lc.AttentionSession(9, 5, device="cpu").train_step(q, k, v, target, 0.3)
    forward = softmax_attention(q, k, v)
    scores = q.astype(np.float64) @ k.T / np.sqrt(5)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    close(out, forward.ravel(), 9)
    assert loss == pytest.approx(float(np.mean((forward - target) ** 2)), rel=1e-5)
    close(updated, (v - 0.3 * p.T @ (2 * (forward - target) / 45)).ravel(), 9)
    with pytest.raises(RuntimeError, match="invalid value"):
        lc.AttentionSession(9, 5).train_step(q, k, v, target, 0.0)


def test_sessions_keep_their_results_apart(rng: np.random.Generator) -> None:
    a, b, c = (values(rng, 8, 8) for _ in range(3))
    first, second = lc.matmul2d_resident_session(a, b), lc.MatMulMetalResidentSession(8, 8, 8)
    out = np.full((8, 8), 5, F32)
    first.start_into(a, b, out)
    second.start_into(b, c, out)
    assert (out == 5).all()  # start computes and does not download
    first.finish_into(a, b, out)
    close(out, a.astype(np.float64) @ b, 8)
    second.finish_into(b, c, out)
    close(out, b.astype(np.float64) @ c, 8)


def test_session_batches(rng: np.random.Generator) -> None:
    a, b = values(rng, 6, 4), values(rng, 4, 5)
    want = a.astype(np.float64) @ b
    session = lc.MatMulMetalResidentSession(6, 4, 5)
    with pytest.raises(RuntimeError, match="not supported"):
        session.run_batch_sync_cached_no_download(3)
    out = np.full((6, 5), 5, F32)
    session.run_batch_sync_no_download_into(a, b, out, 3)
    assert (out == 5).all()
    session.run_batch_sync_cached_no_download(2)
    session.run_batch_sync_into(a, b, out, 4)
    close(out, want, 4)
    assert isinstance(session.run_batch_sync(a, b, 30, 2), list)
    close(session.finish(a, b, 30), want.ravel(), 4)
    with pytest.raises(RuntimeError, match="invalid value"):
        session.run_batch_sync_into(a, b, out, 0)
    for bad in (np.empty(29, F32), np.empty((6, 5))):
        with pytest.raises(ValueError, match="out"):
            session.finish_into(a, b, bad)
    with pytest.raises(ValueError):
        session.start_into(a[:5], b, out)


def test_other_sessions(rng: np.random.Generator) -> None:
    a, b = values(rng, 4, 6), values(rng, 4, 6) + 2
    out = np.empty((4, 6), F32)
    pair = lc.MatrixElemwiseMetalResidentSession(4, 6)
    pair.sub_start_into(a, b, out)
    pair.div_start_into(a, b, out)
    pair.sub_run_into(a, b, out)
    pair.sub_finish_into(a, b, out)
    close(out, a.astype(np.float64) - b)
    pair.div_finish_into(a, b, out)
    close(out, a.astype(np.float64) / b)
    adder = lc.VectorAddMetalResidentSession(24)
    close(adder.add(a.ravel(), b.ravel(), 24), (a + b).ravel())
    x, w, bias = values(rng, 1, 2, 5, 5), values(rng, 3, 2, 3, 3), values(rng, 3)
    conv = lc.Conv2dMetalResidentSession(1, 2, 5, 5, 3, 3, 3, 1, 1, 1, 1)
    image = np.empty((1, 3, 5, 5), F32)
    conv.start_into(x, w, bias, image)
    conv.run_into(x, w, bias, image)
    conv.sync_into(x, w, bias, image)
    conv.finish_into(x, w, bias, image)
    close(image, lc.api.conv_relu_nchw(x, w, bias, 1, 1, 1, 1), 18)
    with pytest.raises(RuntimeError, match="bias"):
        conv.start_into(x, w, None, image)


def test_io_policies(rng: np.random.Generator) -> None:
    a, b = values(rng, 3, 3), values(rng, 3, 3)
    policy = lc.MatMulIoPolicy()
    close(lc.matmul_np_with_policy(a, b, 3, 3, 3, policy=policy), (a @ b).ravel(), 3)
    policy.download_out = False
    out = np.full((3, 3), 5, F32)
    lc.matmul_np_into_with_policy(a, b, out, 3, 3, 3, policy=policy)
    assert (out == 5).all()


@pytest.mark.parametrize("seq", [4, 12, 48])
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_conv_attention_pipeline(rng: np.random.Generator, seq: int, mode: str) -> None:
    x, w, bias = values(rng, 1, 3, 8, 8), values(rng, 16, 3, 3, 3), values(rng, 16)
    y = lc.api.conv_relu_nchw(x, w, bias, 1, 1, 1, 1).ravel()
    need = seq * 48
    y = np.tile(y, -(-3 * need // y.size))[: 3 * need]
    want = softmax_attention(*(y[i * need : (i + 1) * need].reshape(seq, 48) for i in range(3)))
    call = (x, w, bias, seq, 48, 1, 1, 1, 1)
    close(lc.api.conv_attention_torchstrong_nchw(*call, execution_mode=mode), want.ravel(), 48)
    out = np.empty(need, F32)
    lc.lightning_conv_attention_torchstrong_nchw_into(
        x, w, bias, out, seq, 48, 1, 1, 1, 1, execution_mode=mode
    )
    close(out, want.ravel(), 48)
    with pytest.raises(ValueError, match="execution_mode"):
        lc.api.conv_attention_torchstrong_nchw(*call, execution_mode="lazy")


def test_ab_report(rng: np.random.Generator) -> None:
    x, w = values(rng, 1, 3, 8, 8), values(rng, 16, 3, 3, 3)
    report = lc.api.conv_attention_torchstrong_nchw_ab_report(
        x, w, None, 48, 48, 1, 1, 1, 1, repeat=2
    )
    assert report["allclose"] and report["winner"] in ("graph", "eager", "tie")
    assert report["graph_over_eager"] == pytest.approx(1 / report["eager_over_graph"])
    with pytest.raises(ValueError, match="repeat"):
        lc.api.conv_attention_torchstrong_nchw_ab_report(x, w, None, 48, 48, repeat=0)


def test_capabilities() -> None:
    cpu = lc.runtime_backend_capabilities("cpu")
    assert cpu["built"] and cpu["available"] and cpu["compute_surface"]
    assert not (cpu["memory_surface"] or cpu["sync_surface"] or cpu["profiling_surface"])
    assert cpu["memory_model"] == "host-managed-compat"
    for device, here in (("metal", lc.metal_available()), ("cuda", lc.cuda_available())):
        row = lc.runtime_backend_capabilities(device)
        assert row["available"] is here and row["built"] >= row["available"]
    assert lc.runtime_backend_interfaces("cpu")["compute"]["driver_tag"] == "cpu.eager.dispatch"
    assert lc.runtime_active_backend_capabilities()["device"] == lc.backend_name()
    if not (lc.metal_available() or lc.cuda_available()):
        assert lc.backend_name() == "cpu"
    with pytest.raises(ValueError):
        lc.runtime_backend_capabilities("tpu")


def test_sync_policy() -> None:
    lc.runtime_sync_policy_set("never", True)
    assert lc.runtime_sync_policy_get() == {"mode": "never", "trace_sync_boundary": True}
    lc.runtime_sync_policy_set()
    assert lc.runtime_sync_policy_get()["mode"] == "auto"
    with pytest.raises(ValueError):
        lc.runtime_sync_policy_set("sometimes")


def test_tensors(rng: np.random.Generator) -> None:
    t = lc.Tensor.from_numpy_array(np.arange(6, dtype=F32), [2, 3])
    assert t.shape() == [2, 3] and t.strides() == [3, 1] and t.dtype() == "float32"
    assert t.to_list() == [0, 1, 2, 3, 4, 5]
    assert t.slice_copy(1, 1, 3) == [1, 2, 4, 5]
    view = t.slice(1, 1, 3)
    assert view.layout() == "strided" and view.offset_elements() == 1
    assert t.to_host_view(view) == [1, 2, 4, 5]
    assert t.read_strided([3], [2], 1) == [1, 3, 5]
    t.reshape([3, 2])
    assert t.shape() == [3, 2]
    assert t.add(t).to_list() == [0, 2, 4, 6, 8, 10]
    assert "float32" in repr(t)
    assert np.shares_memory(np.asarray(t), t.numpy())
    assert isinstance(t + 1, lc.Tensor)
    assert lc.Tensor64([2]).dtype() == "float64"
    for bad in ([4, 4], [-1, 6]):
        with pytest.raises((RuntimeError, ValueError)):
            t.reshape(bad)
    if not lc.metal_available():
        with pytest.raises(RuntimeError, match="metal"):
            lc.Tensor([2], "metal")
    with pytest.raises(RuntimeError, match="invalid value"):
        t.slice(0, 2, 1)
