"""Right implementations of attention that round differently, in NumPy; see kinds_variants.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from kinds_variants import LOG2_E, ORDERS, Array, Order, blocks


def turned(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def masked(s: Array, mask: Array | None, causal: bool) -> Array:
    if mask is not None:
        s = s + mask
    if causal:
        m, n = s.shape[-2:]
        s = np.where(np.tril(np.ones((m, n), bool)), s, s.dtype.type(-np.inf))
    return s


def root(q: Array) -> Any:
    return np.sqrt(q.dtype.type(q.shape[-1]))


def weights(s: Array, order: Order = ORDERS["NumPy"]) -> Array:
    powers = np.exp(s - s.max(-1, keepdims=True))
    return powers / order(powers)[..., None]


def naive(q: Array, k: Array, v: Array, mask: Any, causal: bool, order: Order) -> Array:
    return weights(masked(q @ turned(k) / root(q), mask, causal), order) @ v


def scaled_first(q: Array, k: Array, v: Array, mask: Any, causal: bool) -> Array:
    return weights(masked((q / root(q)) @ turned(k), mask, causal)) @ v


def both_scaled(q: Array, k: Array, v: Array, mask: Any, causal: bool) -> Array:
    """Scale q and k by the fourth root each, as torch's composite kernel does."""
    part = np.sqrt(1 / root(q))
    return weights(masked((q * part) @ turned(k * part), mask, causal)) @ v


def divided_last(q: Array, k: Array, v: Array, mask: Any, causal: bool) -> Array:
    s = masked(q @ turned(k) * (1 / root(q)), mask, causal)
    powers = np.exp(s - s.max(-1, keepdims=True))
    return (powers @ v) / powers.sum(-1, keepdims=True)


def by_exp2(q: Array, k: Array, v: Array, mask: Any, causal: bool) -> Array:
    s = masked(q @ turned(k) * (1 / root(q)), mask, causal)
    powers = np.exp2((s - s.max(-1, keepdims=True)) * s.dtype.type(LOG2_E))
    return (powers @ v) / powers.sum(-1, keepdims=True)


def flash(q: Array, k: Array, v: Array, mask: Any, causal: bool, size: int = 16) -> Array:
    """Go over blocks of keys, and rescale what is summed whenever the maximum grows."""
    scores = masked(q @ turned(k) * (1 / root(q)), mask, causal)
    top = np.full((*scores.shape[:-1], 1), -np.inf, q.dtype)
    total = np.zeros_like(top)
    out = np.zeros((*scores.shape[:-1], v.shape[-1]), q.dtype)
    for part in blocks(k.shape[-2], size):
        s = scores[..., part]
        new = np.maximum(top, s.max(-1, keepdims=True))
        safe = np.where(np.isinf(new), q.dtype.type(0), new)
        powers, change = np.exp(s - safe), np.exp(top - safe)
        total = total * change + powers.sum(-1, keepdims=True)
        out = out * change + powers @ v[..., part, :]
        top = new
    return out / total


ATTENTION: dict[str, Callable[..., Array]] = {
    f"{name} sum": lambda q, k, v, mask, causal, o=order: naive(q, k, v, mask, causal, o)
    for name, order in ORDERS.items()
} | {
    "q scaled first": scaled_first,
    "q and k scaled": both_scaled,
    "divided last": divided_last,
    "exp2": by_exp2,
    "flash, blocks of 16": flash,
    "flash, blocks of 3": lambda *a: flash(*a, size=3),
}


def vjp(
    q: Array, k: Array, v: Array, mask: Any, causal: bool, g: Array, by_result: bool,
    order: Order = ORDERS["NumPy"],
) -> tuple[Array, ...]:  # fmt: skip
    """Return the gradients; the sum of p dp from the result, as flash attention, or from p."""
    p = weights(masked(q @ turned(k) / root(q), mask, causal), order)
    dp = g @ turned(v)
    dot = order(g * (p @ v)) if by_result else order(p * dp)
    ds = p * (dp - dot[..., None]) / root(q)
    return ds @ k, turned(ds) @ q, turned(p) @ g


ATTENTION_VJP: dict[str, Callable[..., tuple[Array, ...]]] = {
    f"{name} sum": lambda q, k, v, mask, causal, g, o=order: vjp(q, k, v, mask, causal, g, False, o)
    for name, order in ORDERS.items()
} | {
    f"{name} sum, from the result": lambda q, k, v, mask, causal, g, o=order: vjp(
        q, k, v, mask, causal, g, True, o
    )
    for name, order in list(ORDERS.items())[:3]
}
