"""The parameters that the estimators share: their checks, and the calls that they make."""

from __future__ import annotations

import re
import warnings
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state

import gdcore as gd
from gdcore.errors import stacklevel
from gdcore.scalars import is_finite, is_whole

METHODS = ("auto", "exact", "descent", "gram", "stream")
FLAGS = ("nesterov", "decay_intercept", "fit_intercept", "standardize", "shuffle", "warm_start")
FLOATS = [np.float64, np.float32]
DESCENT_ONLY = {"max_iter": 1000, "tol": 1e-6, "warm_start": False}  # with their defaults


class FitConvergenceWarning(gd.FitWarning, ConvergenceWarning):
    """A fit ended, or will end, anywhere but at the best fit.

    The estimators' `FitWarning`, and a ``sklearn.exceptions.ConvergenceWarning`` as well: filters
    for either of the two apply. Its advice names parameters of the estimators.
    """

    def __init__(self, message: str) -> None:
        super().__init__(re.sub(r"SGD\((.*?)\)", r"\1", message))


class GradientDescent(CallbackSupportMixin, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """The parameters of a descent, and what follows from them."""

    def _descends(self) -> bool:
        """Whether the parameters ask for steps, not for the closed form."""
        if self.method != "auto":
            return bool(self.method != "exact")
        has_rate = not (isinstance(self.lr, str) and self.lr == "auto")
        has_momentum = self.momentum != 0 or bool(self.nesterov)
        return bool(has_rate or has_momentum or self.batch_size is not None)

    def _check_parameters(self) -> None:
        """Raise ValueError or TypeError for a parameter that is out of range."""
        if self.method not in METHODS:
            raise ValueError(
                f"method is {self.method!r}; choose one of {', '.join(map(repr, METHODS))}."
            )
        if not is_whole(self.max_iter) or self.max_iter < 1:
            raise ValueError(
                f"max_iter is {self.max_iter!r}; it must be a whole number, 1 or larger."
            )
        for name in FLAGS:
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name} is {getattr(self, name)!r}; it must be True or False.")
        if self.batch_size is not None and not (is_whole(self.batch_size) and self.batch_size > 0):
            raise ValueError(
                f"batch_size is {self.batch_size!r}; it must be a whole number, 1 or larger, or "
                "None for all rows at once."
            )
        if self.tol is not None and not (is_finite(self.tol) and self.tol >= 0):
            raise ValueError(
                f"tol is {self.tol!r}; it must be a number, 0 or larger, or None to take all "
                "max_iter epochs."
            )
        check_random_state(self.random_state)
        if not self._descends():
            self._warn_of_ignored()

    def _warn_of_ignored(self) -> None:
        """Warn the user of parameters that only descent reads, unless the method was named."""
        if self.method != "auto":
            return
        ignored = [name for name, value in DESCENT_ONLY.items() if getattr(self, name) != value]
        if ignored:
            warnings.warn(
                f"{', '.join(ignored)} had no effect: these parameters ask for the closed form. "
                "Pass method='descent' to descend, or method='exact' to silence this.",
                gd.FitWarning,
                stacklevel=stacklevel(),
            )

    def _sgd(self) -> gd.SGD:
        return gd.SGD(
            self.lr,
            self.momentum,
            weight_decay=self.weight_decay,
            nesterov=bool(self.nesterov),
            decay_intercept=bool(self.decay_intercept),
        )

    def _model(self) -> dict[str, Any]:
        """Return the arguments that every fit takes."""
        return {
            "sgd": self._sgd(),
            "epochs": int(self.max_iter),
            "fit_intercept": bool(self.fit_intercept),
            "standardize": bool(self.standardize),
            "tol": self.tol,
        }

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments of a fit that reads rows."""
        seed = 0
        if self.batch_size is not None:  # the only random part is the order of mini-batches
            seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        method = self.method if self._descends() else "exact"
        return self._model() | {
            "batch_size": None if self.batch_size is None else int(self.batch_size),
            "shuffle": bool(self.shuffle),
            "seed": seed,
            "method": "auto" if method == "descent" else method,
        }


def weights_of(sample_weight: Any, X: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return the weight of each row in the dtype of X, None for weights of 1."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Real):
        sample_weight = np.full(len(X), sample_weight)
    weights: npt.NDArray[Any] = check_array(
        sample_weight, ensure_2d=False, dtype=X.dtype, input_name="sample_weight"
    )
    if weights.shape != (len(X),):
        raise ValueError(
            f"sample_weight has shape {weights.shape}; it must be ({len(X)},), one for each row."
        )
    if not weights.any():
        raise ValueError("sample_weight is zero in every row; give some row a positive weight.")
    return weights
