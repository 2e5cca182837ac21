"""Data for a function's inputs, in families that mistakes show in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.operand import SIZES, Operand
from gdcore.oracle.trials.sizes import Size, label_limit
from gdcore.oracle.trials.template import Argument, Role, arguments_of

Array = NDArray[Any]
Maker = Callable[[np.random.Generator, tuple[int, ...], str], Array]

TINY = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}
HALF = ("float16", "bfloat16")
MASKED_SHARE = 0.4
NEAR_COPY_SHARE = 16  # one number in so many differs
NEAR_COPY_LEAST = 33  # smaller arguments are replaced as a whole
GAP = 3  # elements between the rows of a sliced view


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    return rng.standard_normal(shape)


def _small(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    return rng.standard_normal(shape) * 1e-3


def _large(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    return rng.standard_normal(shape) * (30.0 if dtype == "float16" else 1e3)


def _offset(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    return rng.standard_normal(shape) + (100.0 if dtype in HALF else 1e3)


def _cancelling(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Return pairs of x and -x along the last axis, shuffled, and a small rest."""
    x = rng.standard_normal(shape)
    if not shape or shape[-1] < 2:
        return x
    half = shape[-1] // 2
    x[..., half : 2 * half] = -x[..., :half]
    x[..., 0] += 1e-3
    return np.take(x, rng.permutation(shape[-1]), -1)


def _spread(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    low, high = (-3, 2) if dtype in HALF else (-6, 4)
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(low, high, shape)


def _one_hot(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    x = np.zeros(shape)
    if not x.size or not shape:
        return np.full(shape, 20.0)
    rows = x.reshape(-1, shape[-1])
    rows[np.arange(len(rows)), rng.integers(0, shape[-1], len(rows))] = 20.0
    return x


def _constant_rows(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Return rows of one number each."""
    x = rng.standard_normal(shape)
    return np.broadcast_to(x[..., :1], shape).copy() if shape else x


def _repeated(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Return the same row again and again."""
    x = rng.standard_normal(shape)
    return np.broadcast_to(x[..., :1, :], shape).copy() if len(shape) > 1 else x


def _ties(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    return np.round(rng.standard_normal(shape))


def _zeros(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    return np.zeros(shape)


def _subnormal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    return rng.standard_normal(shape) * TINY[dtype] * 0.25


def _sorted(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    x = rng.standard_normal(shape)
    return np.sort(x, -1)[..., ::-1].copy() if shape else x


def _minus_infinity(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Return numbers of which some are -inf, but none of the first of a row."""
    x = rng.standard_normal(shape)
    hidden = rng.random(shape) < MASKED_SHARE
    if shape:
        hidden[..., 0] = False
    return np.where(hidden, -np.inf, x)


def _infinite(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Return numbers of which the last is inf or -inf.

    Compensated sums, which are right, give NaN for an inf that another number follows.
    """
    x = rng.standard_normal(shape)
    if x.size:
        x.flat[-1] = rng.choice([np.inf, -np.inf])
    return x


MAKERS: dict[str, Maker] = {
    "normal": _normal,
    "small": _small,
    "large": _large,
    "cancelling": _cancelling,
    "one-hot": _one_hot,
    "constant rows": _constant_rows,
    "repeated rows": _repeated,
    "ties": _ties,
    "-inf masks": _minus_infinity,
    "zeros": _zeros,
    "subnormals": _subnormal,
    "infinite": _infinite,
    "transposed views": _normal,
    "sliced views": _normal,
    "offset": _offset,
    "spread": _spread,
    "sorted": _sorted,
}
GIVEN = "as given"
FAMILIES = (GIVEN, *MAKERS)
# On one argument at a time, in turns: on all they leave nothing to compare.
ONE_AT_A_TIME = ("infinite", "-inf masks")
PLAIN_MASKS = ("zeros", "cancelling", "normal")  # masks there hide nothing


def make(
    family: str,
    template: Sequence[Operand] | Sequence[Argument],
    size: Size | None = None,
    dtype: str | None = None,
    *,
    seed: int,
) -> tuple[Operand, ...]:
    """Return inputs of one family.

    Parameters
    ----------
    family : str
        One of `FAMILIES`.
    template : sequence of Operand or Argument
        The user's own inputs.
    size : Size, optional
        None: the user's.
    dtype : str, optional
        Of all floating-point inputs; None: their own.
    seed : int

    Examples
    --------
    >>> x = Operand.of([[1.0, 2.0]], "float32")
    >>> make("zeros", [x], seed=0)[0].values()
    array([[0., 0.]])
    """
    arguments = [a for a in template if isinstance(a, Argument)]
    if not arguments:
        arguments = arguments_of([x for x in template if isinstance(x, Operand)], dtype)
    size = size or Size("given")
    rng = np.random.default_rng([seed & 0xFFFFFFFF, FAMILIES.index(family)])
    data = [i for i, a in enumerate(arguments) if a.role is Role.DATA]
    has_mask = any(a.role is Role.MASK for a in arguments)
    chosen = set(data)
    if family in ONE_AT_A_TIME and data:
        chosen = {data[seed % len(data)]}
    made = []
    for i, argument in enumerate(arguments):
        shape = size.shape(argument.shape)
        if argument.role in (Role.DATA, Role.PARAMETER):
            maker = MAKERS.get(family, _normal) if i in chosen else _normal
            if has_mask and family == "-inf masks":
                maker = _normal
            values = _floats(rng, argument, shape, family, maker)
            if len(data) > 2 and family == "large" and argument.operand.dtype != "float16":
                values = values * 0.03  # products of three would leave the dtype's range
        elif argument.role is Role.MASK:
            values = _mask(rng, shape, family)
        else:
            values = _whole_numbers(rng, argument, shape, label_limit(argument, size, arguments))
        layout = family if argument.role is Role.DATA else ""
        made.append(laid(values, argument, layout))
    return tuple(made)


def _floats(
    rng: np.random.Generator,
    argument: Argument,
    shape: tuple[int, ...],
    family: str,
    maker: Maker,
) -> Array:
    if family == GIVEN:
        values = argument.operand.values()
        if shape == argument.shape and values.size:
            return rng.permutation(values.reshape(-1)).reshape(shape)
        drawn = rng.choice(values.reshape(-1), shape) if values.size else np.zeros(shape)
        return np.asarray(drawn)
    return argument.within(maker(rng, shape, argument.operand.dtype))


def _mask(rng: np.random.Generator, shape: tuple[int, ...], family: str) -> Array:
    mask = np.zeros(shape)
    if family not in PLAIN_MASKS:
        mask[rng.random(shape) < MASKED_SHARE] = -np.inf
        if shape:
            mask[..., 0] = 0.0  # a row that hides everything has no softmax
    return mask


def _whole_numbers(
    rng: np.random.Generator, argument: Argument, shape: tuple[int, ...], high: int
) -> Array:
    operand = argument.operand
    if argument.role is Role.FLAG:
        flags = rng.random(shape) >= MASKED_SHARE
        if shape:
            flags[..., 0] = True
        return flags
    values = operand.values()
    if argument.role is Role.ORDERED:
        if shape == argument.shape:
            return values
        return np.linspace(values[0], high, shape[0]).astype(values.dtype)
    low = int(argument.low)
    special = values[values < 0]
    if special.size and high >= 0:  # such as an index that is to be ignored
        drawn = rng.integers(0, high + 1, shape)
        seen = rng.random(shape) < special.size / values.size
        return np.where(seen, rng.choice(special, shape), drawn)
    drawn = rng.integers(min(low, high), high + 1, shape)
    if drawn.size > 1:  # both ends, wherever they come to lie
        drawn.flat[rng.choice(drawn.size, 2, replace=False)] = min(low, high), high
    return drawn


def laid(values: Array, argument: Argument, layout: str = "") -> Operand:
    """Return values as an operand in the user's layout, or as a view of another array."""
    dtype = argument.operand.dtype
    axes = len(argument.order)
    if layout == "transposed views" and axes > 1:
        order = (*argument.order[:-2], argument.order[-1], argument.order[-2])
        return Operand.of(values, dtype, order)
    if layout == "sliced views" and axes > 1 and values.size:
        *outer, last = values.shape
        wide = np.ones((*outer, last + GAP))
        wide[..., :last] = values
        whole = Operand.of(wide, dtype)
        span = 1 + sum((n - 1) * s for n, s in zip(values.shape, whole.strides, strict=True))
        return Operand(whole.raw[: span * SIZES[dtype]], dtype, values.shape, whole.strides)
    return Operand.of(values, dtype, argument.order)


def near_copy(
    operands: Sequence[Operand], arguments: Sequence[Argument], seed: int
) -> tuple[Operand, ...] | None:
    """Return the same data but for one number in sixteen, or None if there is too little of it.

    Caches that recognise data by a sample of it, or by its sum, return an old result for these.
    The first four numbers, which such a sample has as a rule, stay.
    """
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 77])
    copies, moved = [], False
    for operand, argument in zip(operands, arguments, strict=True):
        floats = argument.role in (Role.DATA, Role.PARAMETER)
        if not floats or operand.size < NEAR_COPY_LEAST:
            copies.append(operand)
            continue
        values = operand.values().copy()
        flat = values.reshape(-1)
        at = 4 + rng.choice(flat.size - 4, max(2, flat.size // NEAR_COPY_SHARE), replace=False)
        flat[at] = flat[at[::-1]] * 0.5
        strides = operand.strides
        order = tuple(sorted(range(values.ndim), key=lambda axis: (-strides[axis], axis)))
        if operand.span == operand.size:
            copies.append(Operand.of(argument.within(values), operand.dtype, order))
        else:
            copies.append(laid(argument.within(values), argument, "sliced views"))
        moved = True
    return tuple(copies) if moved else None
