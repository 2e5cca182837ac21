"""What every library of the benchmark shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Run = Callable[[int], Any]


class Library(Protocol):
    """What every contestant has, beside a method for each job it does.

    It does the jobs in its attribute `closed_forms`, if it has one, in closed form where others
    descend.
    """

    def describe(self) -> dict[str, Any]:
        """Return the version, and whatever else decides how fast it is."""


class Unsupported(Exception):
    """A library does not do some case."""


def repeating(call: Callable[[], Any]) -> Run:
    """Return a function that calls `call` a number of times.

    Examples
    --------
    >>> repeating(lambda: 7)(3)
    7
    """

    def run(repeats: int) -> Any:
        for _ in range(repeats - 1):
            call()
        return call()

    return run
