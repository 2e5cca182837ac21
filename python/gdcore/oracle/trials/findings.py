"""What a trial of a kernel amounts to, and each fault that was seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Ruling(StrEnum):
    """The verdict in a word."""

    RIGHT = "right"
    """Within the rounding that is to be expected, on everything that was tried."""
    SUSPICIOUS = "suspicious"
    """Further off than rounding usually takes a result; a look at the worst element decides."""
    WRONG = "wrong"
    """Not what the reference computes."""
    CHEATING = "cheating"
    """It behaves in a way that only misleads a test or a clock, and did so again."""
    NOT_DECIDED = "not decided"
    """Nothing can be said: the sentence in `why` says what is missing."""


@dataclass(frozen=True)
class Finding:
    """One fault, and how to see it again.

    Attributes
    ----------
    kind : str
        Such as "result of another call", "changes its inputs", "wrong", "suspicious".
    ruling : Ruling
        What it amounts to.
    sentence : str
        What was seen.
    family, size, dtype : str
        The data: such as "cancelling", "37x101", "float32".
    seed : int
        Of the data.
    element : tuple of int
        Index of the worst element, if one is to blame.
    value, golden, units : float
        What came out there, what should have, and how many units they are apart.
    """

    kind: str
    ruling: Ruling
    sentence: str
    family: str = ""
    size: str = ""
    dtype: str = ""
    seed: int = 0
    element: tuple[int, ...] = ()
    value: float = float("nan")
    golden: float = float("nan")
    units: float = float("nan")
