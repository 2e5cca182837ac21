"""How a fit ended, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import numpy as np

from gdcore.typing import Statuses


class Status(StrEnum):
    """How a fit ended; equal to its name as a string.

    Attributes
    ----------
    CONVERGED
        The predictions are within `tol` times the standard deviation of y, root mean square, of
        the best fit's (docs/numerics.md); or the closed form was used; or another stopping rule
        held.
    MAX_EPOCHS
        All epochs ran; `Fit.r2_lost` says how far that is from the best fit.
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
        weights are NaN. A single problem with such data raises ValueError.

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
        """Its number in the enumeration, which arrays and files hold."""
        return _CODES[self]


NO_EPOCHS = "method='exact' needs none."
DESERVE_A_LOOK = {
    Status.DIVERGED,
    Status.STALLED,
    Status.SINGULAR,
    Status.EMPTY,
    Status.INVALID,
}
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
    Status.INVALID: (
        "Drop or fill rows with NaN or infinity (missing='drop' drops those with NaN); scale "
        "columns that overflow."
    ),
}


def has_advice(detail: str) -> bool:
    """Whether the detail of a descent's end already says what to do."""
    return detail.endswith(NO_EPOCHS)


def deserve_a_look(statuses: Statuses, expects_convergence: bool) -> bool:
    """Whether some of many fits deserve a look.

    Those that ran out of epochs do if they were to converge.
    """
    deserve = DESERVE_A_LOOK | {Status.MAX_EPOCHS} if expects_convergence else DESERVE_A_LOOK
    return bool(deserve & set(statuses.tolist()))


def epochs_in_words(count: int) -> str:
    """Return a number of epochs as messages say it."""
    return "1 epoch" if count == 1 else f"{count} epochs"


def dropped_in_words(rows: Any, dropped: Any, *, by_target: bool) -> str:
    """Say how many rows were left out for missing values; "" if none was."""
    left_out = int(np.sum(dropped))
    if not left_out:
        return ""
    each = "rows, target by target," if by_target else "rows"
    return (
        f"{left_out} of {int(np.sum(rows)) + left_out} {each} have missing values and do not count."
    )


def count_by_status(statuses: Statuses) -> dict[Status, int]:
    """Return how many fits ended in each way, the most frequent first."""
    each = statuses.tolist()
    numbers = {status: each.count(status) for status in set(each)}
    return {s: numbers[s] for s in sorted(numbers, key=lambda s: (-numbers[s], s.code))}


def counts_in_words(statuses: Statuses) -> str:
    """Say how many fits ended in each way."""
    return _in_words(count_by_status(statuses))


def _in_words(counts: dict[Status, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in counts.items())


def ends_in_words(statuses: Statuses, r2_lost: Any, what: str, name: Callable[[int], str]) -> str:
    """Say how many fits ended, in which ways, and what to do about each."""
    noun = what if len(statuses) == 1 else f"{what}s"
    counts = count_by_status(statuses)
    lines = [f"{len(statuses)} {noun}: {_in_words(counts) or 'none'}."]
    for status in counts:
        if status is Status.CONVERGED:
            continue
        these = statuses == status
        lost = np.broadcast_to(r2_lost, len(statuses))[these]
        if status is Status.MAX_EPOCHS and np.isnan(lost).all():
            continue  # no tol was given, or the distance is unknown
        most = np.nanmax(lost, initial=0.0)
        known = most > 0 and status is not Status.DIVERGED
        far = f"; R^2 up to {most:.2g} below the best fit's" if known else ""
        lines.append(f"{status} (the first is {name(int(np.argmax(these)))}{far}): {status.advice}")
    return " ".join(lines)
