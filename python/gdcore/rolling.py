"""One fit for each window of rows."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Never, cast

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.advice import reject
from gdcore.data import slices
from gdcore.data.device import place_of
from gdcore.data.home import Home, bring_home, on_host, settle
from gdcore.data.memmap import guard
from gdcore.data.problem import make_problem
from gdcore.data.shape import Shape
from gdcore.errors import FitWarning, RollingInterrupted, stacklevel
from gdcore.scalars import as_scalar, is_whole
from gdcore.sgd import SGD
from gdcore.solvers.exact import exact_options
from gdcore.solvers.learning_rate import warn_of_divergence
from gdcore.solvers.method import settled, warn_of_ignored
from gdcore.solvers.options import Options, check_sgd
from gdcore.solvers.plan import MOST_SPECTRUM, NO_SPECTRUM
from gdcore.solvers.start import initial_state
from gdcore.status import Status, counts_in_words, deserve_a_look, ends_in_words
from gdcore.typing import Floats, Ints, Names, Reduction, Statuses, Stop

_STATUS = {
    None: Status.EMPTY,
    "max_epochs": Status.MAX_EPOCHS,
    "converged": Status.CONVERGED,
    "diverged": Status.DIVERGED,
    "stalled": Status.STALLED,
}


@dataclass(frozen=True, eq=False)
class RollingFit:
    """Fits of k windows, an entry each.

    Attributes
    ----------
    first_row : ndarray of int64, shape (k,)
        The window's first row; its last is ``first_row + window - 1``.
    weights : array, shape (k, d) or (k, d, t)
        Of the library of X, on the device of X, as `intercept` is.
    intercept : array, shape (k,) or (k, t)
    loss : ndarray, shape (k,)
        The loss at the weights, over the window's rows.
    status : ndarray of Status, shape (k,)
    epochs : ndarray of int64, shape (k,)
    lr, momentum : ndarray of float64, shape (k,)
    r2_lost : ndarray of float64, shape (k,)
        See `Fit`.
    stability_limit : ndarray of float64, shape (k,)
        The lr above which descent on the window must diverge.
    recomputed : int
        Windows whose moments were summed from all their rows, not derived from the last window's.
    feature_names : tuple of str, or None
    target_name : str or None
    """

    first_row: Ints
    weights: Floats
    intercept: Floats
    loss: Floats
    status: Statuses
    epochs: Ints
    lr: Floats
    momentum: Floats
    r2_lost: Floats
    stability_limit: Floats
    recomputed: int
    feature_names: Names | None = None
    target_name: str | None = None
    home: Home | None = field(default=None, repr=False)  # of weights and intercept

    def __post_init__(self) -> None:
        if self.home is not None:
            settle(self)

    def __getstate__(self) -> dict[str, Any]:
        return vars(on_host(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        known = dict(state)
        if "summed_anew" in known:  # the name in pickles of 0.1.0
            known["recomputed"] = known.pop("summed_anew")
        self.__dict__.update(known)

    def __repr__(self) -> str:
        weights = on_host(self).weights
        shape = f"weights of shape {weights.shape}, {weights.dtype}"
        return f"RollingFit({len(self.status)} windows, {shape}: {counts_in_words(self.status)})"

    @property
    def message(self) -> str:
        """How the fits ended and what to do about it, in words."""
        return ends_in_words(self.status, self.r2_lost, "window", "window {}".format)


bring_home(RollingFit)


def fit_rolling(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    window: int,
    sgd: SGD | None = None,
    *,
    step: int = 1,
    epochs: int = 1000,
    fit_intercept: bool = True,
    standardize: bool = False,
    init: Any = None,
    offset: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    tol: float | None = 1e-6,
    stop: Stop = "gradient",
    method: Literal["auto", "gram", "exact"] = "auto",
    rcond: float | None = None,
    n_threads: int | None = None,
    device: Any = None,
    **unknown: Never,
) -> RollingFit:
    """Fit each window of rows by itself.

    The first window has rows 0 to window - 1; each next one begins `step` rows later. Its second
    moments are derived from the last window's: rows that enter are added, rows that leave are
    subtracted. They are summed again from all rows before rounding errors exceed the bound in
    docs/numerics.md. Without `sgd`, each window gets the least-squares solution, from its own
    rows where columns are nearly dependent; with it, every window descends from `init` as by
    ``gdcore.fit(method="gram")``.

    Parameters
    ----------
    X : array_like, shape (n, d)
    y : array_like, shape (n,) or (n, t)
    window : int
        Rows of a window, 1 to n.
    sgd : SGD, optional
        As for `gdcore.fit`, but lr is a number or "auto".
    method : {"auto", "gram", "exact"}
        "auto" without `sgd` is "exact", with it "gram".
    step : int
        Rows between the starts of two windows.
    epochs, fit_intercept, standardize, init, offset, sample_weight, reduction, tol, stop : optional
    rcond, n_threads, device : optional
        As for `gdcore.fit`.

    Returns
    -------
    RollingFit
        The fits of ``(n - window) // step + 1`` windows. `weights` and `intercept` are of X's
        library, as those of `gdcore.fit`.

    Raises
    ------
    ValueError
        If shapes do not fit, the data holds NaN or infinity, an option is out of range, or the
        squares of a window's rows leave the range of the dtype.
    TypeError
        If a dtype is not real, or lr is a schedule.
    RuntimeError, MemoryError
        As for `gdcore.fit`, of a CUDA device.
    RollingInterrupted
        On Ctrl-C, with the windows done.

    Warns
    -----
    LearningRateWarning
        If lr is above the stability limit of some window.
    FitWarning
        If some window diverged, stalled, is singular or empty, or did not converge by its `tol`.

    Examples
    --------
    >>> import numpy as np, gdcore as gd
    >>> x = np.arange(8.0)
    >>> rolling = gd.fit_rolling(x[:, None], np.where(x < 4, x, 2 * x), 3)
    >>> rolling.weights[:, 0].round(2)
    array([1. , 1. , 3. , 3.5, 2. , 2. ])
    """
    reject(fit_rolling, unknown)
    options = Options(epochs, None, False, 0, tol, stop, method, 0, n_threads, standardize, rcond)
    options = settled(sgd, options, init)
    if options.method == "stream":
        raise ValueError("method is 'stream'; windows share their moments: use 'gram' or 'exact'.")
    sgd, exact = check_sgd(sgd, options.method), None
    sgd.check_for_one()
    place = place_of(device)
    given = {"X": X, "y": y, "offset": offset, "sample_weight": sample_weight}
    with guard(**given), _core.FpEnv():
        how = fit_intercept, reduction
        problem = make_problem(X, y, offset, sample_weight, *how, place=place)
        shape = problem.shape
        options.check(shape.n)
        if options.method == "exact":
            exact, sgd = exact_options(sgd, options), SGD()
        if sgd.momentum == "auto" and shape.columns > MOST_SPECTRUM:
            raise ValueError(NO_SPECTRUM)
        if callable(sgd.lr):
            raise TypeError("lr is a schedule; fit_rolling takes a number or 'auto'.")
        window, step = as_scalar(window), as_scalar(step)
        _check_rows(shape.n, window, step)
        problem.check_finite()
        start = initial_state(init, shape, None)
        settings = _settings(sgd, options, exact, window, step)
        rolling = _core.Rolling(problem.core, start.params, settings)
        try:
            slices.run(lambda seconds: rolling.advance(seconds, options.threads))
        except KeyboardInterrupt:
            done = _result(shape, sgd, rolling, step, exact is not None)
            raise RollingInterrupted(done) from None
    if rolling.out_of_range:
        first = rolling.done * step
        raise ValueError(
            f"the squares of rows {first} to {first + window - 1} leave the range of "
            f"{shape.dtype}; scale the columns of X and y."
        )
    result = _result(shape, sgd, rolling, step, exact is not None)
    warn_of_ignored(options)
    _warn(sgd, options, result)
    return result


def _settings(
    sgd: SGD, options: Options, exact: _core.ExactOptions | None, window: int, step: int
) -> _core.RollingOptions:
    auto, rate = sgd.momentum == "auto", cast("float | str", sgd.lr)
    momentum = {"momentum": 0.5} if auto else {}
    return _core.RollingOptions(
        descent=_core.DescentOptions(
            sgd=_core.SgdOptions(**sgd.options | momentum, decay_intercept=sgd.decay_intercept),
            tol=-1.0 if options.tol is None else float(options.tol),
            stop_on_equal_loss=options.stop == "loss_equal",
            history=0,
        ),
        window=window,
        step=step,
        epochs=int(options.epochs),
        lr=0.0 if rate == "auto" else float(rate),
        share=_share(sgd),
        standardize=options.standardize,
        auto_momentum=auto,
        exact=exact,
    )


def _check_rows(n: int, window: Any, step: Any) -> None:
    for name, value, most, what in (
        ("window", window, n, f"the {n} rows of X"),
        ("step", step, 2**62, "2**62"),
    ):
        if not (is_whole(value) and 1 <= value <= most):
            raise ValueError(f"{name} is {value!r}; it must be a whole number from 1 to {what}.")


def _share(sgd: SGD) -> float:
    """Return lr="auto" times the curvature, weight decay included: see `learning_rate.auto_lr`."""
    if sgd.momentum == "auto":
        return 1.0
    limit = replace(sgd, weight_decay=0.0).stability_limit(1.0)
    return min(1.0, limit / 2 if limit > 0 else math.inf)


def _limits(sgd: SGD, found: dict[str, Any]) -> Floats:
    """Return each window's stability limit; with momentum="auto", of the momentum it got."""
    curvature = found["curvature"]
    if sgd.momentum == "auto":
        return np.asarray(2 * (1 + found["momentum"]) / (curvature + sgd.weight_decay))
    return np.asarray(sgd.stability_limit(curvature))


def _result(shape: Shape, sgd: SGD, rolling: _core.Rolling, step: int, exact: bool) -> RollingFit:
    found, k = rolling.results(), rolling.done
    weights, intercept = shape.split(found["params"].reshape(k, shape.size))
    limit = _limits(sgd, found)
    limit[np.isnan(found["curvature"])] = math.nan
    status = np.array([_STATUS[outcome] for outcome in found["outcome"]], object)
    if exact:
        solved, full = status != Status.EMPTY, found["rank"] == shape.columns
        status[solved & full], status[solved & ~full] = Status.CONVERGED, Status.SINGULAR
    above = (found["lr"] > limit) & ~(found["loss"] <= found["first_loss"])
    status[above & (status == Status.MAX_EPOCHS)] = Status.DIVERGED  # though still finite
    return RollingFit(
        first_row=np.arange(k, dtype=np.int64) * step,
        weights=weights,
        intercept=intercept,
        loss=found["loss"],
        status=status,
        epochs=found["epochs"],
        lr=found["lr"],
        momentum=found["momentum"],
        r2_lost=found["r2_lost"],
        stability_limit=limit,
        recomputed=rolling.recomputed,
        feature_names=shape.feature_names,
        target_name=shape.target_name,
        home=shape.home,
    )


def _warn(sgd: SGD, options: Options, result: RollingFit) -> None:
    """Warn once of rates that cannot converge, and once of windows that deserve a look."""
    if sgd.lr != "auto" and (above := result.lr > result.stability_limit).any():
        warn_of_divergence(sgd.lr, 0, float(result.stability_limit[above].min()), sgd)
    if deserve_a_look(result.status, options.expects_convergence):
        warnings.warn(result.message, FitWarning, stacklevel=stacklevel())
