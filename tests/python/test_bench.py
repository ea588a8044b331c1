"""The benchmark: every suite's rows compute the right thing, and reports say what was seen."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

import lightning_core as lc
from lightning_core.bench import exact, measure, page, peers, report, roofline, run, work
from lightning_core.bench.measure import OURS, Case, Contender, Limits, Row, Samples
from lightning_core.bench.suites import SUITES, builders

TINY = 12  # largest extent; overhead is as small as it is
LIMITS = Limits(flops=1e11, bandwidth=1e10)
EAGER = ("numpy", "torch")


@pytest.fixture(scope="module")
def eager() -> peers.Peers:
    return peers.Peers(lc.num_threads(), EAGER)


@pytest.fixture(scope="module")
def all_peers() -> peers.Peers:
    return peers.Peers(lc.num_threads())


@pytest.mark.parametrize("suite", SUITES)
def test_rows_and_their_peers_are_right(suite: str, eager: peers.Peers) -> None:
    works = list(SUITES[suite](TINY))
    assert works
    for declared in works:
        case = work.build(declared, suite, eager, seed=0)
        row, contenders = measure.check(case)
        assert row.short == "" and row.note == "", f"{row.name}: {row.note}"
        assert OURS in contenders
        assert ("torch" in contenders) == (eager.torch is not None), row.name
        assert ("numpy" in contenders) == (declared.numpy is not None), row.name


@pytest.mark.parametrize(
    "declared",
    [
        builders.gemm(9, 7, 5),
        builders.gemm_transposed(6, 5, 4, "nt"),
        builders.linear(3, 8, 5),
        builders.attention(9, 4),
        builders.attention(7, 4, heads=2, causal=True),
        builders.attention_of_model(2, 7, 3, 4),
        builders.conv(1, 4, 9, 6, k=3, stride=2, pad=1),
        builders.conv(1, 4, 6, 4, groups=4),
        builders.layer_norm(5, 8),
        *[w for w in SUITES["pipeline"](16) if w.bench in ("ffn", "conv_attention", "ln_proj")],
    ],
    ids=lambda w: w.name,
)
def test_every_installed_peer_computes_the_row(declared: work.Work, all_peers: peers.Peers) -> None:
    row, contenders = measure.check(work.build(declared, "x", all_peers, seed=0))
    missing = set(peers.PEERS) - set(contenders)
    if declared.numpy is None:
        missing.discard("numpy")
    found = all_peers
    for name, there in (
        ("torch", found.torch),
        ("torch_compile", found.inductor),
        ("jax", found.jax),
        ("onnxruntime", found.onnxruntime),
        ("openvino", found.openvino),
    ):
        if not there:
            missing.discard(name)
    # A compiler that is installed but broken is a note, not a failure of ours.
    if "torch_compile" in missing and "torch_compile:" in row.note:
        missing.discard("torch_compile")
    assert not missing, row.note


def test_suites_have_the_shapes_that_are_asked_for() -> None:
    names = {suite: [w.name for w in rows(0)] for suite, rows in SUITES.items()}
    for found in names.values():
        assert len(found) == len(set(found))
    for name in ("matmul 64x64x64", "matmul 3072x3072x3072", "matmul 4096x1024x4096"):
        assert name in names["kernel"]
    for name in ("attention 12x1024x128", "attention_causal 12x256x32"):
        assert name in names["kernel"]
    assert "attention_of_model 32x12x128x32" in names["kernel"]
    assert "conv_relu 1x3x224x224->64 k7s2" in names["kernel"]
    assert "depthwise_relu 1x144x56x56->144 k3" in names["kernel"]
    assert "linear 4096x1024x1024" in names["ml"]
    assert "ffn 1024x768->3072->768" in names["pipeline"]
    assert "lc.matmul2d_into 8x8x8" in names["overhead"]
    if names["model"]:
        assert names["model"] == ["minilm 1x16", "minilm 1x128", "minilm 32x128"]
    wants = {w.name: w.want for w in SUITES["kernel"](0)}
    assert wants["matmul 1024x1024x1024"].pct == 92.0
    assert wants["matmul 256x256x256"].pct == 80.0
    assert wants["attention 8x16"].pct is None


def test_a_missing_peer_is_left_out() -> None:
    nobody = peers.Peers(1, [])
    row, contenders = measure.check(work.build(builders.gemm(4, 4, 4), "x", nobody, seed=0))
    assert list(contenders) == [OURS]
    assert row.note == ""


def test_a_peer_that_fails_is_left_out_with_a_note(eager: peers.Peers) -> None:
    def broken(a: Any, b: Any) -> Any:
        raise RuntimeError("no such\nthing")

    declared = replace(builders.gemm(4, 4, 4), numpy=broken)
    row, contenders = measure.check(work.build(declared, "x", eager, seed=0))
    assert "numpy" not in contenders
    assert "numpy: RuntimeError: no such thing" in row.note
    assert row.short == ""


@pytest.mark.parametrize(
    "ours",
    [
        lambda a, b: lc.matmul2d(a, b) + np.float32(1e-3),
        lambda a, b: lc.matmul2d(a, b)[:1],
        lambda a, b: lc.matmul2d(a, b) * np.float32("nan"),
    ],
    ids=["off", "short", "nan"],
)
def test_a_wrong_result_gets_a_note_and_no_time(ours: Callable[..., Any]) -> None:
    declared = replace(builders.gemm(4, 4, 4), ours=ours)
    outcome = run.run("x", [declared], peers.Peers(1, ["numpy"]), LIMITS, run.Settings(3, 1e-4))
    (row,) = outcome.rows
    assert row.lightning_core_ms is None and row.peer_ms == {}
    assert "wrong: error" in row.short


def test_a_wrong_peer_is_left_out(eager: peers.Peers) -> None:
    declared = replace(builders.gemm(4, 4, 4), numpy=lambda a, b: a @ b + np.float32(0.01))
    row, contenders = measure.check(work.build(declared, "x", eager, seed=0))
    assert "numpy" not in contenders
    assert "numpy differs by 0.01" in row.note


def test_an_output_that_is_not_written_is_wrong() -> None:
    out = np.zeros((2, 2), np.float32)
    assert np.isnan(Contender(lambda: None, out).result()).all()


def test_inputs_depend_on_the_row_and_the_seed_only() -> None:
    nobody = peers.Peers(1, [])
    one, two = builders.gemm(4, 5, 6), builders.gemm(4, 5, 7)
    first = work.build(one, "x", nobody, 3).expected
    work.build(two, "x", nobody, 3)
    assert np.array_equal(work.build(one, "y", nobody, 3).expected, first)
    assert not np.array_equal(work.build(one, "x", nobody, 4).expected, first)


def test_exact_agrees_with_definitions(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 5, 6))
    w = rng.normal(size=(4, 3, 3, 2))
    b = rng.normal(size=4)
    got = exact.conv(x, w, b, stride=2, padding=1)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    one = sum(
        padded[1, c, 2 + i, 4 + j] * w[3, c, i, j]
        for c in range(3)
        for i in range(3)
        for j in range(2)
    )
    assert got.shape == (2, 4, 3, 4)
    assert math.isclose(got[1, 3, 1, 2], one + b[3])
    q, k, v = rng.normal(size=(3, 4, 2))
    causal = exact.attention(q, k, v, causal=True)
    assert np.allclose(causal[0], v[0])
    assert np.allclose(causal[-1], exact.attention(q, k, v)[-1])
    assert np.allclose(exact.gelu(np.array([0.0, 1.0])), [0.0, 0.8413447460685429])


def test_turns_alternate_and_far_peers_get_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "REST_S", 0.0)
    monkeypatch.setattr(measure, "WARM_S", 0.0)
    order: list[str] = []

    def call(name: str, seconds: float) -> Contender:
        def body() -> None:
            order.append(name)
            time.sleep(seconds)

        return Contender(body)

    contenders = {OURS: call("a", 2e-4), "numpy": call("b", 2e-4), "jax": call("c", 2e-3)}
    samples = measure.sample(contenders, 5, 1e-4, lambda: 1.0)
    counts = {name: len(values) for name, values in samples.seconds.items()}
    assert counts == {OURS: 5, "numpy": 5, "jax": measure.FEW_ROUNDS}
    assert len(samples.limits) == 5
    compact = [a for a, b in zip(order, [*order[1:], ""], strict=True) if a != b]
    assert "".join(compact).endswith("abcabcabcabab")


def test_partial_calls_are_timed_without_a_closure() -> None:
    seen: list[tuple[Any, ...]] = []

    def function(*args: Any, out: Any = None) -> None:
        seen.append((*args, out))

    assert measure._timer(partial(function, 1, "x", out=2.5))(3) >= 0.0
    assert seen == [(1, "x", 2.5)] * 3


def _case(**changes: Any) -> Case:
    nothing = Contender(lambda: None)
    fields: dict[str, Any] = {"flops": 1e8, "bytes": 1e6} | changes
    return Case("x", "op", "1", nothing, {}, np.zeros(1), 0.0, **fields)


def _row(case: Case, **seconds: list[float]) -> Row:
    samples = Samples({OURS: seconds.pop("ours"), **seconds}, [1e11] * 3)
    return measure.summarise(case, Row("x", "op", "1", "one-shot"), samples, LIMITS)


def test_summaries() -> None:
    row = _row(_case(), ours=[2e-3, 2e-3, 4e-3], numpy=[4e-3, 4e-3, 4e-3], jax=[3e-3, 3e-3, 3e-3])
    assert row.best_peer == "jax"
    assert row.ratio == pytest.approx(2 / 3)
    assert row.ratio_low == pytest.approx(2 / 3) and row.ratio_high == pytest.approx(1.0)
    assert row.bound_by == "flops" and row.pct_of_peak == pytest.approx(50.0)
    assert row.gflops == pytest.approx(50.0) and row.intensity == pytest.approx(100.0)
    assert row.short == ""


@pytest.mark.parametrize(
    ("wants", "message"),
    [
        ({"want_ratio": 0.62}, "0.67 of numpy, wanted 0.62"),
        ({"want_pct": 92.0}, "50 % of flops, wanted 92 %"),
        ({"want_us": 0.2}, "2000.00 us, wanted 0.20 us"),
    ],
)
def test_rows_that_fall_short_say_in_what(wants: dict[str, float], message: str) -> None:
    assert _row(_case(**wants), ours=[2e-3] * 3, numpy=[3e-3] * 3).short == message


def test_faster_than_memory_is_the_cache() -> None:
    case = _case(flops=1.0, bytes=1e9, want_pct=95.0)
    row = _row(case, ours=[1e-3] * 3)
    assert row.bound_by == "cache" and row.pct_of_peak is None and row.short == ""
    assert row.ratio is None and row.best_peer == ""


def test_faster_than_arithmetic_is_an_error_of_ours() -> None:
    assert "measurement is wrong" in _row(_case(), ours=[1e-5] * 3).note


def _rows() -> list[Row]:
    good = _row(_case(), ours=[2e-3] * 3, numpy=[3e-3] * 3)
    bad = _row(_case(), ours=[3e-3] * 3, torch=[2e-3] * 3, torch_compile=[9e-3] * 3)
    worse = _row(_case(), ours=[9e-3] * 3, numpy=[2e-3] * 3)
    good.bench, bad.bench, worse.bench = "good <1>", "bad", "worse"
    wrong = Row("x", "wrong", "1", "one-shot", short="wrong: error 1", note="wrong: error 1")
    return [good, bad, worse, wrong]


def test_reports_put_what_falls_short_first(tmp_path: Path) -> None:
    rows = _rows()
    assert [r.bench for r in report.ordered(rows)] == ["wrong", "worse", "bad", "good <1>"]
    outcome = run.Outcome(rows, [10.0, 11.0, 12.0])
    header = report.machine(2, run.Settings(3, 0.05, repeats=3), LIMITS, outcome)
    paths = report.write(rows, header, tmp_path / "new" / "folder", "kernel")
    assert [p.name for p in paths] == ["kernel.csv", "kernel.json", "kernel.html"]
    with paths[0].open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert lines[0]["numpy_ms"] == "3.0" and lines[0]["torch_cpu_ms"] == ""
    assert lines[1]["torch_cpu_ms"] == "2.0" and lines[1]["torch_compile_ms"] == "9.0"
    assert lines[1]["jax_ms"] == "" and lines[1]["ratio_spread"] == "1.50..1.50"
    assert lines[3]["lightning_core_ms"] == "" and lines[3]["ratio"] == ""
    data = json.loads(paths[1].read_text(encoding="utf-8"))
    assert data["meta"]["variation_pct"] == pytest.approx(100 / 11)
    assert data["rows"][0]["peer_ms"] == {"numpy": pytest.approx(3.0)}
    text = paths[2].read_text(encoding="utf-8")
    assert "http" not in text.split("<h2>Machine")[0]
    order = [text.index(f"<tr><td>{name}") for name in ("wrong", "worse", "bad", "good &lt;1&gt;")]
    assert order == sorted(order)
    assert "1 of 4" in text


def test_the_roofline_lies_below_its_roofs() -> None:
    rows = [row for row in _rows() if row.lightning_core_ms]
    text = roofline.plot(rows, 100.0, 10.0)
    svg = ElementTree.fromstring(text[: text.index("</svg>") + 6])
    roof = svg.find("polyline[@class='roof']")
    assert roof is not None
    top = min(float(pair.split(",")[1]) for pair in roof.attrib["points"].split())
    points = svg.findall("circle")
    assert len(points) == 3
    assert all(float(point.attrib["cy"]) >= top for point in points)
    assert [point.attrib["fill"] == "none" for point in points] == [False, True, True]
    assert roofline.plot([], 100.0, 10.0) == ""


def test_terminal_table_names_every_row_and_its_best_peer_in_80_columns() -> None:
    rows = _rows()
    text = StringIO()
    Console(file=text, width=80).print(report.table(rows, "kernel"))
    shown = text.getvalue()
    assert max(len(line) for line in shown.splitlines()) <= 80
    for row in rows:
        assert row.name.split()[0] in shown
        assert row.best_peer in shown
    assert page.micros(None) == "" and page.micros(0.00021) == "0.210" and page.micros(2) == "2000"


def test_selection() -> None:
    works = list(SUITES["kernel"](0))
    assert [w.name for w in run.select(works, "^matmul 64x")] == ["matmul 64x64x64"]
    assert run.select(works, "") == works
    with pytest.raises(ValueError, match="part of a row's name"):
        run.select(works, "no such row")
    with pytest.raises(ValueError, match="regular expression"):
        run.select(works, "(")


def test_repeats_pool_rounds_and_sum_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "REST_S", 0.0)
    monkeypatch.setattr(measure, "LIMIT_S", 1e-4)
    told: list[bool] = []
    works = [builders.gemm(4, 4, 4), builders.gemm(5, 5, 5)]
    outcome = run.run(
        "x", works, peers.Peers(1, ["numpy"]), LIMITS, run.Settings(2, 1e-4, repeats=3),
        lambda text, done: told.append(done),
    )  # fmt: skip
    assert len(outcome.rows) == 2 and len(outcome.totals_ms) == 3
    assert sum(told) == 6
    assert outcome.variation_pct is not None and outcome.variation_pct >= 0
    assert all(row.ratio is not None and row.pct_of_peak is not None for row in outcome.rows)
    assert run.Outcome(totals_ms=[1.0]).variation_pct is None


def test_the_environment_is_cleared_of_what_slows_peers() -> None:
    assert peers.undisturbed({"PATH": "x"}) is None
    slowed = {"PATH": "x", "OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1"}
    found = peers.undisturbed(slowed)
    assert found == {"PATH": "x"}
