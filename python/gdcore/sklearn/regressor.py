"""`GDRegressor`: one linear model as a scikit-learn estimator."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.callback import with_callbacks
from sklearn.linear_model import LinearRegression
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

import gdcore as gd
from gdcore.data.home import on_host
from gdcore.errors import fit_warnings, stacklevel
from gdcore.results.fit import History
from gdcore.sklearn.epochs import run_epochs, warn_unless_arrived
from gdcore.sklearn.parameters import FLOATS, FitConvergenceWarning, GradientDescent, weights_of
from gdcore.typing import Floats, LearningRate


def _keeps_no_rows(model: GradientDescent) -> bool:
    """Whether second moments are enough to fit a model; ValueError says why not."""
    if model.batch_size is not None or model.method == "stream":
        raise ValueError(
            "partial_fit keeps second moments, not rows: leave out batch_size, and choose method "
            "'auto', 'exact', 'descent' or 'gram'."
        )
    return True


class GDRegressor(GradientDescent):
    """Linear regression by least squares or gradient descent, through `gdcore.fit`.

    Minimises ``mean((y - X @ coef_.T - intercept_)**2) + weight_decay / 2 * |coef_|^2``, the mean
    over rows, weighted by `sample_weight`, and over targets. With S the sum of the weights (without
    weights the number of rows) times the number of targets, ``Ridge(alpha)`` is
    ``GDRegressor(weight_decay=2 * alpha / S)``. ``SGDRegressor(alpha, eta0)`` halves the square: it
    is ``GDRegressor(weight_decay=2 * alpha, lr=eta0 / 2, batch_size=1)``.

    Parameters
    ----------
    lr : float, "auto" or callable, default "auto"
        Learning rate. "auto" is half the stability limit of plain descent; a callable maps the
        epoch, counted from 0, to a rate.
    momentum : float or "auto", default 0.0
        "auto" chooses lr and momentum together for the fewest epochs.
    weight_decay : float, default 0.0
        Penalty on the squares of the weights, as above.
    nesterov : bool, default False
    decay_intercept : bool, default False
        Penalise the intercept too, as `torch.optim.SGD` does.
    fit_intercept : bool, default True
    standardize : bool, default False
        Fit the model of the standardised columns: lr and weight decay refer to them, `coef_` to
        the columns as given. Spares a ``StandardScaler`` and its copy of X.
    max_iter : int, default 1000
        Epochs, at most.
    batch_size : int, optional
        Rows of a mini-batch; None takes all rows at once.
    shuffle : bool, default True
        Reorder the rows for mini-batches every epoch.
    tol : float or None, default 1e-6
        Stop once the predictions are within `tol` standard deviations of y, root mean square, of
        the best fit's. None runs all `max_iter` epochs.
    method : {"auto", "exact", "descent", "gram", "stream"}, default "auto"
        "exact" solves in closed form, also with weight decay. "descent" takes steps; "gram" and
        "stream" are its two ways, on second moments or on the rows, and "descent" picks the
        cheaper one. "auto" is "descent" if lr, momentum, nesterov or batch_size ask for it, and
        else "exact".
    warm_start : bool, default False
        Let a descent begin where the last `fit` ended, with its velocity.
    random_state : int, RandomState or None, default None
        Determines the order of the rows in mini-batches; nothing else is random.

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,) or (n_targets, n_features)
        float32 if X is, else float64.
    intercept_ : scalar or ndarray, shape (n_targets,)
        A scalar 0 if none was fitted.
    n_iter_ : int
        Epochs of the last `fit`, at least 1: the closed form reads the rows once, and so does a
        descent that starts at its end.
    loss_curve_ : ndarray, shape (epochs,)
        Mean squared error during each epoch, before its step, without the penalty; if no step was
        taken, that of the answer.
    fit_ : Fit
        The result of `gdcore.fit`: status, message, rank and more. Its history holds the losses.
    moments_ : Moments
        What `partial_fit` has accumulated.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        If X was a data frame whose column names are text.

    Warns
    -----
    FitConvergenceWarning
        If a descent ends anywhere but at the best fit (where that is known, before the first
        step), or columns are linearly dependent.
    FitWarning
        If ``method="auto"`` means the closed form and `max_iter`, `tol` or `warm_start` differ from
        their defaults.

    See Also
    --------
    GroupedGDRegressor : One model for each group of rows.
    gdcore.fit : The function behind it.

    Notes
    -----
    Callbacks of scikit-learn see one task for each epoch, with an estimator that predicts as of
    then, and may end the descent; with ``momentum="auto"`` and in closed form there is one task in
    all. `partial_fit` calls none. The bits do not depend on callbacks, threads or the instruction
    set.

    Examples
    --------
    >>> from gdcore.sklearn import GDRegressor
    >>> X, y = [[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 3.0]], [1.0, 4.0, 5.0, 5.0]
    >>> model = GDRegressor().fit(X, y)
    >>> model.coef_.round(3), model.intercept_.round(3), model.predict([[4.0, 0.0]]).round(3)
    (array([ 2., -1.]), np.float64(2.0), array([10.]))
    >>> descent = GDRegressor(momentum="auto", standardize=True).fit(X, y)
    >>> print(descent.fit_.status, descent.coef_.round(3), descent.n_iter_ > 1)
    CONVERGED [ 2. -1.] True
    """

    def __init__(
        self,
        lr: LearningRate = "auto",
        momentum: float | Literal["auto"] = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        decay_intercept: bool = False,
        fit_intercept: bool = True,
        standardize: bool = False,
        max_iter: int = 1000,
        batch_size: int | None = None,
        shuffle: bool = True,
        tol: float | None = 1e-6,
        method: Literal["auto", "exact", "descent", "gram", "stream"] = "auto",
        warm_start: bool = False,
        random_state: Any = None,
    ) -> None:
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self.decay_intercept = decay_intercept
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.tol = tol
        self.method = method
        self.warm_start = warm_start
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array_like or data frame, shape (n_samples, n_features)
        y : array_like, shape (n_samples,) or (n_samples, n_targets)
            Converted to the dtype of X.
        sample_weight : float or array_like, shape (n_samples,), optional
            Weight of each row's squared error, 0 or larger.

        Returns
        -------
        GDRegressor
            Itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, shapes do not fit, the data holds NaN or infinity, or
            all weights are 0.
        TypeError
            If X is sparse, or a parameter has the wrong type.
        """
        self._check_parameters()
        rows = self._rows(X, y, sample_weight, reset=True)
        start = self._start(rows) if self.warm_start and self._descends() else None
        self.__dict__.pop("moments_", None)
        if getattr(self, "_skl_callbacks", None):
            metadata = None if sample_weight is None else {"sample_weight": sample_weight}
            self._fit_in_tasks(rows, start, X=X, y=y, metadata=metadata)
            with fit_warnings(FitConvergenceWarning):
                warn_unless_arrived(self.fit_)
            return self
        with fit_warnings(FitConvergenceWarning):
            fit = gd.fit(*rows[:2], sample_weight=rows[2], init=start, **self._arguments())
        return self._keep(fit, start)

    @with_callbacks
    def _fit_in_tasks(self, rows: Any, start: gd.Fit | None, **data: Any) -> None:
        """Fit as `fit` does, and call the callbacks of scikit-learn with the data as given."""
        by_epoch = self._descends() and self.momentum != "auto"
        root = self._init_callback_context(max_subtasks=int(self.max_iter) if by_epoch else 0)
        data["estimator"] = self
        root.call_on_fit_task_begin(**data)
        with fit_warnings(None):  # `fit` warns, so that the warning names the caller's line
            given = {"sample_weight": rows[2]} | self._arguments()
            if by_epoch:
                fit = run_epochs(root, data, rows[:2], given, start)
            else:
                fit = gd.fit(*rows[:2], init=start, **given)
        self._keep(fit, start)
        root.call_on_fit_task_end(**data, reconstruction_attributes={})

    @available_if(_keeps_no_rows)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Add rows to the model, which is then that of all rows given so far.

        The rows are kept as their second moments (`gdcore.Moments`): the model does not depend on
        how the rows were cut, old rows are not forgotten, and every call solves once.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. float32 rows join float64 ones, but not the other way round.

        Returns
        -------
        GDRegressor
            Itself.

        Raises
        ------
        AttributeError
            If `batch_size` or ``method="stream"`` ask for a descent on rows.
        ValueError
            As for `fit`.
        TypeError
            As for `fit`, and if float64 rows follow float32 ones.

        Warns
        -----
        FitWarning
            After `fit`, which keeps no rows: the model begins again.
        """
        self._check_parameters()
        moments = getattr(self, "moments_", None)
        if moments is None and hasattr(self, "coef_"):
            warnings.warn(
                "partial_fit begins a new model: the one before came from fit, which kept no "
                "rows. Clone the estimator first, or call partial_fit alone.",
                gd.FitWarning,
                stacklevel=stacklevel(),
            )
        X, y, weights = self._rows(X, y, sample_weight, reset=moments is None)
        if moments is None:
            moments = gd.Moments(X.shape[1], None if y.ndim == 1 else y.shape[1], X.dtype)
        elif moments.dtype == np.float32 != X.dtype:
            raise TypeError(
                f"X is {X.dtype} and the rows before were float32; pass X.astype(np.float32), or "
                "begin with float64."
            )
        moments.update(X, y, sample_weight=weights)
        start = getattr(self, "fit_", None) if self.warm_start and self._descends() else None
        with fit_warnings(FitConvergenceWarning):
            method: Literal["gram", "exact"] = "gram" if self._descends() else "exact"
            fit = moments.fit(method=method, init=start, **self._model())
        self.moments_ = moments
        return self._keep(fit, start)

    def predict(self, X: Any) -> Floats:
        """Return predictions for new rows.

        Parameters
        ----------
        X : array_like or data frame, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_targets)
            The bits of `Fit.predict`: those of a row do not depend on other rows.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            If X has other columns than the rows fitted.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=FLOATS, reset=False)
        predictions: Floats = gd.matmul(rows, self.coef_.T)
        predictions += self.intercept_
        return predictions

    @classmethod
    def from_fit(cls, fit: gd.Fit) -> Self:
        """Return a fitted estimator that predicts as a fit does.

        Parameters
        ----------
        fit : Fit
            Of one problem: ``fits[i]`` is one of many.

        Returns
        -------
        GDRegressor
            Its parameters are the defaults, but for `fit_intercept`, `momentum` and `method`: a
            clone of it does not repeat the fit. `loss_curve_` has the losses that were recorded.

        Raises
        ------
        TypeError
            If this is not the fit of one problem.

        Examples
        --------
        >>> import gdcore as gd
        >>> from gdcore.sklearn import GDRegressor
        >>> fit = gd.fit([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0])
        >>> GDRegressor.from_fit(fit).predict([[10.0]]).round(3)
        array([21.])
        """
        if not isinstance(fit, gd.Fit) or isinstance(fit, gd.Fits):
            hint = "; pass one of them, fits[i]" if isinstance(fit, gd.Fits) else ""
            raise TypeError(f"fit is {type(fit).__name__}, not the Fit of one problem{hint}.")
        fit = on_host(fit)
        model = cls(fit_intercept=fit.fit_intercept)
        model.set_params(method=fit.method, momentum=float(fit.momentum))
        model.n_features_in_ = len(fit.weights)
        if fit.feature_names is not None:
            model.feature_names_in_ = np.array(fit.feature_names, object)
        return model._keep(fit, None)

    def to_linear_regression(self) -> LinearRegression:
        """Return a fitted ``sklearn.linear_model.LinearRegression`` with the same weights.

        It predicts without gdcore, and goes wherever scikit-learn's own models go.

        Returns
        -------
        sklearn.linear_model.LinearRegression

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        model = LinearRegression(fit_intercept=bool(self.fit_intercept))
        for name in ("coef_", "intercept_", "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(model, name, np.copy(getattr(self, name))[()])
        return model

    def _rows(
        self, X: Any, y: Any, sample_weight: Any, reset: bool
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None]:
        """Return rows, targets and weights, checked, all of the dtype of the rows."""
        X, y = validate_data(
            self, X, y, reset=reset, dtype=FLOATS, multi_output=True, y_numeric=True
        )
        return X, y.astype(X.dtype, copy=False), weights_of(sample_weight, X)

    def _start(self, rows: Any) -> gd.Fit | None:
        """Return the fit that a warm start continues; ValueError if it is of other columns."""
        start: gd.Fit | None = getattr(self, "fit_", None)
        if start is None:
            return None
        if start.fit_intercept and not self.fit_intercept:
            raise ValueError(
                "warm_start continues from a fit with an intercept; set fit_intercept=True, or "
                "clone the estimator."
            )
        wanted = (rows[0].shape[1], *rows[1].shape[1:])
        if (*start.weights.shape, 1)[:2] == (*wanted, 1)[:2]:  # y of shape (n,) may become (n, 1)
            intercept = np.reshape(start.intercept, wanted[1:])[()]
            return replace(start, weights=start.weights.reshape(wanted), intercept=intercept)
        raise ValueError(
            f"warm_start continues from weights of shape {start.weights.shape}; these rows need "
            f"{wanted}: clone the estimator, or set warm_start=False."
        )

    def _keep(self, fit: gd.Fit, start: gd.Fit | None) -> Self:
        """Set the attributes of a fitted estimator."""
        names = getattr(self, "feature_names_in_", None)
        self.fit_ = replace(
            fit,
            history=History(fit.history.epoch, fit.history.loss),
            feature_names=fit.feature_names if names is None else tuple(names.tolist()),
        )
        self.coef_ = np.ascontiguousarray(fit.weights.T)
        self.intercept_ = fit.intercept if fit.fit_intercept else fit.weights.dtype.type(0)
        epochs = 0 if fit.method == "exact" else fit.epochs - (0 if start is None else start.epochs)
        self.n_iter_ = max(epochs, 1)
        self.loss_curve_ = fit.history.loss if len(fit.history.loss) else np.array([fit.loss])
        return self
