"""Second moments without rounding errors: their bits depend on no order of the rows.

Each number is cut into whole numbers of 22 bits, whose products over 2048 rows add up to less than
2**53: float64 sums them without rounding, in any order (Ozaki, Ogita, Oishi and Rump, 2012, "Error-
free transformations of matrix multiplication"). Python's integers hold the totals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from gdcore.data.problem import RowProblem
from gdcore.data.rows import Rows
from gdcore.data.statistics import Columns, Statistics
from gdcore.data.sums import out_of_range
from gdcore.typing import Floats, Ints, Names

BITS, ROWS = 22, 2048  # ROWS * (2**(BITS - 1))**2 is 2**53
HALF = 32  # bits of the lower half of a total that is split in two


@dataclass(frozen=True, eq=False)
class ExactSums:
    """Second moments of n rows of [X 1 y-offset], each row times the root of its weight.

    `products` has the upper triangle by rows. The product of the columns i and j counts in units
    of ``2**(units[i] + units[j])``.
    """

    columns: Columns
    n: int
    filled: Ints  # rows of weight above 0 that are not 0 there, by column
    units: Ints
    products: npt.NDArray[Any]  # Python integers
    feature_names: Names | None = None
    target_name: str | None = None

    @staticmethod
    def of(problem: RowProblem) -> ExactSums:
        """Sum a problem's rows; ValueError if one is NaN or infinite."""
        problem.check_finite()
        rows, shape = problem.rows, problem.shape
        columns = Columns(shape.d, shape.t if shape.has_target_axis else None, shape.dtype)
        top = np.zeros(columns.width)
        for block in _blocks(rows):
            np.maximum(top, np.abs(block).max(axis=1), out=top)
        if not np.isfinite(top).all():
            raise ValueError(f"{out_of_range(np.float64)}.")
        units = np.frexp(top)[1].astype(np.int64) - (BITS - 1)
        totals: list[Ints] = []  # by the level of the products' units, in two halves
        for block in _blocks(rows):
            _add_products(totals, block, units)
        levels = len(totals) // 2
        products = np.zeros(len(_upper(columns.width)[0]), object)
        for high, low in totals:
            products = (products << BITS) + (high.astype(object) << HALF) + low.astype(object)
        filled, names = problem.count_nonzero(), (shape.feature_names, shape.target_name)
        return ExactSums(columns, shape.n, filled, units - BITS * levels, products, *names)

    def __add__(self, other: ExactSums) -> ExactSums:
        """Return the sums of both groups of rows; ValueError if their columns differ."""
        a, b = self._kind(), other._kind()
        if a != b:
            raise ValueError(f"some rows have {a}, others {b}; give all the same columns.")
        units = np.minimum(self.units, other.units)
        return replace(
            self,
            n=self.n + other.n,
            filled=self.filled + other.filled,
            units=units,
            products=self._in(units) + other._in(units),
        )

    def _kind(self) -> str:
        """Describe the columns."""
        d, t, dtype = self.columns
        names = "" if self.feature_names is None else f" ({', '.join(self.feature_names)})"
        return f"{d} features{names} and {t or 1} targets of {dtype}"

    def _in(self, units: Ints) -> npt.NDArray[Any]:
        """Return the products in smaller units."""
        i, j = _upper(self.columns.width)
        finer = self.units - units
        shifted: npt.NDArray[Any] = self.products << (finer[i] + finer[j]).astype(object)
        return shifted

    def statistics(self) -> Statistics:
        """Return the sums as pairs of float64 numbers, rounded to nearest."""
        empty = Statistics.empty(self.columns)
        i, j = _upper(self.columns.width)
        hi, lo = empty.hi.copy(), empty.lo.copy()
        p, width = self.columns.d + 1, self.columns.width
        entries = zip(i, j, self.units[i] + self.units[j], self.products, strict=True)
        for a, b, unit, product in entries:
            place = a * width + b if a < p else p * width + (a - p)
            if product and (a < p or a == b):
                exact = product * Fraction(2) ** int(unit)
                try:
                    hi[place] = float(exact)
                except OverflowError:
                    raise ValueError(f"{out_of_range(np.float64)}.") from None
                lo[place] = float(exact - Fraction(hi[place]))
        result = empty._replace(n=self.n, hi=hi, lo=lo, filled=self.filled)
        return result.named(self.feature_names, self.target_name)


def _upper(width: int) -> tuple[Ints, Ints]:
    return np.triu_indices(width)


def _blocks(rows: Rows) -> Iterator[Floats]:
    """Yield the columns of [X 1 y-offset] times the root of the weights, by blocks of rows."""
    for begin in range(0, len(rows.X), ROWS):
        X, y, offset, weight = rows.part(begin, begin + ROWS)
        d = X.shape[1]
        block = np.empty((d + 1 + y.shape[1], len(X)))
        block[:d], block[d], block[d + 1 :] = X.T, 1, y.T
        with np.errstate(over="ignore"):
            if offset is not None:
                block[d + 1 :] -= offset.T
            if weight is not None:
                block *= np.sqrt(weight, dtype=float)
        yield block


def _add_products(totals: list[Any], block: Floats, units: Ints) -> None:
    """Add the products of the columns of a block to the totals."""
    parts, rest, exponent = [], block, units.astype(np.int32)[:, None]
    while rest.any():
        parts.append(np.rint(np.ldexp(rest, -exponent)))
        rest = rest - np.ldexp(parts[-1], exponent)
        exponent = exponent - BITS
    i, j = _upper(len(block))
    while len(totals) < 2 * len(parts) - 1:
        totals.append(np.zeros((2, len(i)), np.int64))
    for a, part in enumerate(parts):
        for b, other in enumerate(parts[: a + 1]):
            table = (part @ other.T).astype(np.int64)
            found = table[i, j] if a == b else table[i, j] + table[j, i]
            totals[a + b] += found >> HALF, found & (2**HALF - 1)
