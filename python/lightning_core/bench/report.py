"""CSV, JSON, HTML and terminal output of a benchmark run."""

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
from lightning_core.bench import page, peers
from lightning_core.bench.measure import Limits, Row
from lightning_core.bench.run import Outcome, Settings

__all__ = ["COLUMNS", "machine", "ordered", "table", "write"]

# Times of the peers by the names that the reference's reports have for them, where they have one.
_PEER_COLUMN = {"torch": "torch_cpu_ms"}
COLUMNS = (
    "suite",
    "bench",
    "shape",
    "mode",
    "lightning_core_ms",
    *(_PEER_COLUMN.get(name, f"{name}_ms") for name in peers.PEERS),
    "best_peer",
    "ratio",
    "ratio_spread",
    "pct_of_peak",
    "bound_by",
    "gflops",
    "intensity",
    "short",
    "max_error",
    "note",
)


def _commit() -> str:
    """Hash of the checkout this package runs from, "+" if it is changed; "" outside of one."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def machine(threads: int, settings: Settings, limits: Limits, outcome: Outcome) -> dict[str, Any]:
    """What a reader needs to judge the figures: machine, versions, threads, seed, commit."""
    return {
        "lightning_core": lc.__version__,
        "commit": _commit(),
        "device": lc.device_info("cpu"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": threads,
        "numpy_blas": peers.blas(),
        "peers": peers.versions(),
        "peak_gflops": limits.flops / 1e9,
        "copy_gb_per_s": limits.bandwidth / 1e9,
        **asdict(settings),
        "totals_ms": outcome.totals_ms,
        "variation_pct": outcome.variation_pct,
    }


def ordered(rows: list[Row]) -> list[Row]:
    """Rows that fall short first, worst ratio first; wrong ones before all."""

    def key(row: Row) -> tuple[bool, bool, float]:
        return (row.lightning_core_ms is not None, not row.short, -(row.ratio or 0.0))

    return sorted(rows, key=key)


def _spread(row: Row) -> str:
    return "" if row.ratio_low is None else f"{row.ratio_low:.2f}..{row.ratio_high:.2f}"


def _flat(row: Row) -> dict[str, Any]:
    """A line of the CSV: blank where there is no value."""
    flat = asdict(row) | {"ratio_spread": _spread(row)}
    for name in peers.PEERS:
        flat[_PEER_COLUMN.get(name, f"{name}_ms")] = row.peer_ms.get(name)
    return {name: "" if flat[name] is None else flat[name] for name in COLUMNS}


def write(rows: list[Row], header: dict[str, Any], folder: Path, suite: str) -> list[Path]:
    """Writes `<suite>.csv`, `.json` and `.html` to `folder`, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    csv_path, json_path = folder / f"{suite}.csv", folder / f"{suite}.json"
    with csv_path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(map(_flat, rows))
    json_path.write_text(
        json.dumps({"meta": header, "rows": [asdict(row) for row in rows]}, indent=2) + "\n",
        encoding="utf-8",
    )
    html_path = folder / f"{suite}.html"
    html_path.write_text(page.page(ordered(rows), header, suite), encoding="utf-8")
    return [csv_path, json_path, html_path]


def table(rows: list[Row], suite: str) -> Table:
    """Terminal table, times in microseconds, with the best peer; the files have all of them.

    Rows that fall short are yellow.
    """
    view = Table(title=f"suite {suite}: float32, microseconds a call")
    view.add_column("case", min_width=18)
    for name in ("ours", "best peer", "ratio", "spread", "of peak"):
        view.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        peak = row.bound_by if row.pct_of_peak is None else f"{row.pct_of_peak:.0f}% {row.bound_by}"
        best = page.micros(row.peer_ms.get(row.best_peer))
        view.add_row(
            row.name,
            page.micros(row.lightning_core_ms) or row.note,
            f"{row.best_peer} {best}" if row.best_peer else "",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            _spread(row),
            peak,
            style="yellow" if row.short else "",
        )
    return view
