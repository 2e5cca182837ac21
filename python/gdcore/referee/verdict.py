"""What the referee says of a kernel."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from gdcore.oracle.trials.findings import Finding, Ruling
from gdcore.referee.page import page
from gdcore.referee.screen import screen


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
        FAST, SLOW, SAME or AMBG, as ``gdcore.bench`` has them.
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
    """What the referee found; `print` shows it on one screen, `to_html` and notebooks on a page.

    It is true if the kernel is right.

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
        Families and sizes of data, such as "ties, 37x101"; those that could not be, with the
        reason.
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

    def __bool__(self) -> bool:
        """Whether the kernel is right."""
        return self.ruling is Ruling.RIGHT

    def __str__(self) -> str:
        return screen(self.as_dict())

    def __repr__(self) -> str:
        return f"<Verdict: {self.candidate} is {self.ruling}>"

    def _repr_html_(self) -> str:
        """Return the page for a notebook, in a frame that keeps its style from the others."""
        text = escape(self.to_html())
        return f'<iframe srcdoc="{text}" width="100%" height="600" frameborder="0"></iframe>'

    @property
    def ok(self) -> bool:
        """Whether the kernel is right or suspicious."""
        return self.ruling in (Ruling.RIGHT, Ruling.SUSPICIOUS)

    def as_dict(self) -> dict[str, Any]:
        """Return everything in plain dicts, lists, strings and numbers."""
        return asdict(self)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return everything as JSON, and write it to a file if there is a path.

        NaN and infinity are null.

        Raises
        ------
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> print(Verdict(Ruling.RIGHT, "softmax").to_json()[2:20])
          "ruling": "right
        """
        text = json.dumps(_finite(self.as_dict()), indent=2, allow_nan=False, default=str)
        if path is not None:
            Path(path).write_text(f"{text}\n", encoding="utf-8")
        return text

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return everything as one page of HTML, and write it to a file if there is a path.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        text = page(self.as_dict(), self.to_json())
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text


def _finite(value: Any) -> Any:
    """Return a value with None for each number that JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
