"""How a fit ended, and the warnings and the interruption that say so."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from gdcore.moments import Moments
    from gdcore.results.fit import Fit


class Status(StrEnum):
    """How a fit ended; equal to its name as a string.

    Attributes
    ----------
    CONVERGED
        The predictions are within `tol` times the standard deviation of y, root mean square, of
        those that fit best (docs/numerics.md); or they are the least-squares ones; or another
        stopping rule held.
    MAX_EPOCHS
        All epochs ran; `Fit.r2_lost` says how far off that is.
    DIVERGED
        The loss grew without bound; the weights are the last whose loss was finite.
    STALLED
        Rounding errors keep the descent from the minimum: no weight changes any more, or it took
        far more epochs than it should have.
    SINGULAR
        The columns of X are linearly dependent; the weights are those of least norm.
    EMPTY
        There were no rows to learn from; the weights are the start.
    INVALID
        Among many problems, one whose data holds NaN or infinity, or whose squares overflow; its
        weights are NaN. A single such problem is a ValueError.

    Examples
    --------
    >>> import gdcore as gd
    >>> fit = gd.fit([[1.0], [2.0], [3.0]], [2.0, 4.0, 6.0])
    >>> fit.status
    <Status.CONVERGED: 'CONVERGED'>
    >>> fit.status == "CONVERGED"
    True
    """

    CONVERGED = "CONVERGED"
    MAX_EPOCHS = "MAX_EPOCHS"
    DIVERGED = "DIVERGED"
    STALLED = "STALLED"
    SINGULAR = "SINGULAR"
    EMPTY = "EMPTY"
    INVALID = "INVALID"

    @property
    def advice(self) -> str:
        """What to do about it, in a sentence."""
        return _ADVICE[self]

    @property
    def code(self) -> int:
        """Its place in the enumeration, which arrays and files of many statuses hold."""
        return _CODES[self]


NO_EPOCHS = "method='exact' needs none."
STATUSES = np.empty(len(Status), object)  # by code
STATUSES[:] = list(Status)
_CODES = {status: code for code, status in enumerate(Status)}
_ADVICE = {
    Status.CONVERGED: "Nothing to do.",
    Status.MAX_EPOCHS: (
        f"Pass standardize=True or SGD(momentum='auto'), or run more epochs; {NO_EPOCHS}"
    ),
    Status.DIVERGED: (
        "Lower lr below the stability limit (lr='auto' does), or pass standardize=True."
    ),
    Status.STALLED: (
        "Pass lr='auto' or standardize=True, or use float64; method='exact' needs no descent."
    ),
    Status.SINGULAR: (
        "Drop or combine the dependent columns (a constant one duplicates the intercept), add "
        "rows if they are fewer than the parameters, or pass "
        "SGD(weight_decay=0.01, decay_intercept=False)."
    ),
    Status.EMPTY: "Pass at least one row.",
    Status.INVALID: "Drop or fill rows with NaN or infinity; scale columns that overflow.",
}


def advises(detail: str) -> bool:
    """Whether an account of a descent ends with advice already."""
    return detail.endswith(NO_EPOCHS)


def epochs_in_words(count: int) -> str:
    """Return a number of epochs as messages say it."""
    return "1 epoch" if count == 1 else f"{count} epochs"


def counted(statuses: npt.NDArray[np.object_]) -> dict[Status, int]:
    """Return how many of many fits ended in which way, the most frequent first."""
    numbers = Counter(statuses.tolist())
    return {s: numbers[s] for s in sorted(numbers, key=lambda s: (-numbers[s], s.code))}


def counts_in_words(statuses: npt.NDArray[np.object_]) -> str:
    """Say how many of many fits ended in which way."""
    return ", ".join(f"{number} {status}" for status, number in counted(statuses).items())


def account(
    statuses: npt.NDArray[np.object_], r2_lost: Any, what: str, name: Callable[[int], str]
) -> str:
    """Say how many fits ended, in which ways, and what to do about each."""
    noun = what if len(statuses) == 1 else f"{what}s"
    lines = [f"{len(statuses)} {noun}: {counts_in_words(statuses) or 'none'}."]
    for status in counted(statuses):
        if status is Status.CONVERGED:
            continue
        these = statuses == status
        lost = np.broadcast_to(r2_lost, len(statuses))[these]
        if status is Status.MAX_EPOCHS and np.isnan(lost).all():
            continue  # no tol was asked for, or how far off that is is not known
        most = np.nanmax(lost, initial=0.0)
        known = most > 0 and status is not Status.DIVERGED
        far = f"; R^2 up to {most:.2g} below the best fit's" if known else ""
        lines.append(f"{status} (the first is {name(int(np.argmax(these)))}{far}): {status.advice}")
    return " ".join(lines)


class FitWarning(UserWarning):
    """A fit ended, or will end, in a way that deserves a look: anything but CONVERGED."""


class LearningRateWarning(UserWarning):
    """The learning rate is above the stability limit, so that descent must diverge."""


def stacklevel() -> int:
    """Return the level, for a warning of its caller, of the first frame outside this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "gdcore":
        frame, level = frame.f_back, level + 1
    return level


class DataLostError(OSError):
    """A file that an array maps, such as np.memmap does, shrank while it was read.

    Parameters
    ----------
    message : str
    fit : Fit, optional
        What was fitted before, of one problem or of many; its weights are those of whole rows.

    Attributes
    ----------
    fit : Fit or None
    """

    def __init__(self, message: str, fit: Fit | None = None) -> None:
        super().__init__(message)
        self.fit = fit


class FitInterrupted(KeyboardInterrupt):
    """Ctrl-C stopped a fit between two steps.

    Parameters
    ----------
    fit : Fit
        The weights so far; passing it as `init` goes on from there. Its loss is the one measured
        during the last epoch: evaluating another would keep Ctrl-C waiting.
    moments : Moments, optional
        Where the rows come in chunks: the moments of those read so far.

    Attributes
    ----------
    fit : Fit
    moments : Moments or None
    """

    def __init__(self, fit: Fit, moments: Moments | None = None) -> None:
        super().__init__(f"interrupted after {fit.epochs} epochs; the weights so far are in .fit")
        self.fit = fit
        self.moments = moments
