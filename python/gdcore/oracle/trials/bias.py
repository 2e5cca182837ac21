"""Errors that point the same way: what one rounding to 16 bits hides, a row of them shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.operand import encoded

Array = NDArray[Any]

LEAST = 64  # numbers; the mean of so many roundings is within 0.04 units, one sigma
MANY = 1024  # numbers; their mean is within 0.01 units, so that half as much counts
LIMIT = 0.2  # units, five sigma
WRONG = 2.0  # times the limit


def bias(values: Array, golden: Array, unit: Array, plain: Array, dtype: str) -> float:
    """Return the largest mean error, in units, of a row, or twice that of the whole.

    A result rounded once is off by half a unit at most, up or down with the same chance, so that
    the mean over n results is about 0.29 / sqrt(n). A scale that is off, or a mean that was rounded
    itself, moves all results of a row the same way.

    Parameters
    ----------
    values, golden, unit : ndarray
    plain : ndarray of bool
        Elements whose unit is a rounding of their own, not one of the inputs.
    dtype : str
        Of the values. Rows with fewer than `LEAST` different numbers tell nothing: their roundings
        are not independent.
    """
    rows = golden.shape[-1] if golden.ndim else 1
    use = plain.reshape(-1, rows)
    if not rows or use.sum() < LEAST:
        return 0.0
    with np.errstate(all="ignore"):
        error = ((values - golden) / unit * np.sign(golden)).reshape(-1, rows)
        kept = encoded(golden, dtype).reshape(-1, rows)
    largest = 0.0
    for errors, numbers, some in zip(error, kept, use, strict=True):
        if np.unique(numbers[some]).size >= LEAST:
            largest = max(largest, abs(float(errors[some].mean())))
    if use.sum() >= MANY and np.unique(kept[use]).size >= LEAST:
        largest = max(largest, 2 * abs(float(error[use].mean())))
    return largest if np.isfinite(largest) else 0.0
