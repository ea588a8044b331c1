"""A run as one HTML file without outside resources."""

from __future__ import annotations

import html
import json
import math
from typing import Any

from lightning_core.bench import roofline
from lightning_core.bench.measure import Row

__all__ = ["micros", "page"]

_STYLE = """
:root{--ink:#1c1917;--soft:#78716c;--line:#e7e5e4;--back:#fafaf9;--card:#fff;--ours:#2563eb;
--peer:#d6d3d1;--bad:#b45309}
@media(prefers-color-scheme:dark){:root{--ink:#f5f5f4;--soft:#a8a29e;--line:#44403c;
--back:#1c1917;--card:#292524;--ours:#60a5fa;--peer:#57534e;--bad:#fbbf24}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);
margin:0 auto;padding:2em 1.5em;max-width:1080px}
h1{font-size:1.6em;margin:0}h2{font-size:1.15em;margin:2em 0 .6em}
p{margin:.4em 0}.soft,small{color:var(--soft)}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:1.2em 0}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 16px}
.tiles b{display:block;font-size:1.35em}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px;
overflow-x:auto}
svg{max-width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:var(--soft)}
.grid{stroke:var(--line)}.roof{fill:none;stroke:var(--ink);stroke-width:2}.label{fill:var(--ink)}
circle{stroke-width:2;fill-opacity:.75}
.legend span{margin-right:16px;font-size:13px}.legend i{display:inline-block;width:10px;
height:10px;border-radius:5px;margin-right:6px}
table{border-collapse:collapse;width:100%}td,th{padding:7px 12px 7px 0;text-align:left;
vertical-align:top;border-bottom:1px solid var(--line)}th{font-size:13px;color:var(--soft)}
.bad{color:var(--bad)}.ours{fill:var(--ours)}.peer{fill:var(--peer)}
pre{font-size:13px;overflow-x:auto}
"""


def micros(ms: float | None) -> str:
    """Microseconds with three or four digits; "" for none."""
    if ms is None:
        return ""
    us = ms * 1e3
    return f"{us:.3f}" if us < 1 else f"{us:.2f}" if us < 100 else f"{us:.0f}"


def _bars(row: Row) -> str:
    """Times of one row as horizontal bars on a common scale."""
    times = {"lightning_core": row.lightning_core_ms, **row.peer_ms}
    known = {name: ms for name, ms in times.items() if ms is not None}
    longest = max(known.values(), default=1.0)
    parts = []
    for i, (name, ms) in enumerate(known.items()):
        width = 300 * ms / longest
        kind = "ours" if i == 0 else "peer"
        parts.append(
            f'<rect class="{kind}" x="104" y="{i * 17}" width="{width:.1f}" height="13" rx="2"/>'
            f'<text x="98" y="{i * 17 + 11}" text-anchor="end">{html.escape(name)}</text>'
            f'<text x="{110 + width:.1f}" y="{i * 17 + 11}">{micros(ms)} us</text>'
        )
    return f'<svg width="500" height="{len(known) * 17}">{"".join(parts)}</svg>'


def _ratio(row: Row) -> str:
    if row.ratio is None or row.ratio_low is None or row.ratio_high is None:
        return "no peer"
    return (
        f"<b>{row.ratio:.2f}</b> of {html.escape(row.best_peer)}<br>"
        f"<small>quartiles {row.ratio_low:.2f} to {row.ratio_high:.2f}</small>"
    )


def _share(row: Row) -> str:
    if row.pct_of_peak is None:
        return html.escape(row.bound_by)
    return f"{row.pct_of_peak:.0f} % of {html.escape(row.bound_by)}"


def _table(rows: list[Row]) -> str:
    body = []
    for row in rows:
        notes = [f'<span class="bad">{html.escape(row.short)}</span>'] if row.short else []
        notes += [html.escape(part) for part in (row.mode, row.note) if part]
        body.append(
            f"<tr><td>{html.escape(row.name)}<br><small>{'<br>'.join(notes)}</small></td>"
            f"<td>{_ratio(row)}</td><td>{_share(row)}</td><td>{_bars(row)}</td></tr>"
        )
    return (
        '<div class="card"><table><tr><th>row</th><th>ours over the best peer</th>'
        f"<th>of the limit that binds</th><th>a call</th></tr>{''.join(body)}</table></div>"
    )


def _tiles(rows: list[Row], header: dict[str, Any]) -> str:
    ratios = [row.ratio for row in rows if row.ratio is not None]
    tiles = [
        (f"{sum(not row.short for row in rows)} of {len(rows)}", "rows reach what is asked"),
        (f"{sum(r <= 1 for r in ratios)} of {len(ratios)}", "rows ahead of the best peer"),
    ]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        tiles.append((f"{mean:.2f}", "of the best peer's time, geometric mean"))
    if header.get("variation_pct") is not None:
        tiles.append((f"{header['variation_pct']:.1f} %", "variation of the suite's total"))
    return "".join(f"<div><b>{value}</b>{html.escape(text)}</div>" for value, text in tiles)


def page(rows: list[Row], header: dict[str, Any], suite: str) -> str:
    """The page, rows in the order they are given."""
    short, good = [r for r in rows if r.short], [r for r in rows if not r.short]
    plot = roofline.plot(rows, header["peak_gflops"], header["copy_gb_per_s"])
    peers = ", ".join(f"{name} {version}" for name, version in header["peers"].items())
    device = header["device"]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>Lightning Core: suite {html.escape(suite)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>Suite {html.escape(suite)}</h1>",
            f'<p class="soft">{html.escape(str(device["name"]))}, {device["isa"]}, '
            f"{header['threads']} threads, float32; commit {html.escape(header['commit'])}; "
            f"beside {html.escape(peers)}</p>",
            f'<div class="tiles">{_tiles(rows, header)}</div>',
            '<p class="soft">Ours and the peers take turns in one run, on arrays in host memory '
            "with the result back on the host; every result is checked against float64 first. "
            "Below 1 ours is faster.</p>",
            f'<h2>Roofline</h2><div class="card">{plot}</div>' if plot else "",
            f"<h2>Rows that fall short</h2>{_table(short)}" if short else "",
            f"<h2>Rows that reach what is asked</h2>{_table(good)}" if good else "",
            f'<h2>Machine</h2><pre class="card">{html.escape(json.dumps(header, indent=2))}</pre>',
            "</body></html>\n",
        ]
    )
