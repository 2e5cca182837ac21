"""Right ways to compute softmax, its logarithm, logsumexp and cross-entropy, in torch's dtypes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

DTYPES = ("float64", "float32", "float16", "bfloat16")
FAMILIES = (
    "normal", "large", "offset", "low", "tiny", "spread", "one_hot", "equal", "ties", "zeros",
    "subnormal", "rising", "masked", "all_masked", "steps",
)  # fmt: skip
LOG2_E = math.log2(math.e)
Sum = Callable[[Any], Any]  # of rows (R,n); returns (R,1)


def draw(rng: Any, family: str, rows: int, n: int, name: str) -> Any:
    """Return rows of a family, as a tensor."""
    import torch

    dtype = getattr(torch, name)
    half = name in ("float16", "bfloat16")
    x = rng.standard_normal((rows, n))
    if family == "masked":
        x[:, 1:][rng.random((rows, n - 1)) < 0.4] = -np.inf
    elif family == "all_masked":
        x[0] = -np.inf
    elif family == "one_hot":
        x = 20.0 * (np.arange(n) == rng.integers(0, n, (rows, 1)))
    else:
        x = {
            "normal": x,
            "large": x * (30 if half else 1e3),
            "offset": x + (100 if half else 1e3),
            "low": x - (30 if half else 50),
            "tiny": x * 1e-3,
            "spread": x * 10.0 ** rng.uniform(-6, 2, (rows, n)),
            "equal": np.repeat(x[:, :1], n, axis=1),
            "ties": np.round(x),
            "zeros": 0 * x,
            "subnormal": x * float(torch.finfo(dtype).tiny) / 4,
            "rising": np.sort(4 * x, axis=1),
            "steps": -10.0 * np.arange(n) + x,
        }[family]
    return torch.from_numpy(x).to(dtype)


def summation(rng: Any, n: int) -> Sum:
    """Return a sum of rows in some order, every partial sum rounded to the dtype."""
    order = [np.arange(n), np.arange(n)[::-1], rng.permutation(n)][rng.integers(3)]

    def add(e: Any) -> Any:
        total = e[:, :1] * 0
        for j in order:
            total = total + e[:, int(j) : int(j) + 1]
        return total

    return (lambda e: e.sum(-1, keepdim=True)) if rng.integers(2) else add


def largest(x: Any) -> Any:
    """Return the largest elements of rows."""
    return x.amax(-1, keepdim=True)


def online(rng: Any, x: Any) -> tuple[Any, Any]:
    """Return maxima and sums of blocks in some order, one after the other or in pairs."""
    import torch

    n, size = x.shape[1], int(rng.choice([1, 2, 3, 7, 16]))
    blocks = [slice(i, i + size) for i in range(0, n, size)]
    order = range(len(blocks)) if rng.integers(2) else rng.permutation(len(blocks))
    chain = bool(rng.integers(2))
    parts = []
    for block in (blocks[int(i)] for i in order):
        m = largest(x[:, block])
        safe = torch.where(m.isinf(), torch.zeros_like(m), m)
        parts.append((m, torch.exp(x[:, block] - safe).sum(-1, keepdim=True)))
    while len(parts) > 1:
        (m1, s1), (m2, s2) = parts.pop(0), parts.pop(0)
        m = torch.maximum(m1, m2)
        safe = torch.where(m.isinf(), torch.zeros_like(m), m)
        merged = (m, s1 * torch.exp(m1 - safe) + s2 * torch.exp(m2 - safe))
        parts.insert(0 if chain else len(parts), merged)
    return parts[0]


def naive_works(x: Any) -> bool:
    """Whether exponentials of rows neither overflow nor lose what counts."""
    import torch

    limits, m = torch.finfo(x.dtype), largest(x).double()
    least = 2.0**-23 if x.dtype == torch.float16 else limits.tiny
    high = m + math.log(x.shape[1]) < math.log(limits.max) - 1
    low = math.log(least) - m <= math.log(2.0**-11 * limits.eps)
    return bool((high & low).all())


def softmaxes(rng: Any, x: Any, add: Sum) -> Iterator[tuple[str, Any]]:
    """Yield softmax of rows."""
    import torch

    shifted, scaled = x - largest(x), x * LOG2_E
    e, powers = torch.exp(shifted), torch.exp2(shifted * LOG2_E)
    prescaled = torch.exp2(scaled - largest(scaled))
    yield "shifted", e / add(e)
    yield "reciprocal", e * (1 / add(e))
    yield "powers of 2", powers / add(powers)
    yield "powers of 2, scaled first", prescaled / add(prescaled)
    m, total = online(rng, x)
    yield "online", torch.exp(x - m) / total
    yield "exp(x - logsumexp)", torch.exp(x - (m + torch.log(total)))
    lse = largest(scaled) + torch.log2(add(prescaled))
    yield "exp2 less log2", torch.exp2(scaled - lse)
    yield "exp(log_softmax)", torch.exp(torch.log_softmax(x, -1))
    yield "torch", torch.softmax(x, -1)
    if naive_works(x):
        e = torch.exp(x)
        yield "unshifted", e / add(e)
    if x.dtype in (torch.float32, torch.float64, torch.float16):
        with np.errstate(all="ignore"):
            e = np.exp(x.numpy() - x.numpy().max(-1, keepdims=True))
            p = e / e.sum(-1, keepdims=True)
        yield "NumPy", torch.from_numpy(p)


def logsumexps(rng: Any, x: Any, add: Sum) -> Iterator[tuple[str, Any]]:
    """Yield logsumexp of rows."""
    import torch

    m, total = online(rng, x)
    yield "online", m + torch.log(total)
    yield "torch", torch.logsumexp(x, -1, keepdim=True)
    safe = torch.where(m.isinf(), torch.zeros_like(m), m)
    yield "shifted", m + torch.log(add(torch.exp(x - safe)))
    scaled = safe * LOG2_E
    powers = torch.where(m.isinf(), m, scaled + torch.log2(add(torch.exp2(x * LOG2_E - scaled))))
    yield "powers of 2", powers * math.log(2)
    if naive_works(x):
        yield "unshifted", torch.log(add(torch.exp(x)))


def log_softmaxes(rng: Any, x: Any, add: Sum) -> Iterator[tuple[str, Any]]:
    """Yield the logarithm of softmax of rows."""
    import torch

    shifted, scaled = x - largest(x), x * LOG2_E
    yield "shifted", shifted - torch.log(add(torch.exp(shifted)))
    below = scaled - largest(scaled)
    yield "powers of 2", (below - torch.log2(add(torch.exp2(below)))) * math.log(2)
    yield "torch", torch.log_softmax(x, -1)
    for variant, lse in logsumexps(rng, x, add):
        yield f"x - {variant}", x - lse


def cross_entropies(
    rng: Any, x: Any, y: Any, add: Sum, *, weight: Any = None, ignore_index: int = -100,
    label_smoothing: float = 0.0, reduction: str = "mean",
) -> Iterator[tuple[str, Any, Any]]:  # fmt: skip
    """Yield losses of rows and their derivatives; None for what a variant does not give."""
    import torch

    given = x.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(
        given, y, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing,
        reduction=reduction,
    )  # fmt: skip
    loss.backward(torch.ones_like(loss))
    yield "torch", loss, given.grad
    dense, (count, classes) = y.shape == x.shape, x.shape
    w = torch.ones(classes, dtype=x.dtype) if weight is None else weight
    kept = (
        torch.ones(count, 1, dtype=x.dtype) if dense else (y != ignore_index).to(x.dtype)[:, None]
    )
    one = y if dense else torch.nn.functional.one_hot(y, classes).to(x.dtype) * kept
    t = (one * (1 - label_smoothing) + label_smoothing / classes) * w * kept
    divisor = torch.tensor(float(count), dtype=x.dtype) if dense else (one * w).sum()

    def reduced(rows: Any) -> Any:
        if reduction == "none":
            return rows[:, 0]
        return rows.sum() / divisor if reduction == "mean" else rows.sum()

    for variant, z in log_softmaxes(rng, x, add):
        terms = t * z if dense else torch.where(t != 0, t * z, torch.zeros_like(z))
        yield variant, reduced(-add(terms)), None
    if bool(torch.isfinite(x).all()):
        for variant, lse in logsumexps(rng, x, add):
            yield f"sums of t x, {variant}", reduced(add(t) * lse - add(t * x)), None
    if reduction != "mean" or float(divisor):
        for variant, p in softmaxes(rng, x, add):
            grad = p * add(t) - t
            yield variant, None, grad / divisor if reduction == "mean" else grad
