"""The squared error and its derivative: `gdcore.mse_value_and_grad`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gdcore.bench import bounds
from gdcore.bench.bounds import Array
from gdcore.bench.case import Case, Expected, Work, whole_rows


@dataclass(frozen=True)
class Mse(Case):
    """Mean squared error of n predictions and its gradient with respect to them."""

    suite: ClassVar[str] = "mse"
    sizes: ClassVar[str] = "n"

    n: int

    @property
    def name(self) -> str:
        """The size in words."""
        return f"{self.n:,}"

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return predictions and targets."""
        return self.uniform(dtype, (self.n,), (self.n,))

    def whole(self) -> Mse:
        """Return a case of as many elements as have an exact mean."""
        return replace(self, n=whole_rows(self.n), on_whole=True)

    def work(self, dtype: str) -> Work:
        """Count a difference, its square, a sum and a product for each element."""
        size = self.n * np.dtype(dtype).itemsize
        return Work(4 * self.n, 2 * size, size, 3 * size)

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return loss and gradient.

        The residual r is rounded once; the loss is a sum of n squares, divided and rounded; the
        gradient is (2 / n) r, three roundings in all.
        """
        pred, target = inputs
        dtype, n = pred.dtype, self.n
        r = pred.astype(bounds.wider(dtype))
        r -= target
        size = np.abs(r.astype(np.float64))
        delta = bounds.unit(dtype) * size
        loss = np.sum(2 * size * delta + delta**2)
        loss += bounds.gamma(n + 3, dtype) * np.sum((size + delta) ** 2)
        slope = bounds.gamma(3, dtype) * (2 / n) * size + bounds.eta(dtype)
        return [
            Expected("loss", np.asarray(np.dot(r, r) / n), bounds.up(loss / n, n)),
            Expected("gradient", r * (r.dtype.type(2) / n), bounds.up(slope, 4)),
        ]


FULL = (Mse(10), Mse(1000), Mse(100_000), Mse(10_000_000))
QUICK = (Mse(10), Mse(1000), Mse(100_000))
