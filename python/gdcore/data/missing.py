"""Missing values: which rows hold NaN, and NaN in the place of None, NA and masked entries."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.device import is_local, local
from gdcore.typing import Bools, Floats

WAY_OUT = "pass missing='drop'"
BLOCK = 1 << 18  # numbers looked at together; a block is in a cache when it is read again


def check_missing(missing: Any, name: str = "missing") -> None:
    """Raise ValueError if the option is not one of the words for it."""
    if not isinstance(missing, str) or missing not in ("error", "drop"):
        raise ValueError(f"{name} is {missing!r}; choose one of 'error', 'drop'.")


def known_entries(
    X: Floats, y: Floats, offset: Floats | None, sample_weight: Floats | None
) -> Bools | None:
    """Return which rows have no NaN; which entries of y, if the targets differ; None if all.

    Parameters
    ----------
    X : (..., n, d)
    y : (..., n) or (..., n, t)
    offset : as y, or None
    sample_weight : (..., n) or None
        All of them as `_core.prepare` makes arrays, in the host's memory or on a device.

    Returns
    -------
    bools, shape (..., n); (..., n, t) if some rows count for a part of the targets; or None
        An entry of a row whose features or weight are not known is not known either.
    """
    rows = _either(_gaps(X, X.shape[:-1], X.shape[-1]), _gaps_of(sample_weight))
    entries = _either(_gaps_of(y), _gaps_of(offset))
    if entries is None:
        return None if rows is None else ~rows
    if entries.ndim < X.ndim:
        return ~(entries if rows is None else entries | rows)
    if rows is not None:
        entries = entries | rows[..., None]
    first = entries[..., 0]
    return ~first if (entries == first[..., None]).all() else ~entries


def _either(a: Bools | None, b: Bools | None) -> Bools | None:
    if a is None or b is None:
        return a if b is None else b
    return a | b


def _gaps_of(array: Any) -> Bools | None:
    return None if array is None else _gaps(array, array.shape, 1)


def _gaps(array: Any, shape: tuple[int, ...], width: int) -> Bools | None:
    """Return where there is NaN among `width` numbers side by side; None if nowhere."""
    if is_local(array) and array.strides[0] == 0 and len(array) > 1:  # rows that are repeated
        once = _gaps(array[:1], (1, *shape[1:]), width)
        return None if once is None else np.broadcast_to(once, shape)
    found: Bools | None = None
    for begin, block in _blocks(array):
        least = block.min(initial=np.inf)
        if least == least:  # no NaN
            continue
        if found is None:
            found = np.zeros(shape, bool)
        flat = found[begin : begin + len(block)].reshape(-1)
        flat[np.flatnonzero(np.isnan(block)) // width] = True
    return found


def _blocks(array: Any) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield parts of an array along its first axis, each with its begin, in the host's memory."""
    if array.size <= BLOCK:
        yield 0, local(array)
        return
    step = max(1, BLOCK * len(array) // array.size)
    for begin in range(0, len(array), step):
        yield begin, local(array[begin : begin + step])


def prepare(*operands: tuple[Any, ...]) -> list[Any]:
    """Return what `_core.prepare` does; its TypeError names missing="drop" where that helps."""
    try:
        return _core.prepare(*operands)
    except TypeError as error:
        text = str(error)
        for name, value, *_ in operands:
            if text.startswith(f"{name} ") and _holds_nulls(value):
                raise TypeError(f"{text.rstrip('.')}, or {WAY_OUT}.") from None
        raise


def _holds_nulls(given: Any) -> bool:
    """Whether something that cannot be read could be if its nulls were NaN."""
    array = nan_for_nulls(given)
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return False
    return isinstance(given, np.ma.MaskedArray) or bool(np.isnan(array).any())


def nan_for_nulls(given: Any) -> Any:
    """Return an array with NaN where entries are masked, None or NA.

    Anything without such entries is returned as it is, or as an array of the same numbers.
    What holds other things than numbers is returned as it is, and refused where it is read.
    """
    if isinstance(given, np.ma.MaskedArray):
        return _unmasked(given)
    kind = type(given)
    if kind is np.ndarray or isinstance(given, list | tuple):
        return _numbers_of(given)
    dtype = getattr(given, "dtype", None)
    if not (hasattr(kind, "isna") and hasattr(dtype, "numpy_dtype")) or hasattr(kind, "index"):
        return given
    own: np.dtype[Any] = np.dtype(dtype.numpy_dtype)  # type: ignore[union-attr]
    if own.kind not in "biuf":
        return given
    target = own if own.kind == "f" else np.float64  # an array of pandas, without an index
    return given.to_numpy(dtype=target, na_value=np.nan)


def is_null(value: Any) -> bool:
    """Whether a Python object stands for a missing value: None, pandas.NA or NaT."""
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def is_number(value: Any) -> bool:
    """Whether a Python object is a real number."""
    return isinstance(value, _number_types())


@cache
def _number_types() -> tuple[type, ...]:
    from decimal import Decimal

    return Real, Decimal, np.bool_


def _unmasked(given: np.ma.MaskedArray[Any, Any]) -> Any:
    data = given.data
    if data.dtype.kind not in "biufO":
        return data
    if not np.ma.is_masked(given):
        return _numbers_of(data)
    at = np.ma.getmaskarray(given)
    if data.dtype.kind == "O":
        filled = data.copy()
        filled[at] = None
        return _numbers_of(filled)
    filled = data.copy() if data.dtype.kind == "f" else data.astype(np.float64)
    filled[at] = np.nan
    return filled


def _numbers_of(given: Any) -> Any:
    """Return objects that are numbers or null as floats; all else as it is."""
    if isinstance(given, np.ndarray):
        array = given
    else:
        try:
            array = np.asarray(given)
        except (TypeError, ValueError, RuntimeError):  # whoever reads it says why
            return given
    if array.dtype.kind != "O":
        return array
    values = array.ravel().tolist()
    if not all(is_null(value) or is_number(value) for value in values):
        return given
    try:
        flat = np.array([np.nan if is_null(value) else float(value) for value in values])
    except OverflowError:
        return given
    return flat.astype(np.float64).reshape(array.shape)
