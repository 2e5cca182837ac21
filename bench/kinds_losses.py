"""Right implementations of cross-entropy that round differently; see kinds_variants.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kinds_variants as v
import numpy as np
from kinds_variants import Array

IGNORED = -100


def shares(target: Array, classes: int, smoothing: float, dtype: Any) -> Array:
    """Return the probability wanted of each class, zeros in rows that are ignored."""
    if target.ndim == 2:
        wanted = target.astype(dtype)
        return wanted * dtype(1 - smoothing) + dtype(smoothing / classes)
    wanted = np.full((len(target), classes), smoothing / classes, dtype)
    kept = target != IGNORED
    wanted[kept, target[kept]] += dtype(1 - smoothing)
    wanted[~kept] = 0
    return wanted


def normaliser(target: Array, weight: Array | None, options: dict[str, Any], dtype: Any) -> Any:
    """Return what the sum of losses is divided by."""
    if options["reduction"] != "mean":
        return dtype(1)
    if target.ndim == 2:
        return dtype(len(target))
    kept = target[target != IGNORED]
    return dtype(len(kept)) if weight is None else weight[kept].sum(dtype=dtype)


def cross_entropy(
    x: Array, target: Array, weight: Array | None, options: dict[str, Any], log_p: Any, order: Any
) -> Array:
    """Sum -w q log p over the classes, then over the rows."""
    dtype = x.dtype.type
    q = shares(target, x.shape[1], options.get("label_smoothing", 0.0), dtype)
    if weight is not None:
        q = q * weight
    terms = np.where(q == 0, dtype(0), -q * log_p(x))
    rows = order(terms)
    if options["reduction"] == "none":
        return rows
    return np.asarray(order(rows) / normaliser(target, weight, options, dtype))


def picked(x: Array, target: Array, weight: Array | None, options: dict[str, Any]) -> Array:
    """Pick the target's logit from logsumexp; the rest by the general formula."""
    if target.ndim == 2 or options.get("label_smoothing"):
        return cross_entropy(x, target, weight, options, v.log_softmax_by_lse, v.pairwise)
    dtype = x.dtype.type
    kept = target != IGNORED
    at = np.where(kept, target, 0)
    rows = v.logsumexp(x) - x[np.arange(len(x)), at]
    rows = rows * (kept if weight is None else kept * weight[at]).astype(x.dtype)
    if options["reduction"] == "none":
        return rows
    return np.asarray(rows.sum(dtype=x.dtype) / normaliser(target, weight, options, dtype))


CROSS_ENTROPY: dict[str, Callable[..., Array]] = {
    f"{name} sums": lambda x, t, w, o, order=order: cross_entropy(
        x, t, w, o, lambda y: v.log_softmax(y, order), order
    )
    for name, order in v.ORDERS.items()
} | {
    "online": lambda x, t, w, o: cross_entropy(x, t, w, o, v.log_softmax_online, v.blocked),
    "logsumexp - logit": picked,
}


def vjp(
    x: Array, target: Array, weight: Array | None, options: dict[str, Any], g: Array, p: Any
) -> Array:
    """Return g / N (p sum(w q) - w q)."""
    dtype = x.dtype.type
    q = shares(target, x.shape[1], options.get("label_smoothing", 0.0), dtype)
    if weight is not None:
        q = q * weight
    scale = np.asarray(g / normaliser(target, weight, options, dtype), x.dtype)
    inner = p(x) * q.sum(-1, keepdims=True) - q
    return inner * (scale[:, None] if scale.ndim else scale)


CROSS_ENTROPY_VJP: dict[str, Callable[..., Array]] = {
    name: lambda x, t, w, o, g, p=p: vjp(x, t, w, o, g, p) for name, p in v.SOFTMAX.items()
}
