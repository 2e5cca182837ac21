"""One problem: its shape, and its rows checked and laid out for the core."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.columns import as_numbers, refuse_as_feature
from gdcore.data.device import Place, broadcast, check_place, is_local, local
from gdcore.data.home import home_of
from gdcore.data.missing import WAY_OUT, check_missing, known_entries, nan_for_nulls, prepare
from gdcore.data.rows import Rows
from gdcore.data.shape import Shape
from gdcore.frozen import at_once
from gdcore.typing import Bools, Floats, Ints, Names

BLOCK = 4096  # rows that are looked at together


@dataclass(frozen=True, eq=False)
class Problem(ABC):
    """What a solver fits: a shape, and the rows behind it or their moments."""

    shape: Shape
    core: _core.Problem

    @property
    @abstractmethod
    def has_rows(self) -> bool:
        """Whether the rows can be read; otherwise only their moments are known."""

    @property
    @abstractmethod
    def is_weightless(self) -> bool:
        """Whether no row counts: there are none, or every sample weight is 0."""

    @property
    @abstractmethod
    def rows_that_count(self) -> int:
        """The number of rows of weight above 0."""

    @property
    @abstractmethod
    def is_featureless(self) -> bool:
        """Whether every feature is 0 in every row that counts."""

    @abstractmethod
    def largest_row(self) -> float:
        """Return the curvature of the steepest single row."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest of the data and of what is fitted to it."""

    @abstractmethod
    def check_finite(self) -> None:
        """Raise ValueError naming the first NaN or infinity of the data, if it is known."""

    def scaled(self, scaling: Floats) -> Self:
        """Return the problem of the standardised columns."""
        return replace(self, shape=self.shape.scaled(scaling), core=self.core.scaled(scaling))


@at_once
@dataclass(frozen=True, eq=False)
class RowProblem(Problem):
    """A problem with its rows.

    `known` says which rows count (n,), or which entries of y if the targets differ (n, t); None if
    all do. `numbers` are those of the rows as they were given, if some were left out.
    """

    rows: Rows
    known: Bools | None = None
    numbers: Ints | None = None

    @property
    def has_rows(self) -> bool:
        """Whether the rows can be read: True."""
        return True

    @property
    def is_weightless(self) -> bool:
        """Whether no row counts: there are none, or every sample weight is 0."""
        weight = self.rows.sample_weight
        return self.shape.n == 0 or (weight is not None and not local(weight).any())

    @property
    def rows_that_count(self) -> int:
        """The number of rows of weight above 0."""
        weight = self.rows.sample_weight
        return int(self.shape.n if weight is None else np.count_nonzero(local(weight) > 0))

    @property
    def is_featureless(self) -> bool:
        """Whether every feature is 0 in every row that counts."""
        for X, _, _, weight in self.rows.local_blocks():
            if (X if weight is None else X[weight > 0]).any():
                return False
        return True

    @property
    def is_ragged(self) -> bool:
        """Whether the targets count in different rows."""
        return self.known is not None and self.known.ndim == 2

    def of_target(self, j: int) -> RowProblem:
        """Return the problem of one target, whose y has one dimension, in the rows that count."""
        at = np.arange(self.shape.n) if self.known is None else np.flatnonzero(self.known[:, j])
        rows = self.rows.of_target(j)
        rows = rows if len(at) == self.shape.n else rows.taken(at)
        all_rows = self.shape.n + self.shape.dropped
        sizes = {"n": len(at), "t": 1, "has_target_axis": False, "dropped": all_rows - len(at)}
        shape = replace(self.shape, **sizes, home=None)
        numbers = at if self.numbers is None else self.numbers[at]
        core = _core.Problem(*rows, shape.fit_intercept, shape.reduction)
        return RowProblem(shape, core, rows, numbers=numbers)

    def largest_row(self) -> float:
        """Return the curvature of the steepest single row."""
        return self.core.largest_row()

    def named(self, features: Names, target: str) -> Self:
        """Return the problem with the names of its columns."""
        return replace(self, shape=replace(self.shape, feature_names=features, target_name=target))

    def count_nonzero(self) -> Ints:
        """Count, for each column of [X 1 y-offset], the rows of weight above 0 that are not 0."""
        if is_local(self.rows.X):
            return self.rows.count_nonzero()
        weight, counts = self.rows.sample_weight, self.core.count_nonzero()
        rows = self.shape.n if weight is None else np.count_nonzero(local(weight) > 0)
        return np.insert(counts, self.shape.d, rows)

    def fingerprint(self) -> str:
        """Return a digest of the arrays and of what is fitted to them."""
        import hashlib

        shape, digest = self.shape, hashlib.blake2b(digest_size=16)
        sizes = self.rows.X.shape, self.rows.y.shape
        digest.update(
            repr((*sizes, str(shape.dtype), shape.fit_intercept, shape.reduction)).encode()
        )
        for array in self.rows:
            if array is None:
                digest.update(b"none")
                continue
            for begin in range(0, len(array), BLOCK):
                block = local(array[begin : begin + BLOCK])
                digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()

    def check_finite(self) -> None:
        """Raise ValueError naming the first NaN or infinity of the data, if it holds one."""
        for name, array in (("X", self.rows.X), ("y", self.rows.y), ("offset", self.rows.offset)):
            if array is None:
                continue
            for begin in range(0, len(array), BLOCK):
                block = local(array[begin : begin + BLOCK])
                bad = np.argwhere(~np.isfinite(block))
                if not len(bad):
                    continue
                at, column = int(bad[0][0]), int(bad[0][1])
                row = begin + at if self.numbers is None else self.numbers[begin + at]
                names = self.shape.feature_names if name == "X" else None
                which = column if names is None else repr(names[column])
                where = f"row {row}" + (
                    f", column {which}" if array.shape[1] > 1 or name == "X" else ""
                )
                value = block[at, column]
                other = f", or {WAY_OUT}" if np.isnan(value) else ""
                raise ValueError(
                    f"{name} holds {value} at {where} (counted from 0); drop or fill such rows "
                    f"before fitting{other}."
                )


def make_problem(
    X_given: npt.ArrayLike,
    y_given: npt.ArrayLike,
    offset: npt.ArrayLike | None,
    sample_weight: npt.ArrayLike | None,
    fit_intercept: bool,
    reduction: str,
    features: Names | None = None,
    part: bool = False,
    place: Place = None,
    missing: str = "error",
    keep_gaps: bool = False,
) -> RowProblem:
    """Check shapes and dtypes; ValueError and TypeError say what to change.

    `features` are the columns to take of a data frame; all by default. `part` says that more rows
    follow, so that weights may be small compared with theirs. Arrays of the host's memory are
    copied to the `place`. With ``missing="drop"``, rows that no target counts in are left out; with
    `keep_gaps` they stay, and `RowProblem.known` says which count.
    """
    drop = missing != "error"
    if drop:
        check_missing(missing)
        given = X_given, y_given, offset, sample_weight
        X_given, y_given, offset, sample_weight = map(nan_for_nulls, given)
    X_numbers, names = as_numbers(X_given, "X", features, missing)
    y_numbers, targets = as_numbers(y_given, "y", None, missing)
    X, y, fixed, weight = prepare(
        ("X", X_numbers),
        ("y", y_numbers),
        ("offset", as_numbers(offset, "offset", None, missing)[0], True),
        ("sample_weight", as_numbers(sample_weight, "sample_weight", None, missing)[0], True),
    )
    if X.ndim != 2:
        single = "X.to_numpy()" if hasattr(X_given, "to_numpy") else "X"
        hint = f" Reshape a single feature with {single}[:, None]." if X.ndim == 1 else ""
        many = "three for many problems, (count, n, d)"
        many = f"; gdcore.fit alone takes {many}" if X.ndim == 3 else f", or {many}"
        raise ValueError(f"X has shape {X.shape}; it must have two dimensions, (n, d){many}.{hint}")
    if y.ndim not in (1, 2) or len(y) != len(X):
        raise ValueError(
            f"y has shape {y.shape} and X {X.shape}; "
            "with X (n, d), y must be (n,) or (n, t) with the same n."
        )
    if targets:
        for name, column in zip(targets, np.atleast_2d(y.T), strict=False):
            refuse_as_feature(X, names, name, column, "the target y")
    target = targets[0] if targets and len(targets) == 1 else None
    rows, has_target_axis, known = lay_out(X, y, fixed, weight, fit_intercept, part, drop)
    numbers = None
    if known is not None and not keep_gaps:
        rows, known, numbers = _without_gaps(rows, known)
    rows = put(rows, place)
    how = bool(fit_intercept), reduction
    n, d = rows.X.shape
    sizes = n, d, rows.y.shape[1], has_target_axis
    home, dropped = home_of(X_given, X), len(X) - n
    shape = Shape(*sizes, X.dtype, *how, names, target, home=home, dropped=dropped)
    return RowProblem(shape, _core.Problem(*rows, *how), rows, known, numbers)


def _without_gaps(rows: Rows, known: Bools) -> tuple[Rows, Bools | None, Ints | None]:
    """Return the rows that some target counts in, which entries do of those, and their numbers."""
    ragged = known.ndim == 2
    kept = known.any(axis=1) if ragged else known
    if kept.all():
        return rows, known, None
    numbers = np.flatnonzero(kept)
    return rows.taken(numbers), known[numbers] if ragged else None, numbers


def lay_out(
    X: Floats,
    y: Floats,
    offset: Floats | None,
    weight: Floats | None,
    fit_intercept: bool,
    part: bool = False,
    drop: bool = False,
) -> tuple[Rows, bool, Bools | None]:
    """Return rows with y and offset (..., n, t), whether y had an axis of targets, and what counts.

    X is (..., n, d), sample_weight (..., n), and y has an entry for each row of X. With `drop`, the
    last are `known_entries`; else None: all of them count.
    """
    has_target_axis = y.ndim == X.ndim
    if has_target_axis and y.shape[-1] == 0:
        raise ValueError(f"y has shape {y.shape}: there is no target to fit.")
    if X.shape[-1] == 0 and not fit_intercept:
        raise ValueError(
            f"X has shape {X.shape} and fit_intercept is False: there is nothing to fit."
        )
    if offset is not None:
        offset = broadcast_offset(offset, y.shape)
    stretched = None if weight is None else broadcast_weights(weight, X.shape[:-1])
    known = known_entries(X, y, offset, stretched) if drop else None
    if weight is not None and stretched is not None:
        check_weights(weight if known is None else stretched, part, known)
    if not has_target_axis:
        y = y[..., None]
        offset = None if offset is None else offset[..., None]
    return Rows(X, y, offset, stretched), has_target_axis, known


def put(rows: Rows, place: Place) -> Rows:
    """Return the rows where they are to be; ValueError if X is on another device."""
    if place is None:
        return rows
    check_place(rows.X, place)
    return rows.placed(place)


def broadcast_offset(offset: Floats, shape: tuple[int, ...]) -> Floats:
    """Stretch an offset to the shape of the predictions; ValueError if it does not fit."""
    try:
        return broadcast(offset, shape)  # type: ignore[no-any-return]
    except ValueError:
        raise ValueError(
            f"offset has shape {offset.shape}, which does not broadcast to y's shape {shape}."
        ) from None


def broadcast_weights(sample_weight: Floats, shape: tuple[int, ...]) -> Floats:
    """Stretch weights to one a row; ValueError if they do not fit."""
    try:
        return broadcast(sample_weight, shape)  # type: ignore[no-any-return]
    except ValueError:
        raise ValueError(
            f"sample_weight has shape {sample_weight.shape}; "
            f"it must be {shape}, one for each row of X."
        ) from None


def check_weights(sample_weight: Floats, part: bool = False, known: Bools | None = None) -> None:
    """Raise ValueError if the weight of a row that counts is out of range."""
    weight = local(sample_weight)
    bad = ~((weight >= 0) & np.isfinite(weight))
    if known is not None:
        kept = known if known.ndim == weight.ndim else known.any(axis=-1)
        bad &= kept
        weight = np.where(kept, weight, 0)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        place, value = ", ".join(map(str, at)), weight[at]
        other = f", or {WAY_OUT}" if np.isnan(value) else ""
        raise ValueError(
            f"sample_weight[{place}] is {value}; weights must be finite, 0 or larger{other}."
        )
    check_scale(float(weight.max(initial=0)), weight.dtype, part)


def check_scale(largest: float, dtype: np.dtype[Any], part: bool = False) -> None:
    """Raise ValueError if products of the largest weight with squares would leave the range."""
    far = float(np.float32(1e30)) if dtype == np.float32 else 1e150
    if largest > far or (0 < largest < 1 / far and not part):
        raise ValueError(
            f"the largest sample_weight is {largest:.3g}; it must be from {1 / far:.0e} to "
            f"{far:.0e}, or 0: pass sample_weight / sample_weight.max()."
        )


def check_names(init: Any, shape: Shape) -> None:
    """Raise ValueError if an earlier fit's features have other names, or another order."""
    known, names = init.feature_names, shape.feature_names
    if known is not None and names is not None and known != names:
        raise ValueError(
            f"init is a fit of the columns {', '.join(known)} and X has {', '.join(names)}; give "
            "the columns of X the same names and order."
        )
