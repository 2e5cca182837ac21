"""Golden results, and how far they move when inputs move by a rounding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.runner import Runner

Array = NDArray[Any]
Call = tuple[Operand, ...]

ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}
SHIFTED = ("float32", "bfloat16")  # dtypes of which some hardware computes no subnormal numbers
FLUSHED = (*SHIFTED, "float64")  # dtypes whose subnormal numbers hardware may take for zero
MAGNIFIED = 2.0**20  # float64 holds no smaller step than a rounding, so it moves by more
OWN_STEP = 2.0**-45  # moves golden's result by less than any dtype's rounding but float64's
BYTES_AT_ONCE = 1 << 26


class NoGoldenError(ValueError):
    """The golden function does not take these inputs."""


@dataclass(frozen=True)
class Golden:
    """One golden result of a call.

    Attributes
    ----------
    values : ndarray
        float64, or whole numbers.
    spread : ndarray of float64
        Largest change when every floating-point input moves by one rounding.
    steady : ndarray of bool
        Whether a finite number stayed finite, and a whole number the same.
    """

    values: Array
    spread: Array
    steady: Array


def results_of(runner: Runner, calls: Iterable[Call]) -> list[list[Operand]]:
    """Return the results of each call, in as few runs as memory allows.

    Raises
    ------
    NoGoldenError
        If a call fails.
    """
    return list(each_result(runner, calls))


def each_result(runner: Runner, calls: Iterable[Call]) -> Iterator[list[Operand]]:
    """Yield the results of each call; calls are made, and results kept, no longer than needed.

    Raises
    ------
    NoGoldenError
        If a call fails.
    """
    for some in _portions(calls):
        outcome = runner.run(some)
        if outcome.error:
            raise NoGoldenError(outcome.error)
        for returned in outcome.results:
            if returned.fault:
                raise NoGoldenError(returned.fault)
            yield list(returned.operands)


def _portions(calls: Iterable[Call]) -> Iterator[Sequence[Call]]:
    some: list[Call] = []
    size = 0
    for call in calls:
        more = sum(len(x.raw) for x in call)
        if some and size + more > BYTES_AT_ONCE:
            yield some
            some, size = [], 0
        some.append(call)
        size += more
    if some:
        yield some


def golden_results(
    golden: Runner, sets: Sequence[Call], draws: int, rng: np.random.Generator
) -> list[list[Golden]]:
    """Return the golden results of sets of inputs.

    Raises
    ------
    NoGoldenError
        If the function does not take one of them.
    """
    results = each_result(golden, _calls(sets, draws, rng))
    found = []
    for operands in sets:
        exact, flushes = is_exact(operands), _has_subnormals(operands)
        values, *moved, own = islice(results, draws + 2)
        flushed = list(islice(results, int(flushes)))
        found.append(_gathered(values, moved, own, flushed, exact))
    return found


def _calls(sets: Sequence[Call], draws: int, rng: np.random.Generator) -> Iterator[Call]:
    """Yield for each set the call itself, those with moved inputs, and one for golden's own.

    Where inputs are subnormal, a call follows that has zeros in their place.
    """
    for operands in sets:
        exact = is_exact(operands)
        yield tuple(_wide(x) for x in operands)
        for draw in range(draws):
            yield tuple(_moved(x, rng, exact, _moves_zeros(draw)) for x in operands)
        yield tuple(_wide(x) if exact else _nudged(x, rng) for x in operands)
        if _has_subnormals(operands):
            yield tuple(_flushed(x) for x in operands)


def _gathered(
    values: Sequence[Operand],
    moved: Sequence[Sequence[Operand]],
    own: Sequence[Operand],
    flushed: Sequence[Sequence[Operand]],
    exact: bool,
) -> list[Golden]:
    if any(len(other) != len(values) for other in (*moved, own, *flushed)):
        raise NoGoldenError("Its number of results depends on the data.")
    return [
        _golden(value, [x[k] for x in moved], own[k], [x[k] for x in flushed], exact)
        for k, value in enumerate(values)
    ]


def _wide(operand: Operand) -> Operand:
    dtype = "float64" if operand.is_float else operand.dtype
    return Operand.of(operand.values(), dtype)


def is_exact(operands: Sequence[Operand]) -> bool:
    """Whether golden results are no more exact than those of a kernel: all floats are float64."""
    return {x.dtype for x in operands if x.is_float} == {"float64"}


def _subnormal(operand: Operand) -> Array:
    """Return where an operand has numbers that hardware may take for zero."""
    values = operand.values()
    if operand.dtype not in FLUSHED:
        return np.zeros(values.shape, bool)
    return np.asarray((np.abs(values) < SMALLEST[operand.dtype]) & (values != 0))


def _has_subnormals(operands: Sequence[Operand]) -> bool:
    return any(_subnormal(x).any() for x in operands)


def _flushed(operand: Operand) -> Operand:
    """Return an operand with zeros for its subnormal numbers."""
    if not operand.is_float:
        return _wide(operand)
    return Operand.of(np.where(_subnormal(operand), 0.0, operand.values()), "float64")


def _moves_zeros(draw: int) -> bool:
    """Whether zeros move too, so that which of them is the largest is left open."""
    return draw % 2 == 0


def _moved(operand: Operand, rng: np.random.Generator, exact: bool, zeros: bool) -> Operand:
    """Return an operand all of whose floats have moved by one rounding, up or down.

    No number changes its sign, which rounding does not do; zeros stay or move to either side.
    """
    if not operand.is_float:
        return _wide(operand)
    values = operand.values()
    sign = rng.choice([-1.0, 1.0], values.shape)
    step = ROUNDING[operand.dtype] * (MAGNIFIED if exact else 1.0)
    flush = SMALLEST[operand.dtype] if operand.dtype in SHIFTED else 0.0
    moved = values * (1 + step * sign) + flush * sign
    crosses = np.sign(values) * moved < 0
    if not zeros:
        crosses |= values == 0
    return Operand.of(np.where(crosses, np.copysign(0.0, values), moved), "float64")


def _nudged(operand: Operand, rng: np.random.Generator) -> Operand:
    """Return an operand whose floats have moved by far less than a rounding."""
    if not operand.is_float:
        return _wide(operand)
    values = operand.values()
    return Operand.of(values * (1 + OWN_STEP * rng.choice([-1.0, 1.0], values.shape)), "float64")


def _golden(
    result: Operand,
    moved: Sequence[Operand],
    own: Operand,
    flushed: Sequence[Operand],
    exact: bool,
) -> Golden:
    values = result.values()
    steady = np.ones(values.shape, bool)
    if any(x.shape != values.shape for x in (*moved, own, *flushed)):
        raise NoGoldenError("The shape of its result depends on the data.")
    if not result.is_float:
        for other in (*moved, *flushed):
            steady &= other.values() == values
        return Golden(values, np.zeros(values.shape), steady)
    for other in (*(x for i, x in enumerate(moved) if not _moves_zeros(i)), *flushed):
        steady &= np.isfinite(other.values()) | ~np.isfinite(values)
    spread = _largest_change(values, moved)
    # what is left of golden's own roundings
    spread = spread / MAGNIFIED if exact else spread + _largest_change(values, [own])
    return Golden(values, np.maximum(spread, _largest_change(values, flushed)), steady)


def _largest_change(values: Array, others: Sequence[Operand]) -> Array:
    """Return how far other results are from these, 0 where either is not finite."""
    largest = np.zeros(values.shape)
    with np.errstate(all="ignore"):
        for other in others:
            change = np.abs(other.values() - values)
            largest = np.maximum(largest, np.where(np.isfinite(change), change, 0.0))
    return largest
