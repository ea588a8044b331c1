"""The command `lightning-core`: demo, bench, info, ops, explain."""

from __future__ import annotations

import os
import statistics
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

app = typer.Typer(
    help="Lightning Core: a small, fast operator runtime that says what it does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
DEFAULT_QUERY = "Why is my program slow?"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _timeline_tables(timeline: dict[str, Any], top: int) -> list[Table]:
    """Groups and hotspots of a timeline as tables; times are spent inside the calls."""
    groups = Table(title="where the time went, by op, device and path")
    for name in ("op | device | path", "calls", "total", "share", "a call"):
        groups.add_column(name, justify="left" if "|" in name else "right")
    rows = [g for g in timeline["groups"] if g["key"] != "non_op"]
    total = sum(g["total_duration_ns"] for g in rows) or 1
    for g in sorted(rows, key=lambda g: -g["total_duration_ns"]):
        ns = g["total_duration_ns"]
        groups.add_row(
            g["key"],
            str(g["count"]),
            f"{ns / 1e6:.2f} ms",
            f"{100 * ns / total:.1f}%",
            f"{ns / g['count'] / 1e3:.1f} us",
        )
    hotspots = Table(title=f"the {top} longest calls")
    for name in ("took", "kernel", "call"):
        hotspots.add_column(name, justify="right" if name == "took" else "left", overflow="fold")
    events = [e for e in timeline["events"] if e["type"] == "op_dispatch"]
    for e in sorted(events, key=lambda e: -e["duration_ns"])[:top]:
        hotspots.add_row(f"{e['duration_ns'] / 1e3:.0f} us", e["kernel"], e["call"])
    return [groups, hotspots]


@app.command()
def demo(
    text: Annotated[
        Path | None, typer.Argument(help="text file, one passage a line (none: the sample)")
    ] = None,
    query: Annotated[str, typer.Option(help="what to look for")] = DEFAULT_QUERY,
    top: Annotated[int, typer.Option(min=1, help="how many lines to show")] = 3,
    model: Annotated[Path | None, typer.Option(help="folder of the model")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, metal or cuda")] = None,
) -> None:
    """Embed the lines of a text with MiniLM, answer a query, and show where the time went."""
    import lightning_core as lc
    from lightning_core.models.minilm import SentenceEncoder

    console = Console()
    path = (
        Path(str(resources.files("lightning_core.data") / "sample.txt")) if text is None else text
    )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {path} as UTF-8 text: {error}") from error
    lines = [line for line in lines if line]
    if not lines:
        raise typer.BadParameter(f"{path} has no text: expected one passage a line")
    start = time.perf_counter()
    with console.status("loading the model"):
        encoder = SentenceEncoder(model, device)
    loaded = time.perf_counter() - start

    import numpy as np

    lc.runtime_trace_clear()
    lc.runtime_trace_enable(True)
    batch = 32
    vectors = np.empty((len(lines), encoder.model.config.hidden_size), np.float32)
    start = time.perf_counter()
    order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
    with _progress(console) as progress:
        task = progress.add_task("embedding lines", total=len(lines))
        for first in range(0, len(order), batch):
            rows = order[first : first + batch]
            vectors[rows] = encoder.encode([lines[i] for i in rows], batch)
            progress.advance(task, len(rows))
    embedded = time.perf_counter() - start
    start = time.perf_counter()
    hits = encoder.nearest(query, lines, vectors, top)
    answered = time.perf_counter() - start
    lc.runtime_trace_enable(False)

    console.print(f"\n[bold]{query}[/bold]  (nearest of {len(lines)} lines of {path.name})")
    for index, score in hits:
        console.print(f"  {score:6.3f}  line {index + 1}: {lines[index]}", highlight=False)
    console.print(
        f"\nloaded in {loaded:.2f} s, embedded {len(lines)} lines in {embedded * 1e3:.1f} ms, "
        f"answered in {answered * 1e3:.2f} ms on {lc.backend_name()}, "
        f"{lc.device_info('cpu')['isa']}, {lc.num_threads()} threads\n",
        highlight=False,
    )
    timeline = lc.runtime_trace_timeline(group_by="op_path")
    for view in _timeline_tables(timeline, 5):
        console.print(view)
    if timeline["event_count"] >= lc.runtime_trace_capacity():
        console.print("the trace holds the last 4096 events; earlier ones are not in these tables")


@app.command()
def bench(
    suite: Annotated[
        str, typer.Option(help="quick, kernel, pipeline, ml, overhead or model")
    ] = "quick",
    only: Annotated[str, typer.Option(help="regular expression: rows whose name has it")] = "",
    out: Annotated[Path, typer.Option(help="folder for CSV, JSON and HTML")] = Path(
        "benchmark_results"
    ),
    rounds: Annotated[
        int, typer.Option(help="turns of ours and each peer; 0: three times LC_BENCH_TIMING_RUNS")
    ] = 0,
    target_ms: Annotated[float, typer.Option(min=0.1, help="length of one turn")] = 50.0,
    repeats: Annotated[
        int, typer.Option(min=1, help="times the suite is walked; says how its total varies")
    ] = 1,
    peer: Annotated[
        list[str] | None, typer.Option(help="a peer to compare with, repeatable (none: all)")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the inputs")] = 0,
    list_rows: Annotated[bool, typer.Option("--list", help="print the rows, run nothing")] = False,
) -> None:
    """Time our ops beside the installed peers: same work, same residency, ratios of one run."""
    import lightning_core as lc
    from lightning_core.bench import peers, report, run
    from lightning_core.bench.measure import Limits
    from lightning_core.bench.suites import SUITES

    console = Console()
    if suite not in SUITES:
        raise typer.BadParameter(f"expected one of {', '.join(SUITES)}, found {suite}")
    unknown = set(peer or ()) - set(peers.PEERS)
    if unknown:
        raise typer.BadParameter(f"expected {', '.join(peers.PEERS)}, found {', '.join(unknown)}")
    works = run.select(SUITES[suite](0), only)
    if list_rows:
        for work in works:
            console.print(work.name, highlight=False, markup=False)
        return
    runs = {row["name"]: row["value"] for row in lc.config_table()}["LC_BENCH_TIMING_RUNS"]
    settings = run.Settings(max(rounds or 3 * int(runs), 1), target_ms / 1e3, seed, repeats)
    threads = lc.num_threads()
    with console.status("loading the peers, measuring this machine's peaks"):
        contenders = peers.Peers(threads, peer or peers.PEERS)
        limits = Limits.measured()
    console.print(
        f"{lc.device_info('cpu')['name']}, {lc.device_info('cpu')['isa']}, {threads} threads: "
        f"{limits.flops / 1e9:.0f} GFLOP/s of float32 FMA, "
        f"{limits.bandwidth / 1e9:.1f} GB/s of copy (read plus written)\n"
        f"NumPy's BLAS: {peers.blas()}; "
        + ", ".join(f"{name} {version}" for name, version in peers.versions().items()),
        highlight=False,
    )
    with _progress(console) as progress:
        task = progress.add_task("preparing", total=len(works) * repeats)

        def show(text: str, done: bool) -> None:
            progress.update(task, description=text, advance=1 if done else 0)

        outcome = run.run(suite, works, contenders, limits, settings, show)
    header = report.machine(threads, settings, limits, outcome)
    paths = report.write(outcome.rows, header, out, suite)
    console.print(report.table(outcome.rows, suite))
    for row in report.ordered(outcome.rows):
        if row.short:
            console.print(f"falls short: {row.name}: {row.short}", style="yellow", highlight=False)
    if outcome.variation_pct is not None:
        console.print(
            f"suite total over {repeats} repeats: {statistics.mean(outcome.totals_ms):.2f} ms, "
            f"coefficient of variation {outcome.variation_pct:.2f} %",
            highlight=False,
        )
    console.print("ratio below 1: ours is faster; written to", *map(str, paths), highlight=False)
    if any(row.lightning_core_ms is None for row in outcome.rows):
        console.print("[red]a row above is wrong and was not timed[/red]")
        raise typer.Exit(1)


@app.command()
def info() -> None:
    """Show version, devices, instruction set, threads and configuration."""
    import lightning_core as lc

    console = Console()
    console.print(f"lightning-core {lc.__version__}", highlight=False)
    devices = Table(title="devices")
    for name in ("device", "built", "available", "memory model"):
        devices.add_column(name)
    for device in ("cpu", "metal", "cuda"):
        caps = lc.runtime_backend_capabilities(device)
        devices.add_row(
            device, str(caps["built"]), str(caps["available"]), str(caps["memory_model"])
        )
    console.print(devices)
    for key, value in lc.device_info("cpu").items():
        console.print(f"  {key}: {value}", highlight=False)
    variables = Table(title="environment variables")
    for name in ("name", "value", "default", "meaning"):
        variables.add_column(name, overflow="fold")
    for row in lc.config_table():
        variables.add_row(row["name"], row["value"], row["default"], row["doc"])
    console.print(variables)


@app.command()
def ops() -> None:
    """List the ops."""
    import lightning_core as lc

    view = Table(title="ops")
    view.add_column("op")
    view.add_column("what it computes", overflow="fold")
    for name, doc in lc.ops().items():
        view.add_row(name, doc.splitlines()[0])
    Console().print(view)


@app.command()
def explain(
    call: Annotated[
        list[str], typer.Argument(help="a call as traces print it: matmul a=f32:8x8 b=f32:8x8")
    ],
) -> None:
    """Say which kernel a call would run, and why the others refused."""
    import lightning_core as lc

    Console().print(lc.explain_call(" ".join(call)), highlight=False, markup=False)


def _start_benchmark_undisturbed() -> None:
    """Starts this command anew where the environment would slow a peer down.

    NumPy reads it when it is loaded, which importing this package has done already.
    """
    from lightning_core.bench.peers import undisturbed

    environment = undisturbed(os.environ)
    if environment is None:
        return
    names = ", ".join(sorted(set(os.environ) - set(environment)))
    print(f"without {names}, which would slow NumPy down", file=sys.stderr, flush=True)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def main() -> None:
    """Entry point; wrong input ends with one line and exit code 2, not with a traceback."""
    if sys.argv[1:2] == ["bench"] and "--help" not in sys.argv:
        _start_benchmark_undisturbed()
    try:
        app()
    except ValueError as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
