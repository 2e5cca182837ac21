"""Whole fits by gradient descent: `gdcore.fit`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gdcore.bench import bounds
from gdcore.bench.bounds import Array
from gdcore.bench.case import Case, Expected, Work, whole_rows

_SMALL = 2**26  # products in a whole fit up to which the reference runs in a wider type
_CURVATURE = 0.1  # far below the least curvature of any mini-batch here, about 0.16


@dataclass(frozen=True)
class FullBatch(Case):
    """Descend on the mean squared error of n rows, d features and an intercept, from zeros.

    `lr` is at most 1/epochs, so that no fit comes to rest before its last epoch, and at most one
    over the largest curvature.
    """

    suite: ClassVar[str] = "fit"
    sizes: ClassVar[str] = "n d"

    n: int
    d: int
    epochs: int
    batch_size: ClassVar[None] = None

    @property
    def name(self) -> str:
        """The sizes in words."""
        return f"{self.n:,} {self.d}, {self.epochs:,} epochs"

    @property
    def lr(self) -> float:
        """The learning rate: |x| <= 1, so the curvature is at most 2 (d + 1)."""
        if self.on_whole:
            return float(2.0 ** -math.ceil(math.log2(8 * (self.d + 1))))
        return min(1 / (2 * (self.d + 1)), 1 / self.epochs)

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return X and y: a linear model's, and some noise."""
        X, noise = self.uniform(dtype, (self.n, self.d), (self.n,))
        if self.on_whole:
            return X, noise
        w, b = _model(self.d)
        return X, (X.astype(np.float64) @ w + b + noise / 4).astype(dtype)

    def whole(self) -> FullBatch:
        """Return the first step: each further one would need more bits."""
        return replace(self, n=whole_rows(self.n, self.d), epochs=1, on_whole=True)

    def work(self, dtype: str) -> Work:
        """Count two products and the intercept's in each epoch, which reads X and y once."""
        size = np.dtype(dtype).itemsize * self.n * (self.d + 1)
        return Work(self.epochs * 4 * self.n * (self.d + 1), self.epochs * size, 0, size)

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return weights and intercept, each within T times what one of the T steps may add.

        A step with lr <= 1 / curvature makes no error larger. What it adds is lr times the
        gradient's bound, and its own three roundings. Both are taken at twice the largest
        parameters seen on the way, which no right fit exceeds. For large fits the reference runs
        in float64 whatever the dtype: then it may be off by as much as they.
        """
        X, y = inputs
        n, d, steps, lr = self.n, self.d, self.epochs, self.lr
        small = n * (d + 1) * steps <= _SMALL
        wide = bounds.wider(X.dtype) if small else np.dtype(np.float64)
        Z, target = X.astype(wide), y.astype(wide)
        w, b = np.zeros(d, wide), wide.type(0)
        largest = np.zeros(d + 1)
        for _ in range(steps):
            r = Z @ w + b - target
            w = w - lr * (2 / wide.type(n)) * (r @ Z)
            b = b - lr * (2 / wide.type(n)) * r.sum()
            largest = np.maximum(largest, np.abs(np.append(w, b)).astype(np.float64))
        dtype, largest = X.dtype, 2 * largest
        reach = _times(X, largest) + np.abs(y)
        long = bounds.gamma(n + 3, dtype)
        delta = bounds.gamma(d + 3, dtype) * reach
        gradient = 2 / n * _transposed(X, (1 + long) * delta + long * reach)
        slope = 2 / n * _transposed(X, reach)
        step = lr * gradient + 3 * bounds.unit(dtype) * (largest + lr * slope)
        bound = bounds.up(steps * np.linalg.norm(step) * (1 if small else 2), 2 * n + d)
        return [Expected("weights", w, bound), Expected("intercept", np.asarray(b), bound)]


@dataclass(frozen=True)
class MiniBatch(Case):
    """One epoch of shuffled mini-batches over rows that a linear model describes exactly.

    The targets have no noise: whatever the order of the rows, descent ends at the model that
    made them. Each step shrinks the distance, since a batch has more rows than parameters.
    """

    suite: ClassVar[str] = "fit"
    sizes: ClassVar[str] = "n d"

    n: int
    d: int
    batch_size: int
    epochs: ClassVar[int] = 1
    lr: ClassVar[float] = 0.25
    lr_of_rows: ClassVar[float] = 0.05  # for a library that takes batches of one row only

    @property
    def name(self) -> str:
        """The sizes in words."""
        return f"{self.n:,} {self.d}, batches of {self.batch_size}"

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return X and the y that the model gives it."""
        (X,) = self.uniform(dtype, (self.n, self.d))
        w, b = _model(self.d)
        return X, (X.astype(np.float64) @ w + b).astype(dtype)

    def work(self, dtype: str) -> Work:
        """Count two products and the intercept's for each row, which is read once."""
        size = np.dtype(dtype).itemsize * self.n * (self.d + 1)
        return Work(4 * self.n * (self.d + 1), size, 0, size)

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return weights and intercept of the model.

        A fit comes to rest where what a step adds (lr times its gradient's rounding errors, and
        its own) is what a step takes away: lr times the curvature times the distance. The residual
        is nothing but its d + 3 roundings by then, the target's among them.
        """
        X, _ = inputs
        w, b = _model(self.d)
        dtype, model = X.dtype, np.abs(np.append(w, b))
        reach = float(2 * np.max(_times(X, model)))
        added = 2 * np.sqrt(self.d + 1) * bounds.gamma(self.d + 8, dtype) * reach
        added += 3 * bounds.unit(dtype) * np.linalg.norm(model) / self.lr_of_rows
        bound = bounds.up(added / _CURVATURE, self.n)
        return [Expected("weights", w, bound), Expected("intercept", np.asarray(b), bound)]


def _model(d: int) -> tuple[Array, float]:
    """Return the weights and the intercept that the targets are made of."""
    return np.linspace(1, -1, d), 0.5


def _times(X: Array, size: Array) -> Array:
    """Return |X| @ weights + intercept, in float64."""
    return np.asarray(np.abs(X).astype(np.float64) @ size[:-1] + size[-1])


def _transposed(X: Array, size: Array) -> Array:
    """Return sums over the rows of |X| and of the intercept's ones, weighted, in float64."""
    return np.append(size @ np.abs(X).astype(np.float64), size.sum())


FULL = (
    FullBatch(1, 1, 10_000),
    FullBatch(7500, 2, 1000),
    FullBatch(1_000_000, 8, 30),
    FullBatch(1_000_000, 64, 10),
    MiniBatch(100_000, 16, 64),
)
QUICK = (FullBatch(1, 1, 500), FullBatch(7500, 2, 50), MiniBatch(20_000, 16, 64))
