"""Single-head attention: softmax(q k^T / sqrt(head_dim)) v, all operands [seq_len, head_dim]."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_core import _core
from lightning_core.reference.arrays import (
    F32,
    Array,
    Device,
    addressable,
    array,
    direct,
    flag,
    flat,
    out_of,
    returns,
    sizes,
)
from lightning_core.reference.policies import AttentionIoPolicy, as_policy, of_kind

__all__ = [
    "AttentionIoPolicy",
    "AttentionSession",
    "attention2d",
    "attention2d_into",
    "attention2d_session",
    "attention_forward",
    "attention_forward_with_policy",
    "clear_attention2d_session_cache",
]


def attend(
    op: str,
    q: Any,
    k: Any,
    v: Any,
    causal: bool,
    device: Device,
    out: F32 | None = None,
    policy: AttentionIoPolicy | None = None,
) -> F32:
    """The attention behind all names: checked operands of [seq_len, head_dim], then the op."""
    io = None
    if policy is not None:
        io = as_policy(policy)
        if out is None and not policy.download_out:
            out = np.zeros(q.shape, np.float32)  # nothing is downloaded into the new result
    result = _core.attention(
        q,
        k,
        v,
        causal=causal if isinstance(causal, bool) else flag(op, "causal", causal),
        out=out,
        device=device,
        policy=io,
        as_float32=True,
        trace_as="attention_forward",
    )
    if policy is not None and policy.download_out:
        if policy.output_scale != 1.0:
            _core.mul(result, policy.output_scale, out=result, device=device)
        if policy.output_bias != 0.0:
            _core.add(result, policy.output_bias, out=result, device=device)
        if policy.output_relu:
            _core.relu(result, out=result, device=device)
    return result


def operands_of(
    op: str, q: Any, k: Any, v: Any, shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """q, k and v under one shape; ValueError where one has another number of elements."""
    return flat(op, "q", q, shape), flat(op, "k", k, shape), flat(op, "v", v, shape)


def _check_2d(op: str, q: Any, k: Any, v: Any) -> tuple[Any, Any, Any]:
    first, second, third = array(op, "q", q), array(op, "k", k), array(op, "v", v)
    if first.ndim != 2 or second.shape != first.shape or third.shape != first.shape:
        raise ValueError(
            f"[{op}] q, k, v: expected one shape (seq_len, head_dim), "
            f"found {first.shape}, {second.shape}, {third.shape}"
        )
    sizes(op, seq_len=first.shape[0], head_dim=first.shape[1])
    return first, second, third


@direct
def attention2d(q: Any, k: Any, v: Any, causal: bool = False, device: Device = None) -> F32:
    """Attention of [seq_len, head_dim] operands, to a float32 array of that shape.

    Raises:
        ValueError: not rank 2, or shapes that differ. RuntimeError: an extent of 0. TypeError: a
            causal that is no bool or integer.
    """
    return attend("attention2d", *_check_2d("attention2d", q, k, v), causal, device)


@direct
def attention2d_into(
    q: Any, k: Any, v: Any, out: F32, causal: bool = False, device: Device = None
) -> None:
    """As `attention2d`, into a float32 `out` of exactly (seq_len, head_dim); may be strided."""
    op = "attention2d_into"
    first, second, third = _check_2d(op, q, k, v)
    window = out_of(op, out, first.shape)
    if window is not out:
        raise ValueError(f"[{op}] out: expected shape {first.shape}, found {out.shape}")
    attend(op, first, second, third, causal, device, window)


def attention2d_session(q: Any, causal: bool = False, device: Device = None) -> AttentionSession:
    """An AttentionSession for q's shape."""
    first = array("attention2d_session", "q", q)
    if first.ndim != 2:
        raise ValueError(f"[attention2d_session] q: expected rank 2, found shape {first.shape}")
    return AttentionSession(first.shape[0], first.shape[1], causal, device)


@direct
def attention_forward(
    q: Any,
    k: Any,
    v: Any,
    seq_len: int,
    head_dim: int,
    causal: bool = False,
    device: Device = None,
) -> Any:
    """Attention of flat operands of seq_len * head_dim elements; flat, a list where q is a list.

    Raises:
        ValueError: a size does not fit. RuntimeError: a size of 0. TypeError: a causal that is no
            bool or integer.
    """
    op = "attention_forward"
    shape = sizes(op, seq_len=seq_len, head_dim=head_dim)
    first, second, third = operands_of(op, q, k, v, shape)
    return returns(q, attend(op, first, second, third, causal, device))


def attention_forward_with_policy(
    q: Any,
    k: Any,
    v: Any,
    seq_len: int,
    head_dim: int,
    causal: bool = False,
    device: Device = None,
    policy: AttentionIoPolicy | None = None,
) -> list[float]:
    """As `attention_forward` under a policy, else TypeError; always a list.

    Without download it is zeros.
    """
    op = "attention_forward_with_policy"
    shape = sizes(op, seq_len=seq_len, head_dim=head_dim)
    first, second, third = operands_of(op, q, k, v, shape)
    io = AttentionIoPolicy() if policy is None else of_kind(op, policy, AttentionIoPolicy)
    result = attend(op, first, second, third, causal, device, None, io)
    values: list[float] = result.reshape(-1).tolist()
    return values


def clear_attention2d_session_cache() -> None:
    """Kept for the reference's callers: plans are cached for all ops; this forgets them."""
    _core.clear_plan_cache()


class AttentionSession:
    """Attention of one shape, forward and one training step of V.

    The loss of `train_step` is mean((out - target)^2), sampled every `loss_every` steps of the
    policy (0: by shape) and repeated in between.
    """

    def __init__(
        self, seq_len: int, head_dim: int, causal: bool = False, device: Device = None
    ) -> None:
        """A session for one shape.

        Raises:
            RuntimeError: a size of 0. ValueError: an unknown device word, or more than 2^62 bytes
            an operand. TypeError: a negative size, or a causal that is no bool or integer.
        """
        self._shape = sizes("AttentionSession", seq_len=seq_len, head_dim=head_dim)
        addressable("AttentionSession", "seq_len and head_dim", self._shape)
        self._causal = flag("AttentionSession", "causal", causal)
        self._device = device
        if device is not None:
            _core.runtime_backend_capabilities(device)  # refuses an unknown word
        self._policy = AttentionIoPolicy()
        if device not in (None, "cpu"):
            self._policy.synchronize = False
            self._policy.loss_every = 0
        self._steps = 0
        self._loss = 0.0

    def set_default_policy(self, policy: AttentionIoPolicy) -> None:
        """The policy of calls that name none; TypeError for what is no AttentionIoPolicy."""
        self._policy = of_kind("set_default_policy", policy, AttentionIoPolicy)

    def forward(self, q: Any, k: Any, v: Any) -> list[float]:
        """Flat list of seq_len * head_dim results."""
        return self.forward_with_policy(q, k, v, self._policy)

    def forward_with_policy(self, q: Any, k: Any, v: Any, policy: AttentionIoPolicy) -> list[float]:
        """As `forward`, under a policy."""
        op = "forward"
        first, second, third = operands_of(op, q, k, v, self._shape)
        io = of_kind(op, policy, AttentionIoPolicy)
        result = attend(op, first, second, third, self._causal, self._device, None, io)
        values: list[float] = result.reshape(-1).tolist()
        return values

    def forward_into(self, q: Any, k: Any, v: Any, out: F32) -> None:
        """Into a float32 `out` of as many elements as q; ValueError where sizes do not fit."""
        self.forward_with_policy_into(q, k, v, out, self._policy)

    def forward_with_policy_into(
        self, q: Any, k: Any, v: Any, out: F32, policy: AttentionIoPolicy
    ) -> None:
        """As `forward_into`, under a policy; without download `out` is left as it is."""
        op = "forward_into"
        first, second, third = operands_of(op, q, k, v, self._shape)
        window = out_of(op, out, self._shape)
        io = of_kind(op, policy, AttentionIoPolicy)
        attend(op, first, second, third, self._causal, self._device, window, io)

    def train_step(
        self, q: Any, k: Any, v: Any, target: Any, learning_rate: float
    ) -> tuple[list[float], list[float], float]:
        """(out before the step, updated V, loss); V -= lr * P^T (2 (out - target) / numel).

        Raises:
            RuntimeError: a learning rate of 0 or less ("invalid value"). ValueError: a wrong size.
        """
        return self.train_step_with_policy(q, k, v, target, learning_rate, self._policy)

    def train_step_with_policy(
        self,
        q: Any,
        k: Any,
        v: Any,
        target: Any,
        learning_rate: float,
        policy: AttentionIoPolicy,
    ) -> tuple[list[float], list[float], float]:
        """As `train_step`, under a policy."""
        io = of_kind("train_step", policy, AttentionIoPolicy)
        if not learning_rate > 0:
            raise RuntimeError(
                f"invalid value: [train_step] learning_rate: expected more than 0, "
                f"found {learning_rate}"
            )
        first, second, third = operands_of("train_step", q, k, v, self._shape)
        wanted = flat("train_step", "target", target, self._shape)
        every = io.loss_every or _core.attention_loss_interval(self._shape[0], self._shape[1])
        sample = self._steps % max(every, 1) == 0
        out, updated, loss = _core.attention_train_step(
            first,
            second,
            third,
            wanted,
            self._shape[0],
            self._shape[1],
            self._causal,
            float(learning_rate),
            self._device or "",
            io,
            sample,
        )
        self._steps += 1
        if sample:
            self._loss = loss
        return out.tolist(), updated.tolist(), self._loss
