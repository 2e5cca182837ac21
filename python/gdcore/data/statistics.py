"""Sufficient statistics of rows: second moments and a bound of their rounding errors.

`gdcore.Moments` is the public face of these values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import gdcore._core as _core
from gdcore.data.problem import RowProblem
from gdcore.data.rows import Rows
from gdcore.data.sums import out_of_range, squares_of, table_of, two_sum
from gdcore.typing import Bools, Floats, Ints, Names

SEGMENT = _core.SEGMENT["float64"]  # rows; the same for float32


class Columns(NamedTuple):
    """d features, t targets (None: y has one dimension), and the dtype of their rows."""

    d: int
    t: int | None
    dtype: np.dtype[Any]

    @property
    def width(self) -> int:
        """Columns of [X 1 y]."""
        return self.d + 1 + (self.t or 1)

    def name(self, columns: Bools) -> str:
        """Name the first of some columns of [X 1 y]."""
        column = int(np.argmax(columns))
        if column < self.d:
            return f"column {column} of X"
        return "the weights" if column == self.d else "y"


class Statistics(NamedTuple):
    """Second moments of n rows. Its arrays are never written to, so that copies share them.

    `hi` and `lo` are the packed sums (see `sums`) of all rows but those in `open`, which wait until
    they fill a segment. Of more than 512 segments they are the lowest level of the sums, and
    `upper` has the levels above (docs/numerics.md, rule 2). Each column of [X 1 y] has the sum of
    squares of the rows that were taken out, `gone`, and `filled`: the number of rows of weight
    above 0 that are not 0 there, or a larger number. `additions` counts the finished sums that were
    added.
    """

    columns: Columns
    n: int
    hi: Floats
    lo: Floats
    open: Rows | None
    gone: Floats
    additions: int
    filled: Ints
    feature_names: Names | None = None  # of the first rows, if those were a frame
    target_name: str | None = None
    segments: int = 0  # in hi, lo and upper
    upper: _core.Levels = ()

    @staticmethod
    def empty(columns: Columns) -> Statistics:
        """Return the statistics of no rows; MemoryError if there is no room for the sums."""
        width, p, t = columns.width, columns.d + 1, columns.t or 1
        size = p * width + t
        try:
            sums = np.zeros(size), np.zeros(size)
        except (MemoryError, ValueError):
            raise MemoryError(
                f"the moments of {columns.d} features take {16 * size / 2**30:.3g} GiB, more than "
                "there is; drop columns, or fit arrays with method='stream'."
            ) from None
        return Statistics(
            columns, 0, *sums, None, np.zeros(width), 0, np.zeros(width, dtype=np.int64)
        )

    @property
    def d(self) -> int:
        """Features."""
        return self.columns.d

    def squares(self) -> Floats:
        """Return the sums of the squares of the columns of [X 1 y]; no segment is open."""
        return squares_of(self.hi, self.d)

    def total(self) -> _core.Moments:
        """Return the sums as the core takes them, with the open rows."""
        sums = self._sums()
        if self.open is None:
            return sums
        with _core.FpEnv():
            return self.open.add_to(sums)

    def closed(self) -> Statistics:
        """Return statistics whose sums are those of all rows, in one level."""
        if self.open is None and not self.upper:
            return self._replace(segments=0)
        total = self.total()
        return self._replace(hi=total.hi, lo=total.lo, open=None, segments=0, upper=())

    def _sums(self) -> _core.Moments:
        """Return the sums as the core takes them, without the open rows."""
        levels = (self.hi, self.lo), *self.upper
        return _core.Moments(self.d, self.columns.t or 1, self.segments, levels)

    def total_weight(self) -> float:
        """Return the sum of the rows' weights."""
        return float(squares_of(self.total().hi, self.d)[self.d])

    def with_rows(self, problem: RowProblem, n_threads: int) -> Statistics:
        """Return the statistics with the rows of a checked problem."""
        rows, added = problem.rows, problem.shape.n
        filled = self.filled + problem.count_nonzero()
        first = 0 if self.open is None else SEGMENT - len(self.open.X)
        ready = rows.part(0, first)
        if self.open is not None:
            ready = self.open.followed_by(ready)
        last = max(first, added - (added - first) % SEGMENT)
        sums = self._sums()
        if first <= added:
            sums = ready.add_to(sums, n_threads)
            sums = rows.part(first, last).add_to(sums, n_threads)
            rest = rows.part(last, added).copy()
        else:
            rest = ready
        if not (sums.finite() and rest.has_finite_squares()):
            problem.check_finite()
            raise ValueError(f"{out_of_range(np.float64)}.")
        left = rest if len(rest.X) else None
        (hi, lo), *upper = sums.levels
        result = self._replace(n=self.n + added, hi=hi, lo=lo, open=left, filled=filled)
        result = result._replace(segments=sums.segments, upper=tuple(upper))
        return result.named(problem.shape.feature_names, problem.shape.target_name)

    def plus(self, other: Statistics) -> Statistics:
        """Return the statistics of both groups of rows."""
        return self._combined(other, 1)

    def minus(self, other: Statistics) -> Statistics:
        """Return the statistics without other rows; ValueError if those cannot be among these."""
        result = self._combined(other, -1)
        noise, more, squares = result.noise(), result.filled < 0, result.squares()
        strange = more | (squares < -noise) | ((result.filled == 0) & (squares > noise))
        if strange.any():
            name = self.columns.name(strange)
            raise ValueError(
                "the rows taken out were never put in: "
                + (
                    f"more of them than were put in have a value other than 0 in {name}."
                    if more[strange][0]
                    else f"the squares of {name} would sum to {squares[strange][0]:.3g} over the "
                    f"{result.n} rows left."
                )
            )
        return result._cleared(result.filled == 0)

    def named(self, features: Names | None, target: str | None) -> Statistics:
        """Return the statistics with names, unless they have names already."""
        return self._replace(
            feature_names=features if self.feature_names is None else self.feature_names,
            target_name=target if self.target_name is None else self.target_name,
        )

    def noise(self) -> Floats:
        """Return how far the sum of each column's squares may be off (docs/numerics.md).

        For products of two columns the bound is the geometric mean. No segment is open.
        """
        segment = SEGMENT * 2.0**-52
        unit = segment if self.columns.dtype == np.float32 else segment**2
        unit += 3 * (self.additions + self.n // SEGMENT + 1) * 2.0**-106
        with np.errstate(over="ignore"):
            touched = np.abs(self.squares()) + 2 * self.gone
            noise: Floats = unit * touched
        return noise

    def _combined(self, other: Statistics, sign: int) -> Statistics:
        """Return the sum or the difference."""
        a, b = self.closed(), other.closed()
        if None not in (a.feature_names, b.feature_names) and a.feature_names != b.feature_names:
            raise ValueError(
                f"moments of the columns {b.feature_names} do not go with those of "
                f"{a.feature_names}; give them the same names and order."
            )
        n = a.n + sign * b.n
        if n < 0:
            raise ValueError(f"{b.n} rows cannot be taken out of {a.n}; take out only rows put in.")
        with _core.FpEnv(), np.errstate(over="ignore", invalid="ignore"):
            hi, error = two_sum(a.hi, sign * b.hi)
            hi, lo = two_sum(hi, error + (a.lo + sign * b.lo))
            gone = a.gone + b.gone
            if sign < 0:
                gone = gone + np.abs(b.squares())
        if not (np.isfinite(hi).all() and np.isfinite(lo).all()):
            raise ValueError(f"{out_of_range(np.float64)}.")
        filled = np.minimum(a.filled + sign * b.filled, n)
        additions = a.additions + b.additions + -(-b.n // SEGMENT) + 1
        result = a._replace(n=n, hi=hi, lo=lo, gone=gone, additions=additions, filled=filled)
        return result.named(b.feature_names, b.target_name)

    def _cleared(self, empty: Bools) -> Statistics:
        """Return statistics without the rounding errors of columns in which only zeros are left."""
        if not empty.any():
            return self
        hi, lo = self.hi.copy(), self.lo.copy()
        for sums in (hi, lo):
            table = table_of(sums, self.d)
            table[empty[: self.d + 1]] = 0
            table[:, empty] = 0
            sums[table.size :][empty[self.d + 1 :]] = 0
        return self._replace(hi=hi, lo=lo, gone=np.where(empty, 0.0, self.gone))
