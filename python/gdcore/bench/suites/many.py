"""Many fits in one call: stacked problems, groups of rows, windows of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gdcore.bench import bounds
from gdcore.bench.case import Array, Case, Expected, Work, moments_flops
from gdcore.bench.suites.quadratic import (
    Quadratic,
    drift,
    gap,
    parameters,
    quadratic,
    quadratics,
    rest,
)

_BLOCK = 2**20  # rows whose targets are made at a time
_FEWEST, _MOST = 5, 100  # rows of a group
_TOL, _EPOCHS = {4: 2.0**-13, 8: 1e-6}, 1000  # of `gdcore.fit` and the like, by bytes of a number


@dataclass(frozen=True)
class Stack(Case):
    """Many problems of n rows, d features and an intercept, each with a learning rate of its own.

    Every one descends on its mean squared error from zeros for the same number of epochs. Each
    rate is at most one over the largest curvature, 2 (d + 1). Libraries with a closed form solve
    the problems.

    Parameters
    ----------
    method : {"stream", "gram"}
        gdcore's: whether it reads the rows every epoch or once.
    """

    suite: ClassVar[str] = "fit"
    sizes: ClassVar[str] = "n d"
    shares: ClassVar[Mapping[str, int]] = {"sklearn": 100}

    count: int
    n: int
    d: int
    epochs: int
    method: Literal["stream", "gram"] = "stream"

    @property
    def name(self) -> str:
        """The sizes in words."""
        sizes = f"{self.count:,} of {self.n} {self.d}, {self.epochs:,} epochs"
        return sizes + ", gram" * (self.method == "gram")

    @property
    def job(self) -> str:
        """It has a dimension more than a fit."""
        return "fit_stack"

    def part(self, share: int) -> Stack:
        """Return fewer problems."""
        return replace(self, count=self.count // share)

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return X (count, n, d), y (count, n) and learning rates (count,): linear, with noise."""
        shape = self.count, self.n, self.d
        X, noise, models = self.uniform(dtype, shape, shape[:2], (self.count, self.d + 1))
        if self.on_whole:
            most = 2.0 ** -math.ceil(math.log2(8 * (self.d + 1)))
            return X, noise, (most / 2.0 ** (np.arange(self.count) % 3)).astype(dtype)
        y = np.einsum("bij,bj->bi", X, models[:, :-1], dtype=np.float64)
        y += models[:, -1:] + noise / 4
        lr = np.linspace(0.5, 1, self.count) / (2 * (self.d + 1))
        return X, y.astype(dtype), (lr * (1 - 2.0**-20)).astype(np.float32).astype(dtype)

    def whole(self) -> Stack:
        """Return the first step of a power of two of rows, with powers of two as rates."""
        return replace(self, n=1 << (self.n.bit_length() - 1), epochs=1, on_whole=True)

    def work(self, dtype: str) -> Work:
        """Count as for one fit; a problem stays in the nearest cache for all its epochs."""
        p, rows = self.d + 1, self.count * self.n
        item = np.dtype(dtype).itemsize
        read, written, one = item * rows * p, item * self.count * p, item * self.n * p
        if self.method == "stream":
            return Work(self.epochs * 4 * rows * p, self.epochs * read, written, one)
        steps = self.epochs * 2 * self.count * p * p
        return Work(moments_flops(rows, p) + steps, read, written, read, "float64")

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return weights and intercepts after the last epoch."""
        X, y, lr = inputs
        rates = lr.astype(np.float64)
        w, largest = self._quadratic(inputs).descended(rates, self.epochs)
        return parameters(w, drift(X, y, 2 * largest, rates, self.epochs))

    def solved(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return the weights and intercepts of the least errors."""
        return _solutions(self._quadratic(inputs), inputs[0].dtype)

    @staticmethod
    def _quadratic(inputs: tuple[Array, ...]) -> Quadratic:
        X, y, _ = inputs
        return quadratic(X, y, bounds.wider(X.dtype))


@dataclass(frozen=True)
class Groups(Case):
    """Fit each group of rows: 5 to 100 of them, d features and an intercept, in no order.

    Libraries that descend stop where predictions are within 1e-6 (float32: 2^-13) of y's standard
    deviation, root mean square, of those of least squares, or after 1000 epochs.
    """

    suite: ClassVar[str] = "fit"
    sizes: ClassVar[str] = "n d"
    shares: ClassVar[Mapping[str, int]] = {
        "sklearn": 100,
        "polars-ols": 10,
        "polars-statistics": 100,
    }

    count: int
    d: int

    @property
    def name(self) -> str:
        """The sizes in words."""
        return f"{self.count:,} groups of {_FEWEST} to {_MOST} {self.d}"

    @property
    def job(self) -> str:
        """It has labels."""
        return "fit_groups"

    @property
    def rows(self) -> Array:
        """The rows of each group: every number from 5 to 100 as often as any other."""
        return _FEWEST + np.arange(self.count) * 37 % (_MOST - _FEWEST + 1)

    def part(self, share: int) -> Groups:
        """Return fewer groups."""
        return replace(self, count=self.count // share)

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return X (n, d), y (n,) and labels (n,): linear, with noise, each group its own model."""
        labels = np.repeat(np.arange(self.count), self.rows)
        self.random().shuffle(labels)
        n = len(labels)
        X, y, models = self.uniform(dtype, (n, self.d), (n,), (self.count, self.d + 1))
        for first in range(0, n, _BLOCK):
            rows = slice(first, first + _BLOCK)
            model = models[labels[rows]].astype(np.float64)
            y[rows] = (X[rows] * model[:, :-1]).sum(1) + model[:, -1] + y[rows] / 4
        return X, y, labels

    def work(self, dtype: str) -> Work:
        """Count the second moments in float64, and what is read and written once."""
        n, p, item = int(self.rows.sum()), self.d + 1, np.dtype(dtype).itemsize
        read, written = n * (item * p + 8), item * self.count * p
        return Work(moments_flops(n, p), read, written, read + written, "float64")

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return weights and intercepts of the least errors, by label, and where descent stops."""
        return _solutions(self._quadratics(inputs), inputs[0].dtype, descending=True)

    def solved(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return weights and intercepts of the least errors, by label."""
        return _solutions(self._quadratics(inputs), inputs[0].dtype)

    def _quadratics(self, inputs: tuple[Array, ...]) -> Quadratic:
        X, y, labels = inputs
        order = np.argsort(labels, kind="stable")
        starts = np.concatenate([[0], np.cumsum(self.rows)])
        return quadratics(X[order], y[order], starts, bounds.wider(X.dtype))


@dataclass(frozen=True)
class Rolling(Case):
    """Fit every window of `window` of n rows, d features and an intercept.

    Libraries that descend stop where predictions are within 1e-6 (float32: 2^-13) of y's standard
    deviation, root mean square, of those of least squares, or after 1000 epochs.
    """

    suite: ClassVar[str] = "fit"
    sizes: ClassVar[str] = "n d"

    n: int
    d: int
    window: int

    @property
    def name(self) -> str:
        """The sizes in words."""
        return f"{self.n:,} {self.d}, windows of {self.window}"

    @property
    def job(self) -> str:
        """It has windows."""
        return "fit_rolling"

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return X (n, d) and y (n,): linear, with noise, and a slope that turns with the rows."""
        X, noise = self.uniform(dtype, (self.n, self.d), (self.n,))
        turned = np.sin(np.arange(self.n) / self.window)
        return X, (X.sum(1, np.float64) * turned + 0.5 + noise / 4).astype(dtype)

    def work(self, dtype: str) -> Work:
        """Count the second moments of the rows that enter and leave, all of it read once."""
        p, item = self.d + 1, np.dtype(dtype).itemsize
        read, written = item * self.n * p, item * (self.n - self.window + 1) * p
        entered = 2 * self.n - self.window
        return Work(moments_flops(entered, p), read, written, read + written, "float64")

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return weights and intercepts of the least errors, and where descent stops."""
        return _solutions(self._quadratic(inputs), inputs[0].dtype, descending=True)

    def solved(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return weights and intercepts of the least errors."""
        return _solutions(self._quadratic(inputs), inputs[0].dtype)

    def _quadratic(self, inputs: tuple[Array, ...]) -> Quadratic:
        X, y = (sliding_window_view(each, self.window, axis=0) for each in inputs)
        return quadratic(X.swapaxes(1, 2), y, bounds.wider(X.dtype))


def _solutions(
    q: Quadratic, dtype: np.dtype[np.generic], descending: bool = False
) -> list[Expected]:
    w = q.solved()
    bound = rest(q, w, dtype)
    return parameters(w, bound + gap(q, w, _TOL[dtype.itemsize], _EPOCHS) if descending else bound)


FULL = (
    Stack(10_000, 64, 4, 100),
    Stack(10_000, 64, 4, 100, "gram"),
    Groups(100_000, 4),
    Groups(100_000, 1),
    Rolling(10_000, 4, 250),
)
QUICK = (
    Stack(500, 64, 4, 20),
    Stack(500, 64, 4, 20, "gram"),
    Groups(2000, 4),
    Groups(2000, 1),
    Rolling(1000, 4, 250),
)
LARGE = (Groups(1_000_000, 4), Groups(1_000_000, 1))
