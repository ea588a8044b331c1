"""Several threads, nested use, and fork."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from surface import SURFACE, arguments_of, function_of, operands_of, result_of

import lightning_core as lc

CASES = sorted((Path(__file__).resolve().parent.parent / "cases").glob("*.txt"))


def run_smoke(seed: int, device: str) -> list[str]:
    problems = []
    paths = CASES[seed % len(CASES) :] + CASES[: seed % len(CASES)]
    for path in paths:
        for case in lc.read_cases(str(path), "smoke", seed):
            result = getattr(lc._core, case.op)(*case.inputs, **case.attrs, device=device)
            problem = case.check(result)
            if problem:
                problems.append(f"{case.text}: {problem}")
    return problems


def run_reference() -> list[str]:
    """The kept functions against float64."""
    problems = []
    for name in SURFACE:
        if name.endswith("ab_report") or name == "AttentionSession" or name.endswith("session"):
            continue
        want, length = result_of(name)
        given = arguments_of(name, want)
        result = function_of(name)(**given)
        got = np.asarray(given["out"] if result is None else result, np.float32).reshape(want.shape)
        bound = 8 * np.finfo(np.float32).eps * np.sqrt(length) * np.abs(want).max()
        if not np.abs(got - want).max() <= bound:
            problems.append(name)
    return problems


def run_sessions(shared: Any) -> list[str]:
    """One session of the thread's own, and one that all threads use."""
    given = operands_of("matmul2d")
    a, b = given["a"], given["b"]
    want = lc.matmul2d(a, b)
    own = lc.MatMulMetalResidentSession(*a.shape, b.shape[1])
    problems = []
    for session in (own, shared):
        out = np.empty_like(want)
        session.start_into(a, b, out)
        session.run_batch_sync_into(a, b, out, 2)
        session.finish_into(a, b, out)
        if not np.array_equal(out, want):
            problems.append("a session")
    return problems


def run_tensors(weights: Path) -> list[str]:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    file = lc.SafetensorsFile(weights)
    tensors = (lc.Tensor.from_numpy_array(x, [3, 4]), lc.from_dlpack(x.copy()), file.tensor("a"))
    return [
        str(t) for t in tensors if not np.array_equal((t + t).numpy(), 2 * np.asarray(t.numpy()))
    ]


def run_reports() -> list[str]:
    reports = (
        lc.runtime_trace_timeline(group_by="op_path", hotspot_top_k=3),
        lc.runtime_trace_events(),
        lc.trace_chrome_json(),
        lc.trace_lines(),
        lc.plan_cache_stats(),
        lc.memory_stats(),
        lc.config_table(),
        lc.runtime_backend_capabilities("cuda"),
        lc.runtime_active_backend_interfaces(),
        lc.device_info(),
        lc.explain_call("matmul a=f32:8x8 b=f32:8x8"),
    )
    return [f"report {i}" for i, report in enumerate(reports) if not report]


def test_four_threads_call_everything(tmp_path: Path) -> None:
    """Ops, reference functions, sessions, tensors, weight files and reports, all at once."""
    barrier = threading.Barrier(4)
    weights = tmp_path / "weights.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    header += b" " * (-len(header) % 8)
    data = np.arange(6, dtype=np.float32).tobytes()
    weights.write_bytes(struct.pack("<Q", len(header)) + header + data)
    given = operands_of("matmul2d")
    shared = lc.MatMulMetalResidentSession(*given["a"].shape, given["b"].shape[1])

    def work(i: int) -> list[str]:
        parts = [
            lambda: run_smoke(i + 1, "cpu" if i % 2 else "metal"),
            run_reference,
            lambda: run_sessions(shared),
            lambda: run_tensors(weights),
            run_reports,
        ]
        barrier.wait()
        # Each thread is at another part at any time.
        return [p for k in range(3 * len(parts)) for p in parts[(i + k) % len(parts)]()]

    lc.runtime_trace_enable(True)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert [p for found in pool.map(work, range(4)) for p in found] == []
        assert lc.runtime_trace_timeline(group_by="op_path")["event_count"] > 100
    finally:
        lc.runtime_trace_enable(False)
        lc.runtime_trace_clear()


def test_threads_change_settings_while_others_compute() -> None:
    stop = threading.Event()
    rng = np.random.default_rng(1)
    a, b = rng.random((64, 96)).astype(np.float32), rng.random((96, 48)).astype(np.float32)
    want = lc.matmul(a, b)
    wrong: list[float] = []

    def compute() -> None:
        while not stop.is_set():
            error = float(np.max(np.abs(lc.matmul(a, b) - want)))
            if error > 1e-4:
                wrong.append(error)

    threads = [threading.Thread(target=compute) for _ in range(3)]
    for t in threads:
        t.start()
    for i in range(200):
        lc.clear_plan_cache()
        lc.runtime_trace_enable(i % 2 == 0)
        lc.set_config("LC_SPIN_US", "0" if i % 2 else "50")
        with lc.policy(lc.Policy(precision="fast" if i % 3 else "exact")):
            lc.matmul(a, b)
        lc.runtime_trace_timeline()
    stop.set()
    for t in threads:
        t.join()
    lc.reload_config()
    lc.runtime_trace_enable(False)
    lc.runtime_trace_clear()
    assert not wrong


def test_policy_belongs_to_its_thread() -> None:
    seen: list[lc.Policy] = []
    with lc.policy(lc.Policy(strict=True)) as inside:
        assert inside.strict
        thread = threading.Thread(target=lambda: seen.append(lc.current_policy()))
        thread.start()
        thread.join()
        assert lc.current_policy().strict
        with lc.policy(lc.Policy(sync="never")):
            assert not lc.current_policy().strict
        assert lc.current_policy().strict
    assert not seen[0].strict
    assert not lc.current_policy().strict


def test_the_lock_is_released_while_a_kernel_runs() -> None:
    a = np.ones((1200, 1200), np.float32)
    ticks = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not stop.wait(0.0005):
            ticks += 1

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(10):
        lc.matmul(a, a)
    stop.set()
    thread.join()
    assert ticks >= 5


def test_fork_while_threads_compute() -> None:
    a = np.random.default_rng(3).random((300, 300)).astype(np.float32)
    want = lc.matmul(a, a)
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            lc.matmul(a, a)

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:  # the child has one thread and must still compute
                ok = bool(np.array_equal(lc.matmul(a, a), want))
                ok = ok and bool(np.array_equal(lc.add(a, 1), a + 1))
                os._exit(0 if ok else 1)
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
    finally:
        stop.set()
        for t in threads:
            t.join()


def test_one_session_from_several_threads() -> None:
    rng = np.random.default_rng(5)
    q, k, v = (rng.random((32, 16)).astype(np.float32) for _ in range(3))
    session = lc.AttentionSession(32, 16, False, "cpu")
    want = lc.attention2d(q, k, v)

    def work(_: int) -> bool:
        out = np.empty_like(q)
        session.forward_into(q, k, v, out)
        _, updated, loss = session.train_step(q, k, v, want, 0.1)
        return bool(np.allclose(out, want, atol=1e-6)) and loss < 1e-10 and len(updated) == v.size

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))


FIRST_USE = """
import os, sys, threading
import numpy as np
import lightning_core as lc

ones = np.ones((64, 64), np.float32)
start = threading.Barrier(3)

def first_use(which):
    start.wait()
    for _ in range(20):
        lc.matmul(ones, ones) if which else lc.softmax(ones)

threads = [threading.Thread(target=first_use, args=(i,)) for i in range(2)]
for t in threads:
    t.start()
start.wait()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        os._exit(0 if lc.matmul(ones, ones)[0, 0] == 64 else 1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]
for t in threads:
    t.join()
sys.exit(any(codes))
"""


def test_fork_while_other_threads_use_the_library_for_the_first_time() -> None:
    for _ in range(5):
        subprocess.run([sys.executable, "-W", "ignore", "-c", FIRST_USE], check=True, timeout=60)
