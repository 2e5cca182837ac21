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
FLUSHED = ("float32", "bfloat16")  # dtypes whose subnormal numbers hardware may take for zero
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
        Whether a whole number stayed the same.
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
    return [_gathered(list(islice(results, draws + 2)), is_exact(operands)) for operands in sets]


def _calls(sets: Sequence[Call], draws: int, rng: np.random.Generator) -> Iterator[Call]:
    """Yield for each set the call itself, those with moved inputs, and one for golden's own."""
    for operands in sets:
        exact = is_exact(operands)
        yield tuple(_wide(x) for x in operands)
        for _ in range(draws):
            yield tuple(_moved(x, rng, exact) for x in operands)
        yield tuple(_wide(x) if exact else _nudged(x, rng) for x in operands)


def _gathered(results: Sequence[Sequence[Operand]], exact: bool) -> list[Golden]:
    values, *moved = results
    if any(len(other) != len(values) for other in moved):
        raise NoGoldenError("Its number of results depends on the data.")
    return [_golden(value, [other[k] for other in moved], exact) for k, value in enumerate(values)]


def _wide(operand: Operand) -> Operand:
    dtype = "float64" if operand.is_float else operand.dtype
    return Operand.of(operand.values(), dtype)


def is_exact(operands: Sequence[Operand]) -> bool:
    """Whether golden results are no more exact than those of a kernel: all floats are float64."""
    return {x.dtype for x in operands if x.is_float} == {"float64"}


def _moved(operand: Operand, rng: np.random.Generator, exact: bool) -> Operand:
    """Return an operand all of whose floats have moved by one rounding, up or down."""
    if not operand.is_float:
        return _wide(operand)
    values = operand.values()
    sign = rng.choice([-1.0, 1.0], values.shape)
    step = ROUNDING[operand.dtype] * (MAGNIFIED if exact else 1.0)
    flush = SMALLEST[operand.dtype] if operand.dtype in FLUSHED else 0.0
    return Operand.of(values * (1 + step * sign) + flush * sign, "float64")


def _nudged(operand: Operand, rng: np.random.Generator) -> Operand:
    """Return an operand whose floats have moved by far less than a rounding."""
    if not operand.is_float:
        return _wide(operand)
    values = operand.values()
    return Operand.of(values * (1 + OWN_STEP * rng.choice([-1.0, 1.0], values.shape)), "float64")


def _golden(result: Operand, moved: Sequence[Operand], exact: bool) -> Golden:
    values = result.values()
    steady = np.ones(values.shape, bool)
    spread = np.zeros(values.shape)
    *rounded, own = [x.values() for x in moved]
    if any(x.shape != values.shape for x in (*rounded, own)):
        raise NoGoldenError("The shape of its result depends on the data.")
    if not result.is_float:
        for other in rounded:
            steady &= other == values
        return Golden(values, spread, steady)
    with np.errstate(all="ignore"):
        for other in rounded:
            change = np.abs(other - values)
            spread = np.maximum(spread, np.where(np.isfinite(change), change, 0.0))
        if exact:
            spread = spread / MAGNIFIED
        else:  # what is left of golden's own roundings
            change = np.abs(own - values)
            spread = spread + np.where(np.isfinite(change), change, 0.0)
    return Golden(values, spread, steady)
