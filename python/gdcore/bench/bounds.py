"""How far a right result may lie from a reference, for every order of summation.

u is half an ulp of 1. A sum of k products, fused or not and in any order, is off by at most
gamma(k) |x|.|y| + k eta (docs/numerics.md; Higham, Accuracy and Stability of Numerical Algorithms,
chapter 3). The reference is computed in the next wider type and may be off by as much in its own
u, so u here is the sum of both: every bound below is convex in u and zero at zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


def wider(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the type in which results of `dtype` are checked: float64 or the long double."""
    return np.dtype(np.float64 if np.dtype(dtype) == np.float32 else np.longdouble)


def unit(dtype: DTypeLike) -> float:
    """Return half an ulp of 1 in `dtype`, and that of the reference with it.

    Examples
    --------
    >>> unit("float32") == 2.0**-24 + 2.0**-53
    True
    """
    return float(np.finfo(np.dtype(dtype)).eps + np.finfo(wider(dtype)).eps) / 2


def eta(dtype: DTypeLike) -> float:
    """Return the smallest subnormal number."""
    return float(np.finfo(np.dtype(dtype)).smallest_subnormal)


def gamma(k: Any, dtype: DTypeLike) -> Any:
    """Return the error of k roundings in a row: k u / (1 - k u), and 2 k u where k u > 1/2.

    The latter is for the sums of tens of millions of float32 numbers, where the first has no
    meaning; k u alone bounds a dot product of any length (Jeannerod and Rump 2013).
    """
    ku = k * unit(dtype)
    return ku / (1 - np.minimum(ku, 0.5))


def up(bound: Any, terms: Any) -> Array:
    """Round up what a float64 evaluation with `terms` roundings in a row gave."""
    return np.asarray(np.asarray(bound, np.float64) * (1 + (terms + 16) * 2.0**-52))


def matmul(a: Array, b: Array) -> Array:
    """Bound each element of ``a @ b``: ``gamma(k) |a| @ |b| + k eta``.

    Parameters
    ----------
    a, b : ndarray
        float32 or float64, shapes as for `numpy.matmul`.

    Examples
    --------
    >>> a = np.ones((2, 3), np.float32)
    >>> bool(np.all(matmul(a, a.T) < 3 * 3 * 2.0**-23))
    True
    """
    k, dtype = a.shape[-1], np.result_type(a, b)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    return up(gamma(k, dtype) * size + k * eta(dtype), k)
