"""Many problems that differ in their rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.device import Place
from gdcore.data.home import home_of
from gdcore.data.problem import RowProblem, lay_out
from gdcore.data.rows import Rows
from gdcore.data.shape import Shape
from gdcore.typing import Bools, Floats, Ints, Names

BLOCK_BYTES = 16 << 20  # of second moments, summed together


@dataclass(frozen=True, eq=False)
class Problems:
    """Problems of one dtype and one number of features and targets.

    Either stacked, with the problems as first dimension: X (count, n, d), y (count, n, t),
    offset (count, n, t), sample_weight (count, n). Or one table of all rows, X (rows, d) and so on:
    problem i has the rows ``order[starts[i]:starts[i + 1]]``, in that order.
    """

    shape: Shape
    rows: Rows
    starts: Ints | None = None
    order: Ints | None = None
    labels: Any = None  # of groups
    group_names: Names | None = None  # columns of a frame that the labels come from
    group_keys: Any = None  # those columns, one row a group

    @property
    def count(self) -> int:
        """Problems."""
        return len(self.shape.n)

    def blocks(self) -> Iterator[slice]:
        """Yield ranges of problems whose second moments fit into memory together."""
        shape, p = self.shape, self.shape.d + 1
        pairs = shape.dtype == np.float64
        bytes_each = 8 * ((1 + pairs) * (p * (p + 1) // 2 + shape.t * (p + 1)) + 1)
        step = max(16, BLOCK_BYTES // bytes_each)
        for begin in range(0, self.count, step):
            yield slice(begin, min(begin + step, self.count))

    def core(
        self, part: slice, gram: Bools, *, judged: bool = False, scaled: bool = False
    ) -> _core.Many:
        """Hand some of the problems to the core; see `_core.Many`."""
        starts = None if self.starts is None else self.starts[part.start : part.stop + 1]
        rows = self.rows if starts is not None else self.rows.part(part.start, part.stop)
        how = self.shape.fit_intercept, self.shape.reduction
        problems = _core.Problems(*rows, *how, starts, self.order)
        return _core.Many(problems, gram[part], judged, scaled)

    def arrays(self, i: int) -> tuple[Floats, Floats]:
        """Return X and y - offset of one problem."""
        where: Any = i
        if self.starts is not None:
            where = slice(self.starts[i], self.starts[i + 1])
            where = where if self.order is None else self.order[where]
        X, y, offset, _ = self._local_rows
        return X[where], y[where] if offset is None else y[where] - offset[where]

    @cached_property
    def _local_rows(self) -> Rows:
        """All rows where NumPy can read them, to find out what is wrong with some."""
        return self.rows.local()


def make_problems(
    X_given: npt.ArrayLike,
    y_given: npt.ArrayLike,
    offset: npt.ArrayLike | None,
    sample_weight: npt.ArrayLike | None,
    fit_intercept: bool,
    reduction: str,
    place: Place = None,
) -> Problems:
    """Check X (count, n, d) and y (count, n) or (count, n, t); ValueError says what to change."""
    X, y, fixed, weight = _core.prepare(
        ("X", X_given),
        ("y", y_given),
        ("offset", offset, True),
        ("sample_weight", sample_weight, True),
    )
    if y.ndim not in (2, 3) or y.shape[:2] != X.shape[:2]:
        raise ValueError(
            f"y has shape {y.shape} and X {X.shape}; with X (count, n, d), y must be (count, n), "
            "or (count, n, t) for several targets."
        )
    rows, has_target_axis = lay_out(X, y, fixed, weight, fit_intercept, place=place)
    count, n, d = X.shape
    sizes = np.full(count, n), d, rows.y.shape[2], has_target_axis
    how = X.dtype, bool(fit_intercept), reduction
    return Problems(Shape(*sizes, *how, home=home_of(X_given, X)), rows)


def make_groups(all_rows: RowProblem, starts: Ints, order: Ints | None, labels: Any) -> Problems:
    """Return the problems of groups of rows."""
    shape = replace(all_rows.shape, n=np.diff(starts))
    return Problems(shape, all_rows.rows, starts, order, labels)
