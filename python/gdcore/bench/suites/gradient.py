"""The gradient of a linear model's squared error: `gdcore.linear_mse_value_and_grad`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gdcore.bench import bounds
from gdcore.bench.bounds import Array
from gdcore.bench.case import Case, Expected, Work, whole_rows

_BLOCK = 2**17  # elements of X taken at a time: what is made of them stays in cache


@dataclass(frozen=True)
class Gradient(Case):
    """Mean squared error of X (n, d) @ weights (d,) against y (n,), and its gradient.

    Parameters
    ----------
    d : int
        Features.
    n : int, optional
        Rows; by default, as many as make an X of 256 MB.
    """

    suite: ClassVar[str] = "gradient"
    sizes: ClassVar[str] = "n d"

    d: int
    n: int | None = None

    @property
    def name(self) -> str:
        """The sizes in words."""
        return f"{self.n:,} {self.d}" if self.n else f"256 MB {self.d}"

    def rows(self, dtype: str) -> int:
        """Return the number of rows."""
        return self.n or 2**28 // np.dtype(dtype).itemsize // self.d

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return X, y and weights."""
        n = self.rows(dtype)
        return self.uniform(dtype, (n, self.d), (n,), (self.d,))

    def whole(self) -> Gradient:
        """Return a case of as many rows as have an exact mean."""
        return replace(self, n=whole_rows(self.rows("float64"), self.d), on_whole=True)

    def work(self, dtype: str) -> Work:
        """Count both products, the difference, its square and their sum; X is read once."""
        n, size = self.rows(dtype), np.dtype(dtype).itemsize
        read = size * (n * self.d + n + self.d)
        return Work(4 * n * self.d + 3 * n, read, size * self.d, read)

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return loss and gradient, a block of rows at a time.

        With delta = gamma(d + 1) (|X||w| + |y|) + (d + 1) eta the residual's error, the gradient
        is off by at most (2/n) [|X|^T delta + gamma(n + 3) |X|^T (|r| + delta)], the loss by
        (1/n) [sum(2 |r| delta + delta^2) + gamma(n + 3) sum((|r| + delta)^2)].
        """
        X, y, w = inputs
        n, d = X.shape
        dtype, wide = X.dtype, bounds.wider(X.dtype)
        long = bounds.gamma(n + 3, dtype)
        loss, slope = wide.type(0), np.zeros(d, wide)
        loss_bound, slope_bound = 0.0, np.zeros(d)
        step = max(1, _BLOCK // d)
        for first in range(0, n, step):
            A, b = X[first : first + step], y[first : first + step]
            Z = A.astype(wide)
            r = Z @ w.astype(wide) - b
            loss += np.dot(r, r)
            slope += r @ Z
            size = np.abs(r).astype(np.float64)
            A = np.abs(A).astype(np.float64)
            reach = A @ np.abs(w).astype(np.float64) + np.abs(b)
            delta = bounds.gamma(d + 1, dtype) * reach + (d + 1) * bounds.eta(dtype)
            slope_bound += (delta + long * (size + delta)) @ A
            loss_bound += np.sum(2 * size * delta + delta**2 + long * (size + delta) ** 2)
        tiny = n * bounds.eta(dtype)
        return [
            Expected("loss", np.asarray(loss / n), bounds.up(loss_bound / n + tiny, n)),
            Expected("gradient", slope * 2 / n, bounds.up(slope_bound * 2 / n + tiny, n)),
        ]


FULL = (
    Gradient(2, 7500),
    Gradient(16, 10_000),
    Gradient(64, 2000),
    Gradient(256, 1000),
    Gradient(2),
    Gradient(8),
    Gradient(16),
    Gradient(64),
    Gradient(256),
)
QUICK = (Gradient(2, 7500), Gradient(16, 10_000), Gradient(256, 1000))
