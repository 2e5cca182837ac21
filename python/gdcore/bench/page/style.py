"""What the page and its pictures share: colours and the attributes that the page filters by."""

from __future__ import annotations

from html import escape

from gdcore.bench.results import Results, Row

COLORS = 20  # in the style sheet: more than there are built-in libraries


def color(report: Results, library: str) -> int:
    """Return the number of a library's colour: 0 for the baseline, 1 to 19 for the rest."""
    names = dict.fromkeys([report.baseline, *(row.library for row in report.rows)])
    place = list(names).index(library)
    return 1 + (place - 1) % (COLORS - 1) if place else 0


def block(row: Row) -> str:
    """Return the attributes by which the page filters."""
    return f'data-suite="{escape(row.suite)}" data-dtype="{row.dtype}" data-threads="{row.threads}"'
