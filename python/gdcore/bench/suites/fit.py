"""Whole fits by gradient descent: `gdcore.fit`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from gdcore.bench import bounds
from gdcore.bench.bounds import Array
from gdcore.bench.case import Case, Expected, Work, moments_flops, whole_rows
from gdcore.bench.suites.quadratic import drift, parameters, quadratic

_SMALL = 2**27  # products in G up to which the reference is summed in a wider type
_LONG = 10**8  # rows read by all epochs together, from which on slow loops run a part of them
_CURVATURE = 0.1  # far below the least curvature of any mini-batch here, about 0.16


@dataclass(frozen=True)
class FullBatch(Case):
    """Descend on the mean squared error of n rows, d features and an intercept, from zeros.

    `lr` is at most 1/epochs, so that no fit comes to rest before its last epoch, and at most one
    over the largest curvature.

    Parameters
    ----------
    method : {"stream", "gram"}
        gdcore's: whether it reads the rows every epoch or once. The others read them every epoch.
    """

    suite: ClassVar[str] = "fit"
    sizes: ClassVar[str] = "n d"

    n: int
    d: int
    epochs: int
    method: Literal["stream", "gram"] = "stream"
    batch_size: ClassVar[None] = None

    @property
    def name(self) -> str:
        """The sizes in words."""
        return f"{self.n:,} {self.d}, {self.epochs:,} epochs" + ", gram" * (self.method == "gram")

    @property
    def lr(self) -> float:
        """The learning rate: |x| <= 1, so the curvature is at most 2 (d + 1)."""
        if self.on_whole:
            return float(2.0 ** -math.ceil(math.log2(8 * (self.d + 1))))
        return min(1 / (2 * (self.d + 1)), 1 / self.epochs)

    @property
    def shares(self) -> Mapping[str, int]:
        """Every epoch of a loop takes as long: of many long ones, one in fifty is run."""
        long = self.epochs >= 1000 and self.n * self.epochs > _LONG
        return dict.fromkeys(("numpy", "torch", "jax"), 50) if long else {}

    def part(self, share: int) -> FullBatch:
        """Return fewer epochs."""
        return replace(self, epochs=self.epochs // share)

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
        """Count two products and the intercept's in each epoch, which reads X and y once.

        By "gram", count the second moments of [X 1 y] in float64, over rows read once, and p^2
        products in each epoch.
        """
        size = np.dtype(dtype).itemsize * self.n * (self.d + 1)
        if self.method == "stream":
            return Work(self.epochs * 4 * self.n * (self.d + 1), self.epochs * size, 0, size)
        p = self.d + 1
        return Work(moments_flops(self.n, p) + self.epochs * 2 * p * p, size, 0, size, "float64")

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return weights and intercept, each within T times what one of the T steps may add.

        That is taken at twice the largest parameters seen on the way, which no right fit exceeds.
        For large fits the reference is summed in float64 whatever the dtype: then it may be off by
        as much as they.
        """
        X, y = inputs
        small = self.n * (self.d + 1) ** 2 <= _SMALL
        wide = bounds.wider(X.dtype) if small else np.dtype(np.float64)
        w, largest = quadratic(X, y, wide).descended(self.lr, self.epochs)
        bound = drift(X, y, 2 * largest, self.lr, self.epochs)
        return parameters(w, bound * (1 if small else 2))


@dataclass(frozen=True)
class Equation(Case):
    """Solve x + 1 = 3 by steps on half its squared error, from zero: one number, nothing else."""

    suite: ClassVar[str] = "fit"
    sizes: ClassVar[str] = "n d"

    steps: int
    lr: ClassVar[float] = 1e-3

    @property
    def name(self) -> str:
        """The equation, and the steps."""
        return f"x + 1 = 3, {self.steps:,} steps"

    @property
    def job(self) -> str:
        """It has neither features nor an intercept."""
        return "fit_equation"

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return what is added to x, and the right side."""
        return np.ones(1, dtype), np.full(1, 3, dtype)

    def work(self, dtype: str) -> Work:
        """Count residual, gradient and step."""
        size = np.dtype(dtype).itemsize
        return Work(self.steps * 4, 2 * size, size, 3 * size)

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return 2 (1 - (1 - lr)^steps), within what each step's roundings of numbers <= 3 add.

        They are five: the sum, the difference, lr, the product and the step's own, which shrink to
        (1 - lr) of them in each later step.
        """
        dtype = inputs[0].dtype
        kept = (1 - np.longdouble(self.lr)) ** self.steps
        added = bounds.unit(dtype) * (2 + self.lr * 4 * 3)
        bound = bounds.up(added * float(1 - kept) / self.lr, 8)
        return [Expected("x", np.asarray(2 * (1 - kept))[None], bound)]


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


FULL = (
    Equation(10_000),
    FullBatch(7500, 2, 1000),
    FullBatch(7500, 2, 1000, "gram"),
    FullBatch(1_000_000, 8, 30),
    FullBatch(1_000_000, 8, 1000, "gram"),
    FullBatch(1_000_000, 64, 10),
    FullBatch(1_000_000, 64, 10, "gram"),
    MiniBatch(100_000, 16, 64),
)
QUICK = (
    Equation(500),
    FullBatch(7500, 2, 50),
    FullBatch(7500, 2, 50, "gram"),
    MiniBatch(20_000, 16, 64),
)
