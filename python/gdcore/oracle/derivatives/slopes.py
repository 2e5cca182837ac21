"""The derivatives of a user's function along lines through a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gdcore.oracle.derivatives.differences import (
    RATIO,
    WIDEST,
    Line,
    Noise,
    Slope,
    Vector,
    contradicted,
    either,
    measured_noise,
    slope_along,
)
from gdcore.oracle.derivatives.functions import Array, Function, read_any, read_real, read_value
from gdcore.oracle.derivatives.points import Direction, Point

Method = Literal["auto", "differences", "complex"]

CLEAR = 8.0  # an estimate is good enough once its error is a tolerance over this
CONFIRMED = 0.1  # relative error of differences that may still confirm a complex step
STEP = 2.0**-200  # of the complex step: its square vanishes beside any value


class Slopes:
    """A function at a point, in the widest precision that it takes.

    Attributes
    ----------
    shape : tuple of int
        Number of elements of f's value.
    value : ndarray, shape (m,)
    wide : bool
        f takes float64, whatever the point's dtype.
    exact : bool
        f returns float64.
    spacing : float
        Of the values whose rounding errors are measured, as a share of x.
    """

    def __init__(
        self, f: Callable[..., Any], point: Point, method: Method, rng: np.random.Generator
    ) -> None:
        self.f, self.point, self.method, self.rng = Function(f, "f", point), point, method, rng
        value = self.f.twice(point.flat, False, read_value)
        self.wide = all(part.dtype == "float64" for part in point.parts)
        if not self.wide:
            better = self.f.probe(point.flat, True, read_value)
            if better is not None and better.shape == value.shape:
                self.wide, value = True, better
        self.shape = value.shape
        self.exact = value.dtype == np.float64
        self.value = np.ravel(value).astype(np.float64)
        self.unit = float(np.finfo(value.dtype).eps) / 2
        self.spacing = 1.1 * (2.0**-44 if self.wide and self.unit <= 2.0**-53 else 2.0**-20)
        count = 2 if point.flat.size else 0
        self.noise = self._measured([self._line(each) for each in point.directions(count, rng)])

    def _measured(self, lines: list[Line], widest: float = WIDEST) -> Noise:
        """Measure f's rounding errors along lines."""
        return measured_noise(lines, self.spacing, self.value, self.unit, widest)

    def _line(self, direction: Direction) -> Line:
        """Return f along a direction, and how far t really went once x was rounded."""
        point, v = self.point, direction.vector
        at = int(np.argmax(np.abs(v))) if direction.element is None else direction.element

        def line(t: float) -> tuple[float, Vector | None]:
            with np.errstate(over="ignore"):
                there = point.rounded(point.flat + t * v, self.wide)
            moved = float((there[at] - point.flat[at]) / v[at])
            found = self.f.probe(there, self.wide, read_real)
            if found is None or found.shape != self.shape or not np.isfinite(found).all():
                return moved, None
            return moved, np.ravel(found).astype(np.float64)

        return line

    def along(
        self, direction: Direction, tolerance: Callable[[Vector], Vector], held: Vector
    ) -> Slope:
        """Return f's derivatives along a direction, to be held against those in `held`.

        ``tolerance(bend)`` says how far the two may be apart; an error of it over `CLEAR` will do.
        """
        unit, line = direction.unit, self._line(direction)
        first = float(self.rng.integers(128, 250)) / 256

        def allowed(bend: Vector) -> Vector:
            return tolerance(_second(bend, unit)) * unit

        def enough(bend: Vector) -> Vector:
            return allowed(bend) / CLEAR

        def apart(slope: Slope) -> npt.NDArray[np.bool_]:
            with np.errstate(invalid="ignore"):
                off = np.abs(slope.value - held * unit)
                return np.asarray(off - slope.error > allowed(slope.bend))

        slope = slope_along(line, self.value, self.noise, first, enough)
        hidden = ~(slope.error <= enough(slope.bend)) & np.isnan(slope.sides[0])
        if hidden.any() and direction.widest >= 2:  # larger steps have smaller rounding errors
            wide = slope_along(line, self.value, self.noise, first * direction.widest, enough)
            slope = either(hidden & (wide.error < slope.error), wide, slope)
        repeated = np.full(len(self.value), False)
        while (doubted := apart(slope)).any():
            chance = contradicted(line, self.value, self.noise, slope, held * unit)
            chance &= doubted & ~repeated
            if not chance.any():
                slope = self._surer(line, slope, doubted, held == 0)
                break
            first = float(slope.step[chance].min()) / RATIO
            again = slope_along(line, self.value, self.noise, first, enough)
            repeated |= chance & (np.abs(again.value - slope.value) <= again.error + slope.error)
            slope = either(chance & ~repeated, again, slope)
        coarse = not np.all(slope.error <= enough(slope.bend))
        if self.method == "complex" or (self.method == "auto" and coarse):
            slope = self._refined(slope, direction.vector)
        return replace(
            slope,
            value=slope.value / unit,
            error=slope.error / unit,
            bend=_second(slope.bend, unit),
            sides=slope.sides / unit,
        )

    def _surer(
        self,
        line: Line,
        slope: Slope,
        doubted: npt.NDArray[np.bool_],
        zero: npt.NDArray[np.bool_],
    ) -> Slope:
        """Count in the rounding errors of f where it was evaluated, which may exceed those at x.

        Those of 1e9 x, for one, do not show in sin(1e9 x) at its peaks. Where f does not change on
        one side of x, it is a staircase or narrow inside: then 0 is as right as its slope.
        """
        error = np.where(self._still(line, slope, doubted & zero), np.inf, slope.error)
        for h in np.unique(slope.step[doubted]):
            beside = [_moved(line, float(t)) for t in (-h, h)]
            lost = 4 * self._measured(beside, float(h) / 4).least / h
            error = np.where(doubted & (slope.step == h), np.fmax(error, lost), error)
        return replace(slope, error=error)

    def _still(self, line: Line, slope: Slope, asked: npt.NDArray[np.bool_]) -> Any:
        """Whether f does not change, on one side of x, where its slope says by 64 roundings."""
        with np.errstate(all="ignore"):
            far = np.fmax(64 * self.unit * np.abs(self.value / slope.value), 8 * self.spacing)
        far, still = 2 ** np.ceil(np.log2(far)), asked.copy()
        for t in np.unique(far[asked]):
            sides = [self._same(line, float(t)), self._same(line, -float(t))]
            known = [side for side in sides if side is not None]
            still &= (far != t) | (np.any(known, axis=0) if known else True)
        return still

    def _same(self, line: Line, t: float) -> Any:
        """Whether f has its value at x at t and half way, where a parabola has another."""
        found = [line(each)[1] for each in (t, t / 2)]
        return None if any(each is None for each in found) else np.all(found == self.value, axis=0)

    def _refined(self, slope: Slope, v: Vector) -> Slope:
        """Take the complex step wherever f allows it and differences confirm it.

        Its own rounding error shows when x moves by some units in the last place.
        """
        found = [self._complex(v, t) for t in (0.0, 2.0**-48, -(2.0**-48))]
        middle, *beside = found
        if middle is None or any(each is None for each in beside):
            if self.method == "complex":
                raise TypeError(
                    "f takes no complex numbers, or drops the imaginary part; use method='auto'."
                )
            return slope
        spread = np.max([np.abs(each - middle) for each in beside if each is not None], axis=0)
        error = 16 * spread + 16 * 2.0**-53 * np.abs(middle)
        confirmed = (np.abs(middle - slope.value) <= slope.error) & (
            slope.error <= CONFIRMED * np.abs(middle)
        )
        confirmed &= np.isnan(slope.sides[0])  # |z| drops the imaginary part, for one
        better = confirmed & (error < slope.error)
        if not better.any():
            return slope
        return replace(
            slope,
            value=np.where(better, middle, slope.value),
            error=np.where(better, error, slope.error),
            method="complex step",
        )

    def _complex(self, v: Vector, t: float) -> Vector | None:
        """Return the derivatives by a step in the imaginary direction; None if f allows none."""
        there: Array = self.point.flat + t * v + 1j * STEP * v
        found = self.f.probe(there, True, read_any)
        if found is None or found.dtype.kind != "c" or found.shape != self.shape:
            return None
        slopes = np.ravel(found).imag / STEP
        return slopes if np.isfinite(slopes).all() else None


def _moved(line: Line, start: float) -> Line:
    """Return a line whose t is counted from elsewhere."""
    return lambda t: line(start + t)


def _second(bend: Vector, unit: float) -> Vector:
    """Return a second derivative by a variable of which t = 1 is `unit`, whose square may be 0."""
    with np.errstate(all="ignore"):
        return bend / unit / unit
