"""Batched matrix products, from 2 x 2 to 1024 x 1024."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gdcore.bench import bounds
from gdcore.bench.bounds import Array
from gdcore.bench.case import Case, Expected, Work


@dataclass(frozen=True)
class Matmul(Case):
    """`batch` products of an m x k by a k x n matrix; a batch of one has no batch dimension."""

    suite: ClassVar[str] = "matmul"
    sizes: ClassVar[str] = "batch m n k"

    batch: int
    m: int
    n: int
    k: int

    @property
    def name(self) -> str:
        """The sizes in words."""
        return f"{self.batch} {self.m} {self.n} {self.k}"

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return a and b."""
        batch = (self.batch,) if self.batch > 1 else ()
        return self.uniform(dtype, (*batch, self.m, self.k), (*batch, self.k, self.n))

    def whole(self) -> Matmul:
        """Return the same sizes."""
        return replace(self, on_whole=True)

    def work(self, dtype: str) -> Work:
        """Count a multiplication and an addition for each product."""
        size = self.batch * np.dtype(dtype).itemsize
        read = size * self.k * (self.m + self.n)
        written = size * self.m * self.n
        flops = 2 * self.batch * self.m * self.n * self.k
        return Work(flops, read, written, read + written)

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return a @ b."""
        a, b = inputs
        wide = bounds.wider(a.dtype)
        # NumPy's long double product is a plain loop over k: faster on columns that lie together.
        columns = np.ascontiguousarray(b.astype(wide).swapaxes(-1, -2))
        product = np.matmul(a.astype(wide), columns.swapaxes(-1, -2))
        return [Expected("product", product, bounds.matmul(a, b))]


FULL = (
    Matmul(1000, 2, 2, 2),
    Matmul(10_000, 4, 4, 4),
    Matmul(10_000, 8, 8, 8),
    Matmul(4000, 16, 16, 16),
    Matmul(1000, 32, 32, 32),
    Matmul(500, 64, 64, 64),
    Matmul(64, 128, 128, 128),
    Matmul(16, 256, 256, 256),
    Matmul(4, 512, 512, 512),
    Matmul(1, 1024, 1024, 1024),
    Matmul(10_000, 1, 8, 64),
    Matmul(10_000, 64, 1, 8),
    Matmul(1000, 256, 1, 16),
    Matmul(1, 100_000, 1, 8),
    Matmul(1, 8, 1, 100_000),
    Matmul(1000, 3, 5, 7),
    Matmul(500, 33, 65, 31),
)
QUICK = (
    Matmul(100, 2, 2, 2),
    Matmul(1000, 8, 8, 8),
    Matmul(100, 32, 32, 32),
    Matmul(1, 128, 128, 128),
    Matmul(1, 10_000, 1, 8),
    Matmul(100, 3, 5, 7),
)
