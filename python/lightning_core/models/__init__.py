"""Models that run wholly on this library's ops."""

from __future__ import annotations

__all__ = ["minilm", "weights"]
