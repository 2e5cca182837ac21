"""Fits as Python shows them: in one line, and as a small table in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gdcore.data.home import on_host
from gdcore.notebook import html_block, html_row
from gdcore.status import counts_in_words
from gdcore.typing import Ints

MOST_NUMBERS = 6  # in a line
MOST_LINES = 10  # in a table
MOST_COLUMNS = 12
MORE = "..."
Columns = dict[str, Any]  # sequences by name


def line_of_fit(fit: Any) -> str:
    """Return a fit in one line."""
    model = on_host(fit)
    said = {
        "status": fit.status,
        "method": repr(fit.method),
        "epochs": fit.epochs,
        "loss": _number(fit.loss),
        "weights": numbers_in_words(model.weights),
        "intercept": numbers_in_words(model.intercept),
    }
    return f"Fit({', '.join(f'{name}={value}' for name, value in said.items())})"


def html_of_fit(fit: Any) -> str:
    """Return the parameters of a fit as an HTML table."""
    model = on_host(fit)
    several = np.ndim(model.weights) == 2
    weights = model.weights.reshape(len(model.weights), -1)
    columns = [f"weight {j}" for j in range(weights.shape[1])] if several else ["weight"]
    values = [weights, np.ravel(model.intercept)[None]]
    if fit.inference is not None and not several:
        columns, errors = ["weight", "stderr"], fit.stderr[:, None]
        no_error = np.full((1 - fit.fit_intercept, 1), np.nan)
        values = [np.hstack([np.concatenate(values), np.concatenate([errors, no_error])])]
    table = np.concatenate(values)
    names = fit.feature_names or range(len(weights))
    rows, shown = _few(len(table), MOST_LINES), _few(len(columns), MOST_COLUMNS)
    lines = [html_row(["", *_cells(columns, shown)], [])]
    for i in rows:
        name = MORE if i is None else "intercept" if i == len(weights) else str(names[i])
        cells = [MORE] * len(shown) if i is None else _cells(list(map(_number, table[i])), shown)
        lines.append(html_row([name], cells))
    title = f"Linear model of {fit.target_name}" if fit.target_name else "Linear model"
    return html_block(title, lines, [fit.message])


def line_of_many(name: str, noun: str, fits: Any) -> str:
    """Return many fits in one line."""
    weights = on_host(fits).weights
    shape = f"weights of shape {weights.shape}, {weights.dtype}"
    return f"{name}({len(weights)} {noun}, {shape}: {counts_in_words(fits.status) or 'none'})"


def ends_of(count: int) -> Ints:
    """Return the numbers of the problems that a table shows: the first and the last ones."""
    return np.array([i for i in _few(count, MOST_LINES) if i is not None], np.int64)


def html_of_many(title: str, keys: Columns, results: Columns, count: int, note: str) -> str:
    """Return columns, which hold the problems `ends_of` count, as an HTML table."""
    names = list(results)
    shown = _few(len(names), MOST_COLUMNS)
    lines = [html_row([*keys, *_cells(names, shown)], [])]
    for line, i in enumerate(_few(count, MOST_LINES)):
        at = line - (count > MOST_LINES and line > MOST_LINES // 2)
        heads = [MORE if i is None else _text(column, at) for column in keys.values()]
        cells = [MORE if i is None else _text(column, at) for column in results.values()]
        lines.append(html_row(heads, _cells(cells, shown)))
    return html_block(title, lines, [note])


def _few(count: int, most: int) -> list[int | None]:
    """Return the first numbers below count, None, and the last ones; all if there are not more."""
    if count <= most:
        return list(range(count))
    half = most // 2
    return [*range(half), None, *range(count - half, count)]


def _cells(texts: Sequence[str], shown: list[int | None]) -> list[str]:
    return [MORE if j is None else texts[j] for j in shown]


def _text(values: Sequence[Any], i: int) -> str:
    """Return an entry as a table shows it."""
    value = values[i]
    if isinstance(value, float | np.floating):
        return _number(value)
    if isinstance(values, np.ndarray) and values.dtype.kind in "mM":
        from gdcore.data.labels import label_name

        return label_name(values, i)
    return str(value)


def numbers_in_words(array: Any) -> str:
    """Return a number, or a few of those in an array."""
    if np.ndim(array) == 0:
        return _number(array)
    if np.ndim(array) > 1:
        return f"array of shape {np.shape(array)}"
    kept = (MORE if i is None else _number(array[i]) for i in _few(len(array), MOST_NUMBERS))
    return f"[{' '.join(kept)}]"


def _number(value: Any) -> str:
    return f"{float(value):.4g}"
