"""Reading model weights from safetensors files; errors say what is wrong with the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["WeightsError", "load_weights", "require"]

Array = npt.NDArray[Any]


class WeightsError(ValueError):
    """A weights file that is missing, truncated, malformed or not of the expected model."""


def load_weights(path: Path | str) -> dict[str, Array]:
    """All tensors of a safetensors file, by name.

    Args:
        path: the file.

    Returns:
        Row-major arrays in the file's dtypes.

    Raises:
        WeightsError: the file is missing, truncated or malformed; the message names the file and
            what the reader found.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"[load_weights] path: expected a safetensors file, found none at {path}"
        )
    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: np.ascontiguousarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  no dict
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise WeightsError(
            f"[load_weights] path: expected a whole safetensors file, found {path} "
            f"of {path.stat().st_size} bytes that does not read: {error}; download it again"
        ) from error


def require(
    weights: Mapping[str, Array], name: str, shape: tuple[int, ...] | None = None
) -> npt.NDArray[np.float32]:
    """The float32 tensor `name`, checked against `shape`.

    Raises:
        WeightsError: the tensor is missing, has another dtype or another shape.
    """
    if name not in weights:
        near = [key for key in weights if key.split(".")[-2:] == name.split(".")[-2:]][:3]
        raise WeightsError(
            f"[weights] {name}: expected a tensor of this name, found none (near: {near})"
        )
    tensor = weights[name]
    if tensor.dtype != np.float32:
        raise WeightsError(f"[weights] {name}: expected float32, found {tensor.dtype}")
    if shape is not None and tensor.shape != shape:
        raise WeightsError(f"[weights] {name}: expected shape {shape}, found {tensor.shape}")
    return tensor
