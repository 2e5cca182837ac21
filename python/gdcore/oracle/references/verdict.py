"""What a comparison with a reference found, element by element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Status(IntEnum):
    """How an element compares with its reference, the worst last."""

    OK = 0
    """Within the rounding errors that are to be expected."""
    SUSPECT = 1
    """Within the certified bound, but far more than rounding errors usually come to."""
    WRONG = 2
    """Beyond the certified bound: no order of summation gives this."""
    NONFINITE = 3
    """NaN or infinite where no order of summation overflows, or the other way round."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Verdict:
    """Result of `Reference.check`; true if nothing is proven wrong.

    Attributes
    ----------
    name : str
        What was checked, such as "gradient of the weights".
    status : ndarray of uint8
        A `Status` for each element.
    worst : tuple of int
        Index of the worst element; () if there is only one, or none.
    actual, expected : float
        The values there.
    error, ulps, bounds : float
        How far apart they are: absolutely, in units of the last place of the expected value in
        the dtype under test, and as a multiple of the certified bound.
    """

    name: str
    status: NDArray[np.uint8]
    worst: tuple[int, ...]
    actual: float
    expected: float
    error: float
    ulps: float
    bounds: float
    cause: str | None = None

    def __repr__(self) -> str:
        return f"<Verdict: {self.name} {self.worst_status.name}>"

    @property
    def worst_status(self) -> Status:
        """The worst status of any element; OK if there are none."""
        return Status(int(self.status.max(initial=0)))

    @property
    def ok(self) -> bool:
        """Whether nothing is proven wrong; a SUSPECT element is none."""
        return self.worst_status <= Status.SUSPECT

    def count(self, status: Status) -> int:
        """Return how many elements have a status."""
        return int((self.status == status).sum())

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        worst = self.worst_status
        if worst is Status.OK:
            if not self.status.size:
                return f"{self.name}: OK, there are no elements"
            return f"{self.name}: OK, at most {self.ulps:.3g} ulps off"
        where = f"; worst at {list(self.worst)}" if self.worst else ""
        text = f"{self.name}: {worst} in {self.count(worst)} of {self.status.size} elements{where}"
        text += f": {self.actual:.9g} instead of {self.expected:.9g}"
        if worst is not Status.NONFINITE:
            text += f", off by {self.error:.3g} = {self.ulps:.3g} ulps, {_multiple(self.bounds)}"
        return f"{text}. {self.cause}" if self.cause else f"{text}."


def _multiple(bounds: float) -> str:
    if bounds == np.inf:
        return "where the result is exact in every order of summation"
    return f"{bounds:.3g} times the certified bound"


def judge(
    name: str,
    actual: NDArray[np.float64],
    value: NDArray[np.float64],
    tail: Any,
    bound: NDArray[np.float64],
    suspicious: Callable[[NDArray[np.float64]], Any],
    ulp: Callable[[Any], Any],
    expects_nonfinite: bool,
) -> Verdict:
    """Return the verdict on `actual` beside value + tail.

    An infinite bound says that a sum may overflow: then every result is right. `suspicious` says
    which errors are SUSPECT.
    """
    status = np.zeros(value.shape, np.uint8)
    if not value.size:
        return Verdict(name, status, (), 0.0, 0.0, 0.0, 0.0, 0.0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        error = np.asarray(actual - value)
        error -= tail
        np.abs(error, out=error)
        status[suspicious(error)] = Status.SUSPECT
        wrong = ~(error <= bound)
        if wrong.any():
            status[wrong] = np.where(np.isfinite(actual), Status.WRONG, Status.NONFINITE)[wrong]
            if expects_nonfinite:
                odd = ~np.isfinite(value)
                same = (actual == value) | (np.isnan(actual) & np.isnan(value))
                status[odd] = np.where(same, Status.OK, Status.NONFINITE)[odd]
        status[np.isinf(bound)] = Status.OK
        error[(status == Status.OK) & ~np.isfinite(error)] = 0.0  # NaN and infinity that are right
        measure = error
        if np.any(bound):
            measure = error / bound
            if not np.isfinite(measure.max()):
                measure = np.where((error > 0) & (bound < np.inf), measure, 0.0)
        if status.any():
            measure = np.where(status == status.max(), np.nan_to_num(measure), -1.0)
        at = np.unravel_index(int(np.argmax(measure)), value.shape)
        off, allowed = float(error[at]), float(bound[at])
        bounds = 0.0 if off == 0 else off / allowed if allowed else np.inf
        ulps = off / float(ulp(value[at]))
    worst = tuple(int(i) for i in at)
    return Verdict(name, status, worst, float(actual[at]), float(value[at]), off, ulps, bounds)
