"""A report as text: a line for each library on each case."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from gdcore.bench import suites
from gdcore.bench.results import Key, Results, Row, counted
from gdcore.notebook import html_block, html_row

_UNITS = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SPEED = ("time", "GFLOP/s", "GB/s", "limit")
_CALLS = ("mean", "median", "worst", "of 1 thread")
_VERDICT = ("takes", "95 %", "")


def render(report: Results) -> str:
    """Return the table, a block for each suite, dtype and thread count."""
    blocks: dict[tuple[str, str, int], list[tuple[Key, list[Row]]]] = {}
    for key, rows in report.races():
        blocks.setdefault((key.suite, key.dtype, key.threads), []).append((key, rows))
    lines: list[str] = []
    for block in blocks.values():
        lines += [*_table(report, block), ""]
    lines += [*_summary(report), *report.notes]
    return "\n".join(lines).rstrip()


def render_html(report: Results) -> str:
    """Return the table as HTML for a notebook."""
    lines, before = [], None
    for key, rows in report.races():
        if (heads := _heads(rows)) != before:
            lines.append(html_row(("case", *heads), []))
            before = heads
        shown = [row for row in rows if row.status != "unsupported"]
        for i, row in enumerate(shown):
            library, *cells = _cells(report, row)
            case = f"{heading(key)}, {key.case}" if i == 0 else ""
            lines.append(html_row([case, library], cells))
    return html_block("", lines, [*_summary(report), *report.notes])


def duration(seconds: float) -> str:
    """Return a time with three digits and a unit that fits.

    Examples
    --------
    >>> duration(0.00123456)
    '1.23 ms'
    """
    if math.isnan(seconds):
        return ""
    scale, unit = next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])
    return f"{digits(seconds / scale)} {unit}"


def digits(value: float) -> str:
    """Return a positive number with three digits, no more than three of them decimals.

    Examples
    --------
    >>> digits(0.0123456), digits(12.3456), digits(12345.6), digits(1e-6)
    ('0.012', '12.3', '12346', '<0.001')
    """
    if math.isnan(value):
        return ""
    if value < 0.001:
        return "<0.001"
    decimals = 2 - math.floor(math.log10(value))
    return f"{value:.{min(max(decimals, 0), 3)}f}"


def percent(value: float) -> str:
    """Return a percentage, with a decimal if it is small.

    Examples
    --------
    >>> percent(61.8), percent(1.23)
    ('62 %', '1.2 %')
    """
    return "" if math.isnan(value) else f"{value:.{0 if value >= 9.95 else 1}f} %"


def heading(key: Key) -> str:
    """Return what the rows of one block share.

    Examples
    --------
    >>> heading(Key("matmul", "1 2 2 2", "float32", 2))
    'matmul, float32, 2 threads'
    """
    return ", ".join(part for part in (key.suite, key.dtype, counted(key.threads)) if part)


def _table(report: Results, races: Sequence[tuple[Key, list[Row]]]) -> Iterator[str]:
    cells: list[tuple[str, ...]] = []
    for key, rows in races:
        shown = [row for row in rows if row.status != "unsupported"]
        cells += [(key.case if i == 0 else "", *_cells(report, row)) for i, row in enumerate(shown)]
    heads = (suites.sizes(races[0][0].suite) or "case", *_heads(races[0][1]))
    timed = [row for row in cells if len(row) == len(heads)]
    widths = [max(map(len, column)) for column in zip(heads, *timed, strict=True)]
    widths[0] = max(len(row[0]) for row in [heads, *cells])
    widths[1] = max(len(row[1]) for row in [heads, *cells])
    yield (
        heading(races[0][0])
        if any(row.calls for row in races[0][1])
        else _title(report, races[0][0])
    )
    for row in [heads, *cells]:
        left = f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  "
        if len(row) == len(heads):
            right = (f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True))
            yield (left + "  ".join(right)).rstrip()
        else:
            yield left + row[2]


def _heads(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return what the cells of some rows of one suite are."""
    one_by_one = any(row.calls for row in rows)
    return ("library", *(_CALLS if one_by_one else _SPEED), *_VERDICT)


def _cells(report: Results, row: Row) -> tuple[str, ...]:
    """Return the cells of a row after its case; two of them if it was not timed."""
    if row.status != "timed":
        return row.contestant, f"{row.status.upper()}: {row.note}"
    times = ("", "", "")
    if ratio := row.ratio:
        times = (
            f"{digits(ratio.value)} x",
            f"{digits(ratio.low)}..{digits(ratio.high)}",
            ratio.verdict,
        )
    if row.calls:
        seconds = map(duration, row.calls[1:])
        over = digits(report.over_one_thread(row))
        return row.contestant, *seconds, over and f"{over} x", *times
    speed = (digits(row.gflops), digits(row.gbs))
    return row.contestant, duration(row.seconds), *speed, percent(row.percent), *times


def _title(report: Results, key: Key) -> str:
    limits = report.limits_of(key.threads)
    if limits is None or key.dtype not in limits.peak:
        return heading(key)
    reads = ", ".join(f"{each.name} {each.read / 1e9:.0f}" for each in limits.levels)
    return f"{heading(key)}; peak {limits.peak[key.dtype] / 1e9:.0f} GFLOP/s, reads {reads} GB/s"


def _summary(report: Results) -> Iterator[str]:
    for score in report.scores():
        verdicts = ", ".join(f"{count} {name}" for name, count in sorted(score.verdicts.items()))
        yield (
            f"{score.suite}: {score.library} takes {digits(score.mean)} x as long as "
            f"{report.baseline} (geometric mean; {report.baseline} is {verdicts})"
        )
    for (suite, library, threads), costs in report.thread_costs().items():
        mean = math.exp(statistics.fmean(map(math.log, costs)))
        yield (
            f"{suite}: with {counted(threads)}, {library} takes {digits(mean)} x as long as with "
            f"one (geometric mean; at most {digits(max(costs))} x)"
        )
