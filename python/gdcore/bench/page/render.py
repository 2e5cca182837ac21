"""A report as one page that needs no other file and no network."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from string import Template

from gdcore.bench.page.style import block, color
from gdcore.bench.results import ABOVE, Calls, Results, Row, Score
from gdcore.bench.table import digits, duration, percent

_VERDICTS = ("FAST", "SAME", "AMBG", "SLOW")


def require_matplotlib() -> None:
    """Raise ImportError, with advice, unless pictures can be drawn."""
    if find_spec("matplotlib") is None:
        raise ImportError("the HTML page needs matplotlib; run: pip install 'gdcore[bench]'.")


def render(report: Results) -> str:
    """Return a report as HTML: scores, roofline, bars of ratio, sortable table, environment."""
    require_matplotlib()
    from gdcore.bench.page.figures import bars, roofline

    about = report.environment
    return Template(_asset("page.html")).substitute(
        style=_asset("page.css"),
        script=_asset("page.js"),
        subtitle=escape(_subtitle(report)),
        notes="".join(_notes(report)),
        filters=_filters(report),
        scores=_section("scores", report, scores=_scores(report)),
        roofline=_section("roofline", report, figures=roofline(report)),
        bars=_section("bars", report, figures=bars(report)),
        calls=_section("calls", report, rows="\n".join(_rows(report, one_by_one=True))),
        rows=_section("rows", report, rows="\n".join(_rows(report, one_by_one=False))),
        environment=escape(json.dumps(about, indent=2, default=str)),
    )


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _subtitle(report: Results) -> str:
    about = report.environment
    parts = [
        about.get("cpu"),
        f"gdcore {about['gdcore']['version']}, {about['gdcore']['isa']}",
        about.get("git") and f"revision {about['git'][:10]}{'+' * about['git'].endswith('+')}",
        str(about.get("date", "")).replace("T", " ")[:16] + " UTC",
    ]
    return " · ".join(part for part in parts if part)


def _notes(report: Results) -> Iterator[str]:
    for row in report.absent():
        yield f"<p class={escape(row.status)}>{escape(f'{row.library}: {row.note}.')}</p>"
    for note in report.warnings:
        yield f"<p class=note>{escape(note)}</p>"


def _section(name: str, report: Results, **content: str) -> str:
    """Return a part of the page, nothing if it has no content."""
    if not any(content.values()):
        return ""
    page = Template(_asset(f"{name}.html"))
    margin = f"{100 * report.margin:g} %"
    return page.substitute(content, baseline=escape(report.baseline), margin=margin)


def _scores(report: Results) -> str:
    """Return a table of geometric means: a row for each library, a column for each suite."""
    scores = {(each.suite, each.library): each for each in report.scores()}
    suites = list(dict.fromkeys(suite for suite, _ in scores))
    libraries = list(dict.fromkeys(library for _, library in scores))
    lines = (
        f'<tr><th><i class=dot style="--dot:var(--c{color(report, name)})"></i>{escape(name)}</th>'
        + "".join(_score(suite, scores.get((suite, name))) for suite in suites)
        + "</tr>"
        for name in libraries
    )
    heads = "".join(f"<th>{escape(suite)}</th>" for suite in suites)
    body = "".join(lines)
    return f"<thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody>" if body else ""


def _score(suite: str, score: Score | None) -> str:
    """Return a mean, and below it a bar of the verdicts with their numbers."""
    label = f'data-label="{escape(suite)}"'
    if score is None:
        return f"<td class=none {label}>&ndash;</td>"
    parts = "".join(
        f'<i class={name} style="flex:{count}" title="{count} {name}">{count}</i>'
        for name in _VERDICTS
        if (count := score.verdicts.get(name))
    )
    mean = f"<b>{digits(score.mean)}<small>&times;</small></b>"
    return f"<td {label}>{mean}<span class=bar>{parts}</span></td>"


def _filters(report: Results) -> str:
    """Return a group of buttons for each part of the key that takes several values."""
    keys = [key for key, _ in report.races()]
    groups = {
        "suite": ["", *dict.fromkeys(key.suite for key in keys)],
        "dtype": list(dict.fromkeys(key.dtype for key in keys)),
        "threads": [str(each) for each in dict.fromkeys(key.threads for key in keys)],
    }
    return "".join(
        f'<fieldset data-filter="{name}"><legend>{name}</legend>'
        + "".join(
            f'<button type=button value="{escape(value)}">{escape(value) or "all"}</button>'
            for value in values
        )
        + "</fieldset>"
        for name, values in groups.items()
        if len(values) > (2 if name == "suite" else 1)
    )


def _rows(report: Results, one_by_one: bool) -> Iterator[str]:
    """Yield the rows of the suites whose calls are timed one by one, or those of the others."""
    suites = {row.suite for row in report.rows if row.calls}
    for index, row in enumerate(report.rows):
        if not row.suite or (row.suite in suites) != one_by_one:
            continue
        dot = f'<i class=dot style="--dot:var(--c{color(report, row.library)})"></i>'
        name = f"{dot}{escape(row.contestant)}"
        yield (
            f"<tr id=r{index} {block(row)}>{_cell(row.suite)}"
            f"{_cell(row.case, _natural(row.case))}{_cell(row.dtype)}"
            f'<td data-label=threads data-key="{row.threads}">{row.threads}</td>'
            f'<td data-key="{escape(row.library)}">{name}</td>{_measured(report, row)}</tr>'
        )


def _measured(report: Results, row: Row) -> str:
    if row.status != "timed":
        kind = escape(row.status)
        return f"<td colspan=6 class=untimed><b class={kind}>{kind}</b> {escape(row.note)}</td>"
    figures = _calls(row.calls, report.over_one_thread(row)) if row.calls else _speed(row)
    ratio = row.ratio
    if not ratio:
        return "".join((*figures, _number("takes", "", math.nan), "<td data-key=''></td>"))
    interval = f"95 % confidence: {digits(ratio.low)} to {digits(ratio.high)}"
    takes = _number("takes", f"{digits(ratio.value)} &times;", ratio.value)
    takes = takes.replace("<td", f'<td title="{interval}"')
    verdict = ratio.verdict
    said = f'<td data-key="{verdict}"><b class={verdict}>{verdict}</b></td>'
    return "".join((*figures, takes, said))


def _speed(row: Row) -> list[str]:
    cells = [
        _number("time", duration(row.seconds), row.seconds),
        _number("GFLOP/s", digits(row.gflops), row.gflops),
        _number("GB/s", digits(row.gbs), row.gbs),
        _number("of limit", percent(row.percent), row.percent),
    ]
    above = "; above it: see the note at the top" if row.percent > ABOVE else ""
    cells[3] = cells[3].replace("<td", f'<td title="limit: {escape(row.roof)}{above}"')
    return cells


def _calls(calls: Calls, over: float) -> list[str]:
    seconds = {"mean": calls.mean, "median": calls.median, "worst": calls.worst}
    cells = [_number(name, duration(value), value) for name, value in seconds.items()]
    shown = "" if math.isnan(over) else f"{digits(over)} &times;"
    return [*cells, _number("of 1 thread", shown, over)]


def _cell(value: object, key: str | None = None) -> str:
    text = escape(str(value))
    return f'<td data-key="{escape(key or text)}">{text}</td>'


def _number(label: str, text: str, value: float) -> str:
    key = "" if math.isnan(value) else repr(value)
    return f'<td class=number data-label="{label}" data-key="{key}">{text}</td>'


def _natural(text: str) -> str:
    """Return a key that sorts numbers in a text by their size."""
    return re.sub(r"\d+", lambda number: number[0].zfill(12), text.replace(",", ""))
