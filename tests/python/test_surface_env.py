"""Environment variables, each in a process of its own: good values do what docs/env.md says, bad
ones are errors that name the variable, and every forced instruction set computes rightly."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lightning_core as lc

CASES = Path(__file__).resolve().parent.parent / "cases"
Env = dict[str, str]
Child = Callable[..., dict[str, Any]]


def start(arguments: list[str], cwd: Path, env: Env) -> subprocess.CompletedProcess[str]:
    """Python with these variables and no others of ours."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "CJ_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**clean, "COLUMNS": "200", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def code_of(child: Child, *arguments: str) -> list[str]:
    """Arguments of a Python that prints what `child`, which imports what it needs, returns."""
    source = textwrap.dedent(inspect.getsource(child))
    code = (
        f"from __future__ import annotations\nimport json\nfrom typing import Any\n{source}\n"
        f"print(json.dumps({child.__name__}(*{list(arguments)!r})))"
    )
    return ["-c", code]


def run(child: Child, cwd: Path, env: Env, *arguments: str) -> dict[str, Any]:
    """What `child` returns in a process of its own."""
    done = start(code_of(child, *arguments), cwd, env)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# ---------------------------------------------------------------- what children do


def settings() -> dict[str, Any]:
    """The settings in force and what follows from them."""
    import numpy as np

    import lightning_core as lc

    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    off = lc.runtime_trace_enabled()
    lc.runtime_trace_enable(True)
    product = lc.matmul2d(a, a.T)
    (event,) = lc.runtime_trace_events()[-1:]
    lc.runtime_trace_enable(False)
    big = np.ones((300, 300), np.float32)
    return {
        "table": {row["name"]: row["value"] for row in lc.config_table()},
        "defaults": {row["name"]: row["default"] for row in lc.config_table()},
        "threads": [lc.num_threads(), lc.device_info()["threads"]],
        "isa": lc.device_info()["isa"],
        "traced_before": off,
        "requested": event["requested_device"],
        "selected": event["selected_device"],
        "active": lc.runtime_active_backend_capabilities()["device"],
        "right": bool(np.array_equal(product, a @ a.T) and (lc.matmul2d(big, big) == 300).all()),
    }


def memory_and_plans() -> dict[str, Any]:
    """What is cached after work that would fill the caches."""
    import numpy as np

    import lightning_core as lc

    for n in range(1, 21):
        lc.relu(np.ones(n, np.float32))
    held = lc.relu(np.ones(1 << 20, np.float32))
    right = bool((held == 1).all())
    del held
    entries = lc.plan_cache_stats()["entries"]  # of 21 plans
    return {"entries": entries, "cached": lc.memory_stats()["cached"], "right": right}


def allocations() -> dict[str, Any]:
    """Which sizes can be had, and that the library works after one could not."""
    import numpy as np

    import lightning_core as lc

    refused = []
    for n in (1000, 300_000):
        try:
            lc.relu(np.ones(n, np.float32))
        except MemoryError as error:
            refused.append([n, str(error)])
    return {"refused": refused, "after": lc.relu(np.ones(3, np.float32)).tolist()}


def refusals() -> dict[str, Any]:
    """Kinds and texts of the errors of calls, then the same calls once the environment is good."""
    import os

    import numpy as np

    import lightning_core as lc

    a = np.ones((4, 4), np.float32)
    calls: dict[str, Any] = {
        "op": lambda: lc.matmul2d(a, a),
        "fallback": lambda: lc.vector_add(a, a, "cuda"),
        "large": lambda: lc.relu(np.ones(1 << 18, np.float32)),
        "table": lc.config_table,
    }

    def errors() -> dict[str, list[str]]:
        found = {}
        for name, call in calls.items():
            try:
                call()
            except Exception as error:
                found[name] = [type(error).__name__, str(error)]
        return found

    first = errors()
    for name in list(os.environ):
        if name.startswith(("LC_", "CJ_")):
            del os.environ[name]
    lc.reload_config()
    return {"errors": first, "after": errors()}


def strict() -> dict[str, Any]:
    """Errors of calls that fall back or copy, and of calls that need not."""
    import numpy as np

    import lightning_core as lc

    a, x = np.ones((4, 4), np.float32), np.ones((1, 1, 4, 4), np.float32)
    out = np.empty((4, 4), np.float32)
    away = "cuda" if not lc.cuda_available() else "metal"  # one that is absent
    calls: dict[str, Any] = {
        "plain": lambda: lc.matmul2d(a, a),
        "strided": lambda: lc.matmul2d(a[::-1, ::2], a[:2]),
        "matmul2d": lambda: lc.matmul2d(a, a, away),
        "matmul2d_into": lambda: lc.matmul2d_into(a, a, out, away),
        "matmul_np": lambda: lc.matmul_np(a, a, 4, 4, 4, away),
        "vector_add": lambda: lc.vector_add(a, a, away),
        "matrix_sub": lambda: lc.matrix_sub(a, a, 4, 4, away),
        "conv2d_nchw": lambda: lc.conv2d_nchw(x, x, device=away),
        "attention2d": lambda: lc.attention2d(a, a, a, False, away),
        "conv_relu_nchw": lambda: lc.api.conv_relu_nchw(x, x, device=away),
        "attention": lambda: lc.api.attention(a, a, a, 4, 4, False, away),
        "float64": lambda: lc.matmul2d(a.astype(np.float64), a),
        "int32": lambda: lc.vector_add(a.astype(np.int32), a),
        "swapped": lambda: lc.matmul2d(a.astype(">f4"), a),
        "session": lambda: lc.AttentionSession(4, 4, False, away).forward(a, a, a),
        "session_into": lambda: lc.AttentionSession(4, 4, False, away).forward_into(a, a, a, out),
        "with_policy": lambda: lc.matmul_np_with_policy(a, a, 4, 4, 4, away),
    }
    found = {}
    for name, call in calls.items():
        try:
            call()
        except Exception as error:
            found[name] = [type(error).__name__, str(error)]
    return found


def bools(*words: str) -> dict[str, Any]:
    """What LC_STRICT reads as for each word."""
    import os

    import lightning_core as lc

    read = {}
    for word in words:
        os.environ["LC_STRICT"] = word
        lc.reload_config()
        read[word] = [row["value"] for row in lc.config_table() if row["name"] == "LC_STRICT"][0]
    return read


def dispatch() -> dict[str, Any]:
    """Two ops under whatever trace the environment asks for."""
    import numpy as np

    import lightning_core as lc

    enabled = lc.runtime_trace_enabled()
    lc.vector_add(np.ones(3, np.float32), np.ones(3, np.float32))
    lc.relu(np.ones(5, np.float32))
    return {"enabled": enabled, "ops": [e["op"] for e in lc.runtime_trace_events()]}


def families(folder: str) -> dict[str, Any]:
    """Errors over their bounds, 8 * eps * sqrt(length) * max |want| against float64, a family of
    ops each; the instruction sets of the kernels that ran; smoke cases that are wrong."""
    from pathlib import Path

    import numpy as np

    import lightning_core as lc

    rng = np.random.default_rng(11)
    worst: dict[str, float] = {}

    def check(family: str, got: Any, want: Any, length: int) -> None:
        got, want = np.asarray(got), np.asarray(want)
        assert got.shape == want.shape, (family, got.shape, want.shape)
        bound = 8 * np.finfo(got.dtype).eps * np.sqrt(length) * max(np.abs(want).max(), 1e-30)
        ratio = float(np.abs(got.astype(np.float64) - want).max() / bound)
        worst[family] = max(worst.get(family, 0.0), ratio)

    def softmax(x: Any) -> Any:
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    lc.runtime_trace_enable(True)
    for dtype in (np.float32, np.float64):

        def uniform(*shape: int, dtype: Any = dtype) -> Any:
            return rng.uniform(-1, 1, shape).astype(dtype)

        def wide(*arrays: Any) -> Any:
            return [x.astype(np.float64) for x in arrays]

        for m, k, n in ((1, 300, 33), (65, 70, 67), (3, 5, 1), (129, 257, 95)):
            a, b, bias = uniform(m, k), uniform(k, n), uniform(n)
            wa, wb, wbias = wide(a, b, bias)
            check("matmul", lc.matmul(a, b), wa @ wb, k)
            relu = np.maximum(wa @ wb + wbias, 0)
            linear = lc.linear(a, np.ascontiguousarray(b.T), bias, activation="relu")
            check("linear", linear, relu, k)
        for size in (1, 17, 1003):
            a, b = uniform(size), uniform(size) + 3
            wa, wb = wide(a, b)
            check("binary", lc.add(a, b), wa + wb, 1)
            check("binary", lc.div(a, b), wa / wb, 1)
            check("unary", lc.exp(a), np.exp(wa), 1)
            check("unary", lc.tanh(a), np.tanh(wa), 1)
            check("where", lc.where(a > 0, a, b), np.where(wa > 0, wa, wb), 1)
            check("concat", lc.concat(a, b), np.concatenate([wa, wb]), 1)
            other = np.float64 if dtype is np.float32 else np.float32
            check("cast", lc.cast(a, np.dtype(other).name), a.astype(other), 1)
        x = uniform(37, 101)
        (wx,) = wide(x)
        check("softmax", lc.softmax(x), softmax(wx), 101)
        check("reduce", lc.sum(x, axes=0), wx.sum(axis=0), 37)
        check("reduce", lc.mean(x, axes=1), wx.mean(axis=1), 101)
        check("reduce", lc.max(x, axes=1), wx.max(axis=1), 1)
        check("shape", lc.copy(lc.transpose(x)), wx.T, 1)
        scale = np.sqrt(wx.var(axis=-1, keepdims=True) + 1e-5)
        check("norm", lc.layer_norm(x), (wx - wx.mean(axis=-1, keepdims=True)) / scale, 101)
        rows = np.array([3, 0, 36])
        check("embedding", lc.embedding(rows, x), wx[rows], 1)
        for seq, dim, causal in ((1, 8, False), (70, 33, True), (64, 64, False)):
            q, key, v = uniform(seq, dim), uniform(seq, dim), uniform(seq, dim)
            wq, wk, wv = wide(q, key, v)
            scores = wq @ wk.T / np.sqrt(dim)
            scores = np.where(np.tri(seq, dtype=bool), scores, -np.inf) if causal else scores
            check(
                "attention", lc.attention(q, key, v, causal=causal), softmax(scores) @ wv, seq + dim
            )
        for kernel, step, pad in ((3, 1, 1), (1, 1, 0), (5, 2, 2)):
            image, weight = uniform(2, 7, 12, 13), uniform(19, 7, kernel, kernel)
            padded = np.pad(wide(image)[0], ((0, 0), (0, 0), (pad, pad), (pad, pad)))
            view = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
            want = np.einsum("nchwij,ocij->nohw", view[:, :, ::step, ::step], wide(weight)[0])
            got = lc.conv2d(image, weight, stride=step, padding=pad)
            check("conv2d", got, want, 7 * kernel * kernel)
        pooled = wide(image)[0].reshape(2, 7, 4, 3, 13)[..., :12].reshape(2, 7, 4, 3, 4, 3)
        check("pool", lc.max_pool2d(image, kernel=3, stride=3), pooled.max(axis=(3, 5)), 1)
        check("pool", lc.avg_pool2d(image, kernel=3, stride=3), pooled.mean(axis=(3, 5)), 9)
    kernels = {e["kernel"] for e in lc.runtime_trace_events()}
    sets = sorted({k.partition("@")[2] for k in kernels if "@" in k})
    problems, count = [], 0
    for path in sorted(Path(folder).glob("*.txt")):
        for case in lc.read_cases(str(path), "smoke"):
            count += 1
            problem = case.check(getattr(lc._core, case.op)(*case.inputs, **case.attrs))
            if problem:
                problems.append(f"{case.text}: {problem}")
    return {
        "isa": lc.device_info()["isa"], "sets": sets, "worst": worst, "cases": count,
        "problems": problems,
    }  # fmt: skip


# ---------------------------------------------------------------- instruction sets

FAMILIES = {
    "matmul", "linear", "binary", "unary", "where", "concat", "cast", "softmax", "reduce", "shape",
    "norm", "embedding", "attention", "conv2d", "pool",
}  # fmt: skip


@pytest.mark.parametrize("isa", ["avx512", "avx2", "neon", "baseline", "auto"])
def test_forced_instruction_sets_compute_rightly(isa: str, tmp_path: Path) -> None:
    done = start(code_of(families, str(CASES)), tmp_path, {"LC_MAX_ISA": isa})
    if done.returncode != 0:  # one that this machine lacks is refused clearly
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("RuntimeError: [config] LC_MAX_ISA: expected auto or an instruct")
        assert last.endswith(f"found '{isa}'") and isa not in ("baseline", "auto")
        pytest.skip(last)
    found = json.loads(done.stdout)
    assert found["isa"] == isa or isa == "auto"
    assert found["sets"] == [found["isa"]]
    assert set(found["worst"]) == FAMILIES
    assert {k: v for k, v in found["worst"].items() if not v <= 1} == {}
    assert found["cases"] > 100 and found["problems"] == []


# ---------------------------------------------------------------- good values


def test_without_variables_the_defaults_are_in_force(tmp_path: Path) -> None:
    found = run(settings, tmp_path, {})
    for name, value in found["table"].items():
        default = found["defaults"][name]
        assert value == default or float(value) == float(default), name
    assert found["right"] and not found["traced_before"]
    assert found["requested"] == found["active"] == lc.backend_name()
    assert list(tmp_path.iterdir()) == []  # nothing lands in the working directory


def test_variables_that_only_other_builds_read_are_kept(tmp_path: Path) -> None:
    env = {
        "CJ_CONV2D_CPU_CROSSOVER_DYNAMIC": "1",
        "CJ_CONV2D_CPU_CROSSOVER_MACS": "1000",
        "CJ_GRAPH_POLICY_CACHE_FILE": "graphs.csv",
        "CJ_MATMUL_DISABLE_PROMOTED_BUCKETS": "1",
        "CJ_MATMUL_MPS_HYST_PCT": "2.5",
        "CJ_MATMUL_PREFER_MPS_ON_LARGE": "0",
        "CJ_MATMUL_TRY_KERNEL_ON_LARGE": "0",
        "CJ_MATMUL_TUNE_CACHE_FILE": "tuned.csv",
        "CJ_VECTORADD_CPU_CROSSOVER_N": "0",
        "LC_BENCH_TIMING_RUNS": "5",
    }
    found = run(settings, tmp_path, env)
    assert {name: found["table"][name] for name in env} == env
    assert found["right"]


@pytest.mark.parametrize(("threads", "spin"), [("1", "900"), ("2", "0"), ("5", "900")])
def test_threads_and_their_wait(threads: str, spin: str, tmp_path: Path) -> None:
    found = run(settings, tmp_path, {"LC_NUM_THREADS": threads, "LC_SPIN_US": spin})
    assert found["threads"] == [int(threads)] * 2
    assert found["table"]["LC_SPIN_US"] == spin
    assert found["right"]


@pytest.mark.parametrize("device", ["auto", "cpu", "metal", "cuda", "null"])
def test_the_device_of_calls_that_name_none(device: str, tmp_path: Path) -> None:
    found = run(settings, tmp_path, {"LC_DEVICE": device})
    expected = lc.backend_name() if device == "auto" else device
    assert found["requested"] == found["active"] == expected
    computes = device != "null"
    present = lc.runtime_backend_capabilities(expected)["available"]
    assert found["selected"] == (expected if present else "cpu")
    assert found["right"] or not computes


@pytest.mark.parametrize(
    ("megabytes", "low", "high", "limit", "fewest", "most"),
    [("0", 0, 0, "1", 1, 1), ("2", 0, 2, "7", 1, 7), ("512", 4, 512, "4096", 21, 21)],
)
def test_caches_keep_what_their_limits_allow(
    megabytes: str, low: int, high: int, limit: str, fewest: int, most: int, tmp_path: Path
) -> None:
    env = {"LC_MEMORY_CACHE_MB": megabytes, "LC_PLAN_CACHE_ENTRIES": limit}
    found = run(memory_and_plans, tmp_path, env)
    assert low << 20 <= found["cached"] <= high << 20
    assert fewest <= found["entries"] <= most
    assert found["right"]


def test_allocations_fail_above_a_limit(tmp_path: Path) -> None:
    found = run(allocations, tmp_path, {"LC_TEST_FAIL_ALLOC_ABOVE": "1000000"})
    ((size, message),) = found["refused"]
    assert size == 300_000
    assert "[memory]" in message and "1200000" in message
    assert found["after"] == [1, 1, 1]
    assert run(allocations, tmp_path, {"LC_TEST_FAIL_ALLOC_ABOVE": "0"})["refused"] == []


def test_words_of_bools(tmp_path: Path) -> None:
    on, off = ["1", "true", "on", "yes"], ["0", "false", "off", "no", ""]
    read = run(bools, tmp_path, {}, *on, *off)
    assert read == {**dict.fromkeys(on, "1"), **dict.fromkeys(off, "0")}


@pytest.mark.parametrize("word", ["1", "0", ""])
def test_trace_from_the_start(word: str, tmp_path: Path) -> None:
    found = run(dispatch, tmp_path, {"LC_TRACE": word})
    assert found["enabled"] is (word == "1")
    assert found["ops"] == (["vector_add", "relu"] if word == "1" else [])


def test_trace_to_a_file_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "a trace.txt"
    for runs in (1, 2):
        found = run(dispatch, tmp_path, {"LC_TRACE": str(path)})
        assert found == {"enabled": True, "ops": ["vector_add", "relu"]}
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [line.split(",")[4].split()[0] for line in lines] == ["add", "relu"] * runs
        assert all(line.startswith("lc,exec,") for line in lines)


FALLBACKS = [
    "matmul2d", "matmul2d_into", "matmul_np", "vector_add", "matrix_sub", "conv2d_nchw",
    "attention2d", "conv_relu_nchw", "attention",
]  # fmt: skip


@pytest.fixture(scope="module")
def strict_errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return run(strict, tmp_path_factory.mktemp("strict"), {"LC_STRICT": "1"})


def test_without_strict_calls_fall_back_and_copy(tmp_path: Path) -> None:
    assert run(strict, tmp_path, {"LC_STRICT": "0"}) == {}


def test_strict_turns_fallbacks_and_copies_into_errors(strict_errors: dict[str, list[str]]) -> None:
    errors = strict_errors
    assert not {"plain", "strided"} & set(errors)
    for name in FALLBACKS:
        kind, text = errors[name]
        assert kind == "RuntimeError" and "device" in text and "strict" in text, name
    for name in ("float64", "int32"):
        kind, text = errors[name]
        assert kind == "RuntimeError" and "implicit copy" in text, name


@pytest.mark.parametrize("name", ["swapped", "session", "session_into", "with_policy"])
def test_strict_reaches_every_call_without_a_policy(
    name: str, strict_errors: dict[str, list[str]]
) -> None:
    assert name in strict_errors


# ---------------------------------------------------------------- bad values

FROM_THE_START = [
    # variable, value, the call that must report it
    ("LC_MAX_ISA", "sse9", "op"),
    ("LC_NUM_THREADS", "two", "op"),
    ("LC_SPIN_US", "901", "op"),
    ("LC_DEVICE", "tpu", "op"),
    ("LC_PLAN_CACHE_ENTRIES", "0", "op"),
    ("LC_MEMORY_CACHE_MB", "much", "op"),
    ("LC_TEST_FAIL_ALLOC_ABOVE", "1e9", "op"),
    ("LC_STRICT", "maybe", "fallback"),
]


@pytest.mark.parametrize(("name", "value", "call"), FROM_THE_START)
def test_bad_values_are_errors_of_the_calls_that_read_them(
    name: str, value: str, call: str, tmp_path: Path
) -> None:
    found = run(refusals, tmp_path, {name: value})
    for where in (call, "table"):
        kind, text = found["errors"][where]
        assert kind == "ValueError"
        assert text.startswith(f"[config] {name}: expected ") and text.endswith(f"'{value}'")
    assert found["after"] == {}  # good again once the environment is


BAD = {
    "LC_MAX_ISA": ["AVX2", "avx2 ", "avx2|neon", "0"],
    "LC_NUM_THREADS": ["-1", "1.5", "1025", "0x2", " 2", "99999999999999999999"],
    "LC_SPIN_US": ["-1", "1e2"],
    "LC_DEVICE": ["CPU", "gpu", "cpu,metal"],
    "LC_PLAN_CACHE_ENTRIES": ["-1", "1048577"],
    "LC_MEMORY_CACHE_MB": ["-1", "1048577", "1GB"],
    "LC_TEST_FAIL_ALLOC_ABOVE": ["-1", "nan"],
    "LC_STRICT": ["2", "ON", "maybe"],
    "LC_BENCH_TIMING_RUNS": ["0", "1001"],
    "CJ_CONV2D_CPU_CROSSOVER_DYNAMIC": ["always"],
    "CJ_CONV2D_CPU_CROSSOVER_MACS": ["-5", "1e6"],
    "CJ_MATMUL_DISABLE_PROMOTED_BUCKETS": ["x"],
    "CJ_MATMUL_MPS_HYST_PCT": ["nan", "inf", "-0.5", "100.5", "5%", " 5"],
    "CJ_MATMUL_PREFER_MPS_ON_LARGE": ["-"],
    "CJ_MATMUL_TRY_KERNEL_ON_LARGE": ["true "],
    "CJ_VECTORADD_CPU_CROSSOVER_N": ["8Mi"],
}


def tables(bad_json: str) -> dict[str, Any]:
    """The error that the table of settings gives for each bad value of each variable."""
    import json
    import os

    import lightning_core as lc

    found: dict[str, dict[str, str]] = {}
    for name, values in json.loads(bad_json).items():
        for value in values:
            os.environ[name] = value
            lc.reload_config()
            try:
                lc.config_table()
                text = "accepted"
            except ValueError as error:
                text = str(error)
            found.setdefault(name, {})[value] = text
        del os.environ[name]
        lc.reload_config()
        lc.config_table()
    return found


def test_bad_values_are_errors_that_name_variable_and_value(tmp_path: Path) -> None:
    found = run(tables, tmp_path, {}, json.dumps(BAD))
    for name, values in BAD.items():
        for value in values:
            text = found[name][value]
            assert text.startswith(f"[config] {name}: expected "), (name, value, text)
            assert text.endswith(f"found '{value}'"), (name, value, text)


def test_every_variable_with_bad_values_is_tried() -> None:
    names = {row["name"] for row in lc.config_table()}
    any_text = {name for name in names if name.endswith("_FILE")} | {"LC_TRACE"}
    assert set(BAD) == names - any_text


def test_a_trace_file_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "no such folder" / "trace.txt"
    found = run(refusals, tmp_path, {"LC_TRACE": str(path)})
    kind, text = found["errors"]["op"]
    assert kind == "ValueError"
    assert text.startswith("[config] LC_TRACE: expected ") and str(path) in text
    assert found["after"] == {}


@pytest.mark.parametrize(
    ("command", "env"),
    [
        (["info"], {"LC_MAX_ISA": "sse9"}),
        (["explain", "matmul", "a=f32:8x8", "b=f32:8x8"], {"LC_DEVICE": "tpu"}),
    ],
)
def test_the_command_line_reports_bad_values(command: list[str], env: Env, tmp_path: Path) -> None:
    done = start(["-m", "lightning_core.cli", *command], tmp_path, env)
    ((name, value),) = env.items()
    assert done.returncode == 2
    assert f"[config] {name}: expected" in done.stderr and f"'{value}'" in done.stderr
    assert "Traceback" not in done.stderr
