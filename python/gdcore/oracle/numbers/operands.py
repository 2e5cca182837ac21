"""What references are computed from: arrays of one precision, and the arithmetic they are for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic, Floats, Format, arithmetic_of, rounded
from gdcore.oracle.numbers.intake import dtype_name, to_numpy

Array = NDArray[Any]
_FLOATING = {"float16", "bfloat16", "float32", "float64"}


def take(dtype: Any, accumulator: Any, **named: Any) -> tuple[Arithmetic, dict[str, Any]]:
    """Return the arithmetic under test, and the operands as float32 or float64 arrays.

    Without a `dtype` it is the widest that an operand comes with, bfloat16 where all do: Python
    numbers, lists and integers have none of their own.
    """
    arrays = {
        name: None if value is None else to_numpy(name, value) for name, value in named.items()
    }
    given = [array for array in arrays.values() if array is not None]
    if dtype is None:
        names = {dtype_name(value) for value in named.values()} & _FLOATING
        wider = ["float32" if name == "bfloat16" else name for name in names or {"float64"}]
        dtype = "bfloat16" if names == {"bfloat16"} else np.result_type(*wider).name
    arithmetic = arithmetic_of(dtype, accumulator)
    converted = max((_converted(array, arithmetic.store) for array in given), default=0.0)
    arithmetic = replace(arithmetic, converted=converted)
    wide = np.float64 if any(array.dtype == np.float64 for array in given) else np.float32
    return arithmetic, {
        name: None if array is None else array.astype(wide, copy=False)
        for name, array in arrays.items()
    }


def _converted(x: Array, store: Format) -> float:
    """Return how often numbers are rounded on their way into a format; see `Arithmetic`."""
    if np.finfo(x.dtype).nmant + 1 <= store.bits:
        return 0.0
    lost = np.isfinite(x) & ((rounded(x, store.bits) != x) | (np.abs(x) > store.largest))
    size = np.abs(x, dtype=np.float64)
    small = (size > 0) & (size < store.tiny * 2.0 ** (store.bits - 1))
    small &= np.ldexp(np.where(small, size, 0), -store.least) % 1 != 0
    if np.any(small | (lost & (size > store.largest))):
        return np.inf
    return float(np.any(lost))


def finite(x: Array) -> Array:
    """Return the numbers, with 0 in place of each that is not finite."""
    known = np.isfinite(x)
    return x if known.all() else np.where(known, x, x.dtype.type(0))


def scaled(x: Floats) -> tuple[Floats, float]:
    """Return numbers whose squares neither overflow nor vanish, and the factor that was taken out.

    Of numbers that are not all finite, the largest finite one counts.
    """
    size = np.abs(x, dtype=np.float64)
    largest = float(np.max(size, initial=0.0, where=np.isfinite(size)))
    factor = 2.0 ** np.frexp(largest)[1] if largest else 1.0
    return size / factor, factor


def root_of_squares(a: Floats, b: Floats) -> Floats:
    """Return the root of the sums of squares of the products, ``(a * a) @ (b * b)``."""
    (x, left), (y, right) = scaled(a), scaled(b)
    with np.errstate(all="ignore"):
        root: Floats = np.sqrt((x * x) @ (y * y)) * (left * right)
    return root
