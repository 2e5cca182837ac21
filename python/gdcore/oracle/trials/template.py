"""What each argument of a function is for, as far as the user's own inputs tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.operand import Operand

LARGE_SHARE = 16  # a matrix this many times smaller than the largest argument is a parameter


class Role(StrEnum):
    """What an argument is for."""

    DATA = "data"
    """Floating-point numbers that the families of data are made for."""
    PARAMETER = "parameter"
    """Fewer floating-point numbers, such as a bias: always random."""
    MASK = "mask"
    """Floating-point numbers that are 0 or -inf."""
    INTEGER = "integer"
    """Such as class labels: random within the range seen."""
    ORDERED = "ordered"
    """Integers that increase, such as offsets: kept."""
    FLAG = "flag"
    """Booleans: random."""


class Domain(StrEnum):
    """Which numbers a floating-point argument may hold."""

    ANY = "any"
    NOT_NEGATIVE = "not negative"
    SEEN = "the range seen"


@dataclass(frozen=True)
class Argument:
    """One argument of the user's inputs.

    Attributes
    ----------
    operand : Operand
        As the user gave it.
    role : Role
    low, high : float
        The range of its finite numbers.
    domain : Domain
    order : tuple of int
        Axes from the slowest to the fastest.
    """

    operand: Operand
    role: Role
    low: float
    high: float
    domain: Domain
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.operand.shape

    def within(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values moved into the domain."""
        if self.domain is Domain.NOT_NEGATIVE:
            return np.asarray(np.abs(values))
        if self.domain is Domain.SEEN:
            width = self.high - self.low
            if not width:
                return np.full_like(values, self.low)
            with np.errstate(invalid="ignore"):
                folded = np.abs((values - self.low + width) % (2 * width) - width)
            return np.asarray(self.low + np.where(np.isfinite(values), folded, width))
        return values

    def limited_to(self, domain: Domain) -> Argument:
        """Return the argument with another domain."""
        return replace(self, domain=domain)


def arguments_of(template: Sequence[Operand], dtype: str | None = None) -> list[Argument]:
    """Return what the arguments are for.

    Parameters
    ----------
    template : sequence of Operand
    dtype : str, optional
        That all floating-point arguments are to have; None: their own.
    """
    floats = [operand for operand in template if operand.is_float]
    largest = max((operand.size for operand in floats), default=0)
    deepest = max((len(operand.shape) for operand in floats), default=0)
    arguments = []
    for operand in template:
        values = operand.values()
        finite = values[np.isfinite(values)] if operand.is_float else values.reshape(-1)
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if operand.is_float:
            big = operand.size * LARGE_SHARE >= largest
            matrix = len(operand.shape) >= min(2, deepest)
            role = Role.DATA if big and matrix else Role.PARAMETER
            if np.isneginf(values).any() and not finite.any() and not np.isnan(values).any():
                role = Role.MASK
            if dtype is not None and dtype != operand.dtype:
                operand = Operand.of(values, dtype, order_of(operand))
        else:
            role = _role_of_integers(operand, values)
        arguments.append(Argument(operand, role, low, high, Domain.ANY, order_of(operand)))
    if arguments and floats and not any(a.role is Role.DATA for a in arguments):
        arguments = _largest_as_data(arguments)
    return arguments


def _largest_as_data(arguments: list[Argument]) -> list[Argument]:
    chosen = max(
        (a for a in arguments if a.role is Role.PARAMETER),
        key=lambda a: a.operand.size,
        default=None,
    )
    return [replace(a, role=Role.DATA) if a is chosen else a for a in arguments]


def _role_of_integers(operand: Operand, values: NDArray[Any]) -> Role:
    if operand.dtype == "bool":
        return Role.FLAG
    steps = np.diff(values.reshape(-1))
    rises = operand.size > 2 and bool((steps >= 0).all()) and bool(steps.any())
    if len(operand.shape) == 1 and rises and (operand.size > 5 or not values.flat[0]):
        return Role.ORDERED
    return Role.INTEGER


def order_of(operand: Operand) -> tuple[int, ...]:
    """Return the axes of an operand from the slowest to the fastest.

    Examples
    --------
    >>> order_of(Operand.of(np.ones((2, 3)), "float32", order=(1, 0)))
    (1, 0)
    """
    axes = range(len(operand.shape))
    return tuple(sorted(axes, key=lambda axis: (-operand.strides[axis], axis)))
