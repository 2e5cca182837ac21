"""Second moments of rows as a value that rows can be added to, taken out of and fitted from."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, Literal, Never, Self

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.advice import reject
from gdcore.data.device import is_local
from gdcore.data.memmap import guard
from gdcore.data.problem import RowProblem, make_problem
from gdcore.data.rows import Rows
from gdcore.data.shape import Shape
from gdcore.data.statistics import SEGMENT, Columns, Statistics
from gdcore.data.sums import squares_of
from gdcore.results.fit import Fit, warn_of_end
from gdcore.scalars import is_whole
from gdcore.sgd import SGD
from gdcore.solvers.method import settled, warn_of_ignored
from gdcore.solvers.moments import fit_moments
from gdcore.solvers.options import Options, check_sgd
from gdcore.solvers.progress import reporting
from gdcore.typing import Floats, Missing, Reduction, Show, Stop

_Rows = Rows  # the name in pickles of 0.1.0


class Moments:
    """Second moments of rows: the sums that the squared error depends on.

    They are the entries of ``[X 1]^T S [X 1 y-offset]`` and the squares of ``y - offset``, S being
    the sample weights. Moments of float32 rows are float64 numbers; those of float64 rows are pairs
    of float64 numbers, which keep the rounding errors. `update` adds rows, in any number of calls,
    and the bits do not depend on how the rows are cut: rows that do not fill a segment of the sums
    (docs/numerics.md) are kept until it is full.

    Threads may share moments: changes are made whole, one after the other, and a fit uses the rows
    that were in when it began. ``sum`` adds moments up.

    Parameters
    ----------
    d : int
        Features.
    t : int, optional
        Targets side by side; None for y of one dimension.
    dtype : float64 (default) or float32
        The dtype of the rows. float64 moments take float32 rows, but not the other way round.

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

    __module__ = "gdcore"

    def __init__(self, d: int, t: int | None = None, dtype: npt.DTypeLike = np.float64) -> None:
        for name, value, least in (("d", d, 0), ("t", 1 if t is None else t, 1)):
            if not is_whole(value):
                raise TypeError(f"{name} is {value!r}; it must be a whole number.")
            if value < least:
                raise ValueError(f"{name} is {value}; it must be {least} or larger.")
        kind = np.dtype(dtype)
        if kind not in (np.float32, np.float64):
            raise TypeError(f"dtype is {kind}; it must be float32 or float64.")
        self._statistics = Statistics.empty(Columns(int(d), None if t is None else int(t), kind))
        self._lock = threading.RLock()  # held while the statistics are replaced

    @property
    def d(self) -> int:
        """Features."""
        return self._statistics.columns.d

    @property
    def t(self) -> int | None:
        """Targets, or None if y has one dimension."""
        return self._statistics.columns.t

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the rows: float32 or float64."""
        return self._statistics.columns.dtype

    @property
    def n(self) -> int:
        """Rows, including those of weight 0."""
        return self._statistics.n

    @property
    def hi(self) -> Floats:
        """The sums: d + 1 rows of ``[X 1]^T [X 1 y]``, then the squares of y; one dimension.

        Entries below the diagonal are 0.
        """
        hi: Floats = self._statistics.total().hi
        return hi

    @property
    def lo(self) -> Floats:
        """The rounding errors of `hi`: the sums are ``hi + lo``."""
        lo: Floats = self._statistics.total().lo
        return lo

    def __repr__(self) -> str:
        targets = "" if self.t is None else f"t={self.t}, "
        return f"Moments(d={self.d}, {targets}dtype={self.dtype}, n={self.n})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moments):
            return NotImplemented
        a, b = self._statistics, other._statistics
        if a.columns != b.columns:
            return False
        a, b = a.closed(), b.closed()
        return a.n == b.n and np.array_equal(a.hi, b.hi) and np.array_equal(a.lo, b.lo)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, statistics: Statistics) -> Moments:
        """Return moments with these statistics."""
        moments = cls.__new__(cls)
        moments._statistics, moments._lock = statistics, threading.RLock()
        return moments

    def copy(self) -> Moments:
        """Return moments that change independently of these."""
        return Moments.of(self._statistics)

    def __getstate__(self) -> dict[str, Any]:
        now = self._statistics
        return {
            "_d": self.d,
            "_t": self.t,
            "_dtype": self.dtype,
            "_n": now.n,
            "_hi": now.hi,
            "_lo": now.lo,
            "_open": None if now.open is None else tuple(now.open),
            "_gone": now.gone,
            "_additions": now.additions,
            "_filled": now.filled,
            "_features": now.feature_names,
            "_target": now.target_name,
            "_segments": now.segments,
            "_upper": now.upper,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        columns = Columns(state["_d"], state["_t"], state["_dtype"])
        n, hi, lo, rows, gone = (state[name] for name in ("_n", "_hi", "_lo", "_open", "_gone"))
        rows = None if rows is None else Rows(*rows)
        filled = state.get("_filled")
        if filled is None:  # the first pickles did not count: the largest number possible
            filled = n * ((squares_of(hi, columns.d) > 0) | (gone > 0))
            filled = np.minimum(filled + (0 if rows is None else rows.count_nonzero()), n)
        additions = state.get("_additions", n)
        names = state.get("_features"), state.get("_target")
        segments, upper = state.get("_segments"), state.get("_upper", ())
        if segments is None:  # numerics v1 had one level: in a longer sum the first piece begins
            segments = n // SEGMENT if n // SEGMENT <= _core.FAN_IN else 0
        self._statistics = Statistics(
            columns, n, hi, lo, rows, gone, additions, filled, *names, segments, upper
        )
        self._lock = threading.RLock()

    def update(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        offset: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        missing: Missing = "error",
    ) -> Self:
        """Add rows.

        Several updates give the bits of one with all their rows.

        Parameters
        ----------
        X : array_like, shape (n, d)
        y : array_like, shape (n,) or (n, t)
        offset : array_like, optional
            Fixed term of the prediction, broadcast to y's shape.
        sample_weight : array_like, shape (n,), optional
            Weight of each row's squared error, 0 or larger.
        missing : {"error", "drop"}
            With "drop", a row that holds NaN or a null in any of these does not count, as in
            `gdcore.fit`. Several targets must count in the same rows: they share the sums of X.

        All may be arrays on a CUDA device, where the rows are summed. The moments are the host's.

        Returns
        -------
        Moments
            These, changed; an error or Ctrl-C leaves them unchanged.

        Raises
        ------
        ValueError
            If shapes do not fit, or the rows hold NaN or infinity; with ``missing="drop"``, if the
            targets count in different rows.
        TypeError
            If a dtype is not real, or wider than that of the moments.
        """
        given = {"X": X, "y": y, "offset": offset, "sample_weight": sample_weight}
        with self._lock:
            with guard(**given), _core.FpEnv():
                problem = self._checked(X, y, offset, sample_weight, missing)
                statistics = self._statistics.with_rows(problem, 0)
            self._statistics = statistics  # once it is clear that no mapped file shrank
        return self

    def downdate(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        offset: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        missing: Missing = "error",
    ) -> Self:
        """Take rows out that were put in: subtract their moments.

        Rounding errors of the rows taken out stay: see docs/numerics.md.

        Parameters
        ----------
        X, y, offset, sample_weight, missing
            As for `update`.

        Returns
        -------
        Moments
            These, changed; an error leaves them unchanged.

        Raises
        ------
        ValueError
            As for `update`, and if the rows cannot be among those put in.
        TypeError
            As for `update`.
        """
        now = self._statistics
        empty = Statistics.empty(now.columns).named(now.feature_names, now.target_name)
        how = {"offset": offset, "sample_weight": sample_weight}
        gone = Moments.of(empty).update(X, y, **how, missing=missing)
        with self._lock:
            self._statistics = self._statistics.minus(gone._statistics)
        return self

    def merge(self, other: Moments) -> Self:
        """Add the rows behind other moments.

        ``a.merge(b)`` has the bits of ``b.merge(a)``, but not those of one update with all rows.
        The bits of three or more depend on the order in which they are merged.

        Parameters
        ----------
        other : Moments
            With the same number of features and targets, and the same dtype.

        Returns
        -------
        Moments
            These, changed.

        Raises
        ------
        ValueError
            If the other's features, targets or dtype differ.
        TypeError
            If the other is not a Moments.
        """
        with self._lock:
            self._statistics = (self + other)._statistics
        return self

    def __add__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        self._check_like(other)
        return Moments.of(self._statistics.plus(other._statistics))

    def __radd__(self, other: object) -> Moments:
        if type(other) is int and other == 0:  # what `sum` begins with
            return self.copy()
        return NotImplemented

    def __sub__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        self._check_like(other)
        return Moments.of(self._statistics.minus(other._statistics))

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
        stop: Stop = "gradient",
        method: Literal["auto", "gram", "exact"] = "auto",
        rcond: float | None = None,
        covariance: Literal["ols"] | None = None,
        history: int = 1,
        progress: Show = False,
        **unknown: Never,
    ) -> Fit:
        """Fit a linear model to the rows behind the moments.

        Without `sgd` the answer is the least-squares solution; with it that of
        ``gdcore.fit(method="gram")``, with its bits. If the loss is so small a part of the squares
        of y that only the rows could tell it, `Fit.loss` is an upper bound of it, and after a
        descent a warning says so.

        Parameters
        ----------
        sgd, epochs, fit_intercept, standardize, init, reduction, tol, stop : optional
        rcond, history, progress : optional
            As for `gdcore.fit`.
        covariance : {"ols"}, optional
            As for `gdcore.fit`, whose other kinds read the residual of every row.
        method : {"auto", "gram", "exact"}
            "auto" without `sgd` is "exact", with it "gram".

        Returns
        -------
        Fit
            Its arrays are NumPy's, whatever arrays the rows came in.

        Raises
        ------
        ValueError
            If an option is out of range, the squares of the data leave the range of the dtype, or
            only rounding errors of large rows that were taken out are left (docs/numerics.md).
        FitInterrupted
            On Ctrl-C, with the weights so far.

        Warns
        -----
        LearningRateWarning
            If lr is above the stability limit, before the first step.
        FitWarning
            If the fit diverged, stalled, is singular or empty, or only an upper bound of its loss
            is known.
        """
        reject(self.fit, unknown)
        options = Options(
            epochs=epochs,
            tol=tol,
            stop=stop,
            method=method,
            history=history,
            standardize=standardize,
            rcond=rcond,
            covariance=covariance,
        )
        if isinstance(covariance, str) and covariance in ("hc0", "hc1", "hc2", "hc3"):
            raise ValueError(
                f"covariance is {covariance!r}; moments keep no rows, whose residuals it is made "
                "of: use 'ols', or gdcore.fit on the rows."
            )
        options = settled(sgd, options, init)
        if options.method == "stream":
            raise ValueError("method is 'stream'; moments keep no rows: use 'gram' or 'exact'.")
        sgd = check_sgd(sgd, options.method)
        sgd.check_for_one()
        statistics = self._statistics.closed()  # other threads may change these meanwhile
        with reporting(progress, epochs, init), _core.FpEnv():
            how = fit_intercept, reduction
            result = fit_moments(statistics, sgd, options, *how, init, progress)
        warn_of_ignored(options)
        warn_of_end(result, options.expects_convergence)
        return result

    def _check_like(self, other: Moments) -> None:
        if other._statistics.columns != self._statistics.columns:
            raise ValueError(f"{other!r} does not go with {self!r}: they are of other columns.")

    def _checked(self, X: Any, y: Any, offset: Any, sample_weight: Any, missing: str) -> RowProblem:
        """Return new rows, checked; ValueError or TypeError if they are of other columns."""
        how = True, "mean", self._statistics.feature_names, True, None, missing
        problem = make_problem(X, y, offset, sample_weight, *how)
        shape = problem.shape
        if shape.d != self.d:
            raise ValueError(
                f"X has shape {problem.rows.X.shape}; these moments are of {self.d} features."
            )
        if (shape.t if shape.has_target_axis else None) != self.t:
            wanted = "(n,)" if self.t is None else f"(n, {self.t})"
            raise ValueError(
                f"y has shape {np.shape(y)}; these moments are of y of shape {wanted}."
            )
        if problem.is_ragged:
            raise ValueError(
                "values are missing in other rows for some targets, which share the sums of X "
                "here; make Moments for each target, and update them with y[:, j]."
            )
        if shape.dtype == self.dtype:
            return problem
        if not is_local(problem.rows.X):
            raise TypeError(
                "the rows are float32 on a CUDA device and these moments float64; convert the rows "
                "there, or make Moments(..., dtype=np.float32)."
            )
        if self.dtype == np.float32:
            raise TypeError(
                "the rows are float64 and these moments float32; convert the rows with "
                "astype(np.float32), or make Moments(..., dtype=np.float64)."
            )
        return _as_float64(problem)


def _as_float64(problem: RowProblem) -> RowProblem:
    rows = problem.rows.astype(np.float64)
    shape: Shape = replace(problem.shape, dtype=np.dtype(np.float64))
    core = _core.Problem(*rows, shape.fit_intercept, shape.reduction)
    return RowProblem(shape, core, rows)
