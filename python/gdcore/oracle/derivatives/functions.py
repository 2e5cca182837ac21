"""Call a user's function and name each kind of wrong behaviour in one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gdcore.oracle.derivatives.points import Point, Vector
from gdcore.oracle.numbers.intake import dtype_name, to_numpy

Array = npt.NDArray[Any]
ROUNDINGS = 16  # that threads and addresses may change in what a function returns


class Function:
    """A user's function of a `Point`; it gets new arrays in every call.

    `calls` counts them.
    """

    def __init__(self, function: Callable[..., Any], name: str, point: Point) -> None:
        if not callable(function):
            raise TypeError(f"{name} is {type(function).__name__}; pass a function of x.")
        self.function = function
        self.name = name
        self.point = point
        self.calls = 0

    def __call__(self, flat: Array, wide: bool) -> Any:
        """Return what the function returns; ValueError if it changed its argument."""
        arguments = self.point.arguments(flat, wide)
        before = [_bytes(a) for a in arguments]
        self.calls += 1
        value = self.function(*arguments)
        for k, (argument, old) in enumerate(zip(arguments, before, strict=True)):
            if _bytes(argument) != old:
                which = f"x[{k}]" if self.point.several else "x"
                raise Mutated(
                    f"{self.name} changed its argument {which} in place; let it work on a copy."
                )
        return value

    def twice(self, flat: Vector, wide: bool, read: Callable[[Any], Array]) -> Array:
        """Return what the function gives at x; the errors of `gradcheck` if it is unusable."""
        try:
            first, second = read(self(flat, wide)), read(self(flat, wide))
        except (Mutated, BadValue):
            raise
        except Exception as error:
            raise RuntimeError(
                f"{self.name} raised {type(error).__name__} at x: {error or 'without a message'}"
            ) from error
        if not _same(first, second):
            raise Random(
                f"{self.name} is random: two calls at the same x gave {_brief(first, second)}; "
                "seed it inside, so that every call draws the same numbers."
            )
        return first

    def probe(self, flat: Array, wide: bool, read: Callable[[Any], Array]) -> Array | None:
        """Return what the function gives elsewhere; None where it is not defined."""
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return read(self(flat, wide))
            except Mutated:
                raise
            except Exception:
                return None


class Mutated(ValueError):
    """A function wrote into its argument."""


class Random(ValueError):
    """A function returned two values at one point."""


class BadValue(TypeError, ValueError):
    """A function returned what cannot be used."""


def read_any(value: Any) -> Array:
    """Return f's value as an array of floats or complex numbers."""
    if isinstance(value, float | complex | np.float64 | np.complexfloating):
        return np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "c":
        return value
    try:
        return to_numpy("what f returned", value)
    except TypeError as error:
        raise BadValue(f"{error} Let f return a number or an array of them.") from error


def read_real(value: Any) -> Array:
    """Return f's value elsewhere than at x, which must be real."""
    array = read_any(value)
    if array.dtype.kind == "c":
        raise BadValue(
            "f returned complex numbers; check its real and its imaginary part one by one."
        )
    return array


def read_value(value: Any) -> Array:
    """Return f's value at x, which must be finite, too."""
    array = read_real(value)
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].flat[0]
        raise BadValue(f"f returned {bad} at x; there is no derivative to compare with.")
    return array


def read_gradient(value: Any, point: Point, out: tuple[int, ...], dtypes: list[str]) -> Array:
    """Return a gradient, or Jacobian, as (m, n) of float64, its shapes and dtypes checked.

    Shapes: for f of shape `out`, each part (*out, *x.shape); m elements of f by n of x.
    """
    pieces = value if point.several else (value,)
    if point.several and not (isinstance(pieces, tuple | list) and len(pieces) == len(dtypes)):
        given = f"{len(pieces)}" if isinstance(pieces, tuple | list) else type(value).__name__
        raise BadValue(f"grad returned {given}; it must return {len(dtypes)} arrays, one for x.")
    columns = []
    for k, (piece, part, dtype) in enumerate(zip(pieces, point.parts, dtypes, strict=True)):
        which = f" for x[{k}]" if point.several else ""
        try:
            array = to_numpy(f"what grad returned{which}", piece)
        except TypeError as error:
            raise BadValue(str(error)) from error
        wanted = (*out, *part.shape)
        if array.shape != wanted:
            of = f"x's shape {part.shape}" + (f" after f's shape {out}" if out else "")
            raise BadValue(f"grad returned shape {array.shape}{which}; it must be {wanted}, {of}.")
        given = dtype_name(piece) or array.dtype.name
        if given != dtype:
            advice = f", or pass dtype={given!r} if it is meant" if "float" in given else ""
            raise BadValue(f"grad returned {given}{which}; return {dtype}, like x{advice}.")
        columns.append(array.astype(np.float64).reshape(int(np.prod(out)), part.size))
    return np.concatenate(columns, axis=1)


def _same(first: Array, second: Array) -> bool:
    """Whether two values are equal up to the rounding errors of a sum in another order."""
    if first.shape != second.shape:
        return False
    size = np.max(np.abs(first), initial=0, where=np.isfinite(first))
    apart = ROUNDINGS * float(np.finfo(first.dtype).eps) * float(size)
    return np.allclose(first, second, rtol=0, atol=apart, equal_nan=True)


def _bytes(argument: Any) -> bytes:
    array = argument if isinstance(argument, np.ndarray) else to_numpy("x", argument)
    return bytes(array.tobytes())


def _brief(first: Array, second: Array) -> str:
    if first.shape != second.shape:
        return f"shapes {first.shape} and {second.shape}"
    at = np.unravel_index(np.argmax(first != second), first.shape)
    return f"{first[at]:.17g} and {second[at]:.17g}"
