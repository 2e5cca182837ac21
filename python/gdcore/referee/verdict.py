"""What the referee says of a kernel."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from gdcore.oracle.trials.findings import Finding, Ruling


@dataclass(frozen=True)
class Speed:
    """How many times as fast as something a kernel is.

    Attributes
    ----------
    against : str
        Such as "eager" or "compiled".
    ratio, low, high : float
        Its time over the kernel's, and the 95 % confidence interval.
    label : str
        FAST, SLOW, SAME or AMBG, as `gdcore.bench` has them.
    seconds, theirs : float
        Seconds a call of the kernel and of the other, the middle of the rounds.
    rounds : int
    size : str
        Of the data.
    """

    against: str
    ratio: float
    low: float
    high: float
    label: str
    seconds: float
    theirs: float
    rounds: int
    size: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the referee found; `print` shows it on one screen.

    Attributes
    ----------
    ruling : Ruling
    candidate, reference : str
        Their names.
    why : str
        The verdict in a sentence, with the cause if there is one.
    findings : tuple of Finding
        The gravest first.
    worst : Finding or None
        Of the element furthest off, also if it is right.
    speed : tuple of Speed
        Empty unless the kernel is right or suspicious.
    tried, not_tried : tuple of str
        Families and sizes of data; those that could not be, with the reason.
    library_calls : tuple of str
        Operations of torch that did the work, with how often.
    limits : tuple of str
        Sentences: what this verdict does not cover.
    calls : int
        How many results were checked.
    seconds : float
        How long the referee took.
    """

    ruling: Ruling
    candidate: str = ""
    reference: str = ""
    why: str = ""
    findings: tuple[Finding, ...] = ()
    worst: Finding | None = None
    speed: tuple[Speed, ...] = ()
    tried: tuple[str, ...] = ()
    not_tried: tuple[str, ...] = ()
    library_calls: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    calls: int = 0
    seconds: float = 0.0
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the kernel is right or suspicious."""
        return self.ruling in (Ruling.RIGHT, Ruling.SUSPICIOUS)

    def as_dict(self) -> dict[str, Any]:
        """Return everything, as JSON has it."""
        return asdict(self)
