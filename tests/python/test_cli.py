"""The command line, run as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_core as lc


def run(*args: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightning_core.cli", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "COLUMNS": "140", **environment},
    )


def test_demo_answers_from_the_users_text(tmp_path: Path) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("Bread is baked at dawn.\nThe engine overheats on hills.\n\n", encoding="utf-8")
    done = run("demo", str(text), "--query", "car trouble", "--top", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "line 2: The engine overheats on hills." in done.stdout
    assert "attention|cpu|direct" in done.stdout
    assert "linear|cpu|direct" in done.stdout
    assert "cpu/linear:" in done.stdout


def test_demo_runs_on_its_sample(tmp_path: Path) -> None:
    done = run("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sample.txt" in done.stdout


def test_demo_refuses_bad_files(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n", encoding="utf-8")
    binary = tmp_path / "binary.bin"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    for path in (tmp_path / "none.txt", empty, binary):
        done = run("demo", str(path), cwd=tmp_path)
        assert done.returncode == 2, done.stdout
        assert "Traceback" not in done.stderr
    bad_model = run("demo", "--model", str(tmp_path), cwd=tmp_path)
    assert bad_model.returncode == 2
    assert "config.json" in bad_model.stderr


def test_bench_writes_its_files(tmp_path: Path) -> None:
    only = "matmul 64|vector_add 65536|attention 8x16|into"
    done = run(
        *("bench", "--only", only, "--rounds", "3", "--target-ms", "2", "--out", "results"),
        *("--peer", "numpy", "--peer", "torch", "--repeats", "2"),
        cwd=tmp_path,
        OPENBLAS_CORETYPE="Haswell",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without OPENBLAS_CORETYPE" in done.stderr
    assert "coefficient of variation" in done.stdout
    report = json.loads((tmp_path / "results" / "quick.json").read_text(encoding="utf-8"))
    assert report["meta"]["peak_gflops"] > 0
    assert len(report["rows"]) == 4
    assert all(row["lightning_core_ms"] > 0 for row in report["rows"])
    page = (tmp_path / "results" / "quick.html").read_text(encoding="utf-8")
    assert "<svg" in page and "http" not in page.split("<h2>Machine")[0]
    with (tmp_path / "results" / "quick.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report["rows"])
    assert {"lightning_core_ms", "torch_cpu_ms", "best_peer", "ratio", "pct_of_peak"} <= set(
        rows[0]
    )
    assert all(row["jax_ms"] == "" for row in rows)


def test_bench_lists_rows_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    listed = run("bench", "--suite", "ml", "--only", "linear", "--list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "linear 1024x1024x512" in listed.stdout and "vector_add" not in listed.stdout
    for args, message in (
        (("--suite", "none"), "quick, kernel"),
        (("--peer", "none"), "numpy, torch"),
        (("--only", "none"), "part of a row's name"),
    ):
        bad = run("bench", *args, cwd=tmp_path)
        assert bad.returncode == 2, bad.stdout
        assert message in bad.stderr and "Traceback" not in bad.stderr
    assert not (tmp_path / "benchmark_results").exists()


def test_info_ops_and_explain(tmp_path: Path) -> None:
    info = run("info", cwd=tmp_path)
    assert info.returncode == 0, info.stderr
    assert "LC_NUM_THREADS" in info.stdout
    ops = run("ops", cwd=tmp_path)
    assert "attention" in ops.stdout
    explain = run("explain", "matmul", "a=f32:8x8", "b=f32:8x8", cwd=tmp_path)
    assert "cpu/matmul:" in explain.stdout
    bad = run("explain", "matmul", "a=f32:8x8", "b=f32:9x8", cwd=tmp_path)
    assert bad.returncode == 2
    assert "[matmul]" in bad.stderr


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 3601.0])
def test_peaks_refuse_what_is_no_duration(seconds: float) -> None:
    for measure in (lc.measure_flops, lc.measure_bandwidth, lc.measure_peak):
        with pytest.raises(ValueError, match="seconds: expected 0 to 3600"):
            measure(seconds)
