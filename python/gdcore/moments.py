"""Second moments of rows as a value: all that full-batch descent needs to know of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from gdcore import _core
from gdcore.descent import descend
from gdcore.exact import solve_moments
from gdcore.fitting import checked_sgd, empty_fit, start_from, warn_of_end
from gdcore.kernels import Floats, Reduction
from gdcore.mapped import watched
from gdcore.method import in_range, moments_of, settled, warn_of_ignored
from gdcore.options import Options
from gdcore.problem import Problem, diagnose, make_problem
from gdcore.result import Fit
from gdcore.sgd import SGD

CHUNK = _core.CHUNK["float64"]  # rows; the same for float32


class Moments:
    """Second moments of rows: the sums that the squared error depends on, and nothing else.

    They are the entries of ``[X 1]^T S [X 1 y-offset]`` and the squares of ``y - offset``, S being
    the sample weights: of float32 rows in float64, of float64 rows in pairs of float64 numbers
    that keep the rounding errors. Rows come in by `update`, in as many calls as it takes, and the
    bits do not depend on how the rows are cut: rows that do not fill a chunk of the sums
    (docs/numerics.md) are kept until it is full.

    Parameters
    ----------
    d : int
        Features.
    t : int, optional
        Targets side by side; None for y of one dimension.
    dtype : float64 (default) or float32
        Of the rows. float32 rows can go into float64 moments, not the other way round.

    Raises
    ------
    ValueError
        If d is below 0 or t below 1.
    TypeError
        If they are not whole numbers, or dtype is neither float32 nor float64.
    MemoryError
        If there is no room for about d * d sums.

    Examples
    --------
    >>> import gdcore as gd
    >>> moments = gd.Moments(1)
    >>> moments.update([[1.0], [2.0]], [3.0, 5.0]).update([[3.0], [4.0]], [7.0, 10.0])
    Moments(d=1, dtype=float64, n=4)
    >>> fit = moments.downdate([[4.0]], [10.0]).fit()
    >>> print(fit.status, fit.weights.round(3), fit.intercept.round(3))
    CONVERGED [2.] 1.0
    """

    def __init__(self, d: int, t: int | None = None, dtype: npt.DTypeLike = np.float64) -> None:
        for name, value, least in (("d", d, 0), ("t", 1 if t is None else t, 1)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"{name} is {value!r}; it must be a whole number.")
            if value < least:
                raise ValueError(f"{name} is {value}; it must be {least} or larger.")
        self._dtype = np.dtype(dtype)
        if self._dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype is {self._dtype}; it must be float32 or float64.")
        self._d, self._t = int(d), None if t is None else int(t)
        self._n = 0
        size = (self._d + 1) * (self._d + 1 + (t or 1)) + (t or 1)
        try:
            self._hi, self._lo = np.zeros(size), np.zeros(size)  # of whole chunks
        except (MemoryError, ValueError):
            raise MemoryError(
                f"the moments of {d} features take {16 * size / 2**30:.3g} GiB, more than there "
                "is; drop columns, or fit arrays with method='stream'."
            ) from None
        self._open: _Rows | None = None  # fewer rows than a chunk
        self._gone = np.zeros(self._d + 1 + (t or 1))  # squares of rows that were taken out

    @property
    def d(self) -> int:
        """Features."""
        return self._d

    @property
    def t(self) -> int | None:
        """Targets, or None for one of one dimension."""
        return self._t

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the rows: float32 or float64."""
        return self._dtype

    @property
    def n(self) -> int:
        """Rows, those of weight 0 included."""
        return self._n

    @property
    def hi(self) -> Floats:
        """The sums: d + 1 rows of ``[X 1]^T [X 1 y]``, then the squares of y; one dimension.

        Only the entries on and above the diagonal are there; the others are 0.
        """
        hi: Floats = self._total().hi
        return hi

    @property
    def lo(self) -> Floats:
        """What rounding took from `hi`: the sums are ``hi + lo``."""
        lo: Floats = self._total().lo
        return lo

    def __repr__(self) -> str:
        targets = "" if self._t is None else f"t={self._t}, "
        return f"Moments(d={self._d}, {targets}dtype={self._dtype}, n={self._n})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moments):
            return NotImplemented
        if self._shape != other._shape or self._n != other._n:
            return False
        return np.array_equal(self.hi, other.hi) and np.array_equal(self.lo, other.lo)

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> Moments:
        """Return moments that change apart from these."""
        other = Moments(self._d, self._t, self._dtype)
        other._take(self)
        return other

    def update(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        offset: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Add rows.

        Any number of updates gives the bits of one with all their rows.

        Parameters
        ----------
        X : array_like, shape (n, d)
        y : array_like, shape (n,) or (n, t)
        offset : array_like, optional
            Fixed term of the prediction, broadcast to y's shape.
        sample_weight : array_like, shape (n,), optional
            Weight of each row's squared error, 0 or larger.

        Returns
        -------
        Moments
            These, changed. An error or Ctrl-C leaves them as they were.

        Raises
        ------
        ValueError
            If shapes do not fit, or the rows hold NaN or infinity.
        TypeError
            If a dtype is not real, or wider than that of the moments.
        """
        with watched(X=X, y=y, offset=offset, sample_weight=sample_weight), _core.FpEnv():
            change = self._with(self._checked(X, y, offset, sample_weight), 0)
        return self._become(*change)

    def downdate(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        offset: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Take rows out that were put in: subtract their moments.

        The rounding errors of the rows that came and went stay: see docs/numerics.md.

        Parameters
        ----------
        X, y, offset, sample_weight
            As for `update`.

        Returns
        -------
        Moments
            These, changed. An error leaves them as they were.

        Raises
        ------
        ValueError
            As for `update`, and if the rows cannot be among those put in.
        TypeError
            As for `update`.
        """
        gone = Moments(self._d, self._t, self._dtype)
        gone.update(X, y, offset=offset, sample_weight=sample_weight)
        return self._take(self - gone)

    def merge(self, other: Moments) -> Self:
        """Add the rows behind other moments.

        The sums are added once, so ``a.merge(b)`` has the bits of ``b.merge(a)``, but not those of
        one update with all rows: fix the order in which more than two are merged to fix the bits.

        Parameters
        ----------
        other : Moments
            Of as many features and targets, and of the same dtype.

        Returns
        -------
        Moments
            These, changed.

        Raises
        ------
        ValueError
            If the other's features, targets or dtype differ.
        TypeError
            If the other is no Moments.
        """
        return self._take(self + other)

    def __add__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        result = self._combined(other, 1)
        result._gone = self._gone + other._gone
        return result

    def __sub__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        if other._n > self._n:
            raise ValueError(
                f"{other._n} rows cannot be taken out of {self._n}; take out only rows put in."
            )
        result = self._combined(other, -1)
        result._gone = self._gone + other._gone + _squares(other)
        squares, noise = _squares(result), result._noise()
        strange = np.abs(squares) > noise if result._n == 0 else squares < -noise
        if strange.any():
            raise ValueError(
                f"the rows taken out were never put in: the squares of {self._name(strange)} would "
                f"sum to {squares[strange][0]:.3g} over the {result._n} rows left."
            )
        return result if result._n else Moments(self._d, self._t, self._dtype)

    def fit(
        self,
        sgd: SGD | None = None,
        *,
        epochs: int = 1000,
        fit_intercept: bool = True,
        standardize: bool = False,
        init: Any = None,
        reduction: Reduction = "mean",
        tol: float | None = 1e-6,
        stop: Literal["gradient", "loss_equal"] = "gradient",
        method: Literal["auto", "gram", "exact"] = "auto",
        rcond: float | None = None,
        history: int = 1,
        progress: bool | Callable[[int, int, float], None] = False,
    ) -> Fit:
        """Fit a linear model to the rows behind the moments.

        Without `sgd` the answer is the least-squares solution; with it that of
        ``gdcore.fit(method="gram")``, with its bits. A loss may be so small a part of the squares
        of y that only the rows could tell it: then `Fit.loss` is the most that it can be, and after
        a descent a warning says so.

        Parameters
        ----------
        sgd, epochs, fit_intercept, standardize, init, reduction, tol, stop : optional
        rcond, history, progress : optional
            As for `gdcore.fit`.
        method : {"auto", "gram", "exact"}
            "auto" without `sgd` is "exact", with it "gram".

        Returns
        -------
        Fit

        Raises
        ------
        ValueError
            If an option is out of range, or too little is left of rows that were taken out.
        FitInterrupted
            On Ctrl-C, with the weights so far.

        Warns
        -----
        LearningRateWarning
            If lr is above the stability limit, before the first step.
        FitWarning
            If the fit diverged, stalled, is singular or empty, or its loss is only known not to
            exceed a bound.
        """
        options = Options(
            epochs, None, False, 0, tol, stop, method, history, None, standardize, rcond
        )
        options = settled(sgd, options, init)
        if options.method == "stream":
            raise ValueError("method is 'stream'; moments keep no rows: use 'gram' or 'exact'.")
        sgd = checked_sgd(sgd, options.method).alone()
        with _core.FpEnv():
            problem = rowless_problem(self, fit_intercept, reduction)
            options.check(problem.n)
            start = start_from(init, problem, None)
            moments = self._total()
            if weight_of(self) == 0:
                result = empty_fit(problem, start)
            else:
                self._check_squares(problem, moments)
                if options.method == "exact":
                    result = solve_moments(problem, moments, sgd, options)
                else:
                    how = replace(options, method="gram")
                    result = descend(problem, sgd, how, start, progress, None, moments)
        warn_of_ignored(options)
        warn_of_end(result)
        return result

    @property
    def _shape(self) -> tuple[Any, ...]:
        return self._d, self._t, self._dtype

    def _sums(self) -> _core.Moments:
        return _core.Moments(self._d, self._t or 1, self._hi, self._lo)

    def _total(self) -> _core.Moments:
        """Return the sums with the open chunk's rows in them."""
        if self._open is None:
            return self._sums()
        with _core.FpEnv():
            return self._open.summed(self._sums())

    def _with(self, problem: Problem, n_threads: int) -> tuple[_core.Moments, _Rows, int]:
        """Return the sums, the open chunk and n, a problem's rows being in them."""
        rows = _Rows(problem.X, problem.y, problem.offset, problem.sample_weight)
        first = 0 if self._open is None else CHUNK - len(self._open.X)
        ready = rows.part(0, first)
        if self._open is not None:
            ready = self._open.joined(ready)
        last = max(first, problem.n - (problem.n - first) % CHUNK)
        sums = self._sums()
        if first <= problem.n:
            sums = ready.summed(sums, n_threads)
            sums = rows.part(first, last).summed(sums, n_threads)
            rest = rows.part(last, problem.n).copy()
        else:
            rest = ready
        if not (np.isfinite(sums.hi).all() and rest.finite()):
            diagnose(problem)
            raise ValueError("the squares of the rows overflow float64; scale X and y.")
        return sums, rest, self._n + problem.n

    def _become(self, sums: _core.Moments, rest: _Rows, n: int) -> Self:
        self._hi, self._lo, self._open = sums.hi, sums.lo, rest if len(rest.X) else None
        self._n = n
        return self

    def _take(self, other: Moments) -> Self:
        """Become a copy of moments of the same shape; no array of theirs is ever written to."""
        self._n, self._open, self._gone = other._n, other._open, other._gone
        self._hi, self._lo = other._hi, other._lo
        return self

    def _checked(self, X: Any, y: Any, offset: Any, sample_weight: Any) -> Problem:
        problem = make_problem(X, y, offset, sample_weight, True, "mean")
        if problem.d != self._d:
            raise ValueError(
                f"X has shape {problem.X.shape}; these moments are of {self._d} features."
            )
        t = problem.t if problem.several else None
        if t != self._t:
            wanted = "(n,)" if self._t is None else f"(n, {self._t})"
            raise ValueError(
                f"y has shape {np.shape(y)}; these moments are of y of shape {wanted}."
            )
        if problem.dtype == self._dtype:
            return problem
        if self._dtype == np.float32:
            raise TypeError(
                "the rows are float64 and these moments float32; convert the rows with "
                "astype(np.float32), or make Moments(..., dtype=np.float64)."
            )
        wide = [
            None if a is None else a.astype(np.float64)
            for a in (problem.X, problem.y, problem.offset, problem.sample_weight)
        ]
        if self._t is None:  # as they were given
            wide[1:3] = [None if a is None else a[:, 0] for a in wide[1:3]]
        return make_problem(wide[0], wide[1], wide[2], wide[3], True, "mean")  # type: ignore[arg-type]

    def _combined(self, other: Moments, sign: int) -> Moments:
        """Return the sum or difference of the pairs, without `_gone`."""
        if other._shape != self._shape:
            raise ValueError(f"{other!r} does not go with {self!r}: they are of other columns.")
        result = Moments(self._d, self._t, self._dtype)
        a, b = self._total(), other._total()
        with _core.FpEnv(), np.errstate(over="ignore", invalid="ignore"):
            x, y = a.hi, sign * b.hi
            hi = x + y
            z = hi - x
            lo = ((x - (hi - z)) + (y - z)) + (a.lo + sign * b.lo)
        if not np.isfinite(hi).all():
            raise ValueError("the sums of the squares overflow float64; scale X and y.")
        result._hi, result._lo, result._n = hi, lo, self._n + sign * other._n
        return result

    def _noise(self) -> Floats:
        """Return how far each sum of squares may be off by the rows that came and went."""
        chunk = CHUNK * 2.0**-52
        unit = chunk if self._dtype == np.float32 else chunk**2 + self._n * 2.0**-104
        noise: Floats = unit * (np.abs(_squares(self)) + 2 * self._gone)
        return noise

    def _name(self, squares: npt.NDArray[np.bool_]) -> str:
        """Name the first of some columns of [X 1 y]."""
        column = int(np.argmax(squares))
        if column < self._d:
            return f"column {column} of X"
        return "the weights" if column == self._d else "y"

    def _check_squares(self, problem: Problem, moments: _core.Moments) -> None:
        squares = _squares(self)
        lost = (squares <= 2 * self._noise()) & (self._gone > 0)
        if lost.any() and _column_sums(moments, lost, self._d):
            raise ValueError(
                f"only rounding errors are left of {self._name(lost)}, whose large rows were taken "
                "out; sum the rows that are left anew."
            )
        if not in_range(problem, moments):
            raise ValueError(
                f"the squares of the rows leave the range of {self._dtype}: scale the columns of "
                "X and y."
            )


def rowless_problem(
    moments: Moments, fit_intercept: bool, reduction: str, weighted: bool = True
) -> Problem:
    """Return a problem of the moments' columns, whose one row nobody reads.

    `weighted` counts rows by the weights that the moments, or pieces of rows, bring along.
    """
    if moments.d == 0 and not fit_intercept:
        raise ValueError("d is 0 and fit_intercept is False: there is nothing to fit.")
    dtype = moments.dtype
    X, y = np.zeros((1, moments.d), dtype), np.zeros((1, moments.t or 1), dtype)
    weight = np.ones(1, dtype) if weighted else None
    fields = (X, y, None, weight, bool(fit_intercept), reduction)
    core = _core.Problem(*fields)
    return Problem(*fields, several=moments.t is not None, core=core, rowless=True)


def add_rows(moments: Moments, problem: Problem, n_threads: int) -> None:
    """Add a checked problem's rows: `Moments.update`."""
    moments._become(*moments._with(problem, n_threads))


def total_of(moments: Moments) -> _core.Moments:
    """Return the sums as the core takes them."""
    return moments._total()


def weight_of(moments: Moments) -> float:
    """Return the sum of the rows' weights."""
    return float(_table(moments, moments.d)[moments.d, moments.d])


class _Rows(NamedTuple):
    """Rows of one dtype: X (n, d), y (n, t), offset (n, t) or None, sample_weight (n,) or None."""

    X: Floats
    y: Floats
    offset: Floats | None
    sample_weight: Floats | None

    def part(self, begin: int, end: int) -> _Rows:
        """Return some of the rows."""
        return _Rows(*(None if a is None else a[begin:end] for a in self))  # type: ignore[arg-type]

    def copy(self) -> _Rows:
        """Return the rows apart from the caller's arrays."""
        return _Rows(*(None if a is None else a.copy() for a in self))  # type: ignore[arg-type]

    def joined(self, other: _Rows) -> _Rows:
        """Return these rows, then others: a missing offset is 0, a missing weight 1."""
        offset = weight = None
        if self.offset is not None or other.offset is not None:
            offset = np.concatenate(
                [np.zeros_like(r.y) if r.offset is None else r.offset for r in (self, other)]
            )
        if self.sample_weight is not None or other.sample_weight is not None:
            weight = np.concatenate(
                [
                    np.ones(len(r.X), r.X.dtype) if r.sample_weight is None else r.sample_weight
                    for r in (self, other)
                ]
            )
        X, y = np.concatenate([self.X, other.X]), np.concatenate([self.y, other.y])
        return _Rows(X, y, offset, weight)

    def summed(self, start: _core.Moments, n_threads: int = 0) -> _core.Moments:
        """Return moments with these rows' chunks added."""
        if not len(self.X):
            return start
        return moments_of(_core.Problem(*self, True, "mean"), n_threads, start)

    def finite(self) -> bool:
        """Whether there is neither NaN nor infinity, in the squares either."""
        with np.errstate(over="ignore", invalid="ignore"):
            return all(a is None or bool(np.isfinite(a.astype(float) ** 2).all()) for a in self)


def _table(moments: Moments | _core.Moments, d: int) -> Floats:
    """Return [X 1]^T [X 1 y] as a table, its lower part 0."""
    hi = moments.hi
    t = round((hi.size - (d + 1) ** 2) / (d + 2))
    return hi[: hi.size - t].reshape(d + 1, d + 1 + t)


def _squares(moments: Moments) -> Floats:
    """Return the sums of the squares of the columns of [X 1 y]."""
    table = _table(moments, moments.d)
    return np.concatenate([table.diagonal(), moments.hi[table.size :]])


def _column_sums(moments: _core.Moments, columns: npt.NDArray[np.bool_], d: int) -> bool:
    """Whether any sum with one of these columns in it is not 0."""
    table = _table(moments, d)
    return bool(table[columns[: d + 1]].any() or table[:, columns].any())
