"""Several threads, nested use, and fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

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


def test_four_threads_call_everything() -> None:
    barrier = threading.Barrier(4)

    def work(i: int) -> list[str]:
        barrier.wait()
        return run_smoke(i + 1, "cpu" if i % 2 else "metal")

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
