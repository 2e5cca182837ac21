"""What a wrong result looks like, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.golden import ROUNDING, NoGoldenError, results_of
from gdcore.oracle.trials.operand import Operand, encoded
from gdcore.oracle.trials.runner import Runner
from gdcore.oracle.trials.scale import Scale

Array = NDArray[Any]

ENOUGH = 4  # elements; fewer show no pattern
TF32_BITS = 13  # of float32's 23 that TF32 drops


def cause_of(
    operand: Operand, scale: Scale, inputs: Sequence[Operand], golden: Runner, output: int
) -> str:
    """Return what a wrong result looks like, "" if like nothing in particular.

    Parameters
    ----------
    operand : Operand
        The result, of golden's shape.
    scale : Scale
    inputs : sequence of Operand
    golden : Runner
        Asked what rounded inputs give.
    output : int
        Which of its results this is.
    """
    values = operand.values().astype(np.float64)
    units = scale.units_of(values)
    bad = units > scale.right
    return (
        _not_finite(values, scale, bad)
        or _constant(values, scale)
        or _rounded(values, scale, inputs, golden, output)
        or _multiple(values, scale)
        or _shifted(values, scale)
        or _place(bad)
    )


def _not_finite(values: Array, scale: Scale, bad: Array) -> str:
    if (bad & np.isnan(values) & scale.infinite).any():
        return "NaN where golden is infinite"
    if (bad & np.isnan(values)).any():
        return "NaN where golden is not"
    if (bad & np.isinf(values)).any():
        return "infinite where golden is not"
    return ""


def _constant(values: Array, scale: Scale) -> str:
    if values.size >= ENOUGH and np.ptp(values) == 0 and np.ptp(scale.golden[scale.judged]) > 0:
        return f"all elements are {values.flat[0]:.6g}"
    return ""


def _multiple(values: Array, scale: Scale) -> str:
    """Say so if the result is golden times one number."""
    use = scale.judged & (np.abs(scale.golden) > 4 * scale.unit)
    if use.sum() < ENOUGH:
        return ""
    with np.errstate(all="ignore"):
        ratios = values[use] / scale.golden[use]
    factor = float(np.median(ratios))
    if not np.isfinite(factor) or factor == 0 or abs(factor - 1) < 1e-6:
        return ""
    wrong = scale.units_of(values / factor)
    if (wrong <= 4 * scale.right).all():
        return f"{factor:.6g} times what it should be"
    return ""


def _shifted(values: Array, scale: Scale) -> str:
    """Say so if one number was added to golden."""
    if scale.judged.sum() < ENOUGH:
        return ""
    with np.errstate(all="ignore"):
        gap = float(np.median((values - scale.golden)[scale.judged]))
    if not np.isfinite(gap) or gap == 0:
        return ""
    if (scale.units_of(values - gap) <= scale.right).all():
        return f"{gap:.6g} more than it should be everywhere"
    return ""


def _rounded(
    values: Array, scale: Scale, inputs: Sequence[Operand], golden: Runner, output: int
) -> str:
    """Say so if golden of inputs rounded to a narrower dtype is what came out."""
    floats = [i for i, x in enumerate(inputs) if x.is_float]
    names = ("bfloat16", "float16", "TF32")
    subsets = [[i] for i in floats] + ([floats] if len(floats) > 1 else [])
    trials = [(name, some) for name in names for some in subsets]
    if not trials or all(x.dtype in ("float16", "bfloat16") for x in inputs if x.is_float):
        return ""
    calls = [
        tuple(
            Operand.of(rounded(x.values(), name) if i in some else x.values(), "float64")
            if x.is_float
            else Operand.of(x.values(), x.dtype)
            for i, x in enumerate(inputs)
        )
        for name, some in trials
    ]
    try:
        results = results_of(golden, calls)
    except NoGoldenError:
        return ""
    for (name, some), result in zip(trials, results, strict=True):
        other = Scale(
            result[output].values(),
            scale.unit,
            scale.right,
            scale.wrong,
            scale.judged,
            scale.infinite,
        )
        if other.golden.shape == values.shape and (other.units_of(values) <= other.right).all():
            which = f"argument {some[0]}" if len(some) == 1 else "all arguments"
            return f"what {which} rounded to {name} would give"
    for name in ("bfloat16", "float16"):
        if (rounded(values, name) == values).all() and _near(values, scale, ROUNDING[name]):
            return f"rounded to {name}"
    return ""


def _near(values: Array, scale: Scale, rounding: float) -> bool:
    """Whether values are golden's but for one rounding, and that is more than they may be off."""
    golden = np.where(scale.judged, scale.golden, 0.0)
    step = rounding * np.abs(golden)
    close = np.abs(values - golden) <= 1.01 * step
    shows = scale.judged & (step > scale.right * scale.unit)
    return bool(close[scale.judged].all() and shows.sum() >= ENOUGH)


def rounded(values: Array, name: str) -> Array:
    """Return numbers rounded to bfloat16, float16 or TF32, as float64.

    Examples
    --------
    >>> rounded(np.array([1 / 3]), "float16")
    array([0.33325195])
    """
    if name == "bfloat16":
        bits = encoded(values, name).astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64)
    if name == "float16":
        return encoded(values, name).astype(np.float64)
    bits = encoded(values, "float32").view(np.uint32)
    half = np.uint32((1 << (TF32_BITS - 1)) - 1) + ((bits >> TF32_BITS) & 1)
    kept = (bits + half) >> TF32_BITS << TF32_BITS
    return np.where(np.isfinite(values), kept.view(np.float32).astype(np.float64), values)


def _place(bad: Array) -> str:
    """Say so if all wrong elements lie at one end of an axis."""
    if not bad.any() or bad.all():
        return ""
    at = np.nonzero(bad)
    for axis in range(bad.ndim - 1, -1, -1):
        n, first, last = bad.shape[axis], int(at[axis].min()), int(at[axis].max())
        if n >= ENOUGH and first >= n // 2 and last == n - 1:
            return f"only from index {first} of {n} on, along axis {axis}"
        if n >= ENOUGH and first == last:
            return f"only at index {first} of {n}, along axis {axis}"
    share = np.count_nonzero(bad) / bad.size
    return f"{share:.0%} of the elements" if share >= 0.01 else "a few elements only"
