"""`GroupedGDRegressor`: one linear model for each group of rows, as a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from sklearn.callback import with_callbacks
from sklearn.metrics import r2_score
from sklearn.utils import check_array, check_X_y
from sklearn.utils.validation import check_is_fitted, validate_data

import gdcore as gd
from gdcore.advice import listed
from gdcore.errors import fit_warnings
from gdcore.results.lookup import place_of
from gdcore.sklearn import groups as labels
from gdcore.sklearn.parameters import FLOATS, FitConvergenceWarning, GradientDescent, weights_of
from gdcore.typing import Floats, LearningRate

UNKNOWN = ("raise", "nan", "global")


class _Rows(NamedTuple):
    """Rows to fit, with their labels."""

    X: npt.NDArray[Any]
    y: npt.NDArray[Any]
    sample_weight: npt.NDArray[Any] | None
    labels: list[Any]  # one column, or several that together are the label
    features: tuple[str, ...] | None


class GroupedGDRegressor(GradientDescent):
    """Linear regression for each group of rows, all in one call of `gdcore.fit_groups`.

    The labels of the groups are columns of X, which are then no features, or come beside X:
    ``fit(X, y, groups=labels)`` and ``predict(X, groups=labels)``.

    Parameters
    ----------
    groups : str, int or list of them, optional
        Columns of X that hold the labels: text is a column's name, a whole number its position.
        The label of several columns is a tuple. None takes the labels from the argument `groups` of
        `fit`, `predict` and `score`.
    unknown : {"raise", "nan", "global"}, default "raise"
        What `predict` does with rows of groups that were not fitted, or whose label is missing:
        raise ValueError, return NaN, or predict by the model of all rows, which `fit` then fits as
        well.
    lr : float, array_like, "auto" or callable, default "auto"
        An array has one rate for each group, in the order of `groups_`.
    momentum, nesterov, decay_intercept, fit_intercept, standardize : optional
    max_iter, batch_size, shuffle, tol, method, random_state : optional
        As in `GDRegressor`.
    weight_decay : float or array_like, default 0.0
        One for all groups, or one for each. The objective is a mean over the rows of a group:
        `GDRegressor` has the formula.

    Attributes
    ----------
    groups_ : ndarray, shape (n_groups,)
        The labels, sorted if they can be; tuples if several columns hold them.
    coef_ : ndarray, shape (n_groups, n_features) or (n_groups, n_targets, n_features)
        The columns of labels are not among the features.
    intercept_ : ndarray, shape (n_groups,) or (n_groups, n_targets)
    n_iter_ : ndarray of int, shape (n_groups,)
        Epochs of each group, at least 1.
    fits_ : Fits
        The result of `gdcore.fit_groups`, with the status of each group.
    global_ : Fit
        The model of all rows, with ``unknown="global"``.
    n_features_in_ : int
        Columns of X, those of labels included.
    feature_names_in_ : ndarray of str, shape (n_features,)
        If X was a data frame whose column names are text.

    Warns
    -----
    FitConvergenceWarning
        Once, if any group ends anywhere but at its best fit.

    See Also
    --------
    GDRegressor : One model for all rows.
    gdcore.fit_groups : The function behind it.

    Notes
    -----
    scikit-learn passes labels on where metadata routing is enabled and each method has asked for
    them: ``set_fit_request(groups=True)``, ``set_predict_request`` and ``set_score_request``.
    Scorers by name, such as ``scoring="r2"``, pass nothing to `predict`: use the estimator's own
    `score`, or a column of X. Callbacks of scikit-learn see the fit of all groups as one task.

    Examples
    --------
    >>> import numpy as np
    >>> from gdcore.sklearn import GroupedGDRegressor
    >>> X = np.array([[7, 0.0], [8, 0.0], [7, 1.0], [8, 1.0]])  # store, price
    >>> model = GroupedGDRegressor(groups=0).fit(X, [1.0, 5.0, 3.0, 5.0])
    >>> model.groups_, model.coef_.round(3), model.intercept_.round(3)
    (array([7., 8.]), array([[2.],
           [0.]]), array([1., 5.]))
    >>> model.predict([[8, 2.0], [7, 2.0]]).round(3)
    array([5., 5.])
    """

    warm_start = False

    def __init__(
        self,
        groups: Any = None,
        unknown: Literal["raise", "nan", "global"] = "raise",
        lr: LearningRate = "auto",
        momentum: float | Literal["auto"] = 0.0,
        weight_decay: float | Floats = 0.0,
        nesterov: bool = False,
        decay_intercept: bool = False,
        fit_intercept: bool = True,
        standardize: bool = False,
        max_iter: int = 1000,
        batch_size: int | None = None,
        shuffle: bool = True,
        tol: float | None = 1e-6,
        method: Literal["auto", "exact", "descent", "gram", "stream"] = "auto",
        random_state: Any = None,
    ) -> None:
        self.groups = groups
        self.unknown = unknown
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
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit one model for each group.

        Parameters
        ----------
        X : array_like or data frame, shape (n_samples, n_features)
            With the columns of labels, if the parameter `groups` names them. An array that holds
            labels and numbers may be of objects.
        y : array_like, shape (n_samples,) or (n_samples, n_targets)
        sample_weight : float or array_like, shape (n_samples,), optional
        groups : array_like, shape (n_samples,), optional
            Label of each row, if the parameter `groups` is None.

        Returns
        -------
        GroupedGDRegressor
            Itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, X has no such column, a label is missing, shapes do not
            fit, the data holds NaN or infinity, or all weights are 0.
        TypeError
            If X is sparse, or a parameter has the wrong type.
        """
        self._check_parameters()
        self._check_unknown()
        rows = self._rows(X, y, sample_weight, groups)
        if getattr(self, "_skl_callbacks", None):
            metadata = {"sample_weight": sample_weight, "groups": groups}
            given = {name: value for name, value in metadata.items() if value is not None}
            self._fit_in_a_task(rows, X=X, y=y, metadata=given or None)
        else:
            self._fit_groups(rows)
        return self

    @with_callbacks
    def _fit_in_a_task(self, rows: _Rows, **data: Any) -> None:
        """Fit as `fit` does, and call the callbacks of scikit-learn with the data as given."""
        root = self._init_callback_context(max_subtasks=0)
        root.call_on_fit_task_begin(estimator=self, **data)
        self._fit_groups(rows)
        root.call_on_fit_task_end(estimator=self, **data, reconstruction_attributes={})

    def predict(self, X: Any, groups: Any = None) -> Floats:
        """Return predictions for new rows, each by the model of its group.

        Parameters
        ----------
        X : array_like or data frame, shape (n_samples, n_features)
        groups : array_like, shape (n_samples,), optional
            As for `fit`.

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_targets)

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            If a row's group was not fitted and `unknown` is "raise", or X has other columns than
            the rows fitted.
        """
        check_is_fitted(self)
        self._check_unknown()
        X, columns, _ = self._split(X, groups, reset=False)
        rows = check_array(X, dtype=FLOATS, estimator=self, input_name="X", ensure_min_features=0)
        at, unknown = labels.find(self._places, self.groups_, columns, len(rows))
        away = at < 0
        if away.any():
            self._check_rows_away(int(np.count_nonzero(away)), unknown)
        coef = self.coef_ if self.coef_.ndim == 3 else self.coef_[:, None, :]
        products = gd.matmul(rows[:, None, :], np.swapaxes(coef[at], 1, 2))[:, 0]
        predictions: Floats = products if self.coef_.ndim == 3 else products[:, 0]
        predictions += self.intercept_[at]
        if away.any():
            new = self.global_.predict(rows[away]) if self.unknown == "global" else np.nan
            predictions[away] = new
        return predictions

    def score(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> float:
        """Return R^2 of the predictions, over the rows of all groups.

        Parameters
        ----------
        X, y, sample_weight, groups
            As for `fit`.

        Returns
        -------
        float
            The mean of those of several targets.
        """
        return float(r2_score(y, self.predict(X, groups=groups), sample_weight=sample_weight))

    def _rows(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> _Rows:
        """Return rows and labels, checked."""
        X, columns, features = self._split(X, groups, reset=True)
        X, y = check_X_y(
            X,
            y,
            dtype=FLOATS,
            multi_output=True,
            y_numeric=True,
            estimator=self,
            ensure_min_features=0,
        )
        y, weights = y.astype(X.dtype, copy=False), weights_of(sample_weight, X)
        if weights is not None and not weights.all():  # a group of weight 0 is not fitted
            counts = weights != 0
            X, y, weights = X[counts], y[counts], weights[counts]
            columns = [labels.as_array(column)[counts] for column in columns]
        return _Rows(X, y, weights, columns, features)

    def _split(
        self, X: Any, groups: Any, reset: bool
    ) -> tuple[Any, list[Any], tuple[str, ...] | None]:
        """Return the features of X, the columns of labels, and the names of the features."""
        if (self.groups is None) == (groups is None):
            raise ValueError(
                "there are no labels: name columns of X by the parameter groups, or pass groups=, "
                "a label for each row."
                if groups is None
                else f"there are two sets of labels: the parameter groups is {self.groups!r}, and "
                "groups= was passed as well; leave out one of them."
            )
        if labels.is_frame(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
        else:  # text among the numbers is no fault yet: it may be labels
            X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=False)
        at = [] if self.groups is None else labels.positions_of(self.groups, X)
        X, columns = labels.split(X, at) if at else (X, [groups])
        may_miss = not reset and self.unknown != "raise"
        columns = [labels.checked(column, len(X), may_miss) for column in columns]
        names = getattr(self, "feature_names_in_", None)
        kept = None if names is None else tuple(np.delete(names, at).tolist())
        return X, columns, kept

    def _fit_groups(self, rows: _Rows) -> None:
        """Fit, and set the attributes of a fitted estimator."""
        of_each = labels.row_labels(rows.labels, len(rows.X))
        how = {"sample_weight": rows.sample_weight} | self._arguments()
        with fit_warnings(FitConvergenceWarning):
            fits = gd.fit_groups(rows.X, rows.y, of_each, **how)
            if self.unknown == "global":
                everyone = gd.fit(rows.X, rows.y, **how, history=0)
                self.global_ = replace(everyone, feature_names=rows.features)
        self.fits_ = replace(fits, feature_names=rows.features)
        self.groups_ = fits.groups
        self._places = place_of(fits.groups)
        self.coef_ = np.ascontiguousarray(
            np.swapaxes(fits.weights, 1, 2) if fits.weights.ndim == 3 else fits.weights
        )
        self.intercept_ = fits.intercept
        self.n_iter_ = np.maximum(fits.epochs, 1)

    def _check_unknown(self) -> None:
        """Raise ValueError unless `unknown` is one of its choices."""
        if self.unknown not in UNKNOWN:
            raise ValueError(
                f"unknown is {self.unknown!r}; choose one of {', '.join(map(repr, UNKNOWN))}."
            )

    def _check_rows_away(self, count: int, unknown: npt.NDArray[Any]) -> None:
        """Raise ValueError if rows of unknown groups cannot be predicted."""
        if self.unknown == "raise":
            rows = "1 row belongs" if count == 1 else f"{count} rows belong"
            some = listed(unknown.tolist())
            raise ValueError(
                f"{rows} to groups that were not fitted: {some}. Drop such rows, or choose "
                "unknown='nan', or fit with unknown='global'."
            )
        if self.unknown == "global" and not hasattr(self, "global_"):
            raise ValueError(
                "unknown became 'global' after the fit, which has no model of all rows; fit again."
            )
