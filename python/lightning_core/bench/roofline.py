"""The roofline plot (Williams, Waterman, Patterson 2009) as SVG: what a row reaches over its
arithmetic intensity, below the two measured roofs."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable

from lightning_core.bench.measure import Row

__all__ = ["COLOURS", "plot"]

WIDTH, HEIGHT = 960, 520
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 20, 52
COLOURS = (
    "#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed",
    "#0891b2", "#db2777", "#65a30d", "#57534e", "#94a3b8",
)  # fmt: skip


class _Axis:
    """A logarithmic axis: values from `low` to `high` on pixels from `start` to `end`."""

    def __init__(self, values: Iterable[float], start: float, end: float) -> None:
        logs = [math.log10(v) for v in values]
        self.low, self.high = math.floor(min(logs) * 2) / 2, math.ceil(max(logs) * 2) / 2
        self.high = max(self.high, self.low + 0.5)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Powers of ten, and where there are few of them twos and fives as well."""
        decades = range(math.ceil(self.low), math.floor(self.high) + 1)
        if len(decades) > 3:
            return [10.0**d for d in decades]
        all_of = range(math.floor(self.low), math.ceil(self.high) + 1)
        ticks = [f * 10.0**d for d in all_of for f in (1, 2, 5)]
        return [t for t in ticks if self.low <= math.log10(t) <= self.high]


def _kind(row: Row) -> str:
    """What rows share a colour: matmul_tn is a matmul, conv_relu a conv."""
    return row.bench.removeprefix("lc.").removeprefix("api.").split("_")[0].split()[0]


def _frame(x: _Axis, y: _Axis) -> list[str]:
    parts = []
    for value in x.ticks():
        at = f"{x(value):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text x="{at}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>'
        )
    for value in y.ticks():
        at = f"{y(value):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">'
        "arithmetic intensity, FLOP per byte of inputs and outputs</text>"
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">GFLOP/s</text>'
    )
    return parts


def plot(rows: list[Row], peak_gflops: float, copy_gb: float) -> str:
    """One point a row, hollow where the row falls short; "" where no row has a rate."""
    points = [(row, row.intensity, row.gflops) for row in rows if row.intensity and row.gflops]
    if not points or peak_gflops <= 0 or copy_gb <= 0:
        return ""
    ridge = peak_gflops / copy_gb
    x = _Axis([ridge, *(i for _, i, _ in points)], LEFT, WIDTH - RIGHT)
    y = _Axis([peak_gflops, *(g for _, _, g in points)], HEIGHT - BOTTOM, TOP)
    left, right, bottom = 10**x.low, 10**x.high, 10**y.low
    start = max(left, bottom / copy_gb)
    roof = [(start, start * copy_gb), (ridge, peak_gflops), (right, peak_gflops)]
    line = " ".join(f"{x(i):.1f},{y(g):.1f}" for i, g in roof)
    parts = _frame(x, y)
    parts.append(f'<polyline class="roof" points="{line}"/>')
    parts.append(
        f'<text class="label" x="{WIDTH - RIGHT - 4}" y="{y(peak_gflops) - 7:.1f}" '
        f'text-anchor="end">{peak_gflops:.0f} GFLOP/s of FMA</text>'
    )
    middle = math.sqrt(start * ridge)
    slope = math.degrees(math.atan2(y(peak_gflops) - y(start * copy_gb), x(ridge) - x(start)))
    parts.append(
        f'<text class="label" transform="translate({x(middle):.1f} {y(middle * copy_gb) - 8:.1f}) '
        f'rotate({slope:.1f})" text-anchor="middle">{copy_gb:.0f} GB/s of copy</text>'
    )
    kinds = list(dict.fromkeys(_kind(row) for row, _, _ in points))
    colour = {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(kinds)}
    for row, intensity, gflops in points:
        tone = colour[_kind(row)]
        best = "" if row.ratio is None else f", {row.ratio:.2f} of {row.best_peer}"
        title = f"{row.name}: {gflops:.1f} GFLOP/s{best}{'; ' + row.short if row.short else ''}"
        parts.append(
            f'<circle cx="{x(intensity):.1f}" cy="{y(gflops):.1f}" r="5" stroke="{tone}" '
            f'fill="{"none" if row.short else tone}"><title>{html.escape(title)}</title></circle>'
        )
    legend = "".join(
        f'<span><i style="background:{colour[kind]}"></i>{html.escape(kind)}</span>'
        for kind in kinds
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="roofline">{"".join(parts)}'
        f'</svg><p class="legend">{legend}<span>hollow: falls short</span></p>'
    )
