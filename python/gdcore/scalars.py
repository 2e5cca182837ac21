"""Numbers as users pass them: of Python, of NumPy, or in arrays of any library, on any device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def as_scalar(value: Any) -> Any:
    """Return the number in an array or tensor without dimensions; any other value unchanged."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        try:
            return value.item()
        except (RuntimeError, ValueError):  # a tensor without data
            pass
    return value


def is_finite(value: Any) -> bool:
    """Whether this is a number, and neither NaN nor infinite."""
    if type(value) is float:  # by far the most frequent
        return math.isfinite(value)
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return is_number and bool(np.isfinite(value))


def is_whole(value: Any) -> bool:
    """Whether this is an integer; True and False are not, nor a time, NumPy's kin of integers."""
    if type(value) is int:  # by far the most frequent
        return True
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def as_numpy(given: Any) -> Any:
    """Return an array of any library, on any device, as NumPy's; a NumPy scalar unchanged."""
    if isinstance(given, np.ndarray | np.generic):
        return given
    if hasattr(given, "__dlpack_device__") or hasattr(given, "__cuda_array_interface__"):
        if hasattr(given, "detach"):  # a tensor of torch
            given = given.detach().resolve_neg().cpu().numpy()
        elif hasattr(given, "get"):  # an array of CuPy
            given = given.get()
        elif hasattr(given, "copy_to_host"):  # an array of Numba
            given = given.copy_to_host()
    return np.asarray(given)
