"""The functions of `lightning-core` 0.1.17, over this library's ops.

Names, argument orders and returns are that package's; where it had a defect (an `out` that was
silently lost, sessions that shared buffers), the signature stays and the behaviour is right.
"""

from __future__ import annotations

__all__ = ["attention", "conv", "elementwise", "integrated", "matmul", "policies", "sessions"]
