"""Whether a function returns what it kept of an earlier call, though its inputs have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gdcore.bench import layout
from gdcore.bench.case import Array
from gdcore.bench.check import as_arrays, find_fault, wait
from gdcore.bench.reference import evaluate

KEPT = "it returns what it kept of a call with other numbers at the same addresses"
DEAF = "it returns the same whatever its inputs are; what it computes with has to be an input"
_FACTOR = 0.75  # exact but for overflow; keeps signs, order, zeros and definite matrices

Function = Callable[..., Any]


def find_stale(function: Function, arguments: tuple[Any, ...], reference: Function) -> str:
    """Return in words that a function keeps results; nothing if it does not.

    The function is called with copies of its inputs, and again when all floats in the same memory
    are three quarters of what they were. Only the very bits of the first result are stale, and only
    if the reference says that they are wrong now. With copies at other addresses, a cache that goes
    by addresses computes again, and a function that does not look at its inputs does not.
    """
    args = layout.copied(arguments)
    try:
        first = _bits(function, args)
        if not _scale(args) or not _same(_bits(function, args), first):
            return ""
        if not find_fault(first, evaluate(args, reference, None, None).expected):
            return ""
        return DEAF if _same(_bits(function, layout.copied(args)), first) else KEPT
    except Exception:  # inputs of its own choice decide nothing about what it does with the given
        return ""


def _bits(function: Function, args: tuple[Any, ...]) -> list[Array]:
    return [each.copy() for each in as_arrays(wait(function(*args)))]


def _same(ours: list[Array], theirs: list[Array]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def _scale(value: Any) -> bool:
    """Scale floats where they lie; return whether there are any, all of which can be written to."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any([_scale(each) for each in value])
    array = None if isinstance(value, float) else layout.as_array(value)
    if array is None or array.dtype.kind not in "fc":
        return False
    # not by a tensor's own method, which would tell a cache by its count of versions
    np.multiply(array, _FACTOR, out=array)
    return True
