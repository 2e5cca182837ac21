"""What a result has to be, and how far it may lie from that if nobody says so.

The default bound of an element is ``8 u max(sqrt(k) |r|, k s, 4 e)``: u is the rounding of the
type, r the element, k how many elements of the inputs an element of the result depends on, and s
the root of the sum of squares of what each of them contributes. ``sqrt(k) s`` is at least the sum
of the contributions' sizes, |a| @ |b| for a product, and ``sqrt(k) u`` of it what k roundings add
up to where their signs are random (Higham and Mary, 2019); 8 is for all else. e is for cancellation
on the way, as in ``1 + erf(x)``: how many u the reference is off where results are no larger.

k, s and e come from the reference itself: inputs are changed a little, all of them to find s in
float64, and e in float32 beside it, and few of them to see how many outputs that reaches. A
reference that is not a function says nothing about them: k is guessed from sizes, and the largest
element bounds all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gdcore.bench import bounds, layout
from gdcore.bench.case import Array, Expected
from gdcore.bench.check import as_arrays, names_of

_SAFETY = 8
_STEP = 2.0**-12  # relative change of an input: far above rounding, far below what bends a function
_DRAWS = 8  # of which the largest counts: a draw alone may cancel
_OTHER = 4  # times as far off as the reference another way to compute may be
_NARROW_UNIT = 2.0**-24  # of float32
_RARER = 4  # from one share of changed inputs to the next

Function = Callable[..., Any]


class Reference(NamedTuple):
    """What each output has to be, and a sentence if that is known less well than it should be."""

    expected: list[Expected]
    remark: str = ""


class Reach(NamedTuple):
    """What is known of an output's elements: k, s and e."""

    terms: float
    spread: Any
    error: Any = 0.0


def evaluate(args: tuple[Any, ...], reference: Any, bound: Any, flops: float | None) -> Reference:
    """Return what has to come out of a call: see `gdcore.bench.compare` for the parameters."""
    own = {"complex64": "float32"}.get(dtype_of(args), dtype_of(args))
    own = own if own in ("float16", "float32", "float64") else "float64"
    result, remark = _computed(args, reference, own) if callable(reference) else (reference, "")
    values, names = as_arrays(result), names_of(result)
    for name, value in zip(names, values, strict=True):
        if value.dtype.kind not in "biufc":
            raise ValueError(
                f"the {name} of the reference is of dtype {value.dtype}, not numbers; pass check=, "
                "for example check=lambda result: result == right."
            )
    if bound is not None:
        limits = as_arrays(bound(*layout.copied(args)) if callable(bound) else bound)
        if len(limits) != len(values):
            raise ValueError(f"there are {len(limits)} bounds for {len(values)} results.")
    else:
        reaches = _reaches(args, reference, values, flops, own)
        limits = [_bound(*each, own) for each in zip(values, reaches, strict=True)]
    expected = [Expected(*each) for each in zip(names, values, limits, strict=True)]
    return Reference(expected, remark)


def dtype_of(args: tuple[Any, ...]) -> str:
    """Return the dtype of the arrays and tensors of floats, or of all arrays."""
    dtypes: list[np.dtype[Any]] = []

    def look(part: Any) -> None:
        array = None if isinstance(part, str | bytes | float) else layout.as_array(part)
        if array is not None and array.dtype.kind in "biufc":
            dtypes.append(array.dtype)

    _each(args, look)
    floats = [dtype for dtype in dtypes if dtype.kind in "fc"]
    return str(np.result_type(*(floats or dtypes))) if dtypes else ""


def _computed(args: tuple[Any, ...], reference: Function, own: str) -> tuple[Any, str]:
    """Return the result of a reference in the widest type that it takes, and which if not wider.

    LAPACK and torch have no long double.
    """
    wide = bounds.wider(own)
    for dtype in dict.fromkeys([wide, np.dtype("float64"), np.dtype(own)]):
        try:
            inputs = _each(layout.copied(args), partial(_cast, dtype=dtype))
            result = reference(*inputs)
            values = as_arrays(result)
        except Exception as error:
            if dtype == own:
                raise
            why = f"it does not take {_named(wide)} ({type(error).__name__})"
            continue
        coarsest = max(map(_eps, values), default=0.0)
        if coarsest > np.finfo(wide).eps and dtype == wide:
            why = f"it does not return {_named(wide)}"
        if coarsest <= np.finfo(wide).eps:
            return result, ""
        narrow = "float64" if coarsest <= np.finfo("float64").eps else "float32"
        return result, (
            f"The reference was computed in {narrow}, as {why}: a result within the bound agrees "
            "with the reference, whose own rounding is not known."
        )
    raise AssertionError("the loop returns or raises")


def _named(dtype: np.dtype[Any]) -> str:
    return "float64" if dtype == np.float64 else "the long double"


def _eps(array: Array) -> float:
    return float(np.finfo(array.dtype).eps) if array.dtype.kind in "fc" else 0.0


def _each(value: Any, change: Function) -> Any:
    """Return a value with every part of it changed, in containers too."""
    if type(value) is dict:
        return {key: _each(part, change) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_each(part, change) for part in value)
    return change(value)


def _floats(value: Any) -> Array | None:
    """Return the floats of an array or tensor, None of anything else."""
    array = None if isinstance(value, float) else layout.as_array(value)
    return array if array is not None and array.dtype.kind in "fc" else None


def _cast(value: Any, dtype: Any) -> Any:
    """Return an array or tensor of floats in another type, and anything else as it is."""
    array = _floats(value)
    if array is not None and array.dtype.kind == "c":
        dtype = np.result_type(dtype, np.complex64)
    if array is None or array.dtype == dtype:
        return value
    if isinstance(value, np.ndarray | np.generic):
        return value.astype(dtype)
    if hasattr(value, "double") and dtype in (np.float32, np.float64):  # torch
        return value.double() if dtype == np.float64 else value.float()
    raise TypeError(f"a {type(value).__name__} does not become {dtype}")


def _bound(value: Array, reach: Reach, own: str) -> Array:
    """Return the bound of each element of a result."""
    unit = (np.finfo(own).eps + max(_eps(value), float(np.finfo(np.longdouble).eps))) / 2
    size = np.where(np.isfinite(value), np.abs(value.astype(np.result_type(value, "d"))), 0)
    root = math.sqrt(reach.terms)
    return np.asarray(
        _SAFETY
        * unit
        * np.maximum(root * np.maximum(size, root * reach.spread), _OTHER * reach.error)
    )


def _reaches(
    args: tuple[Any, ...], reference: Any, values: Sequence[Array], flops: float | None, own: str
) -> list[Reach]:
    """Return the reach of each output: tried out, or guessed from sizes if the reference fails."""
    try:
        if callable(reference):
            return _probed(args, reference, values, own)
    except Exception:  # what the changed inputs break decides nothing about the results
        pass
    arrays = [each for each in map(layout.as_array, args) if each is not None]
    size = sum(each.size for each in arrays)
    axis = max((max(each.shape) for each in arrays if each.ndim > 1), default=1)
    terms = (
        max(flops / max(v.size, 1) if flops else 0, size / max(v.size, 1), axis) for v in values
    )
    return [
        Reach(max(1.0, each), np.abs(value[np.isfinite(value)]).max(initial=0) / math.sqrt(each))
        for each, value in zip(terms, values, strict=True)
    ]


def _probed(
    args: tuple[Any, ...], reference: Function, values: Sequence[Array], own: str
) -> list[Reach]:
    rng = np.random.default_rng(0)
    to_narrow, to_wide = (partial(_cast, dtype=np.dtype(t)) for t in ("float32", "float64"))
    wide = _each(layout.copied(args), to_wide)

    def nudged(share: float) -> Any:
        return _each(layout.copied(wide), partial(_nudged, share=share, rng=rng))

    def differences(inputs: Any, others: Sequence[Array]) -> list[Array]:
        pairs = zip(_results(reference, inputs), others, strict=True)
        return [np.abs(after - before) for after, before in pairs]

    base = _results(reference, wide)
    unit = float(np.finfo(own).eps) / 2
    errors = [each / unit for each in differences(args, values)]
    largest = [np.zeros(each.shape) for each in base]
    for _ in range(_DRAWS):
        inputs = nudged(1.0)
        with np.errstate(over="ignore"):
            narrow = _each(inputs, to_narrow)
        if is_narrow := _are_finite(narrow):
            inputs = _each(narrow, to_wide)
        moved = _results(reference, inputs)
        if is_narrow:
            off = (each / _NARROW_UNIT for each in differences(narrow, moved))
            errors = [*map(np.fmax, errors, off)]
        moves = (np.abs(after - before) for after, before in zip(moved, base, strict=True))
        largest = [*map(np.maximum, largest, moves)]
    finite = [np.isfinite(each) & (each > 0) for each in largest]
    spreads = [np.where(ok, each / _STEP, 0) for each, ok in zip(largest, finite, strict=True)]
    errors = [*map(_up_to_size, errors, base)]

    terms = [1.0] * len(base)
    size = _count(wide)
    open_ = {i for i, ok in enumerate(finite) if ok.any()}
    share = 1.0 / max(size, 1)
    while open_ and share < 1:
        reached = differences(nudged(share), base)
        for i in list(open_):
            if np.mean(reached[i][finite[i]] > 0) >= 0.5:
                terms[i] = 1 / share
                open_.discard(i)
        share *= _RARER
    return [Reach(*each) for each in zip(terms, spreads, errors, strict=True)]


def _up_to_size(errors: Array, results: Array) -> Array:
    """Return for each element the largest error of the elements at most four times as large."""
    sizes = np.abs(results).ravel()
    order = np.argsort(sizes)
    found = np.where(np.isfinite(errors), errors, 0).ravel()[order]
    last = np.searchsorted(sizes[order], 4 * sizes, side="right") - 1
    return np.asarray(np.maximum.accumulate(found)[last].reshape(results.shape))


def _results(reference: Function, inputs: Any) -> list[Array]:
    """Return what a reference makes of copies of inputs, as floats."""
    with np.errstate(all="ignore"):
        return [each + 0.0 for each in as_arrays(reference(*layout.copied(inputs)))]


def _are_finite(value: Any) -> bool:
    """Return whether all floats of arguments are finite."""
    found: list[bool] = []

    def look(part: Any) -> None:
        array = _floats(part)
        found.append(array is None or bool(np.isfinite(array).all()))

    _each(value, look)
    return all(found)


def _nudged(value: Any, share: float, rng: np.random.Generator) -> Any:
    """Return floats of which a share are changed, up or down, by more or less."""
    array = _floats(value)
    if array is None and not isinstance(value, float):
        return value
    shape, size = (() if array is None else array.shape), _count(value)
    count = size if share == 1 else int(rng.binomial(size, share))
    places = slice(None) if share == 1 else rng.integers(max(size, 1), size=count)
    factors: Array = np.ones(size)
    factors[places] += _STEP * rng.choice([-1, 1], count) * rng.uniform(0.5, 1.5, count)
    factors = factors.reshape(shape)
    if array is None:
        return float(value * factors)
    return value * (value.new_tensor(factors) if hasattr(value, "new_tensor") else factors)


def _count(value: Any) -> int:
    """Return how many floats there are in arguments."""
    sizes: list[int] = []

    def look(part: Any) -> None:
        array = _floats(part)
        sizes.append(int(isinstance(part, float)) if array is None else array.size)

    _each(value, look)
    return sum(sizes)
