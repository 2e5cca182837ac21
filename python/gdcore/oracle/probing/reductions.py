"""Probes of sums, means and variances along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.probing.formula import RowKind, power_of_two
from gdcore.oracle.probing.maker import LARGE
from gdcore.oracle.probing.probe import Operands, Shape
from gdcore.oracle.references.reductions import mean, total, var

Array = NDArray[Any]


class SumKind(RowKind):
    """``fn(x)``, or ``fn(x, grad_out)``, which returns the gradient of x: sums of rows."""

    name = "sum"
    function = total
    reduced = True

    def exact(self, rng: np.random.Generator, shape: Shape) -> Operands | None:
        """Return whole numbers so few and small that every partial sum is exact, if they fit."""
        if not self.divides_exactly(shape[-1]):
            return None
        operands = {"x": self._whole(rng, shape)}
        if self.settings.grad_out:
            operands["grad_out"] = rng.integers(-2, 3, shape[:-1]) * 1.0
        self.adjust(operands, rng)
        return operands

    @property
    def may_alias(self) -> bool:
        """Whether the result may be a view of an argument: the gradient is grad_out, repeated."""
        return self.settings.grad_out

    def divides_exactly(self, n: int) -> bool:
        """Whether what the sum is divided by is a power of two."""
        return True

    def _whole(self, rng: np.random.Generator, shape: Shape) -> Array:
        """Return whole numbers; the sums of their magnitudes stay below 2**bits."""
        bits, large = self.arithmetic.store.bits, LARGE.get(self.arithmetic.name, 0)
        x = rng.integers(-2, 3, shape) * 1.0
        x *= rng.random(shape) < min(1.0, 2.0 ** (bits - 3) / shape[-1])
        x[..., -1] += x[..., -1] == 0
        if large:
            x[..., shape[-1] // 2] = large
        while np.max(np.abs(x).sum(-1)) >= 2.0**bits:
            x *= rng.random(shape) < 0.5
        return x


class MeanKind(SumKind):
    """Means of rows."""

    name = "mean"
    function = mean

    def divides_exactly(self, n: int) -> bool:
        """Whether the number of elements is a power of two."""
        return power_of_two(n)


class VarKind(RowKind):
    """Variances of rows. None is exact: a running mean rounds whole numbers too."""

    name = "var"
    function = var
    reduced = True
    options = ("axis", "correction")
