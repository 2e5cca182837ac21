"""Small HTML tables, as notebooks show results."""

from __future__ import annotations

from collections.abc import Sequence


def escape(text: str) -> str:
    """Return text as HTML shows it."""
    import html  # here, as its table of characters is as large as a module of this package

    return html.escape(text)


def html_row(heads: Sequence[str], cells: Sequence[str]) -> str:
    """Return a row: heads on the left, cells right-aligned. All text is escaped."""
    return "".join(
        ["<tr>", *(f"<th>{escape(text)}</th>" for text in heads)]
        + [f'<td style="text-align: right">{escape(text)}</td>' for text in cells]
        + ["</tr>"]
    )


def html_table(title: str, rows: Sequence[str]) -> str:
    """Return a table of rows that `html_row` made, under a title."""
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    return f"<table>{caption}{''.join(rows)}</table>"


def html_block(title: str, rows: Sequence[str], notes: Sequence[str] = ()) -> str:
    """Return a table with sentences below."""
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<div>{html_table(title, rows)}{said}</div>"
