"""Attention and its derivatives as kernels compute them, in the arithmetic of the operands."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Kernel = Callable[[Array, Array, Array, Any, float], Array]
LOG2E = math.log2(math.e)


def turned(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def scores(q: Array, k: Array, mask: Any, scale: float) -> Array:
    result = (q @ turned(k)) * q.dtype.type(scale)
    return result if mask is None else result + mask.astype(q.dtype)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def naive(q: Array, k: Array, v: Array, mask: Any, scale: float) -> Array:
    return softmax(scores(q, k, mask, scale)) @ v


def prescaled(q: Array, k: Array, v: Array, mask: Any, scale: float) -> Array:
    root = q.dtype.type(math.sqrt(scale))
    return softmax(scores(q * root, k * root, mask, 1.0)) @ v


def divided_last(q: Array, k: Array, v: Array, mask: Any, scale: float) -> Array:
    x = scores(q, k, mask, scale) * q.dtype.type(LOG2E)
    e = np.exp2(x - x.max(-1, keepdims=True))
    return (e @ v) / e.sum(-1, keepdims=True)


def by_logsumexp(q: Array, k: Array, v: Array, mask: Any, scale: float) -> Array:
    x = scores(q, k, mask, scale)
    top = x.max(-1, keepdims=True)
    lse = top + np.log(np.exp(x - top).sum(-1, keepdims=True))
    return np.exp(x - lse) @ v


def flash(
    block: int, backwards: bool = False, accumulator: bool = True, total: bool = True
) -> Kernel:
    """Return attention by blocks of keys; without a rescaling where that is False."""

    def kernel(q: Array, k: Array, v: Array, mask: Any, scale: float) -> Array:
        kind: Any = np.float32 if q.dtype == np.float16 else q.dtype
        starts = range(0, k.shape[-2], block)
        top = np.full((*q.shape[:-1], 1), -np.inf, kind)
        sums, result = np.zeros_like(top), np.zeros((*q.shape[:-1], v.shape[-1]), kind)
        for start in reversed(starts) if backwards else starts:
            part = slice(start, start + block)
            own = None if mask is None else mask[..., part]
            x = scores(q.astype(kind), k[..., part, :].astype(kind), own, scale)
            new = np.maximum(top, x.max(-1, keepdims=True))
            safe = np.where(np.isfinite(new), new, 0).astype(kind)
            factor, p = np.exp(top - safe), np.exp(x - safe)
            sums = sums * (factor if total else 1) + p.sum(-1, keepdims=True)
            p = p.astype(q.dtype).astype(kind)
            result = result * (factor if accumulator else 1) + p @ v[..., part, :].astype(kind)
            top = new
        return (result / sums).astype(q.dtype)

    return kernel


RIGHT: dict[str, Kernel] = {
    "naive": naive,
    "prescaled": prescaled,
    "divided last, powers of 2": divided_last,
    "exp(x - logsumexp)": by_logsumexp,
    "flash, blocks of 1": flash(1),
    "flash, blocks of 16": flash(16),
    "flash, blocks of 7, backwards": flash(7, backwards=True),
}


def derivatives(
    q: Array, k: Array, v: Array, g: Array, mask: Any, scale: float, how: str = "sum"
) -> dict[str, Array]:
    """Return the derivatives with respect to q, k and v; `how` the means are formed, or not."""
    p = softmax(scores(q, k, mask, scale))
    slopes = g @ turned(v)
    means = {
        "sum": (p * slopes).sum(-1, keepdims=True),
        "result": (g * (p @ v)).sum(-1, keepdims=True),
        "expanded": (p * slopes).sum(-1, keepdims=True),
        "forgotten": np.zeros((*p.shape[:-1], 1), p.dtype),
    }[how]
    inner = p * slopes - p * means if how == "expanded" else p * (slopes - means)
    number = q.dtype.type(scale)
    return {
        "q": (inner @ k) * number,
        "k": turned(inner * number) @ q,
        "v": turned(p) @ g,
    }
