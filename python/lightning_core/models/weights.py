"""Reading model weights from safetensors files; errors say what is wrong with the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_core._core import SafetensorsFile

__all__ = ["WeightsError", "load_weights", "require"]

Array = npt.NDArray[Any]

# The format's dtypes that NumPy has; more than the ops take.
_NUMPY: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "F16": np.float16,
    "U32": np.uint32,
    "I32": np.int32,
    "F32": np.float32,
    "U64": np.uint64,
    "I64": np.int64,
    "F64": np.float64,
    "C64": np.complex64,
}


class WeightsError(ValueError):
    """A weights file that is missing, truncated, malformed or not of the expected model."""


def load_weights(path: Path | str) -> dict[str, Array]:
    """All tensors of a safetensors file, by name.

    Args:
        path: the file. It must not be cut short while the arrays live; replacing it is safe.

    Returns:
        Row-major arrays in the file's dtypes, on the mapped file: nothing is read before it is
        used, and what is written to them never reaches the file.

    Raises:
        WeightsError: the file is missing, truncated or malformed, or has a dtype that NumPy lacks;
            the message names the file and what the reader found.
    """
    path = Path(path)
    try:
        file = SafetensorsFile(path)
    except ValueError as error:
        raise WeightsError(str(error)) from error
    return {name: _array(file, path, name) for name in file.keys()}  # noqa: SIM118  no dict


def _array(file: SafetensorsFile, path: Path, name: str) -> Array:
    """A tensor of the file as an aligned array; a copy only where the file has it misaligned."""
    info = file.info(name)
    dtype = _NUMPY.get(info["dtype"])
    if dtype is None:
        raise WeightsError(
            f"[load_weights] path: expected dtypes of NumPy, found {info['dtype']} for tensor "
            f"{name!r} in {path}; read it with lightning_core.SafetensorsFile"
        )
    return np.require(file.raw(name).view(dtype).reshape(info["shape"]), requirements="A")


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
