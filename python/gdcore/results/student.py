"""Student's t distribution, by SciPy (extra "stats")."""

from __future__ import annotations

from typing import Any

import numpy as np

from gdcore.scalars import as_scalar, is_finite
from gdcore.typing import Floats


def special() -> Any:
    """Import scipy.special; ImportError names the extra that brings it."""
    try:
        import scipy.special
    except ImportError:
        raise ImportError(
            "p-values and intervals need the package scipy: pip install 'gdcore[stats]'."
        ) from None
    return scipy.special


def has_scipy() -> bool:
    """Whether SciPy is installed."""
    try:
        special()
    except ImportError:
        return False
    return True


def two_sided(t: Floats, df: Any) -> Floats:
    """Return the probability that a t variable is at least as far from 0 as t is.

    The tail below -abs(t) is computed, not 1 less the rest: tiny probabilities keep their digits.
    """
    return 2 * np.asarray(special().stdtr(df, -np.abs(t)), np.float64)


def half_width(level: float, df: Any) -> Floats:
    """Return how many standard errors an interval of this level reaches to each side.

    `df` holds the degrees of freedom, of one problem or of many; NaN where it is 0.
    """
    tail = (1 - checked_level(level)) / 2
    distinct, place = np.unique(np.asarray(df, np.float64), return_inverse=True)
    # SciPy iterates for each quantile, and many problems have few sizes.
    quantiles = np.where(distinct > 0, -special().stdtrit(np.maximum(distinct, 1), tail), np.nan)
    return np.asarray(quantiles[place].reshape(np.shape(df)), np.float64)


def checked_level(level: Any) -> float:
    """Return a level of confidence; ValueError unless it is between 0 and 1."""
    number = as_scalar(level)
    if not (is_finite(number) and 0 < number < 1):
        raise ValueError(f"level is {level!r}; it must be between 0 and 1, such as 0.95.")
    return float(number)
