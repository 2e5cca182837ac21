"""Second moments of rows as a value: all that full-batch descent needs to know of them."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Never, Self

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.advice import reject
from gdcore.data.columns import Names
from gdcore.data.memmap import watched
from gdcore.data.problem import Problem, check_scale, diagnose, make_problem
from gdcore.fitting import checked_sgd, empty_fit, start_from, warn_of_end
from gdcore.kernels import Floats, Reduction
from gdcore.results.fit import Fit
from gdcore.sgd import SGD
from gdcore.solvers.descent import descend
from gdcore.solvers.exact import solve_moments
from gdcore.solvers.learning_rate import underflow
from gdcore.solvers.method import in_range, moments_of, out_of_range, settled, warn_of_ignored
from gdcore.solvers.options import Options
from gdcore.solvers.progress import reporting
from gdcore.status import FitWarning, stacklevel

Ints = npt.NDArray[np.int64]

CHUNK = _core.CHUNK["float64"]  # rows; the same for float32
# The largest share of what is left that rounding errors of rows taken out may be. The bound of
# float32 rows is some fifty times what happens (docs/numerics.md).
MOST_NOISE = {np.dtype(np.float32): 2.0**-14, np.dtype(np.float64): 2.0**-20}
LEAST_RCOND = {np.dtype(np.float32): 2.0**-20, np.dtype(np.float64): 2.0**-42}
COUNTED = 1 << 15  # numbers at a time
DEPENDENT = 2.0**-40  # an eigenvalue that may be 0, of columns of length 1


class Moments:
    """Second moments of rows: the sums that the squared error depends on, and nothing else.

    They are the entries of ``[X 1]^T S [X 1 y-offset]`` and the squares of ``y - offset``, S being
    the sample weights: of float32 rows in float64, of float64 rows in pairs of float64 numbers
    that keep the rounding errors. Rows come in by `update`, in as many calls as it takes, and the
    bits do not depend on how the rows are cut: rows that do not fill a chunk of the sums
    (docs/numerics.md) are kept until it is full.

    Threads may share moments: each change is made as a whole, one after the other, and a fit takes
    the rows that were in when it began. ``sum`` adds moments up.

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
        columns = self._d + 1 + (t or 1)
        size = (self._d + 1) * columns + (t or 1)
        try:
            sums = np.zeros(size), np.zeros(size)
        except (MemoryError, ValueError):
            raise MemoryError(
                f"the moments of {d} features take {16 * size / 2**30:.3g} GiB, more than there "
                "is; drop columns, or fit arrays with method='stream'."
            ) from None
        self._content = _Content(
            0, *sums, None, np.zeros(columns), 0, np.zeros(columns, dtype=np.int64)
        )
        self._lock = threading.RLock()  # of those who change the content

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
        return self._content.n

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
        return f"Moments(d={self._d}, {targets}dtype={self._dtype}, n={self.n})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moments):
            return NotImplemented
        if self._shape != other._shape:
            return False
        a, b = self._closed()._content, other._closed()._content
        return a.n == b.n and np.array_equal(a.hi, b.hi) and np.array_equal(a.lo, b.lo)

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> Moments:
        """Return moments that change apart from these."""
        return self._of(self._content)

    def __getstate__(self) -> dict[str, Any]:
        fields = {f"_{name}": value for name, value in self._content._asdict().items()}
        return {"_d": self._d, "_t": self._t, "_dtype": self._dtype, **fields}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._d, self._t, self._dtype = state["_d"], state["_t"], state["_dtype"]
        n, hi, lo, rows, gone = (state[name] for name in ("_n", "_hi", "_lo", "_open", "_gone"))
        segments, upper = state.get("_segments"), state.get("_upper", ())
        if segments is None:  # numerics v1 had one level: longer sums are where a piece begins
            segments = n // CHUNK if n // CHUNK <= _core.FAN_IN else 0
        filled = state.get("_filled")
        if filled is None:  # by gdcore 0.1, which did not count: the most that it can be
            filled = n * ((_squares(hi, self._d) > 0) | (gone > 0))
            filled = np.minimum(filled + (0 if rows is None else rows.filled()), n)
        names = state.get("_features"), state.get("_target")
        additions = state.get("_additions", n)
        self._content = _Content(
            n, hi, lo, rows, gone, additions, filled, *names, segments=segments, upper=upper
        )
        self._lock = threading.RLock()

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
        given = {"X": X, "y": y, "offset": offset, "sample_weight": sample_weight}
        with self._lock:
            with watched(**given), _core.FpEnv():
                content = self._with(self._checked(X, y, offset, sample_weight), 0)
            self._content = content  # once it is clear that no mapped file shrank
        return self

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
        gone._content = gone._content.named(self._content.features, self._content.target)
        gone.update(X, y, offset=offset, sample_weight=sample_weight)
        with self._lock:
            self._content = (self - gone)._content
        return self

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
        with self._lock:
            self._content = (self + other)._content
        return self

    def __add__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        return self._joined(other, 1)

    def __radd__(self, other: object) -> Moments:
        if type(other) is int and other == 0:  # what `sum` begins with
            return self.copy()
        return NotImplemented

    def __sub__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        result = self._joined(other, -1)
        content, noise = result._content, result._noise()
        more, squares = content.filled < 0, _squares(content.hi, self._d)
        strange = more | (squares < -noise) | ((content.filled == 0) & (squares > noise))
        if strange.any():
            name = self._name(strange)
            raise ValueError(
                "the rows taken out were never put in: "
                + (
                    f"more of them than were put in have a value other than 0 in {name}."
                    if more[strange][0]
                    else f"the squares of {name} would sum to {squares[strange][0]:.3g} over the "
                    f"{content.n} rows left."
                )
            )
        return self._of(content.cleared(content.filled == 0, self._d))

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
        **unknown: Never,
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
            If an option is out of range, the squares of the data leave the range of the dtype, or
            large rows that were taken out left rounding errors alone of the others
            (docs/numerics.md).
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
        reject(self.fit, unknown)
        options = Options(
            epochs, None, False, 0, tol, stop, method, history, None, standardize, rcond
        )
        options = settled(sgd, options, init)
        if options.method == "stream":
            raise ValueError("method is 'stream'; moments keep no rows: use 'gram' or 'exact'.")
        sgd = checked_sgd(sgd, options.method).alone()
        rows = self._closed()  # other threads may change these meanwhile
        with reporting(progress, epochs, init), _core.FpEnv():
            problem = rowless_problem(rows, fit_intercept, reduction)
            options.check(problem.n)
            start = start_from(init, problem, None)
            moments = rows._total()
            if problem.weightless:
                result = empty_fit(problem, start)
            else:
                rows._check_squares(problem, moments)
                if options.method == "exact":
                    options = replace(options, rcond=rows._rcond(problem, rcond))
                    result = solve_moments(problem, moments, sgd, options)
                else:
                    how = replace(options, method="gram")
                    result = descend(problem, sgd, how, start, progress, None, moments)
                result = rows._known(result, problem)
        warn_of_ignored(options)
        warn_of_end(result, options)
        return result

    @property
    def _shape(self) -> tuple[Any, ...]:
        return self._d, self._t, self._dtype

    def _of(self, content: _Content) -> Moments:
        """Return moments of the same columns."""
        other = Moments.__new__(Moments)
        other._d, other._t, other._dtype = self._shape
        other._content, other._lock = content, threading.RLock()
        return other

    def _total(self) -> _core.Moments:
        """Return the sums as the core takes them, with the open chunk's rows."""
        content = self._content
        sums = self._sums(content)
        if content.open is None:
            return sums
        with _core.FpEnv():
            return content.open.summed(sums)

    def _closed(self) -> Moments:
        """Return a copy whose sums hold the open chunk's rows."""
        copy = self.copy()
        total = copy._total()
        return self._of(
            copy._content._replace(hi=total.hi, lo=total.lo, open=None, segments=0, upper=())
        )

    def _sums(self, content: _Content) -> _core.Moments:
        """Return the sums as the core takes them, without the open chunk's rows."""
        levels = (content.hi, content.lo), *content.upper
        return _core.Moments(self._d, self._t or 1, content.segments, levels)

    def _with(self, problem: Problem, n_threads: int) -> _Content:
        """Return the content with a checked problem's rows."""
        before = self._content
        rows = _Rows(problem.X, problem.y, problem.offset, problem.sample_weight)
        filled = before.filled + rows.filled()
        first = 0 if before.open is None else CHUNK - len(before.open.X)
        ready = rows.part(0, first)
        if before.open is not None:
            ready = before.open.joined(ready)
        last = max(first, problem.n - (problem.n - first) % CHUNK)
        sums = self._sums(before)
        if first <= problem.n:
            sums = ready.summed(sums, n_threads)
            sums = rows.part(first, last).summed(sums, n_threads)
            rest = rows.part(last, problem.n).copy()
        else:
            rest = ready
        if not (sums.finite() and rest.finite()):
            diagnose(problem)
            raise ValueError(f"{out_of_range(np.float64)}.")
        left = rest if len(rest.X) else None
        n = before.n + problem.n
        (hi, lo), *upper = sums.levels
        content = before._replace(n=n, hi=hi, lo=lo, open=left, filled=filled)
        content = content._replace(segments=sums.segments, upper=tuple(upper))
        return content.named(problem.feature_names, problem.target_name)

    def _checked(self, X: Any, y: Any, offset: Any, sample_weight: Any) -> Problem:
        names = self._content.features
        problem = make_problem(X, y, offset, sample_weight, True, "mean", names, True)
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
        widened = make_problem(wide[0], wide[1], wide[2], wide[3], True, "mean")  # type: ignore[arg-type]
        return replace(
            widened, feature_names=problem.feature_names, target_name=problem.target_name
        )

    def _joined(self, other: Moments, sign: int) -> Moments:
        """Return the sum or difference of two moments."""
        if other._shape != self._shape:
            raise ValueError(f"{other!r} does not go with {self!r}: they are of other columns.")
        a, b = self._closed()._content, other._closed()._content
        if None not in (a.features, b.features) and a.features != b.features:
            raise ValueError(
                f"moments of the columns {b.features} do not go with those of {a.features}; give "
                "them the same names and order."
            )
        n = a.n + sign * b.n
        if n < 0:
            raise ValueError(f"{b.n} rows cannot be taken out of {a.n}; take out only rows put in.")
        with _core.FpEnv(), np.errstate(over="ignore", invalid="ignore"):
            hi, error = _two_sum(a.hi, sign * b.hi)
            hi, lo = _two_sum(hi, error + (a.lo + sign * b.lo))
            gone = a.gone + b.gone
            if sign < 0:
                gone = gone + np.abs(_squares(b.hi, self._d))
        if not (np.isfinite(hi).all() and np.isfinite(lo).all()):
            raise ValueError(f"{out_of_range(np.float64)}.")
        filled = np.minimum(a.filled + sign * b.filled, n)
        additions = a.additions + b.additions + -(-b.n // CHUNK) + 1
        content = _Content(n, hi, lo, None, gone, additions, filled, a.features, a.target)
        return self._of(content.named(b.features, b.target))

    def _noise(self) -> Floats:
        """Return how far the sum of each column's squares may be off (docs/numerics.md).

        Of products of two columns it is no more than the geometric mean. No chunk is open.
        """
        content = self._content
        chunk = CHUNK * 2.0**-52
        unit = chunk if self._dtype == np.float32 else chunk**2
        unit += 3 * (content.additions + content.n // CHUNK + 1) * 2.0**-106
        with np.errstate(over="ignore"):
            touched = np.abs(_squares(content.hi, self._d)) + 2 * content.gone
            noise: Floats = unit * touched
        return noise

    def _name(self, columns: npt.NDArray[np.bool_]) -> str:
        """Name the first of some columns of [X 1 y]."""
        column = int(np.argmax(columns))
        if column < self._d:
            return f"column {column} of X"
        return "the weights" if column == self._d else "y"

    def _check_squares(self, problem: Problem, moments: _core.Moments) -> None:
        """Raise ValueError unless the sums tell the fit; no chunk is open."""
        if self._content.gone.any():
            lost = self._lost(problem.d + problem.fit_intercept)
            if lost.any():
                raise ValueError(
                    f"only rounding errors are left of {self._name(lost)}, whose large rows were "
                    "taken out; sum the rows that are left again."
                )
        if not in_range(problem, moments):
            raise ValueError(f"{out_of_range(self._dtype)}.")
        squares = _squares(self._content.hi, self._d)
        if ((squares == 0) & (self._content.filled > 0))[: self._d].any():
            raise ValueError(underflow(self._dtype))

    def _lost(self, p: int) -> npt.NDArray[np.bool_]:
        """Return the columns of [X 1 y] of which too little is left to fit the first p.

        ValueError if no rows have such sums.
        """
        content, most = self._content, MOST_NOISE[self._dtype]
        squares, noise = _squares(content.hi, self._d), self._noise()
        touched = squares + 2 * content.gone
        lost: npt.NDArray[np.bool_] = ~(noise <= most * squares)
        if lost.any():
            return lost
        share = _share(noise, squares)
        length = np.sqrt(np.where(squares > 0, squares, 1))
        products = _table(content.hi, self._d) / length / length[: self._d + 1, None]
        values = np.linalg.eigvalsh(products[:p, :p], UPLO="U") if p else np.zeros(0)
        noise_of_all, rounding = share[:p].sum(), (p + 1) * 2.0**-50
        least = -max(noise_of_all, rounding)
        if (values < least).any() or (np.abs(products) > 1 + rounding + share.max()).any():
            raise ValueError(
                "the rows taken out were never put in: no rows have the sums that are left."
            )
        dependent = max(min(noise_of_all, DEPENDENT), rounding)
        hidden = (values > dependent) & (most * values < noise_of_all)
        # As many errors as `fit_rolling` lets pass are no reason.
        if hidden.any() and (touched > 4 * squares).any():
            lost[np.argmax(share[:p])] = True
        return lost

    def _rcond(self, problem: Problem, rcond: float | None) -> float | None:
        """Return the part of a column's length that may be rounding errors of rows taken out."""
        p = problem.d + problem.fit_intercept
        if rcond is not None or not self._content.gone.any():
            return rcond
        share = _share(self._noise(), _squares(self._content.hi, self._d))[:p]
        return max(LEAST_RCOND[self._dtype], float(np.sqrt(share.sum())))

    def _known(self, fit: Fit, problem: Problem) -> Fit:
        """Return a fit whose loss is not below the errors of rows taken out; no chunk is open."""
        if not self._content.gone.any():
            return fit
        root = np.sqrt(self._noise())
        weights = np.abs(fit.weights.astype(float).reshape(self._d, -1))
        errors = root[: self._d] @ weights + root[self._d] * np.abs(fit.intercept)
        divisor = 1.0 if problem.summed else weight_of(self) * problem.t
        divisor *= 2 if problem.reduction.startswith("half") else 1
        bound = float(((errors + root[self._d + 1 :]) ** 2).sum()) / divisor
        if not fit.loss <= bound:
            return fit
        loss = problem.dtype.type(fit.loss + bound)
        if fit.method != "exact":
            warnings.warn(
                "the loss is no more than the rounding errors of rows that were taken out: it is "
                f"{loss:.3g} or less; gdcore.mse(fit.predict(X), y) on the rows tells it.",
                FitWarning,
                stacklevel=stacklevel(),
            )
        return replace(fit, loss=loss)


@dataclass(frozen=True)
class RowlessProblem(Problem):
    """A problem known by its rows' moments alone: its arrays have no rows."""

    moments: Moments

    @property
    def rowless(self) -> bool:
        """True."""
        return True

    @property
    def n(self) -> int:
        """Rows behind the moments."""
        return self.moments.n

    @property
    def weightless(self) -> bool:
        """No row counts: every sample weight is 0."""
        return not self.moments._content.filled[self.d]

    @property
    def featureless(self) -> bool:
        """Every feature is 0 in every row that counts."""
        return not self.moments._content.filled[: self.d].any()


def rowless_problem(
    moments: Moments, fit_intercept: bool, reduction: str, weighted: bool = True
) -> RowlessProblem:
    """Return the problem of the rows behind moments.

    `weighted` counts rows by the weights that the moments, or pieces of rows, bring along.
    """
    if moments.d == 0 and not fit_intercept:
        raise ValueError("d is 0 and fit_intercept is False: there is nothing to fit.")
    if 0 < (total := weight_of(moments)) < 1:  # no weight is larger
        check_scale(total, moments.dtype)
    dtype = moments.dtype
    X, y = np.zeros((0, moments.d), dtype), np.zeros((0, moments.t or 1), dtype)
    weight = np.zeros(0, dtype) if weighted else None
    fields = (X, y, None, weight, bool(fit_intercept), reduction)
    core = _core.Problem(*fields)
    return RowlessProblem(
        *fields,
        several=moments.t is not None,
        core=core,
        feature_names=moments._content.features,
        target_name=moments._content.target,
        moments=moments,
    )


def add_rows(moments: Moments, problem: Problem, n_threads: int) -> None:
    """Add a checked problem's rows: `Moments.update`."""
    with moments._lock:
        moments._content = moments._with(problem, n_threads)


def total_of(moments: Moments) -> _core.Moments:
    """Return the sums as the core takes them."""
    return moments._total()


def weight_of(moments: Moments) -> float:
    """Return the sum of the rows' weights."""
    return float(_squares(moments.hi, moments.d)[moments.d])


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

    def filled(self) -> Ints:
        """Count, for each column of [X 1 y - offset], the rows that count and are not 0 there."""
        n, d, t = len(self.X), self.X.shape[1], self.y.shape[1]
        zeros = 0 if self.offset is None else self.offset
        weighted = self.sample_weight is None or self.sample_weight.all()
        if weighted and self.X.all() and (self.y != zeros).all():  # in a third of the time
            return np.full(d + 1 + t, n, np.int64)
        counts = np.zeros(d + 1 + t)
        step = max(1, COUNTED // (d + t))
        for begin in range(0, n, step):
            X, y, offset, weight = self.part(begin, begin + step)
            zeros = 0 if offset is None else offset
            counted = np.ones(len(X)) if weight is None else weight > 0
            ones = counted.astype(np.float32)  # whose sums are exact
            counts[:d] += ones @ (X != 0).astype(np.float32)
            counts[d] += ones.sum()
            counts[d + 1 :] += ones @ (y != zeros).astype(np.float32)
        return counts.astype(np.int64)

    def finite(self) -> bool:
        """Whether there is neither NaN nor infinity, in the squares either."""
        with np.errstate(over="ignore", invalid="ignore"):
            return all(a is None or bool(np.isfinite(a.astype(float) ** 2).all()) for a in self)


class _Content(NamedTuple):
    """What moments know of their rows. Its arrays are never written to, so that copies share them.

    `hi` and `lo` are the sums, but for the rows of the open chunk. Of more than 512 chunks they
    are the lowest level of the sums, and `upper` has the levels above (docs/numerics.md, rule 2);
    `segments` is the number of chunks in all of them. Each column of [X 1 y] has the
    sum of squares of rows that were taken out, `gone`, and the number of rows that count and are
    not 0 there, `filled` (or a larger one). `additions` is the number of finished sums added.
    """

    n: int
    hi: Floats
    lo: Floats
    open: _Rows | None
    gone: Floats
    additions: int
    filled: Ints
    features: Names | None = None  # columns of the first rows, if those were a frame
    target: str | None = None
    segments: int = 0
    upper: _core.Levels = ()

    def named(self, features: Names | None, target: str | None) -> _Content:
        """Return the content with names; it keeps those that it has."""
        return self._replace(
            features=features if self.features is None else self.features,
            target=target if self.target is None else self.target,
        )

    def cleared(self, columns: npt.NDArray[np.bool_], d: int) -> _Content:
        """Return a content without the rounding errors of columns that are all zeros."""
        if not columns.any():
            return self
        hi, lo = self.hi.copy(), self.lo.copy()
        for sums in (hi, lo):
            table = _table(sums, d)
            table[columns[: d + 1]] = 0
            table[:, columns] = 0
            sums[table.size :][columns[d + 1 :]] = 0
        return self._replace(hi=hi, lo=lo, gone=np.where(columns, 0.0, self.gone))


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return the rounded sum and its error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _table(sums: Floats, d: int) -> Floats:
    """Return [X 1]^T [X 1 y] as a table, its lower part 0."""
    t = round((sums.size - (d + 1) ** 2) / (d + 2))
    return sums[: sums.size - t].reshape(d + 1, d + 1 + t)


def _share(noise: Floats, squares: Floats) -> Floats:
    """Return noise / squares; 0 for columns of zeros, which have none."""
    return np.divide(noise, squares, out=np.zeros_like(noise), where=squares > 0)


def _squares(sums: Floats, d: int) -> Floats:
    """Return the sums of the squares of the columns of [X 1 y]."""
    table = _table(sums, d)
    return np.concatenate([table.diagonal(), sums[table.size :]])
