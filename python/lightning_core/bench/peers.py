"""The libraries we compare with, where they are installed. A missing peer is a blank cell."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["jax_module", "numpy_threads", "torch_module", "versions"]


def torch_module(threads: int) -> ModuleType | None:
    """torch set to `threads` threads, or None."""
    if find_spec("torch") is None:
        return None
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    module: ModuleType = torch
    return module


def jax_module() -> ModuleType | None:
    """jax on the CPU, or None. Its thread count follows the process's affinity mask."""
    if find_spec("jax") is None:
        return None
    return importlib.import_module("jax")


def numpy_threads() -> str:
    """Threads NumPy's BLAS reports, for the report's header; "unknown" without threadpoolctl."""
    if find_spec("threadpoolctl") is None:
        return "unknown"
    pools: Any = importlib.import_module("threadpoolctl")
    counts = {str(pool["num_threads"]) for pool in pools.threadpool_info()}
    return ",".join(sorted(counts)) or "unknown"


def versions() -> dict[str, str]:
    """Version of every peer that is installed."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for name in ("numpy", "torch", "jax", "onnxruntime", "openvino"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
