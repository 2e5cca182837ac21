"""Many problems that differ in their rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.device import Place, is_local, local
from gdcore.data.home import home_of
from gdcore.data.missing import check_missing, nan_for_nulls, prepare
from gdcore.data.problem import RowProblem, lay_out, put
from gdcore.data.rows import Rows
from gdcore.data.shape import Shape
from gdcore.typing import Bools, Floats, Ints, Names

Sorted = tuple[Ints, Ints | None]  # where each group starts, and the row order if there is one
# Of the second moments and states of a block: in caches, and enough to keep a device busy.
BLOCK_BYTES = 8 << 20
DEVICE_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Problems:
    """Problems of one dtype and one number of features and targets.

    Either stacked, with the problems as first dimension: X (count, n, d), y (count, n, t),
    offset (count, n, t), sample_weight (count, n). Or one table of all rows, X (rows, d) and so on:
    problem i has the rows ``order[starts[i]:starts[i + 1]]``, in that order.

    Of stacked problems `known` says which rows count (count, n). It has a dimension more, also for
    a table, if the targets count in different rows: then `of_target` gives problems to fit.
    """

    shape: Shape
    rows: Rows
    starts: Ints | None = None
    given_order: Ints | None = None
    grouped: _core.GroupedRows | None = None  # in place of an order, until somebody asks for it
    labels: Any = None  # of groups
    group_names: Names | None = None  # columns of a frame that the labels come from
    group_keys: Any = None  # those columns, one row a group
    known: Bools | None = None
    n_threads: int = 0  # that sort rows

    @property
    def order(self) -> Ints | None:
        """Row numbers by problem; None if the rows lie so."""
        return self.given_order if self.grouped is None else self.grouped.order(self.n_threads)

    def sort(self) -> None:
        """Sort the rows, if nobody has asked for their order."""
        if self.grouped is not None:
            self.grouped.order(self.n_threads)

    @property
    def count(self) -> int:
        """Problems."""
        return len(self.shape.n)

    def blocks(self) -> Iterator[slice]:
        """Yield ranges of problems that the core works on together."""
        shape, p = self.shape, self.shape.d + 1
        pairs = shape.dtype == np.float64
        moments = (1 + pairs) * (p * (p + 1) // 2 + shape.t * (p + 1))
        states = 2 * (16 + 2 * shape.size)  # the core's, and the copies that it returns
        most = BLOCK_BYTES if is_local(self.rows.X) else DEVICE_BLOCK_BYTES
        step = max(16, most // (8 * (moments + states)))
        for begin in range(0, self.count, step):
            yield slice(begin, min(begin + step, self.count))

    def sums(self) -> _core.GroupSums | None:
        """Return what sums the moments of groups whose rows are anywhere; None if only rows do.

        `core` takes them, and sorts no rows but for problems that need theirs.
        """
        if self.grouped is None or self.grouped.in_place:
            return None
        return _core.group_sums(self._in_core(slice(0, self.count), None))

    def core(
        self,
        part: slice,
        gram: Bools,
        *,
        judged: bool = False,
        scaled: bool = False,
        sums: _core.GroupSums | None = None,
    ) -> _core.Many:
        """Hand some of the problems to the core; see `_core.Many`."""
        return _core.Many(self._in_core(part, sums), gram[part], judged, scaled)

    def _in_core(self, part: slice, sums: _core.GroupSums | None) -> _core.Problems:
        starts = None if self.starts is None else self.starts[part.start : part.stop + 1]
        rows = self.rows if starts is not None else self.rows.part(part.start, part.stop)
        if self.known is not None:
            rows, starts = rows.gathered(self.known[part]), _starts(self.shape.n[part])
        how = self.shape.fit_intercept, self.shape.reduction
        if self.grouped is None or self.grouped.in_place:
            return _core.Problems(*rows, *how, starts, self.given_order)
        return _core.Problems(*rows, *how, starts, None, self.grouped, sums, part.start)

    def some(self, which: Ints) -> Problems:
        """Return some of the groups, with their rows sorted."""
        assert self.grouped is not None
        wanted = np.zeros(self.count, np.uint8)
        wanted[which] = 1
        n = self.shape.n[which]
        return replace(
            self,
            shape=replace(self.shape, n=n),
            starts=_starts(n),
            given_order=self.grouped.order_of_some(wanted),
            grouped=None,
            labels=self.labels[which],
        )

    def arrays(self, i: int) -> tuple[Floats, Floats]:
        """Return X and y - offset of one problem."""
        where: Any = i
        if self.starts is not None:
            where = slice(self.starts[i], self.starts[i + 1])
            order = self.order
            where = where if order is None else order[where]
        if self.known is not None:
            where = i, self.known[i]
        X, y, offset, _ = self._local_rows
        return X[where], y[where] if offset is None else y[where] - offset[where]

    @property
    def is_ragged(self) -> bool:
        """Whether the targets of a problem count in different rows."""
        return self.known is not None and self.known.ndim == self.rows.y.ndim

    def of_target(self, j: int) -> Problems:
        """Return the problems of one target, whose y has one dimension, in the rows that count."""
        assert self.known is not None
        known, rows = self.known[..., j], self.rows.of_target(j)
        given = self.shape.n + self.shape.dropped
        shape = replace(self.shape, t=1, has_target_axis=False, n=given, dropped=0, home=None)
        one = replace(self, shape=shape, rows=rows, known=None)
        return one.without_gaps(known)

    def without_gaps(self, known: Bools) -> Problems:
        """Return the problems of the rows that count, (count, n) or (rows,).

        A problem of which no row does stays, without rows.
        """
        if self.starts is None:
            n = known.sum(axis=1)
            return replace(self, known=known, shape=_shrunk(self.shape, n))
        by_group = self.order
        kept = known if by_group is None else known[by_group]
        order = np.flatnonzero(known) if by_group is None else by_group[kept]
        starts = np.concatenate([[0], np.cumsum(kept)])[self.starts]
        shape = _shrunk(self.shape, np.diff(starts))
        return replace(self, starts=starts, given_order=order, grouped=None, shape=shape)

    def weight_sums(self) -> Floats:
        """Return the sum of the weights of each problem's rows that count."""
        weight = self.rows.sample_weight
        if weight is None:
            return np.asarray(self.shape.n, float)
        weight = local(weight).astype(float)
        if self.starts is None:
            known = True if self.known is None else self.known
            return np.asarray(np.where(known, weight, 0).sum(axis=1))
        order = self.order
        weight = weight if order is None else weight[order]
        groups = np.repeat(np.arange(self.count), self.shape.n)
        return np.asarray(np.bincount(groups, weight, self.count), float)

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
    missing: str = "error",
) -> Problems:
    """Check X (count, n, d) and y (count, n) or (count, n, t); ValueError says what to change.

    With ``missing="drop"`` each problem has the rows that count.
    """
    drop = missing != "error"
    if drop:
        check_missing(missing)
        given = X_given, y_given, offset, sample_weight
        X_given, y_given, offset, sample_weight = map(nan_for_nulls, given)
    X, y, fixed, weight = prepare(
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
    rows, has_target_axis, known = lay_out(X, y, fixed, weight, fit_intercept, drop=drop)
    rows = put(rows, place)
    count, n, d = X.shape
    sizes = np.broadcast_to(n, count), d, rows.y.shape[2], has_target_axis
    how = X.dtype, bool(fit_intercept), reduction
    return _with_gaps(Problems(Shape(*sizes, *how, home=home_of(X_given, X)), rows), known)


def make_groups(
    all_rows: RowProblem, labels: Any, groups: _core.GroupedRows | Sorted, n_threads: int
) -> Problems:
    """Return the problems of groups of rows, which that many threads sort."""
    if isinstance(groups, tuple):
        (starts, order), grouped = groups, None
    else:
        starts, order, grouped = groups.starts, None, groups
    shape = replace(all_rows.shape, n=np.diff(starts))
    problems = Problems(shape, all_rows.rows, starts, order, grouped, labels, n_threads=n_threads)
    return _with_gaps(problems, all_rows.known)


def _with_gaps(problems: Problems, known: Bools | None) -> Problems:
    if known is None:
        return problems
    if known.ndim == problems.rows.y.ndim:
        return replace(problems, known=known)
    return problems.without_gaps(known)


def _shrunk(shape: Shape, n: Ints) -> Shape:
    return replace(shape, n=n, dropped=shape.n - n)


def _starts(n: Ints) -> Ints:
    """Return where each problem starts in a table of all rows, and the end of the table."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(n, dtype=np.int64)])
