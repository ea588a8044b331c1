"""int8 weights for linear()."""

from __future__ import annotations

from typing import Any

from lightning_core import _core as core

__all__ = ["quantize_weight"]


def quantize_weight(weight: Any) -> tuple[Any, Any]:
    """A weight [out, in] as int8 values and one float32 factor a row, as `linear` takes them.

    `values * scale[:, None]` differs from the weight by at most half a `scale`: symmetric, the
    largest magnitude of a row is 127 steps (Jacob et al. 2018). A row of zeros has scale 0, one
    with an infinity or NaN a scale that is not finite.

    Args:
        weight: float array [out, in].

    Returns:
        int8 [out, in] and float32 [out].

    Raises:
        ValueError: the weight is not of rank 2.

    Example:
        >>> import numpy as np
        >>> values, scale = quantize_weight(np.array([[0.5, -1.27]], np.float32))
        >>> values.tolist(), round(float(scale[0]), 4)
        ([[50, -127]], 0.01)
    """
    if len(weight.shape) != 2:
        raise ValueError(
            f"[quantize_weight] weight: expected rank 2 (out, in), found shape {weight.shape}"
        )
    wide = core.cast(weight, dtype="float32")
    scale = core.div(core.max(core.abs(wide), axes=(1,)), 127.0)
    steps = core.div(wide, core.reshape(scale, shape=(-1, 1)))
    return core.cast(core.round(steps), dtype="int8"), scale
