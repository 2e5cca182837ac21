"""The derivative of a function along a line, by central differences that know their own error.

Through f(x - h), f(x) and f(x + h) goes a parabola, with slope D(h) and second derivative A(h). For
a smooth f both have expansions in even powers of h, so Richardson's extrapolation (Richardson 1911,
Ridders 1982) removes one power after the other, and how much it changes them estimates what is
left. A slope is only believed as far as the second derivative settles too: the middle point then
lies on the same curve as the outer ones, which it does not where f has a kink at x, or where the
steps jump over what f does near x.

On a quadratic both are exact for every h, and the largest step has the least rounding error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Line = Callable[[float], tuple[float, Vector | None]]  # t -> (t as rounded, f(x + t v) or None)

Method = Literal["quadratic", "extrapolation", "complex step"]

LEVELS = 80  # steps, at most
RATIO = (1 + 5**0.5) / 2  # of two steps; a rational one may meet a fast oscillation in phase
COLUMNS = 5  # powers of h that are extrapolated away
SETTLED = 0.01
STEADY = 8
ROUNDED = 0.02  # the most that a step may change when x is rounded
APART = 32.0  # rounding errors, at least, between two slopes that a step can tell apart
CONFIRMING = 4.0  # ratio of the steps that do
TINIEST = 2.0**-52
WIDEST = 2.0**-7  # spacing of values whose rounding errors are measured


@dataclass(frozen=True)
class Slope:
    """A derivative, for each of m values of f.

    Attributes
    ----------
    value, error : ndarray, shape (m,)
        The derivative and the estimate of its error; infinite where there is none.
    bend : ndarray, shape (m,)
        The least size of the second derivative that was seen.
    method : str
        How it was found.
    sides : ndarray, shape (2, m)
        Slopes to the left and to the right, where they seem to differ; else NaN.
    step : ndarray, shape (m,)
        The last step that the derivative was taken from.
    """

    value: Vector
    error: Vector
    bend: Vector
    flat: npt.NDArray[np.bool_]
    method: Method
    sides: Vector
    step: Vector


@dataclass(frozen=True)
class Noise:
    """How far values of f are off: `least` near x, `relative` times |f| where f is larger.

    Where f is `blind`, it does not change at all near x, and its largest value anywhere counts.
    """

    least: Vector
    relative: Vector
    blind: npt.NDArray[np.bool_]

    def at(self, here: Vector, anywhere: Vector) -> Vector:
        """Bound the error of values of f, given the sizes of the largest of them."""
        largest = np.where(self.blind, anywhere, here)
        return np.asarray(np.fmax(self.least, self.relative * largest))


def measured_noise(
    lines: Sequence[Line], spacing: float, middle: Vector, unit: float, widest: float = WIDEST
) -> Noise:
    """Measure the rounding errors of f beside x, along a few lines.

    High differences of a smooth function at tiny spacing are rounding errors alone: with order k
    their mean square is (2 k)! / (k!)^2 times that of one error (More and Wild 2011, "Estimating
    computational noise"). Three standard deviations are taken, and `unit` times f at least. A
    spacing at which f hardly changes is widened, up to `widest`: f may work in a narrower dtype.
    """
    worst, blind = unit * np.abs(middle), np.full(len(middle), True)
    for line in lines:
        width = spacing
        while width < widest:
            found = [line(i * width)[1] for i in range(-3, 4)]
            values = [each for each in found if each is not None]
            if len(values) < len(found):  # x is on the edge of where f is defined
                break
            table = np.diff(values, axis=0)
            blind &= ~table.any(axis=0)
            if np.mean(table == 0) <= 0.5:
                worst = np.fmax(worst, 3 * _deviation(np.stack(values)))
                break
            width *= 2.0**12
    with np.errstate(all="ignore"):
        relative = np.nan_to_num(worst / np.abs(middle), nan=0.0)
    return Noise(worst, np.clip(relative, unit, 64 * unit), blind)


def _deviation(values: Vector) -> Vector:
    """Return the standard deviation of the errors in seven equidistant values (7, m)."""
    largest = np.fmax(np.max(np.abs(values), axis=0), np.finfo(float).tiny)  # has no square, maybe
    differences, estimates = np.diff(values / largest, 3, axis=0), []
    for order in (4, 5, 6):
        differences = np.diff(differences, axis=0)
        scale = math.factorial(order) ** 2 / math.factorial(2 * order)
        estimates.append(np.sqrt(scale * np.mean(differences**2, axis=0)))
    return np.asarray(largest * np.max(estimates, axis=0))


def slope_along(
    line: Line, middle: Vector, noise: Noise, first: float, enough: Callable[[Vector], Vector]
) -> Slope:
    """Return the derivative of f along a line at t = 0.

    Steps are `first`, and the last one over `RATIO` each, until ``enough(bend)``, the error asked
    for, is reached or rounding errors outweigh the best estimate.
    """
    best, kink = _Best(len(middle)), _Kink(len(middle))
    tableau: list[Vector] = []  # the last rows, three at most
    flat, largest = np.zeros(len(middle), int), np.abs(middle)
    for level in range(LEVELS):
        h = first * RATIO**-level
        (left, minus), (right, plus) = line(-h), line(h)
        if minus is None or plus is None:
            tableau.clear()
            continue
        if not abs((right - left) / (2 * h) - 1) <= ROUNDED:  # x has no such neighbours
            break
        with np.errstate(all="ignore"):
            fall, rise = (minus - middle) / left, (plus - middle) / right
            bend = 2 * (rise - fall) / (right - left)
            slope = rise - bend / 2 * right
            sizes = np.max(np.abs([minus, middle, plus]), axis=0)
            largest = np.fmax(largest, sizes)
            lost = 2 * noise.at(sizes, largest) / h
            flat = np.where((plus == middle) & (minus == middle), flat + 1, 0)
            tableau = [*tableau[-2:], _extrapolated(np.stack([slope, bend]), tableau)]
            best.take(tableau, h, lost)
            kink.take(fall, rise, h, lost)
        if np.all((best.error <= enough(best.bend)) | (lost > best.error)):
            break
    value, error = kink.instead_of(best)
    step = np.where(np.isnan(kink.sides[0]), best.step, kink.step)
    return Slope(value, error, best.bend, flat >= 3, best.method, kink.sides, step)


def either(choice: npt.NDArray[np.bool_], one: Slope, other: Slope) -> Slope:
    """Return of each derivative the one or the other, as chosen."""
    parts = {
        name: np.where(choice, getattr(one, name), getattr(other, name))
        for name in ("value", "error", "bend", "flat", "sides", "step")
    }
    return replace(one, **parts)


def contradicted(
    line: Line, middle: Vector, noise: Noise, slope: Slope, against: Vector
) -> npt.NDArray[np.bool_]:
    """Whether steps so small that rounding just lets them tell two slopes apart find another one.

    Large steps over a fast oscillation may agree by chance; no smaller one repeats that. If one
    does, the smallest steps err: on the stairs that a cancellation inside f makes, for one.
    `against` is the slope to tell it from.
    """
    gap = np.abs(slope.value - against)
    with np.errstate(all="ignore"):
        wanted = np.fmax(APART * noise.at(np.abs(middle), np.abs(middle)) / gap, TINIEST)
    asked = np.isfinite(gap) & (wanted < slope.step / 2)
    found = np.full(len(middle), False)
    levels = np.ceil(np.log(wanted[asked]) / np.log(CONFIRMING))
    for level in np.unique(levels):
        here = np.flatnonzero(asked)[levels == level]
        h = CONFIRMING**level
        while h < slope.step[here].max():
            (left, minus), (right, plus) = line(-h), line(h)
            if abs((right - left) / (2 * h) - 1) <= ROUNDED:
                if minus is not None and plus is not None:
                    near = (plus - minus)[here] / (right - left)
                    found[here] = ~(np.abs(near - slope.value[here]) <= gap[here] / 2)
                break
            h *= CONFIRMING  # x has no such neighbours
    return found


def _extrapolated(start: Vector, tableau: list[Vector]) -> Vector:
    """Return the tableau's next row (columns, 2, m): Neville's scheme in h^2."""
    row = [start]
    for j, above in enumerate(tableau[-1][:COLUMNS] if tableau else [], start=1):
        row.append(row[-1] + (row[-1] - above) / (RATIO ** (2 * j) - 1))
    return np.stack(row)


class _Best:
    """The estimate with the least error so far, for each value of f.

    One whose error is not small beside the slopes that it comes from has not settled: it only
    counts when the error has kept falling for `STEADY` steps, or is rounding alone.
    """

    def __init__(self, m: int) -> None:
        self.value = np.full(m, np.nan)
        self.error = np.full(m, np.inf)
        self.bend = np.full(m, np.inf)
        self.method: Method = "quadratic"
        self.step = np.zeros(m)
        self.last = np.full(m, np.inf)
        self.fallen = np.zeros(m, int)

    def take(self, rows: list[Vector], h: float, lost: Vector) -> None:
        """Consider the last row; a column is held against its neighbours of three rows."""
        row = rows[-1]
        slope, bend = np.abs(row[0])
        self.bend = np.fmin(self.bend, bend)
        if len(rows) < 3:
            return
        errors = np.stack([_error(j, rows, h, lost) for j in range(len(rows[-2]))])
        least = np.min(np.nan_to_num(errors, nan=np.inf), axis=0)
        self.fallen = np.where(least < self.last / 1.2, self.fallen + 1, 0)
        self.last = least
        steady = self.fallen >= STEADY
        for j, error in enumerate(errors):
            settled = steady | (error <= SETTLED * (slope + h * bend)) | (error <= 8 * lost)
            better = settled & (error < (self.error / 2 if j else self.error))
            if better.any():
                self.method = "extrapolation" if j else "quadratic"
                self.value = np.where(better, row[j][0], self.value)
                self.error = np.where(better, error, self.error)
                self.step = np.where(better, h, self.step)


def _error(j: int, rows: list[Vector], h: float, lost: Vector) -> Vector:
    """Estimate the error in column j of the last row."""
    before, above, row = rows
    beside = [above[j], row[j - 1], above[j - 1]] if j else [above[0], before[0]]
    slope, bend = np.max([np.abs(row[j] - other) for other in beside], axis=0)
    return np.asarray(2 * np.fmax(slope, h * bend - 4 * lost) + lost)


class _Kink:
    """The slopes to both sides of x, where they stay apart when the step shrinks."""

    def __init__(self, m: int) -> None:
        self.last = np.full((2, m), np.nan)
        self.seen = np.zeros(m, int)
        self.sides = np.full((2, m), np.nan)
        self.step = np.zeros(m)

    def take(self, fall: Vector, rise: Vector, h: float, lost: Vector) -> None:
        """Consider the slopes of one more step."""
        both = np.stack([fall, rise])
        gap = np.abs(rise - fall)
        apart = gap > 8 * lost
        gone = gap + 8 * lost < np.abs(self.sides[1] - self.sides[0]) / 2  # it was beside x
        stays = np.all(np.abs(both - self.last) <= 0.1 * gap, axis=0)
        self.seen = np.where(apart, np.where(stays, self.seen + 1, 0), self.seen)
        self.seen = np.where(gone, 0, self.seen)
        sides = np.where(self.seen >= 2, both, np.nan)
        self.sides = np.where(apart | gone, sides, self.sides)
        self.step = np.where(apart | gone, h, self.step)
        self.last = both

    def instead_of(self, best: _Best) -> tuple[Vector, Vector]:
        """Return value and error; where the slopes differ, they reach beyond both."""
        left, right = self.sides
        use = np.isfinite(left)
        value = np.where(use, (left + right) / 2, best.value)
        known = np.where(np.isfinite(best.error), best.error, 0)
        return value, np.where(use, np.fmax(known, 0.6 * np.abs(right - left)), best.error)
