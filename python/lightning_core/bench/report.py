"""CSV, JSON and terminal output of a benchmark run."""

from __future__ import annotations

import csv
import json
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

import lightning_core as lc
from lightning_core.bench import peers
from lightning_core.bench.measure import Row

__all__ = ["machine", "table", "write"]


def _commit() -> str:
    """Short hash of the checkout this package runs from; "" outside of one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def machine(threads: int, seed: int, peak_flops: float, bandwidth: float) -> dict[str, Any]:
    """What a reader needs to judge the figures: machine, versions, threads, seed, commit."""
    return {
        "lightning_core": lc.__version__,
        "commit": _commit(),
        "device": lc.device_info("cpu"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": threads,
        "seed": seed,
        "peak_gflops": peak_flops / 1e9,
        "copy_gb_per_s": bandwidth / 1e9,
        "peers": peers.versions(),
    }


def _flat(row: Row) -> dict[str, Any]:
    flat = asdict(row)
    times = flat.pop("peer_ms")
    for name in ("numpy", "torch", "jax"):
        flat["torch_cpu_ms" if name == "torch" else f"{name}_ms"] = times.get(name, "")
    return flat


def write(rows: list[Row], header: dict[str, Any], folder: Path, suite: str) -> list[Path]:
    """Writes `<suite>.csv` and `<suite>.json` to `folder`, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    csv_path, json_path = folder / f"{suite}.csv", folder / f"{suite}.json"
    flat = [_flat(row) for row in rows]
    with csv_path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(flat[0]) if flat else [])
        writer.writeheader()
        writer.writerows(flat)
    json_path.write_text(
        json.dumps({"meta": header, "rows": [asdict(row) for row in rows]}, indent=2) + "\n",
        encoding="utf-8",
    )
    return [csv_path, json_path]


def _time(ms: float | None) -> str:
    if ms is None:
        return ""
    return f"{ms:.2f} ms" if ms >= 1 else f"{ms * 1e3:.2f} us"


def table(rows: list[Row], suite: str) -> Table:
    """Terminal table; a ratio below 1 means ours is faster than the best peer."""
    view = Table(title=f"suite {suite}: float32, one-shot, host arrays in and out")
    for name in ("case", "ours", "numpy", "torch", "jax", "ours/best peer", "spread", "of peak"):
        view.add_column(name, justify="left" if name == "case" else "right")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        spread = "" if row.ratio_low is None else f"{row.ratio_low:.2f}..{row.ratio_high:.2f}"
        peak = "" if row.pct_of_peak is None else f"{row.pct_of_peak:.0f}% {row.bound_by}"
        view.add_row(
            f"{row.bench} {row.shape}",
            _time(row.lightning_core_ms) or row.note,
            *(_time(row.peer_ms.get(name)) for name in ("numpy", "torch", "jax")),
            ratio,
            spread,
            peak,
            style="" if row.ratio is None or row.ratio <= 1 else "yellow",
        )
    return view
