"""Rows cut into chunks, and the same rows in memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

import gdcore as gd
import problems
from problems import Array, Linear

L = problems.SEGMENT["float64"]
N = 3 * L + 77


def draw(rng: Any, n: int = N, d: int = 3, t: int | None = None, **how: Any) -> Linear:
    return problems.linear(rng, n, d, t, **({"parts": "b"} | how))


def cut(problem: Linear, size: int | list[int]) -> list[tuple[Array, ...]]:
    """Cut the rows into chunks of a size, or at these rows."""
    n = len(problem.X)
    ends = [0, *(range(size, n, size) if isinstance(size, int) else sorted(size)), n]
    arrays = [problem.X, problem.y, problem.sample_weight, problem.offset]
    while arrays[-1] is None:
        arrays.pop()
    return [tuple(None if a is None else a[b:e] for a in arrays) for b, e in pairwise(ends)]  # type: ignore[misc]


def whole(problem: Linear, sgd: Any = None, **how: Any) -> gd.Fit:
    fixed = {"sample_weight": problem.sample_weight, "offset": problem.offset}
    return gd.fit(problem.X, problem.y, sgd or gd.SGD(), **fixed, **how)


X, Y = np.arange(12.0).reshape(6, 2) ** 1.5, np.arange(6.0)
GOOD = (X, Y)
