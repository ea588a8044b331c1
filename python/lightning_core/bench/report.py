"""CSV, JSON, HTML and terminal output of a benchmark run."""

from __future__ import annotations

import csv
import html
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


def _bars(row: Row) -> str:
    """Times of one row as horizontal bars on a common scale, the peers' in grey."""
    times = {"lightning_core": row.lightning_core_ms, **row.peer_ms}
    known = {name: ms for name, ms in times.items() if ms is not None}
    longest = max(known.values(), default=1.0)
    parts = []
    for i, (name, ms) in enumerate(known.items()):
        width = 320 * ms / longest
        colour = "#1f77b4" if name == "lightning_core" else "#b0b0b0"
        parts.append(
            f'<rect x="110" y="{i * 18}" width="{width:.1f}" height="14" fill="{colour}"/>'
            f'<text x="104" y="{i * 18 + 11}" text-anchor="end">{html.escape(name)}</text>'
            f'<text x="{116 + width:.1f}" y="{i * 18 + 11}">{_time(ms)}</text>'
        )
    return f'<svg width="540" height="{len(known) * 18}">{"".join(parts)}</svg>'


def _roofline(rows: list[Row]) -> str:
    """Share of the machine's measured limit, a bar a row, with the limit that binds."""
    parts = []
    shown = [row for row in rows if row.pct_of_peak is not None]
    for i, row in enumerate(shown):
        share = row.pct_of_peak or 0.0
        parts.append(
            f'<text x="204" y="{i * 18 + 11}" text-anchor="end">'
            f"{html.escape(f'{row.bench} {row.shape}')}</text>"
            f'<rect x="210" y="{i * 18}" width="{min(share, 100) * 3:.1f}" height="14" '
            f'fill="{"#1f77b4" if row.bound_by == "flops" else "#2ca02c"}"/>'
            f'<text x="{216 + min(share, 100) * 3:.1f}" y="{i * 18 + 11}">'
            f"{share:.0f} % of {row.bound_by}</text>"
        )
    return f'<svg width="680" height="{len(shown) * 18}">{"".join(parts)}</svg>'


def page(rows: list[Row], header: dict[str, Any], suite: str) -> str:
    """The run as one HTML file without outside resources."""
    body = []
    for row in sorted(rows, key=lambda r: -(r.ratio or 0.0)):  # rows that fall short first
        ratio = "no peer"
        if row.ratio is not None and row.ratio_low is not None and row.ratio_high is not None:
            ratio = (
                f"{row.ratio:.2f} of {row.best_peer} "
                f"(quartiles {row.ratio_low:.2f} to {row.ratio_high:.2f})"
            )
        body.append(
            f"<tr><td>{html.escape(f'{row.bench} {row.shape}')}<br><small>{row.mode}"
            f"{'; ' + html.escape(row.note) if row.note else ''}</small></td>"
            f"<td>{html.escape(ratio)}</td><td>{_bars(row)}</td></tr>"
        )
    meta = html.escape(json.dumps(header, indent=2))
    return (
        f"<!doctype html><meta charset=utf-8><title>Lightning Core: {suite}</title>"
        "<style>body{font:14px sans-serif;margin:2em}text{font:12px sans-serif}"
        "td{padding:6px 14px 6px 0;vertical-align:top}</style>"
        f"<h1>Suite {suite}</h1><p>Time of a call, float32, one-shot: host arrays in and out. "
        "Ratio: ours over the best peer of the same run; below 1 ours is faster.</p>"
        f"<h2>Share of the measured limit</h2>{_roofline(rows)}"
        f"<h2>Beside the peers</h2><table>{''.join(body)}</table>"
        f"<h2>Machine</h2><pre>{meta}</pre>"
    )


def write(rows: list[Row], header: dict[str, Any], folder: Path, suite: str) -> list[Path]:
    """Writes `<suite>.csv`, `.json` and `.html` to `folder`, made if missing."""
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
    html_path = folder / f"{suite}.html"
    html_path.write_text(page(rows, header, suite), encoding="utf-8")
    return [csv_path, json_path, html_path]


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
        peak = row.bound_by if row.pct_of_peak is None else f"{row.pct_of_peak:.0f}% {row.bound_by}"
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
