"""A verdict as one page of HTML that needs no other file and no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from gdcore.referee.screen import element, grouped, place, speed_in_words

_COLUMNS = ("family and size", "seed", "what was seen", "worst element")


def page(verdict: Mapping[str, Any], data: str) -> str:
    """Return a verdict as HTML.

    Parameters
    ----------
    verdict : mapping
        As `Verdict.as_dict` has it.
    data : str
        The same as JSON, for whoever reads the page by a program.
    """
    return Template((files(__package__) / "page.html").read_text(encoding="utf-8")).substitute(
        ruling=escape(verdict["ruling"]),
        kind=escape(verdict["ruling"].replace(" ", "-")),
        title=escape(verdict["candidate"] or "a kernel"),
        subtitle=escape(f"beside {verdict['reference']}" if verdict["reference"] else ""),
        why=escape(verdict["why"]),
        sections="".join(
            f"<section><h2>{title}</h2>{body}</section>"
            for title, body in (
                ("Evidence", "".join(map(_evidence, grouped(verdict["findings"])))),
                ("Worst element", _worst(verdict["worst"])),
                ("Speed", _speeds(verdict["speed"])),
                ("Data tried", _matrix(verdict["tried"], verdict["findings"], verdict["calls"])),
                ("Data not tried", _list(verdict["not_tried"])),
                ("Library calls", _list(verdict["library_calls"])),
                ("Not covered", _list(verdict["limits"])),
            )
            if body
        ),
        environment=escape(json.dumps(verdict["environment"], indent=2, default=str)),
        data=data.replace("<", "\\u003c"),
    )


def _list(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def _evidence(group: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of the findings of one kind."""
    ruling = group[0]["ruling"]
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{escape(str(cell))}</td>"
            for cell in (place(each), each["seed"], each["sentence"], element(each))
        )
        + "</tr>"
        for each in group
    )
    return (
        f'<details open><summary><b class="{escape(ruling.replace(" ", "-"))}">'
        f"{escape(group[0]['kind'])}</b> <small>{len(group)}</small></summary>"
        f"{_table(head, rows)}</details>"
    )


def _worst(worst: Mapping[str, Any] | None) -> str:
    if worst is None or not (text := element(worst)):
        return ""
    return f"<p>{escape(text)}</p><p class=faint>{escape(place(worst))}</p>"


def _speeds(speeds: Sequence[Mapping[str, Any]]) -> str:
    """Return a line with an interval for each ratio, on one scale with a mark at 1."""
    if not speeds:
        return ""
    top = 1.1 * max(max(each["high"] for each in speeds), 1.0)

    def share(x: float) -> str:
        return f"{100 * x / top:.2f}%"

    lines = "".join(
        f'<div class=race><i class="{escape(each["label"])}" style="left:{share(each["low"])};'
        f'width:{share(each["high"] - each["low"])}"></i>'
        f'<b style="left:{share(each["ratio"])}"></b><u style="left:{share(1.0)}"></u></div>'
        f"<p>{escape(speed_in_words(each))}</p>"
        for each in speeds
    )
    return f"{lines}<p class=faint>The mark is at 1: as fast. Intervals of 95 %.</p>"


def _matrix(tried: Sequence[str], findings: Sequence[Mapping[str, Any]], calls: int) -> str:
    """Return families by sizes, each with the gravest finding of it."""
    pairs = [text.partition(", ")[::2] for text in tried]
    if not pairs:
        return ""
    sizes = list(dict.fromkeys(size for _, size in pairs))
    found: dict[tuple[str, str], str] = {}
    for each in findings:
        found.setdefault((each["family"], each["size"]), each["ruling"])
    head = "".join(f"<th>{escape(size)}</th>" for size in sizes)
    rows = "".join(
        f"<tr><th>{escape(family)}</th>"
        + "".join(_cell(found.get((family, size)), (family, size) in pairs) for size in sizes)
        + "</tr>"
        for family in dict.fromkeys(family for family, _ in pairs)
    )
    return f"{_table(f'<th></th>{head}', rows)}<p class=faint>{calls} results were checked.</p>"


def _table(head: str, rows: str) -> str:
    table = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f"<div class=scroll><table>{table}</table></div>"


def _cell(ruling: str | None, tried: bool) -> str:
    if not tried:
        return "<td></td>"
    said = ruling or "right"
    return f'<td class="{escape(said.replace(" ", "-"))}">{escape(said)}</td>'
