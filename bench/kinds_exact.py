"""References beside formulas of sixty digits: how much of the bound their own error takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from kinds_data import Array, Data, make
from mpmath import mp, mpf

DIGITS = 60
FAMILIES = ("random", "large", "offset", "cancelling", "badly scaled", "one-hot", "ties", "zero")
DTYPES = ("float64", "float32", "bfloat16")
Row = list[Any]


def softmax(x: Row) -> Row:
    top = max(x)
    powers = [mp.exp(t - top) for t in x]
    total = mp.fsum(powers)
    return [t / total for t in powers]


def logsumexp(x: Row) -> Any:
    top = max(x)
    return top + mp.log(mp.fsum(mp.exp(t - top) for t in x))


def dot(a: Row, b: Row) -> Any:
    return mp.fsum(s * t for s, t in zip(a, b, strict=True))


def moments(x: Row) -> tuple[Any, Any]:
    mean = mp.fsum(x) / len(x)
    return mean, mp.fsum((t - mean) ** 2 for t in x) / len(x)


def norm_rows(data: Data, x: list[Row], w: Row, b: Row, g: list[Row]) -> tuple[Any, Any]:
    """Return values and gradients of layer or RMS normalisation."""
    eps = mpf(data.keywords["eps"])
    values, gradients = [], []
    gw, gb = [mpf(0)] * len(w), [mpf(0)] * len(w)
    for row, grow in zip(x, g, strict=True):
        n = len(row)
        if data.kind == "layer_norm":
            mean, variance = moments(row)
        else:
            mean, variance = mpf(0), dot(row, row) / n
        r = 1 / mp.sqrt(variance + eps)
        y = [(t - mean) * r for t in row]
        values.append([s * t + u for s, t, u in zip(y, w, b, strict=True)])
        h = [s * t for s, t in zip(grow, w, strict=True)]
        first = mp.fsum(h) / n if data.kind == "layer_norm" else mpf(0)
        second = dot(h, y) / n
        gradients.append([r * (s - first - t * second) for s, t in zip(h, y, strict=True)])
        gw = [s + t * u for s, t, u in zip(gw, grow, y, strict=True)]
        gb = [s + t for s, t in zip(gb, grow, strict=True)]
    return values, [gradients, gw] + ([gb] if data.kind == "layer_norm" else [])


def gelu(t: Any, g: Any, approximate: bool) -> tuple[Any, Any]:
    if approximate:
        c, a = mp.sqrt(2 / mp.pi), mpf("0.044715")
        th = mp.tanh(c * (t + a * t**3))
        slope = (1 + th) / 2 + t / 2 * (1 - th**2) * c * (1 + 3 * a * t * t)
        return t / 2 * (1 + th), g * slope
    below = mp.erfc(-t / mp.sqrt(2)) / 2
    return t * below, g * (below + t * mp.exp(-t * t / 2) / mp.sqrt(2 * mp.pi))


def attention_of(data: Data, a: dict[str, Any], g: Any) -> tuple[Any, Any]:
    q, k, v = (exact(a[name][0]) for name in "qkv")
    grads = exact(g[0])
    scale = 1 / mp.sqrt(mpf(len(q[0][0])))
    mask = a.get("mask")
    values: list[Any] = []
    out: list[list[Any]] = [[], [], []]
    for Q, K, V, G in zip(q, k, v, grads, strict=True):
        dK, dV = [[mpf(0)] * len(K[0]) for _ in K], [[mpf(0)] * len(V[0]) for _ in V]
        rows, dQ = [], []
        for i, (query, grow) in enumerate(zip(Q, G, strict=True)):
            kept = [
                j
                for j in range(len(K))
                if not (data.options.get("causal") and j > i)
                and (mask is None or np.isfinite(mask[i, j]))
            ]
            p = softmax([dot(query, K[j]) * scale for j in kept])
            columns = list(zip(*(V[j] for j in kept), strict=True))
            rows.append([dot(p, list(c)) for c in columns])
            dp = [dot(grow, V[j]) for j in kept]
            total = dot(p, dp)
            ds = [s * (t - total) * scale for s, t in zip(p, dp, strict=True)]
            dQ.append([mp.fsum(s * K[j][e] for s, j in zip(ds, kept, strict=True))
                       for e in range(len(query))])  # fmt: skip
            for s, w, j in zip(ds, p, kept, strict=True):
                dK[j] = [t + s * u for t, u in zip(dK[j], query, strict=True)]
                dV[j] = [t + w * u for t, u in zip(dV[j], grow, strict=True)]
        values.append(rows)
        for total_of, part in zip(out, (dQ, dK, dV), strict=True):
            total_of.append(part)
    return [values], [[part] for part in out]


def cross_entropy(data: Data, a: dict[str, Any], g: Any) -> tuple[Any, Any]:
    x, target = exact(a["logits"]), a["target"]
    classes = len(x[0])
    weight = exact(a["weight"]) if "weight" in a else [mpf(1)] * classes
    smoothing = mpf(data.options.get("label_smoothing", 0.0))
    rows, gradients, kept_weight = [], [], mpf(0)
    for i, row in enumerate(x):
        if target.ndim == 2:
            q = [mpf(float(t)) * (1 - smoothing) + smoothing / classes for t in target[i]]
            kept_weight += 1
        elif target[i] == -100:
            q = [mpf(0)] * classes
        else:
            q = [smoothing / classes + (1 - smoothing) * (c == target[i]) for c in range(classes)]
            kept_weight += weight[target[i]]
        q = [s * t for s, t in zip(q, weight, strict=True)]
        total, p, lse = mp.fsum(q), softmax(row), logsumexp(row)
        rows.append(mp.fsum(s * (lse - t) for s, t in zip(q, row, strict=True)))
        gradients.append([s * total - t for s, t in zip(p, q, strict=True)])
    reduction = data.options["reduction"]
    scale = kept_weight if reduction == "mean" else mpf(1)
    factors = [mpf(float(t)) for t in np.broadcast_to(g, len(x))]
    gradients = [[f * t / scale for t in row] for f, row in zip(factors, gradients, strict=True)]
    return (rows if reduction == "none" else mp.fsum(rows) / scale), [gradients]


def exact(x: Any) -> Any:
    """Return an array as nested lists of exact numbers."""
    return [exact(each) for each in x] if np.ndim(x) else mpf(float(x))


def by_rows(f: Callable[[Row, Any], tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
    def of(data: Data, a: dict[str, Any], g: Any) -> tuple[Any, Any]:
        pairs = [f(row, each) for row, each in zip(exact(a["x"]), exact(g), strict=True)]
        return [value for value, _ in pairs], [[gradient for _, gradient in pairs]]

    return of


def softmax_of(x: Row, g: Row) -> tuple[Any, Any]:
    p = softmax(x)
    total = dot(p, g)
    return p, [s * (t - total) for s, t in zip(p, g, strict=True)]


def log_softmax_of(x: Row, g: Row) -> tuple[Any, Any]:
    lse, total = logsumexp(x), mp.fsum(g)
    return [t - lse for t in x], [s - t * total for s, t in zip(g, softmax(x), strict=True)]


def var_of(x: Row, g: Any) -> tuple[Any, Any]:
    mean, variance = moments(x)
    return variance, [2 * g * (t - mean) / len(x) for t in x]


def linear_of(data: Data, a: dict[str, Any], g: Any) -> tuple[Any, Any]:
    x, w, b, gs = (exact(each) for each in (a["x"], a["weight"], a["bias"], g))
    value = [[dot(row, unit) + c for unit, c in zip(w, b, strict=True)] for row in x]
    columns = [list(c) for c in zip(*gs, strict=True)]
    of_x = [[dot(row, list(c)) for c in zip(*w, strict=True)] for row in gs]
    of_w = [[dot(c, list(f)) for f in zip(*x, strict=True)] for c in columns]
    return value, [of_x, of_w, [mp.fsum(c) for c in columns]]


def gelu_of(data: Data, a: dict[str, Any], g: Any) -> tuple[Any, Any]:
    tanh = "approximate" in data.options
    pairs = [[gelu(t, h, tanh) for t, h in zip(row, grow, strict=True)]
             for row, grow in zip(exact(a["x"]), exact(g), strict=True)]  # fmt: skip
    return [[v for v, _ in row] for row in pairs], [[[d for _, d in row] for row in pairs]]


def norm_of(data: Data, a: dict[str, Any], g: Any) -> tuple[Any, Any]:
    bias = exact(a["bias"]) if "bias" in a else [mpf(0)] * a["x"].shape[1]
    return norm_rows(data, exact(a["x"]), exact(a["weight"]), bias, exact(g))


FORMULAS: dict[str, Callable[[Data, dict[str, Any], Any], tuple[Any, Any]]] = {
    "softmax": by_rows(softmax_of),
    "log_softmax": by_rows(log_softmax_of),
    "logsumexp": by_rows(lambda x, g: (logsumexp(x), [g * t for t in softmax(x)])),
    "sum": by_rows(lambda x, g: (mp.fsum(x), [g] * len(x))),
    "mean": by_rows(lambda x, g: (mp.fsum(x) / len(x), [g / len(x)] * len(x))),
    "var": by_rows(var_of),
    "layer_norm": norm_of,
    "rms_norm": norm_of,
    "linear": linear_of,
    "gelu": gelu_of,
    "attention": attention_of,
    "cross_entropy": cross_entropy,
}


def error_over_bound(reference: Any, wanted: Any) -> float:
    """Return the largest error of a reference over its bound."""
    largest = 0.0
    flat: Array = np.array(wanted, dtype=object).reshape(-1)
    parts = (np.broadcast_to(x, reference.value.shape).reshape(-1)
             for x in (reference.value, reference.tail, reference.bound))  # fmt: skip
    for right, value, tail, bound in zip(flat, *parts, strict=True):
        error = abs(mpf(float(value)) + mpf(float(tail)) - right)
        if error and np.isfinite(bound):
            largest = max(largest, float(error / mpf(float(bound))) if bound else np.inf)
    return largest


def run(kind: str) -> dict[str, Any]:
    """Compare the references of a kind with sixty digits, on rows of 1 and of 5 to 9 numbers."""
    from kinds import gradients_of, reference_of

    elements, largest, worst = 0, 0.0, ""
    mp.dps = DIGITS
    for number, family in enumerate(FAMILIES * 3):
        for dtype in DTYPES:
            data = make(kind, dtype, family, "small", number)
            reference = reference_of(data, data.accumulator)
            value, gradients = FORMULAS[kind](data, data.arrays(True), data.array(data.grad_out))
            both = zip(
                [reference, *gradients_of(reference, kind)], [value, *gradients], strict=True
            )
            for each, right in both:
                ratio = error_over_bound(each, right)
                elements += each.value.size
                if ratio > largest:
                    largest, worst = ratio, f"{data.label}, {each.name}"
    return {"elements": elements, "largest": largest, "worst": worst}
