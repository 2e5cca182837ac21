"""Tables of fits, as text and as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdcore.data.home import on_host
from gdcore.data.labels import problem_name
from gdcore.notebook import escape, html_row, html_table
from gdcore.results.student import checked_level, has_scipy
from gdcore.status import Status, counts_in_words
from gdcore.typing import Floats

_PROBLEMS = 5  # in the table of many, at most
_LINES = 30  # in the table of many, at most
_REASONS = 5  # why standard errors of some of many are NaN, at most
_WIDEST = 40  # characters of a name
_ASSUMES_OLS = "Standard errors assume errors of one variance (covariance='ols')."
_ALLOWS = (
    "Standard errors allow the variance of errors to differ from row to row (covariance={!r})."
)
_TITLE = "Linear model"
_NO_SCIPY = "P-values and intervals need the package scipy: pip install 'gdcore[stats]'."
_NO_COVARIANCE = "For standard errors fit again with covariance='ols', or 'hc0' to 'hc3'."

Row = tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A table of parameters: of one target, or of some of many problems."""

    title: str
    columns: Row
    rows: tuple[Row, ...]
    names: int = 1  # columns on the left that hold names


@dataclass(frozen=True)
class Summary:
    """The table of a fit, from `Fit.summary`: ``print`` shows it as text, a notebook as HTML.

    Attributes
    ----------
    title : str
    facts : tuple of pairs of str
        Names and values in the head.
    blocks : tuple
        Tables of parameters, one for each target: `title`, `columns` and `rows`, all text.
    notes : tuple of str
        Sentences below: what the standard errors assume, and why some are NaN.
    """

    __module__ = "gdcore"

    title: str
    facts: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        tables = [_aligned([block.columns, *block.rows], block.names) for block in self.blocks]
        body = max(len(table[0]) for table in tables)
        head = _in_two_columns(self.facts, body)
        width = max(body, *map(len, (self.title, *head)), *(len(b.title) for b in self.blocks))
        lines = [self.title.center(width).rstrip(), "=" * width, *head, "=" * width]
        for block, (columns, *rows) in zip(self.blocks, tables, strict=True):
            lines += [block.title] if block.title else []
            lines += [columns.rstrip(), "-" * width, *rows, "=" * width]
        return "\n".join([*lines, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        facts = [html_row([name], [value]) for name, value in self.facts]
        parts = [html_table(self.title, facts)]
        for block in self.blocks:
            rows = [html_row(block.columns, [])]
            rows += [html_row(row[: block.names], row[block.names :]) for row in block.rows]
            parts.append(html_table(block.title, rows))
        parts += [f"<p>{escape(note)}</p>" for note in self.notes]
        return f"<div>{''.join(parts)}</div>"


def summarize(fit: Any, level: float) -> Summary:
    """Return the table of a `Fit`, or of the first of many and counts of the rest."""
    level = checked_level(level)
    return _of_many(fit, level) if np.ndim(fit.status) else _of_one(fit, level)


def _of_one(fit: Any, level: float) -> Summary:
    targets = _targets_of(fit)
    target = _short(targets[0]) if len(targets) == 1 else f"{len(targets)} columns"
    facts = [("Target", target), *_sizes(fit)]
    facts += [("Method", fit.method), ("Status", str(fit.status))]
    names, columns, blocks = _column_names(fit, level), _columns(fit, level), []
    for j, target in enumerate(targets):
        quality = _quality(fit, j)
        title = ""
        if len(targets) > 1:
            title = ", ".join([f"Target {_short(target)}", *map(" ".join, quality)])
        else:
            facts += quality
        blocks.append(Block(title, ("", *names), tuple(_rows(fit, columns, j))))
    reasons = [] if fit.status is Status.CONVERGED else [fit.message]
    if fit.inference is not None:
        reasons += _reasons_of_targets(fit.inference.reason, targets)
    return Summary(_TITLE, tuple(facts), tuple(blocks), tuple(_notes(fit, reasons)))


def _of_many(fits: Any, level: float) -> Summary:
    count, targets = len(fits), _targets_of(fits)
    lines_each = max(len(targets) * len(_names_of(fits)), 1)
    shown = min(count, _PROBLEMS, max(1, _LINES // lines_each))
    lines: list[Row] = []
    for i in range(shown):
        fit, who = fits[i], _short(problem_name(fits.groups, i))
        columns = _columns(fit, level)
        for j, target in enumerate(targets):
            whose = f"{who}, {_short(target)}" if len(targets) > 1 else who
            rows = _rows(fit, columns, j)
            lines += [(whose if k == 0 else "", *row) for k, row in enumerate(rows)]
    block = Block("", ("", "", *_column_names(fits, level)), tuple(lines[:_LINES]), names=2)
    facts = [
        ("Problems", str(count)),
        ("Status", counts_in_words(fits.status) or "none"),
        ("Method", fits.method),
    ]
    if fits.rows is not None and count:
        facts.append(("Rows", f"{fits.rows.min()} to {fits.rows.max()}, {fits.rows.sum()} in all"))
    if fits.inference is not None:
        facts.append(("Covariance", fits.inference.kind))
    notes = _notes(fits, _reasons(fits))
    if shown < count or len(lines) > _LINES:
        first = f"the first {shown} problems" if shown > 1 else "the first problem"
        notes.insert(0, f"The table shows {first} of {count}; fits[i].summary() shows another.")
    return Summary(_TITLE, tuple(facts), (block,), tuple(notes))


def _notes(fit: Any, reasons: Sequence[str]) -> list[str]:
    if fit.inference is None:
        return [*reasons, _NO_COVARIANCE]
    missing = [] if has_scipy() else [_NO_SCIPY]
    kind = fit.inference.kind
    assumed = _ASSUMES_OLS if kind == "ols" else _ALLOWS.format(kind)
    return [*reasons, assumed, *missing]


def _reasons_of_targets(reason: Any, targets: Sequence[str]) -> list[str]:
    """Say why a fit has no standard errors, or which of its targets have none."""
    if isinstance(reason, str):
        return [f"No standard errors: {reason}"] if reason else []
    return [
        f"No standard errors for {_short(target)}: {why}"
        for target, why in zip(targets, reason.tolist(), strict=True)
        if why
    ]


def _reasons(fits: Any) -> list[str]:
    """Say how many of many problems have no standard errors, for each reason, and the first."""
    if fits.inference is None or not len(fits):
        return []
    reasons = np.asarray(fits.inference.reason, object)
    problems = [dict.fromkeys(each) for each in reasons.reshape(len(fits), -1).tolist()]
    counts = Counter(reason for each in problems for reason in each if reason)
    lack = "no standard errors" + (" for a target" if reasons.ndim == 2 else "")
    said = []
    for reason, count in counts.most_common(_REASONS):
        first = next(i for i, each in enumerate(problems) if reason in each)
        who = problem_name(fits.groups, first)
        said.append(f"{count} of {len(fits)} problems have {lack} (the first is {who}): {reason}")
    if len(counts) > _REASONS:
        rest = counts.total() - sum(count for _, count in counts.most_common(_REASONS))
        said.append(f"{rest} more have none for other reasons: see fits.inference.reason.")
    return said


def _sizes(fit: Any) -> list[tuple[str, str]]:
    """Return the facts about rows, unless targets were fitted in different ones."""
    facts = [] if np.ndim(fit.rows) else _rows_in_words(fit.rows, fit.dropped)
    if fit.inference is None:
        return facts
    if not np.ndim(fit.df_resid):
        facts.append(("Df residuals", str(fit.df_resid)))
    return [*facts, ("Covariance", fit.inference.kind)]


def _rows_in_words(rows: Any, dropped: Any) -> list[tuple[str, str]]:
    facts = [] if rows is None else [("Rows", str(rows))]
    return [*facts, ("Rows left out", str(dropped))] if np.any(dropped) else facts


def _quality(fit: Any, target: int) -> list[tuple[str, str]]:
    """Return how well a fit explains one of its targets, and its rows if they are its own."""
    facts = _rows_in_words(fit.rows[target], fit.dropped[target]) if np.ndim(fit.rows) else []
    if fit.inference is None:
        return facts
    if np.ndim(fit.df_resid):
        facts.append(("Df residuals", str(fit.df_resid[target])))

    def of_target(value: Any) -> float:
        return float(value[target] if np.ndim(value) else value)

    return [
        *facts,
        ("R-squared", f"{of_target(fit.r2):.4f}"),
        ("Adj. R-squared", f"{of_target(fit.adj_r2):.4f}"),
        ("Sigma", f"{np.sqrt(of_target(fit.sigma2)):.4g}"),
    ]


def _column_names(fit: Any, level: float) -> Row:
    names: Row = ("coef",)
    if fit.inference is not None:
        names += "std err", "t"
        if has_scipy():
            names += "P>|t|", f"[{(1 - level) / 2:.10g}", f"{(1 + level) / 2:.10g}]"
    return names


def _columns(fit: Any, level: float) -> list[Floats]:
    """Return what stands under `_column_names`, for all targets of one fit."""
    columns = [fit.parameters]
    if fit.inference is not None:
        columns += [fit.stderr, fit.tvalues]
        if has_scipy():
            interval = fit.conf_int(level)
            columns += [fit.pvalues, interval[..., 0], interval[..., 1]]
    return columns


def _rows(fit: Any, columns: list[Floats], target: int) -> list[Row]:
    """Return the rows of one target's table."""
    of_target = [column[:, target] if column.ndim == 2 else column for column in columns]
    show = [_number, _number, _plain, _plain, _number, _number]
    return [
        (name, *(text(value) for text, value in zip(show, values, strict=False)))
        for name, *values in zip(_names_of(fit), *of_target, strict=True)
    ]


def _names_of(fit: Any) -> list[str]:
    """Return the names of the parameters."""
    d = np.shape(on_host(fit).weights)[np.ndim(fit.status)]
    names = fit.feature_names or [f"x{j + 1}" for j in range(d)]
    return [*map(_short, names), *(["intercept"] if fit.fit_intercept else [])]


def _targets_of(fit: Any) -> list[str]:
    """Return the names of the targets."""
    shape, lead = np.shape(on_host(fit).weights), np.ndim(fit.status)
    if len(shape) == lead + 1:
        return [fit.target_name or "y"]
    return [f"{fit.target_name or 'y'}[:, {j}]" for j in range(shape[-1])]


def _short(name: str) -> str:
    return name if len(name) <= _WIDEST else name[: _WIDEST - 3] + "..."


def _number(value: float) -> str:
    """Return a coefficient: four decimals, or four digits if it is very large or small."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


def _plain(value: float) -> str:
    """Return a t or p-value: three decimals."""
    return f"{value:.3f}" if not abs(value) >= 1e6 else f"{value:.3g}"


def _aligned(rows: Sequence[Row], names: int) -> list[str]:
    """Return the lines of a table: names on the left, numbers right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if k < names else text.rjust(max(width, 8))
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _in_two_columns(facts: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Return lines with two facts each, the first half of them on the left."""
    half = (len(facts) + 1) // 2
    sides = []
    for side in (facts[:half], facts[half:]):
        widest = max((len(name) for name, _ in side), default=0)
        sides.append([f"{name + ':':<{widest + 2}}{value}" for name, value in side])
    left, right = sides
    right += [""] * (half - len(right))
    start = max([width // 2, *(len(text) + 2 for text in left)])
    return [f"{a:<{start}}{b}".rstrip() for a, b in zip(left, right, strict=True)]
