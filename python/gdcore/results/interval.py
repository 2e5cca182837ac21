"""Intervals around predictions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gdcore.data.device import local
from gdcore.data.home import home_of
from gdcore.errors import NoCovarianceError
from gdcore.kernels import matmul
from gdcore.results.inference import Inference, standard_errors
from gdcore.results.prediction import taken
from gdcore.results.student import checked_level, half_width
from gdcore.scalars import as_numpy
from gdcore.typing import Floats, Ints

DEFAULT_LEVEL = 0.95
_CHOICES = ("confidence", "prediction")
_UNIT = 2.0**-53
_BLOCK = 1 << 19  # numbers in memory at a time, about
_FEWEST_ROWS = 1 << 13  # in a block, so that products of many columns are worth a call


class Prediction(NamedTuple):
    """Predictions with an interval around each, from `Fit.predict` with ``interval=``.

    Attributes
    ----------
    mean : array
        What `Fit.predict` returns without an interval, to the last bit.
    lower, upper : array
        The ends of the intervals, of the shape, dtype and library of `mean`.
    """

    mean: Any
    lower: Any
    upper: Any


def check_interval(inference: Inference | None, interval: Any, level: Any) -> None:
    """Raise ValueError unless a fit can give this interval."""
    if interval is None:
        raise ValueError(
            f"level is {level!r}, but there is no interval; pass interval='confidence' or "
            "'prediction' with it."
        )
    if not isinstance(interval, str) or interval not in _CHOICES:
        raise ValueError(
            f"interval is {interval!r}; choose one of {', '.join(map(repr, _CHOICES))}, or None."
        )
    checked_level(level)
    if inference is None:
        raise NoCovarianceError(f"interval={interval!r}")


def with_interval(
    inference: Inference,
    mean: Any,
    X: Any,
    rows: Any,
    interval: str,
    level: float,
    *,
    many: bool = False,
    at: Ints | None = None,
) -> Prediction:
    """Return predictions with their intervals.

    Parameters
    ----------
    mean : array
        The predictions.
    X, rows : array
        What was predicted from: as the caller gave it, and as numbers.
    many : bool
        Whether `inference` is that of many problems.
    at : ndarray, shape (m,), optional
        The problem that predicts each row; without it every problem predicts its own.
    """
    several = inference.covariance.ndim == 3 + many
    covariance = inference.covariance if several else inference.covariance[..., None, :, :]
    covariance = covariance if many else covariance[None]
    count, t = covariance.shape[:2]
    sigma2 = np.asarray(inference.sigma2).reshape(count, t)
    reach = half_width(level, inference.df_resid)
    reach = reach.reshape(count, *(reach.shape[many:] or (1,)))  # of each target, or of all
    numbers = local(rows)
    if at is None:
        numbers = numbers if numbers.ndim == 3 else numbers[None]
    else:
        numbers, sigma2, reach = numbers[:, None, :], taken(sigma2, at), taken(reach, at)
    variance, rounding = _variances(numbers, covariance, at)
    if interval == "prediction":
        variance += sigma2[:, None, :]
    variance[variance < rounding] = np.nan
    half = reach[:, None, :] * np.sqrt(variance)
    half = half[:, 0] if at is not None else half if many else half[0]
    half = half if several else half[..., 0]
    middle = as_numpy(mean)
    ends = [(middle.astype(np.float64) + side).astype(middle.dtype) for side in (-half, half)]
    home = home_of(X, rows)
    return Prediction(mean, *(ends if home is None else map(home, ends)))


def _variances(rows: Floats, covariance: Floats, at: Ints | None) -> tuple[Floats, Floats]:
    """Return the variance of each prediction, x^T V x, and a bound of its rounding errors.

    The 1 of the intercept is added to each row x. Rows (count, m, d) or (1, m, d) and covariances
    (count, t, p, p), or those that `at` chooses, give (count, m, t). The sums have an order of
    their own, so that the bits do not depend on blocks or on the machine.

    Entries of V are rounded, and at most the product of two standard errors: the sum is off by at
    most (2 p + 1) 2^-53 (|x|^T s)^2, s the standard errors.
    """
    t, p = covariance.shape[1:3]
    count = len(covariance) if at is None else len(at)
    m, d = rows.shape[1:]
    rows = np.broadcast_to(rows, (count, m, d))
    variance, rounding = np.zeros((2, count, m, t))
    high = max(1, min(m, max(_FEWEST_ROWS, _BLOCK // max(p, 1))))
    deep = max(1, _BLOCK // max(p * (high + p), 1))
    for i in range(0, count, deep):
        some = slice(i, i + deep)
        chosen = covariance[some] if at is None else taken(covariance, at[some])
        errors = standard_errors(chosen)
        for k in range(0, m, high):
            x = np.ones((len(chosen), min(high, m - k), p))
            x[..., :d] = rows[some, k : k + high]
            for j in range(t):
                products = matmul(x, chosen[:, j])
                products *= x
                total = variance[some, k : k + high, j]
                for column in range(p):
                    total += products[..., column]
                largest = matmul(np.abs(x), errors[:, j, :, None])[..., 0]
                rounding[some, k : k + high, j] = (2 * p + 1) * _UNIT * largest**2
    return variance, rounding
