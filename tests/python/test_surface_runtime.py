"""Devices, capabilities, sync policy, trace, timeline, memory and settings, held against what
programs for lightning-core 0.1.17 read from them."""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import lightning_core as lc

F32 = np.float32
DEVICES = ["cpu", "metal", "cuda"]
DEVICE_NUMBER = {"cpu": 0, "cuda": 1, "metal": 2}
SYNC_MODES = ["auto", "always", "never"]
Row = dict[str, Any]


@pytest.fixture
def settings() -> Iterator[None]:
    """Settings and sync policy as they were, whatever the test does to them."""
    yield
    lc.reload_config()
    lc.runtime_sync_policy_set()


def ones(*shape: int) -> Any:
    return np.ones(shape, F32)


def kinds(row: Row) -> dict[str, type]:
    return {key: type(value) for key, value in row.items()}


# ---------------------------------------------------------------- devices


def test_the_best_device_that_exists_gives_its_name() -> None:
    metal, cuda = lc.metal_available(), lc.cuda_available()
    assert isinstance(metal, bool) and isinstance(cuda, bool)
    assert lc.backend_name() == ("metal" if metal else "cuda" if cuda else "cpu")
    native = cuda and not metal
    assert lc.memory_model_name() == ("native-device" if native else "host-managed-compat")


CAPABILITIES = {
    "device": str, "built": bool, "available": bool, "compute_surface": bool,
    "memory_surface": bool, "sync_surface": bool, "profiling_surface": bool,
    "runtime_trace_surface": bool, "sync_policy_surface": bool, "memory_model": str,
}  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
def test_capabilities(device: str) -> None:
    row = lc.runtime_backend_capabilities(device=device)
    assert kinds(row) == CAPABILITIES
    assert row["device"] == device
    available = {"cpu": True, "metal": lc.metal_available(), "cuda": lc.cuda_available()}
    assert row["available"] is available[device]
    assert row["built"] or not row["available"]
    assert row["compute_surface"] is row["built"]
    assert row["memory_surface"] is (row["built"] and device != "cpu")
    assert row["sync_surface"] is (row["built"] and device != "cpu")
    assert row["profiling_surface"] is False
    assert row["runtime_trace_surface"] is row["sync_policy_surface"] is True
    assert row["memory_model"] == ("native-device" if device == "cuda" else "host-managed-compat")


INTERFACES: dict[str, dict[str, type]] = {
    "compute": {"available": bool, "op_dispatch_trace_surface": bool, "driver_tag": str},
    "memory": {
        "available": bool, "allocator_surface": bool, "memcpy_surface": bool,
        "memory_model": str, "driver_tag": str,
    },
    "sync": {
        "available": bool, "sync_policy_surface": bool, "trace_sync_boundary_surface": bool,
        "driver_tag": str,
    },
    "profiler": {
        "available": bool, "runtime_trace_surface": bool, "op_dispatch_trace_surface": bool,
        "trace_capacity": int, "driver_tag": str,
    },
}  # fmt: skip
DRIVER_TAGS = {
    "cpu": ("cpu.eager.dispatch", "cpu.host_memory", "cpu.noop_sync"),
    "metal": ("metal.compute.dispatch", "metal.host_managed_memory", "metal.command_sync"),
    "cuda": ("cuda.runtime.dispatch", "cuda.memory", "cuda.device_sync"),
}


@pytest.mark.parametrize("device", DEVICES)
def test_interfaces(device: str) -> None:
    row = lc.runtime_backend_interfaces(device=device)
    assert list(row) == ["device", "capabilities", *INTERFACES]
    assert row["device"] == device
    can = lc.runtime_backend_capabilities(device)
    assert row["capabilities"] == can
    for part, expected in INTERFACES.items():
        assert kinds(row[part]) == expected, part
    tags = tuple(row[part]["driver_tag"] for part in ("compute", "memory", "sync"))
    assert tags == DRIVER_TAGS[device]
    assert row["profiler"]["driver_tag"] == "runtime.trace.ring"
    usable = can["available"]  # on the CPU also where its capability surfaces say no
    assert all(row[part]["available"] is usable for part in ("compute", "memory", "sync"))
    assert row["memory"]["allocator_surface"] is can["memory_surface"]
    assert row["memory"]["memcpy_surface"] is True
    assert row["memory"]["memory_model"] == can["memory_model"]
    assert row["sync"]["sync_policy_surface"] is row["sync"]["trace_sync_boundary_surface"] is True
    assert row["profiler"]["trace_capacity"] == lc.runtime_trace_capacity()
    for part in ("compute", "profiler"):
        assert row[part]["op_dispatch_trace_surface"] is True
    assert row["profiler"]["available"] is row["profiler"]["runtime_trace_surface"] is True


def test_the_active_device_is_the_preferred_one(settings: None) -> None:
    lc.set_config("LC_DEVICE", "auto")
    name = lc.backend_name()
    assert lc.runtime_active_backend_capabilities() == lc.runtime_backend_capabilities(name)
    assert lc.runtime_active_backend_interfaces() == lc.runtime_backend_interfaces(name)
    assert lc.runtime_active_backend_capabilities()["memory_model"] == lc.memory_model_name()


@pytest.mark.parametrize(
    "function", [lc.runtime_backend_capabilities, lc.runtime_backend_interfaces, lc.device_info]
)
def test_words_that_are_no_devices(function: Callable[..., Row]) -> None:
    for word in ("tpu", "CPU", "Metal", " cpu", ""):
        with pytest.raises(ValueError, match="device"):
            function(word)
    for no_word in (None, 0, b"cpu"):
        with pytest.raises(TypeError):
            function(no_word)


@pytest.mark.parametrize(
    "function", [lc.runtime_backend_capabilities, lc.runtime_backend_interfaces]
)
def test_reports_on_a_device_need_its_name(function: Callable[..., Row]) -> None:
    with pytest.raises(TypeError):
        function()


@pytest.mark.parametrize("device", DEVICES)
def test_device_info(device: str) -> None:
    if not lc.runtime_backend_capabilities(device)["available"]:
        with pytest.raises(RuntimeError, match=f"available device .*found '{device}'"):
            lc.device_info(device)
        return
    info = lc.device_info(device)
    assert kinds(info) == {
        "name": str, "isa": str, "threads": int, "l1_bytes": int, "l2_bytes": int,
        "l3_bytes": int, "memory_bytes": int, "unified_memory": bool,
    }  # fmt: skip
    assert info["memory_bytes"] > 0 and info["threads"] > 0
    if device == "cpu":
        assert lc.device_info() == info
        assert info["threads"] == lc.num_threads()
        assert info["isa"] in ("avx512", "avx2", "neon", "baseline")
        assert info["unified_memory"] is True


# ---------------------------------------------------------------- sync policy


@pytest.mark.parametrize("trace_sync_boundary", [False, True])
@pytest.mark.parametrize("mode", SYNC_MODES)
def test_sync_policy_is_kept_and_applied(
    mode: str, trace_sync_boundary: bool, settings: None, traced: None
) -> None:
    lc.runtime_sync_policy_set(mode=mode, trace_sync_boundary=trace_sync_boundary)
    kept = {"mode": mode, "trace_sync_boundary": trace_sync_boundary}
    assert lc.runtime_sync_policy_get() == kept
    lc.runtime_sync_apply_default()
    lc.runtime_sync_apply(mode, trace_sync_boundary)
    assert lc.runtime_sync_policy_get() == kept
    events = lc.runtime_trace_events()
    waits = ["device_synchronize"] if mode == "always" else []
    assert [e["type"] for e in events] == 2 * [*waits, "apply_sync_policy"]
    for event in events:
        if event["type"] == "apply_sync_policy":
            assert event["detail0"] == SYNC_MODES.index(mode)
            assert event["detail1"] == int(trace_sync_boundary)
            assert event["status"] == "success"


def test_sync_policy_defaults(settings: None, traced: None) -> None:
    lc.runtime_sync_policy_set("never", True)
    lc.runtime_sync_policy_set()
    assert lc.runtime_sync_policy_get() == {"mode": "auto", "trace_sync_boundary": False}
    lc.runtime_sync_apply()
    (event,) = lc.runtime_trace_events()
    assert (event["detail0"], event["detail1"]) == (0, 0)


@pytest.mark.parametrize("function", [lc.runtime_sync_policy_set, lc.runtime_sync_apply])
def test_words_that_are_no_sync_modes(function: Callable[..., None], settings: None) -> None:
    lc.runtime_sync_policy_set("never", True)
    for word in ("sometimes", "AUTO", ""):
        with pytest.raises(ValueError, match="mode"):
            function(word)
    with pytest.raises(TypeError):
        function(3)
    assert lc.runtime_sync_policy_get() == {"mode": "never", "trace_sync_boundary": True}


# ---------------------------------------------------------------- trace


def test_trace_is_kept_only_while_on() -> None:
    lc.runtime_trace_clear()
    assert lc.runtime_trace_enabled() is False
    lc.vector_add(ones(3), ones(3))
    assert lc.runtime_trace_events() == []
    try:
        assert lc.runtime_trace_enable(enabled=True) is None
        assert lc.runtime_trace_enabled() is True
        lc.vector_add(ones(3), ones(3))
    finally:
        lc.runtime_trace_enable(False)
    assert lc.runtime_trace_enabled() is False
    assert [e["op"] for e in lc.runtime_trace_events()] == ["vector_add"]
    assert lc.runtime_trace_clear() is None
    assert lc.runtime_trace_events() == []
    for arguments in ((), ("yes",), (None,)):
        with pytest.raises(TypeError):
            lc.runtime_trace_enable(*arguments)


def test_the_ring_forgets_the_oldest(traced: None) -> None:
    capacity = lc.runtime_trace_capacity()
    assert capacity == 4096
    for _ in range(10):
        lc.runtime_sync_apply("never")
    for _ in range(capacity - 3):
        lc.runtime_sync_apply("auto")
    events = lc.runtime_trace_events()
    assert len(events) == capacity
    assert [e["detail0"] for e in events[:5]] == [2, 2, 2, 0, 0]
    stamps = [e["timestamp_ns"] for e in events]
    assert stamps == sorted(stamps)


EVENT = {
    "type": str, "status": str, "timestamp_ns": int, "size_bytes": int, "detail0": int,
    "detail1": int, "op": str, "requested_device": str, "selected_device": str, "fallback": bool,
}  # fmt: skip


def test_questions_about_devices_are_events(traced: None) -> None:
    lc.backend_name()
    metal, cuda = lc.metal_available(), lc.cuda_available()
    events = lc.runtime_trace_events()
    found = [(e["type"], e["detail0"]) for e in events]
    assert found == [
        ("backend_name", 0),
        ("is_metal_available", int(metal)),
        ("is_cuda_available", int(cuda)),
    ]
    for event in events:
        assert {key: type(event[key]) for key in EVENT} == EVENT
        assert event["status"] == "success" and event["timestamp_ns"] > 0
        assert event["op"] == event["requested_device"] == event["selected_device"] == ""
        assert event["fallback"] is False


def conv(device: str) -> None:  # 1 * 4 * 3 * 5 results of 3 * 3 * 2 products each
    lc.conv2d_nchw(ones(1, 3, 5, 6), ones(4, 3, 3, 2), None, device=device)


DISPATCHES: dict[str, tuple[str, int, int, Callable[[str], Any]]] = {
    "matmul": ("matmul", 1, 2 * 3 * 4, lambda d: lc.matmul2d(ones(2, 3), ones(3, 4), d)),
    "matmul_np": ("matmul", 1, 24, lambda d: lc.matmul_np(ones(6), ones(12), 2, 3, 4, d)),
    "vector_add": ("vector_add", 2, 7, lambda d: lc.vector_add(ones(7), ones(7), d)),
    "matrix_sub": ("matrix_sub", 3, 6, lambda d: lc.matrix_sub(ones(6), ones(6), 2, 3, d)),
    "conv2d": ("conv2d_nchw", 5, 4 * 3 * 5 * 18, conv),
    "attention2d": (
        "attention_forward", 6, 5 * 5 * 2,
        lambda d: lc.attention2d(ones(5, 2), ones(5, 2), ones(5, 2), False, d),
    ),
    "relu": ("relu", 0, 3, lambda d: lc.relu(ones(3), device=d)),  # an op of ours: unknown
}  # fmt: skip


@pytest.mark.parametrize("requested", DEVICES)
@pytest.mark.parametrize("name", DISPATCHES)
def test_an_op_is_one_event(name: str, requested: str, traced: None) -> None:
    op, number, work, call = DISPATCHES[name]
    call(requested)
    (event,) = [e for e in lc.runtime_trace_events() if e["type"] == "op_dispatch"]
    assert {key: type(event[key]) for key in EVENT} == EVENT
    assert (event["op"], event["detail0"], event["size_bytes"]) == (op, number, work)
    assert event["status"] == "success"
    assert event["requested_device"] == requested
    selected = event["selected_device"]
    if not lc.runtime_backend_capabilities(requested)["available"]:
        assert selected == "cpu"
    assert event["fallback"] is (selected != requested)
    encoded = DEVICE_NUMBER[requested] | DEVICE_NUMBER[selected] << 4 | event["fallback"] << 8
    assert event["detail1"] == encoded


def test_a_session_s_events(traced: None) -> None:
    lc.MatrixElemwiseMetalResidentSession(2, 3).div(ones(6), ones(6), 6)
    events = lc.runtime_trace_events()
    copies = [(e["detail0"], e["size_bytes"]) for e in events if e["type"] == "memcpy"]
    assert copies == [(1, 24), (1, 24), (2, 24)]  # two up, one down
    (dispatch,) = [e for e in events if e["type"] == "op_dispatch"]
    assert (dispatch["op"], dispatch["detail0"], dispatch["size_bytes"]) == ("matrix_div", 4, 6)


@pytest.mark.parametrize(
    "dtype",
    ["<f8", "<i4", "<f2", ">f4"],
)
def test_copies_nobody_asked_for_are_shown(dtype: str, traced: None) -> None:
    lc.matmul2d(ones(3, 3), ones(3, 3))
    lc.matmul2d(ones(3, 3).astype(dtype), ones(3, 3))
    plain, converted = lc.runtime_trace_events()
    assert plain["bytes_copied"] == 0
    assert converted["bytes_copied"] >= 36


def test_trace_as_lines_and_as_chrome_json(traced: None) -> None:
    lc.matmul2d(ones(2, 3), ones(3, 4), "metal")
    lc.runtime_sync_apply("never")
    lines, chrome = lc.trace_lines(), json.loads(lc.trace_chrome_json())
    assert len(lines) == 2
    assert lines[0].startswith("lc,exec,") and "matmul a=f32:2x3 b=f32:3x4" in lines[0]
    if not lc.metal_available():
        assert "fallback=metal" in lines[0]
    assert lines[1].startswith("lc,event,apply_sync_policy,success")
    first, second = chrome["traceEvents"]
    assert (first["name"], first["cat"], first["ph"]) == ("matmul", "op_dispatch", "X")
    assert first["args"]["requested_device"] == "metal" and first["args"]["size_bytes"] == 24
    assert second["name"] == "apply_sync_policy" and second["args"]["detail0"] == 2
    assert first["ts"] <= second["ts"]


# ---------------------------------------------------------------- timeline

EVENT_SORTS = [
    "index", "timestamp_ns", "offset_ns", "delta_prev_ns", "delta_next_ns", "size_bytes",
]  # fmt: skip
GROUP_SORTS = [
    "key", "count", "total_delta_next_ns", "avg_delta_next_ns", "max_delta_next_ns",
    "total_size_bytes",
]  # fmt: skip
ROW = {
    **EVENT, "index": int, "offset_ns": int, "delta_prev_ns": int, "delta_next_ns": int,
}  # fmt: skip
GROUP = {
    "key": str, "count": int, "total_delta_next_ns": int, "avg_delta_next_ns": float,
    "max_delta_next_ns": int, "total_size_bytes": int, "first_timestamp_ns": int,
    "last_timestamp_ns": int, "window_share_pct": float,
}  # fmt: skip
NON_OP = "non_op"


def dispatch_key(row: Row, *parts: str) -> str:
    return "|".join(parts) if row["type"] == "op_dispatch" else NON_OP


GROUPINGS: dict[str, Callable[[Row], str]] = {
    "type": lambda e: str(e["type"]),
    "status": lambda e: str(e["status"]),
    "type_status": lambda e: f"{e['type']}|{e['status']}",
    "op": lambda e: dispatch_key(e, e["op"]),
    "op_selected_device": lambda e: dispatch_key(e, e["op"], e["selected_device"]),
    "op_path": lambda e: dispatch_key(
        e, e["op"], e["selected_device"], "fallback" if e["fallback"] else "direct"
    ),
}


@pytest.fixture
def busy(traced: None) -> list[Row]:
    """A trace of ten events of four types, and what runtime_trace_events says of it."""
    for device in DEVICES:
        lc.matmul2d(ones(4, 5), ones(5, 6), device)
    lc.vector_add(ones(120), ones(120), "cpu")  # as much work as a product: a tie
    lc.matrix_sub(ones(6), ones(6), 2, 3, "metal")
    lc.runtime_sync_apply("never")
    lc.runtime_sync_apply("always")  # a device_synchronize too
    lc.backend_name()
    lc.attention2d(ones(3, 2), ones(3, 2), ones(3, 2), False, "cpu")
    lc.runtime_trace_enable(False)
    events: list[Row] = lc.runtime_trace_events()
    assert len(events) == 10
    return events


def test_timeline_defaults(busy: list[Row]) -> None:
    timeline = lc.runtime_trace_timeline()
    arguments = {
        "event_sort_by": "timestamp_ns", "event_descending": False, "group_by": "type",
        "group_sort_by": "total_delta_next_ns", "group_descending": True, "hotspot_top_k": 8,
    }  # fmt: skip
    assert {key: timeline[key] for key in arguments} == arguments
    rest = set(timeline) - set(arguments)
    assert rest == {"event_count", "notes", "window_ns", "events", "groups", "hotspots"}
    assert timeline["event_count"] == len(busy)
    assert isinstance(timeline["notes"], str) and timeline["notes"]
    assert timeline["window_ns"] == busy[-1]["timestamp_ns"] - busy[0]["timestamp_ns"]
    other = lc.runtime_trace_timeline("index", True, "op", "key", False, 2)  # in that order
    assert [other[key] for key in arguments] == ["index", True, "op", "key", False, 2]


def test_timeline_rows_are_events_with_their_distances(busy: list[Row]) -> None:
    timeline = lc.runtime_trace_timeline(hotspot_top_k=0)
    rows = timeline["events"]
    stamps = [e["timestamp_ns"] for e in busy]
    gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    for i, (row, event) in enumerate(zip(rows, busy, strict=True)):
        assert {key: type(row[key]) for key in ROW} == ROW
        assert {key: row[key] for key in event} == event
        assert row["index"] == i
        assert row["offset_ns"] == stamps[i] - stamps[0]
        assert row["delta_prev_ns"] == (gaps[i - 1] if i else 0)
        assert row["delta_next_ns"] == (gaps[i] if i < len(gaps) else 0)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", EVENT_SORTS)
def test_timeline_sorts_events(column: str, descending: bool, busy: list[Row]) -> None:
    rows = lc.runtime_trace_timeline(event_sort_by=column, event_descending=descending)["events"]
    order = [(row[column], row["index"]) for row in rows]
    assert order == sorted(order, reverse=descending)
    assert sorted(row["index"] for row in rows) == list(range(len(busy)))


@pytest.mark.parametrize("group_by", GROUPINGS)
def test_timeline_groups(group_by: str, busy: list[Row]) -> None:
    timeline = lc.runtime_trace_timeline(group_by=group_by)
    members: dict[str, list[Row]] = {}
    for row in timeline["events"]:
        members.setdefault(GROUPINGS[group_by](row), []).append(row)
    assert {g["key"] for g in timeline["groups"]} == set(members)
    if group_by == "op_path":
        fallback = "direct" if lc.metal_available() else "fallback"
        assert f"matrix_sub|{'metal' if lc.metal_available() else 'cpu'}|{fallback}" in members
        assert "vector_add|cpu|direct" in members and NON_OP in members
    for group in timeline["groups"]:
        rows = members[group["key"]]
        assert {key: type(group[key]) for key in GROUP} == GROUP
        gaps = [row["delta_next_ns"] for row in rows]
        assert group["count"] == len(rows)
        assert group["total_delta_next_ns"] == sum(gaps)
        assert group["avg_delta_next_ns"] == pytest.approx(sum(gaps) / len(gaps))
        assert group["max_delta_next_ns"] == max(gaps)
        assert group["total_size_bytes"] == sum(row["size_bytes"] for row in rows)
        assert group["first_timestamp_ns"] == min(row["timestamp_ns"] for row in rows)
        assert group["last_timestamp_ns"] == max(row["timestamp_ns"] for row in rows)
        share = 100 * sum(gaps) / timeline["window_ns"]
        assert group["window_share_pct"] == pytest.approx(share)
    assert sum(g["window_share_pct"] for g in timeline["groups"]) == pytest.approx(100)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", GROUP_SORTS)
def test_timeline_sorts_groups(column: str, descending: bool, busy: list[Row]) -> None:
    groups = lc.runtime_trace_timeline(
        group_by="op_path", group_sort_by=column, group_descending=descending
    )["groups"]
    order = [(group[column], group["key"]) for group in groups]
    assert len(order) > 4
    assert order == sorted(order, reverse=descending)


@pytest.mark.parametrize(("top", "shown"), [(0, 10), (1, 1), (3, 3), (8, 8), (99, 10)])
def test_hotspots_are_the_longest_gaps(top: int, shown: int, busy: list[Row]) -> None:
    timeline = lc.runtime_trace_timeline(hotspot_top_k=top)
    assert len(timeline["hotspots"]) == shown
    by_gap = sorted(
        timeline["events"], key=lambda row: (row["delta_next_ns"], row["index"]), reverse=True
    )
    assert timeline["hotspots"] == by_gap[:shown]


BAD_WORDS = [
    ("event_sort_by", "type", "delta_prev_ns"),
    ("group_by", "device", "op_selected_device"),
    ("group_sort_by", "window_share_pct", "avg_delta_next_ns"),
]


@pytest.mark.parametrize(("argument", "word", "offered"), BAD_WORDS)
def test_timeline_words_that_are_none(
    argument: str, word: str, offered: str, busy: list[Row]
) -> None:
    for bad in (word, word.upper(), ""):
        with pytest.raises(ValueError, match=rf"{argument}.*{offered}"):
            lc.runtime_trace_timeline(**{argument: bad})
    with pytest.raises(TypeError):
        lc.runtime_trace_timeline(hotspot_top_k=-1)


def test_timeline_of_nothing_diagnoses_nothing() -> None:
    lc.runtime_trace_clear()
    bad = {argument: word for argument, word, _ in BAD_WORDS}
    timeline = lc.runtime_trace_timeline(**bad)
    assert {key: timeline[key] for key in bad} == bad
    assert timeline["event_count"] == timeline["window_ns"] == 0
    assert timeline["events"] == timeline["groups"] == timeline["hotspots"] == []


# ---------------------------------------------------------------- plans, memory, settings


def test_memory_in_use_is_memory_somebody_holds() -> None:
    gc.collect()
    before = lc.memory_stats()
    assert set(before) == {"in_use", "cached", "peak", "allocs", "hits"}
    held = lc.relu(ones(1 << 20))
    during = lc.memory_stats()
    assert during["in_use"] >= before["in_use"] + held.nbytes
    assert during["peak"] >= during["in_use"]
    assert during["allocs"] > before["allocs"]
    del held
    after = lc.memory_stats()
    assert after["in_use"] == before["in_use"]
    assert after["cached"] >= 4 << 20
    assert after["peak"] >= during["in_use"]
    lc.relu(ones(1 << 20))
    assert lc.memory_stats()["hits"] > after["hits"]


def test_plans_are_made_once() -> None:
    lc.clear_plan_cache()
    assert lc.plan_cache_stats()["entries"] == 0
    a = ones(3, 17)
    lc.relu(a)
    first = lc.plan_cache_stats()
    assert set(first) == {"hits", "shared_hits", "misses", "entries"}
    assert first["entries"] == 1
    for _ in range(5):
        lc.relu(a)
    again = lc.plan_cache_stats()
    assert (again["entries"], again["misses"]) == (1, first["misses"])
    assert again["hits"] + again["shared_hits"] == first["hits"] + first["shared_hits"] + 5
    lc.relu(ones(3, 18))
    assert lc.plan_cache_stats()["misses"] == first["misses"] + 1


@pytest.mark.parametrize("device", DEVICES)
def test_explain_names_device_and_kernel(device: str) -> None:
    text = lc.explain_call("matmul a=f32:8x9 b=f32:9x8", device=device)
    assert text.startswith("matmul a=f32:8x9 b=f32:9x8")
    assert f"requested {device}" in text and "chosen" in text
    available = lc.runtime_backend_capabilities(device)["available"]
    assert ("fallback" in text) is not available
    with pytest.raises(ValueError, match="device"):
        lc.explain_call("matmul a=f32:8x9 b=f32:9x8", "tpu")
    for bad in ("no_such_op a=f32:8", "matmul a=f32:8x9 b=f32:8x9", "matmul"):
        with pytest.raises(ValueError):
            lc.explain_call(bad, device)


def test_ops_describe_themselves() -> None:
    names = lc.op_names()
    assert names == sorted(names) and len(names) == len(set(names)) > 50
    assert list(lc.ops()) == names and all(lc.ops().values())
    schema = lc.op_schema("conv2d")
    assert schema["name"] == "conv2d" and schema["variadic"] is False
    assert [row["name"] for row in schema["inputs"]] == ["x", "weight", "bias"]
    assert [row["optional"] for row in schema["inputs"]] == [False, False, True]
    assert "none" in {row["name"]: row for row in schema["attrs"]}["activation"]["words"]
    with pytest.raises(ValueError, match="no_such_op"):
        lc.op_schema("no_such_op")


def config() -> dict[str, Row]:
    return {row["name"]: row for row in lc.config_table()}


def test_settings_table() -> None:
    table = lc.config_table()
    names = [row["name"] for row in table]
    assert names == sorted(set(names))
    for row in table:
        assert kinds(row) == {"name": str, "default": str, "value": str, "words": str, "doc": str}
        assert row["name"].startswith(("LC_", "CJ_")) and row["doc"].endswith(".")
        if row["words"]:
            assert {row["value"], row["default"]} <= set(row["words"].split("|"))
    rows = config()
    defaults = {
        "CJ_CONV2D_CPU_CROSSOVER_MACS": "260000", "CJ_CONV2D_CPU_CROSSOVER_DYNAMIC": "0",
        "CJ_MATMUL_DISABLE_PROMOTED_BUCKETS": "0", "CJ_MATMUL_PREFER_MPS_ON_LARGE": "1",
        "CJ_MATMUL_TRY_KERNEL_ON_LARGE": "1", "CJ_MATMUL_MPS_HYST_PCT": "0.0",
        "LC_BENCH_TIMING_RUNS": "3",
    }  # fmt: skip
    assert {name: rows[name]["default"] for name in defaults} == defaults


def test_settings_change_and_come_back(settings: None) -> None:
    threads, isa = lc.num_threads(), lc.device_info()["isa"]
    lc.set_config("LC_NUM_THREADS", "1")
    lc.set_config(name="LC_MAX_ISA", value="baseline")
    assert lc.num_threads() == lc.device_info()["threads"] == 1
    assert lc.device_info()["isa"] == config()["LC_MAX_ISA"]["value"] == "baseline"
    for name, value in (("LC_NUM_THREADS", "two"), ("LC_MAX_ISA", "mmx"), ("LC_STRICT", "2")):
        before = config()[name]["value"]
        with pytest.raises(ValueError, match=rf"{name}.*'{value}'"):
            lc.set_config(name, value)
        assert config()[name]["value"] == before
    with pytest.raises(ValueError, match="LC_NUM_THREADS.*'LC_NO_SUCH'"):
        lc.set_config("LC_NO_SUCH", "1")
    assert lc.reload_config() is None
    assert (lc.num_threads(), lc.device_info()["isa"]) == (threads, isa)


def test_reset_tuning_reads_the_environment_again(
    settings: None, traced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "CJ_MATMUL_MPS_HYST_PCT"
    before = config()[name]["value"]
    monkeypatch.setenv(name, "12.5")
    assert config()[name]["value"] == before
    assert lc.matmul_reset_tuning() is None
    assert float(config()[name]["value"]) == 12.5
    assert lc.runtime_trace_enabled() is True
    monkeypatch.delenv(name)
    lc.matmul_reset_tuning()
    assert config()[name]["value"] == before
