"""What the probes of a function found, as a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdcore.oracle.references.verdict import Status, Verdict


@dataclass(frozen=True)
class ProbeRow:
    """One line of the table: a probe, and the worst that was found of it."""

    probe: str
    shapes: str
    verdict: Verdict


@dataclass(frozen=True)
class ProbeReport:
    """What `assert_grad` found; its text is a table.

    Attributes
    ----------
    kind, dtype : str
    rows : tuple of ProbeRow
        One for each probe, in the order they were run.
    not_probed : tuple of str
        What no probe holds.
    """

    kind: str
    dtype: str
    rows: tuple[ProbeRow, ...]
    not_probed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        probes = f"{self.kind}, {self.dtype}, {len(self.rows)} probes"
        return f"<ProbeReport: {probes}, {self.worst_status.name}>"

    @property
    def worst_status(self) -> Status:
        """The worst status of any probe."""
        return max((row.verdict.worst_status for row in self.rows), default=Status.OK)

    @property
    def ok(self) -> bool:
        """Whether nothing is proven wrong."""
        return self.worst_status <= Status.SUSPECT

    def __bool__(self) -> bool:
        return self.ok

    def count(self, status: Status) -> int:
        """Return how many probes have a status."""
        return sum(row.verdict.worst_status is status for row in self.rows)

    def __str__(self) -> str:
        found = ", ".join(f"{self.count(s)} {s}" for s in Status if self.count(s))
        lines = [f"{self.kind}, {self.dtype}: {len(self.rows)} probes, {found}"]
        cells = [_HEADINGS, *(_cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            text = "  ".join(
                f"{cell:{'>' if i in _NUMBERS else '<'}{width}}"
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            lines.append(f"  {text}".rstrip())
        if self.not_probed:
            lines.append(f"Not probed: {', '.join(self.not_probed)}.")
        return "\n".join(lines)


_HEADINGS = ("probe", "shapes", "status", "error/bound", "ulps", "result")
_NUMBERS = (3, 4)


def _cells(row: ProbeRow) -> tuple[str, ...]:
    v = row.verdict
    far = f"{v.bounds:.2g}" if np.isfinite(v.bounds) else ""
    ulps = f"{v.ulps:.3g}" if np.isfinite(v.ulps) else ""
    return row.probe, row.shapes, str(v.worst_status), far, ulps, v.name
