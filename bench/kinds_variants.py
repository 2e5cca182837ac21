"""Right implementations of each kind that round differently, in NumPy.

They get arrays of the accumulator's dtype and return such arrays, which the caller rounds to the
dtype under test. Each is called right in the literature or is what a library does; none may go
beyond the oracle's bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[Any]
Order = Callable[[Array], Array]
LOG2_E = math.log2(math.e)

# ---- sums along the last axis ----


def forward(x: Array) -> Array:
    return np.add.accumulate(x, -1)[..., -1]


def backward(x: Array) -> Array:
    return forward(x[..., ::-1])


def pairwise(x: Array) -> Array:
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        x = np.concatenate([x[..., :half] + x[..., half : 2 * half], x[..., 2 * half :]], -1)
    return x[..., 0]


def blocked(x: Array, size: int = 7) -> Array:
    parts = [forward(x[..., i : i + size]) for i in range(0, x.shape[-1], size)]
    return forward(np.stack(parts, -1))


def kahan(x: Array) -> Array:
    total = np.zeros(x.shape[:-1], x.dtype)
    lost = np.zeros_like(total)
    for k in range(x.shape[-1]):
        term = x[..., k] - lost
        new = total + term
        lost = (new - total) - term
        total = new
    return total


def by_product(x: Array) -> Array:
    return x @ np.ones(x.shape[-1], x.dtype)


ORDERS: dict[str, Order] = {
    "NumPy": lambda x: np.asarray(x.sum(-1)),
    "forward": forward,
    "backward": backward,
    "pairwise": pairwise,
    "blocks of 7": blocked,
    "product with ones": by_product,
}
FINITE_ORDERS = ORDERS | {"Kahan": kahan}


def blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, n)) for i in range(0, n, size))


# ---- softmax and its relatives ----


def online(x: Array, size: int = 13) -> tuple[Array, Array]:
    """Return the maximum and the sum of exp of rows, rescaled whenever the maximum grows."""
    top = np.full((*x.shape[:-1], 1), -np.inf, x.dtype)
    total = np.zeros_like(top)
    for part in blocks(x.shape[-1], size):
        new = np.maximum(top, x[..., part].max(-1, keepdims=True))
        safe = np.where(np.isinf(new), x.dtype.type(0), new)
        total = total * np.exp(top - safe)
        total = total + np.exp(x[..., part] - safe).sum(-1, keepdims=True)
        top = new
    return top, total


def shifted(x: Array, order: Order = ORDERS["NumPy"]) -> tuple[Array, Array, Array]:
    """Return the maximum, exp of the rest, and its sum."""
    top = x.max(-1, keepdims=True)
    powers = np.exp(x - top)
    return top, powers, order(powers)[..., None]


def softmax(x: Array, order: Order = ORDERS["NumPy"]) -> Array:
    _, powers, total = shifted(x, order)
    return powers / total


def softmax_online(x: Array) -> Array:
    top, total = online(x)
    return np.exp(x - top) / total


def softmax_exp2(x: Array) -> Array:
    powers = np.exp2((x - x.max(-1, keepdims=True)) * x.dtype.type(LOG2_E))
    return powers * (1 / powers.sum(-1, keepdims=True))


def softmax_by_lse(x: Array) -> Array:
    return np.exp(x - logsumexp(x)[..., None])


def logsumexp(x: Array, order: Order = ORDERS["NumPy"]) -> Array:
    top, _, total = shifted(x, order)
    return (top + np.log(total))[..., 0]


def logsumexp_online(x: Array) -> Array:
    top, total = online(x)
    return (top + np.log(total))[..., 0]


def logsumexp_log2(x: Array) -> Array:
    top = x.max(-1, keepdims=True)
    total = np.exp2((x - top) * x.dtype.type(LOG2_E)).sum(-1, keepdims=True)
    return (top + np.log2(total) * x.dtype.type(math.log(2)))[..., 0]


def logsumexp_log1p(x: Array) -> Array:
    """Sum all but the largest term, as the most accurate algorithms do."""
    at = x.argmax(-1)[..., None]
    powers = np.exp(x - np.take_along_axis(x, at, -1))
    np.put_along_axis(powers, at, 0, -1)
    return (np.take_along_axis(x, at, -1) + np.log1p(powers.sum(-1, keepdims=True)))[..., 0]


def log_softmax(x: Array, order: Order = ORDERS["NumPy"]) -> Array:
    top, _, total = shifted(x, order)
    return (x - top) - np.log(total)


def log_softmax_by_lse(x: Array) -> Array:
    return x - logsumexp(x)[..., None]


def log_softmax_online(x: Array) -> Array:
    top, total = online(x)
    return (x - top) - np.log(total)


def by_order(fn: Callable[..., Array]) -> dict[str, Callable[..., Array]]:
    """Return a function once for each order of its sums."""
    return {f"{name} sum": lambda *a, o=order: fn(*a, o) for name, order in ORDERS.items()}


SOFTMAX = by_order(softmax) | {
    "online": softmax_online,
    "exp2, reciprocal": softmax_exp2,
    "exp(x - lse)": softmax_by_lse,
}
LOG_SOFTMAX = by_order(log_softmax) | {
    "x - lse": log_softmax_by_lse,
    "online": log_softmax_online,
}
LOGSUMEXP = by_order(logsumexp) | {
    "online": logsumexp_online,
    "log2": logsumexp_log2,
    "log1p": logsumexp_log1p,
}


def softmax_vjp(x: Array, g: Array, order: Order = ORDERS["NumPy"], of: Any = softmax) -> Array:
    p = of(x)
    return p * (g - order(p * g)[..., None])


def softmax_vjp_spread(x: Array, g: Array) -> Array:
    """Multiply out: p g - p sum(p g)."""
    pg = softmax(x) * g
    return pg - softmax(x) * pg.sum(-1, keepdims=True)


SOFTMAX_VJP = by_order(softmax_vjp) | {
    "online": lambda x, g: softmax_vjp(x, g, of=softmax_online),
    "exp2": lambda x, g: softmax_vjp(x, g, of=softmax_exp2),
    "multiplied out": softmax_vjp_spread,
}


def log_softmax_vjp(x: Array, g: Array, order: Order = ORDERS["NumPy"], of: Any = softmax) -> Array:
    return g - of(x) * order(g)[..., None]


LOG_SOFTMAX_VJP = by_order(log_softmax_vjp) | {
    "online": lambda x, g: log_softmax_vjp(x, g, of=softmax_online),
    "exp of log_softmax": lambda x, g: log_softmax_vjp(x, g, of=lambda y: np.exp(log_softmax(y))),
}
LOGSUMEXP_VJP = {name: lambda x, g, of=of: of(x) * g[..., None] for name, of in SOFTMAX.items()}

# ---- sums, means, variances ----


def welford(x: Array) -> tuple[Array, Array]:
    """Return the mean and the sum of squares about it, one element at a time."""
    mean = np.zeros(x.shape[:-1], x.dtype)
    squares = np.zeros_like(mean)
    for k in range(x.shape[-1]):
        d = x[..., k] - mean
        mean = mean + d / x.dtype.type(k + 1)
        squares = squares + d * (x[..., k] - mean)
    return mean, squares


def chan(x: Array, size: int = 32) -> tuple[Array, Array]:
    """Return the same, blocks merged as Chan, Golub and LeVeque do."""
    mean = squares = np.zeros(x.shape[:-1], x.dtype)
    n = 0
    for part in blocks(x.shape[-1], size):
        block = x[..., part]
        count = block.shape[-1]
        centre = block.mean(-1)
        d = centre - mean
        total = n + count
        mean = mean + d * x.dtype.type(count / total)
        squares = squares + ((block - centre[..., None]) ** 2).sum(-1)
        squares = squares + d * d * x.dtype.type(n * count / total)
        n = total
    return mean, squares


def two_pass(x: Array, order: Order = ORDERS["NumPy"]) -> tuple[Array, Array]:
    """Return the same from the deviations from the mean."""
    mean = order(x) / x.dtype.type(x.shape[-1])
    return mean, order((x - mean[..., None]) ** 2)


MOMENTS: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    f"two passes, {name}": lambda x, o=order: two_pass(x, o) for name, order in ORDERS.items()
} | {"Welford": welford, "Chan": chan}


def one_pass(x: Array) -> tuple[Array, Array]:
    """Return the mean of squares minus the square of the mean: not a right algorithm."""
    n = x.dtype.type(x.shape[-1])
    mean = x.sum(-1) / n
    return mean, ((x * x).sum(-1) / n - mean * mean) * n


def mean_by(order: Order) -> Callable[[Array], Array]:
    return lambda x: order(x) / x.dtype.type(x.shape[-1])


SUM = dict(FINITE_ORDERS)
MEAN: dict[str, Callable[[Array], Array]] = {
    name: mean_by(order) for name, order in FINITE_ORDERS.items()
} | {
    "times 1/n": lambda x: x.sum(-1) * x.dtype.type(1 / x.shape[-1]),
    "divided first": lambda x: (x / x.dtype.type(x.shape[-1])).sum(-1),
    "running": lambda x: welford(x)[0],
}
VAR: dict[str, Callable[[Array], Array]] = {
    name: lambda x, f=f: f(x)[1] / x.dtype.type(x.shape[-1]) for name, f in MOMENTS.items()
}


def spread(g: Array, x: Array) -> Array:
    return np.broadcast_to(g[..., None], x.shape)


SUM_VJP = {"broadcast": lambda x, g: spread(g, x)}
MEAN_VJP = {
    "g / n": lambda x, g: spread(g / x.dtype.type(x.shape[-1]), x),
    "g times 1/n": lambda x, g: spread(g * x.dtype.type(1 / x.shape[-1]), x),
    "spread first": lambda x, g: spread(g, x) / x.dtype.type(x.shape[-1]),
}


def var_vjp(x: Array, g: Array, moments: Any) -> Array:
    d = x - moments(x)[0][..., None]
    return d * (2 * g / x.dtype.type(x.shape[-1]))[..., None]


VAR_VJP = {name: lambda x, g, f=f: var_vjp(x, g, f) for name, f in MOMENTS.items()} | {
    "multiplied last": lambda x, g: (
        2 * g[..., None] * (x - x.mean(-1, keepdims=True)) / x.dtype.type(x.shape[-1])
    ),
}

# ---- layer and RMS normalisation ----


def layer_norm(x: Array, w: Array, b: Array, eps: float, moments: Any) -> Array:
    mean, squares = moments(x)
    r = 1 / np.sqrt(squares / x.dtype.type(x.shape[-1]) + x.dtype.type(eps))
    return (x - mean[..., None]) * r[..., None] * w + b


def layer_norm_divided(x: Array, w: Array, b: Array, eps: float) -> Array:
    mean, squares = two_pass(x)
    root = np.sqrt(squares / x.dtype.type(x.shape[-1]) + x.dtype.type(eps))
    return w * ((x - mean[..., None]) / root[..., None]) + b


def layer_norm_folded(x: Array, w: Array, b: Array, eps: float) -> Array:
    """Multiply the weight and the factor first."""
    mean, squares = chan(x)
    r = 1 / np.sqrt(squares / x.dtype.type(x.shape[-1]) + x.dtype.type(eps))
    return (x - mean[..., None]) * (r[..., None] * w) + b


def layer_norm_shifted(x: Array, w: Array, b: Array, eps: float) -> Array:
    """Scale first, shift later, as torch's kernel for CPUs does: (x r - mean r) w + b."""
    mean, squares = two_pass(x)
    r = 1 / np.sqrt(squares / x.dtype.type(x.shape[-1]) + x.dtype.type(eps))
    return (x * r[..., None] - (mean * r)[..., None]) * w + b


LAYER_NORM: dict[str, Callable[..., Array]] = {
    name: lambda x, w, b, eps, f=f: layer_norm(x, w, b, eps, f) for name, f in MOMENTS.items()
} | {
    "divided by the root": layer_norm_divided,
    "weight times factor first": layer_norm_folded,
    "x r - mean r": layer_norm_shifted,
}


def over_rows(x: Array, order: Order) -> Array:
    """Return sums over all axes but the last."""
    return order(x.reshape(-1, x.shape[-1]).T)


def layer_norm_vjp(
    x: Array, w: Array, g: Array, eps: float, moments: Any = two_pass, order: Order = forward
) -> tuple[Array, ...]:
    n = x.dtype.type(x.shape[-1])
    mean, squares = moments(x)
    r = (1 / np.sqrt(squares / n + x.dtype.type(eps)))[..., None]
    y = (x - mean[..., None]) * r
    gw = g * w
    first, second = order(gw)[..., None] / n, order(gw * y)[..., None] / n
    return r * (gw - first - y * second), over_rows(g * y, order), over_rows(g, order)


def layer_norm_vjp_joined(x: Array, w: Array, g: Array, eps: float) -> tuple[Array, ...]:
    """Divide once: r / n (n g w - sum(g w) - y sum(g w y))."""
    n = x.dtype.type(x.shape[-1])
    mean, squares = two_pass(x)
    r = (1 / np.sqrt(squares / n + x.dtype.type(eps)))[..., None]
    y = (x - mean[..., None]) * r
    gw = g * w
    first, second = gw.sum(-1, keepdims=True), (gw * y).sum(-1, keepdims=True)
    rows = (g * y).reshape(-1, x.shape[-1]).sum(0), g.reshape(-1, x.shape[-1]).sum(0)
    return (r / n) * (n * gw - first - y * second), *rows


LAYER_NORM_VJP: dict[str, Callable[..., tuple[Array, ...]]] = {
    f"{name} sums": lambda x, w, g, eps, o=order: layer_norm_vjp(x, w, g, eps, order=o)
    for name, order in ORDERS.items()
} | {
    "Welford": lambda x, w, g, eps: layer_norm_vjp(x, w, g, eps, welford),
    "Chan": lambda x, w, g, eps: layer_norm_vjp(x, w, g, eps, chan),
    "one division": layer_norm_vjp_joined,
}


def rms_factor(x: Array, eps: float, order: Order) -> Array:
    return np.sqrt(order(x * x) / x.dtype.type(x.shape[-1]) + x.dtype.type(eps))[..., None]


def rms_norm(x: Array, w: Array, eps: float, order: Order = forward) -> Array:
    return x * (1 / rms_factor(x, eps, order)) * w


RMS_NORM: dict[str, Callable[..., Array]] = {
    f"{name} sum": lambda x, w, eps, o=order: rms_norm(x, w, eps, o)
    for name, order in ORDERS.items()
} | {
    "divided by the root": lambda x, w, eps: w * (x / rms_factor(x, eps, pairwise)),
    "weight times factor first": lambda x, w, eps: x * (w * (1 / rms_factor(x, eps, blocked))),
}


def rms_norm_vjp(x: Array, w: Array, g: Array, eps: float, order: Order) -> tuple[Array, ...]:
    r = 1 / rms_factor(x, eps, order)
    y = x * r
    gw = g * w
    second = order(gw * y)[..., None] / x.dtype.type(x.shape[-1])
    return r * (gw - y * second), over_rows(g * y, order)


def rms_norm_vjp_cubed(x: Array, w: Array, g: Array, eps: float) -> tuple[Array, ...]:
    """Multiply out: g w r - x r**3 sum(g w x) / n."""
    r = 1 / rms_factor(x, eps, pairwise)
    gw = g * w
    dot = (gw * x).sum(-1, keepdims=True) / x.dtype.type(x.shape[-1])
    return gw * r - x * (r * r * r * dot), over_rows(g * (x * r), pairwise)


RMS_NORM_VJP: dict[str, Callable[..., tuple[Array, ...]]] = {
    f"{name} sums": lambda x, w, g, eps, o=order: rms_norm_vjp(x, w, g, eps, o)
    for name, order in ORDERS.items()
} | {"r cubed": rms_norm_vjp_cubed}

# ---- linear layers and GELU ----


def linear_products(x: Array, w: Array, b: Array, order: Order) -> Array:
    return order(x[:, None, :] * w) + b


def linear_bias_first(x: Array, w: Array, b: Array) -> Array:
    total = np.broadcast_to(b, (len(x), len(b))).copy()
    for part in blocks(x.shape[-1], 8):
        total = total + x[:, part] @ w[:, part].T
    return total


LINEAR: dict[str, Callable[..., Array]] = {
    f"{name} sums": lambda x, w, b, o=order: linear_products(x, w, b, o)
    for name, order in ORDERS.items()
    if name != "product with ones"
} | {
    "BLAS": lambda x, w, b: x @ w.T + b,
    "bias first, blocks of 8": linear_bias_first,
    "einsum": lambda x, w, b: np.einsum("mk,nk->mn", x, w) + b,
    "bias as a column": lambda x, w, b: (
        np.concatenate([x, np.ones_like(x[:, :1])], 1) @ np.concatenate([w, b[:, None]], 1).T
    ),
}
LINEAR_VJP: dict[str, Callable[..., tuple[Array, ...]]] = {
    "BLAS": lambda x, w, b, g: (g @ w, g.T @ x, g.sum(0)),
    "forward sums": lambda x, w, b, g: (
        forward(g[:, None, :] * w.T), forward(g.T[:, None, :] * x.T), forward(g.T)
    ),
    "backward sums": lambda x, w, b, g: (
        backward(g[:, None, :] * w.T), backward(g.T[:, None, :] * x.T), backward(g.T)
    ),
    "einsum": lambda x, w, b, g: (
        np.einsum("mn,nk->mk", g, w), np.einsum("mn,mk->nk", g, x), np.ones(len(g), g.dtype) @ g
    ),
}  # fmt: skip
_ROOT_HALF, _TANH = math.sqrt(0.5), math.sqrt(2 / math.pi)


def tanh_argument(x: Array) -> Array:
    t = x.dtype.type
    return t(_TANH) * (x + t(0.044715) * x * x * x)


GELU: dict[str, Callable[[Array], Array]] = {
    "1 + erf": lambda x: x * x.dtype.type(0.5) * (1 + special.erf(x * x.dtype.type(_ROOT_HALF))),
    "erf, divided": lambda x: (
        x.dtype.type(0.5) * x * (1 + special.erf(x / np.sqrt(x.dtype.type(2))))
    ),
    "erfc": lambda x: x * (x.dtype.type(0.5) * special.erfc(-x * x.dtype.type(_ROOT_HALF))),
    "normal distribution": lambda x: x * special.ndtr(x),
}
GELU_TANH: dict[str, Callable[[Array], Array]] = {
    "tanh": lambda x: x.dtype.type(0.5) * x * (1 + np.tanh(tanh_argument(x))),
    "cubed by powers": lambda x: (
        x.dtype.type(0.5)
        * x
        * (1 + np.tanh(x.dtype.type(_TANH) * (x + x.dtype.type(0.044715) * x**3)))
    ),
    "logistic": lambda x: x * special.expit(2 * tanh_argument(x)),
    "factored": lambda x: (
        x.dtype.type(0.5)
        * (x + x * np.tanh(x.dtype.type(_TANH) * x * (1 + x.dtype.type(0.044715) * (x * x))))
    ),
}


def gelu_vjp(x: Array, g: Array, below: Callable[[Array], Array]) -> Array:
    t = x.dtype.type
    return g * (below(x) + x * (np.exp(-x * x * t(0.5)) * t(1 / math.sqrt(2 * math.pi))))


def gelu_tanh_vjp(x: Array, g: Array) -> Array:
    t = x.dtype.type
    th = np.tanh(tanh_argument(x))
    inner = t(_TANH) * (1 + 3 * t(0.044715) * x * x)
    return g * (t(0.5) * (1 + th) + t(0.5) * x * (1 - th * th) * inner)


GELU_VJP: dict[str, Callable[[Array, Array], Array]] = {
    "1 + erf": lambda x, g: gelu_vjp(
        x, g, lambda y: y.dtype.type(0.5) * (1 + special.erf(y * y.dtype.type(_ROOT_HALF)))
    ),
    "erfc": lambda x, g: gelu_vjp(
        x, g, lambda y: y.dtype.type(0.5) * special.erfc(-y * y.dtype.type(_ROOT_HALF))
    ),
    "normal distribution": lambda x, g: gelu_vjp(x, g, special.ndtr),
}
GELU_TANH_VJP: dict[str, Callable[[Array, Array], Array]] = {"tanh": gelu_tanh_vjp}
