"""Families of data: each is hard in a way of its own for functions of rows of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Format
from gdcore.oracle.probing.probe import Shape

Array = NDArray[Any]
Draw = Callable[[np.random.Generator, Shape, float], Array]  # shape, and what counts as large


def large_in(store: Format) -> float:
    """Return a number whose exp overflows, and whose square only a short format cannot hold."""
    return 1000.0 if store.bits > 16 else 200.0


def _normal(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    return np.asarray(rng.standard_normal(shape))


def _positive(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    return np.asarray(rng.random(shape))


def _small(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    return np.asarray(rng.standard_normal(shape)) / large


def _large(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    return np.asarray(rng.standard_normal(shape)) * large


def _offset(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    return np.asarray(rng.standard_normal(shape)) + large


def _cancelling(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    """Return pairs of opposite numbers, in any order, and a little rest."""
    x = np.asarray(rng.standard_normal(shape))
    if not x.ndim:
        return x
    half = x.shape[-1] // 2
    x[..., half : 2 * half] = -x[..., :half]
    x[..., -1:] += 1 / large
    taken: Array = np.take(x, rng.permutation(x.shape[-1]), -1)
    return taken


def _badly_scaled(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    span = int(np.log2(large))
    x = np.asarray(rng.standard_normal(shape))
    scaled: Array = np.ldexp(x, rng.integers(-2 * span, span, shape, endpoint=True))
    return scaled


def _one_hot(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    """Return zeros, and one large number in each row."""
    x: Array = np.zeros(shape)
    rows: Array = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
    rows[np.arange(len(rows)), rng.integers(0, rows.shape[1], len(rows))] = large / 10
    return x


def _repeated(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    x = np.asarray(rng.standard_normal(shape))
    return np.broadcast_to(x[..., :1], x.shape).copy() if x.ndim else x


def _ties(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    return np.rint(np.asarray(rng.standard_normal(shape)))


def _descending(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    x = np.asarray(rng.standard_normal(shape))
    return np.sort(x, -1)[..., ::-1].copy() if x.ndim else x


def _zero(rng: np.random.Generator, shape: Shape, large: float) -> Array:
    return np.zeros(shape)


FAMILIES: dict[str, Draw] = {
    "random": _normal,
    "positive": _positive,
    "small": _small,
    "large": _large,
    "offset": _offset,
    "cancelling": _cancelling,
    "badly scaled": _badly_scaled,
    "one-hot": _one_hot,
    "repeated": _repeated,
    "ties": _ties,
    "descending": _descending,
    "zero": _zero,
}
