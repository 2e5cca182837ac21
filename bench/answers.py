"""Five ordinary data sets, seven ways in: how far each answer is from least squares.

    python bench/answers.py            the tables of docs/accuracy.md, as Markdown

R^2 lost is measured in long double against the minimiser on centred, scaled columns.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gdcore as gd

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from everyday import data_sets, r2_lost

Answer = tuple[Any, Any, str]  # weights, intercept, status


def one(fit: Any) -> Answer:
    return fit.weights, fit.intercept, fit.status


def command_line(X: Any, y: Any, *options: str) -> Answer:
    """Return what `gdcore fit` saves; its warning becomes one of this process."""
    with tempfile.TemporaryDirectory() as folder:
        table, model = Path(folder, "data.csv"), Path(folder, "model.npz")
        names = [f"x{j}" for j in range(X.shape[1])] + ["y"]
        np.savetxt(table, np.c_[X, y], "%.17g", ",", header=",".join(names), comments="")
        command = [sys.executable, "-m", "gdcore", "fit", str(table), "--target", "y"]
        done = subprocess.run(
            [*command, "--test-size", "0", "--save", str(model), "--json", *options],
            capture_output=True,
            text=True,
            check=True,
        )
        if notes := json.loads(done.stdout)["notes"]:
            warnings.warn(notes[0], gd.FitWarning, stacklevel=2)
        return one(gd.load(model))


def rolling(X: Any, y: Any, *args: Any, **options: Any) -> Answer:
    fit = gd.fit_rolling(X, y, len(y), *args, **options)
    return fit.weights[0], fit.intercept[0], fit.status[0]


def ways(X: Any, y: Any, *args: Any, **options: Any) -> Iterator[tuple[str, Callable[[], Answer]]]:
    """Yield each way in, and what asks it."""
    groups, halves = np.zeros(len(y), int), [(X[:40], y[:40]), (X[40:], y[40:])]
    yield "`fit`", lambda: one(gd.fit(X, y, *args, **options))
    yield "a stack", lambda: one(gd.fit(X[None], y[None], *args, **options)[0])
    yield "`fit_groups`", lambda: one(gd.fit_groups(X, y, groups, *args, **options)[0])
    yield "`fit_rolling`", lambda: rolling(X, y, *args, **options)
    yield "`Moments`", lambda: one(gd.Moments(X.shape[1]).update(X, y).fit(*args, **options))
    yield "chunks", lambda: one(gd.fit(halves, None, *args, **options))
    if not args:
        yield "command line", lambda: command_line(X, y)


def cell(X: Any, y: Any, ask: Callable[[], Answer]) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        weights, intercept, status = ask()
    lost = r2_lost(X, y, np.asarray(weights), np.asarray(intercept))
    return f"{lost:.0e} {status}" + (", warned" if caught else "")


def table(*args: Any, **options: Any) -> None:
    """Print one table: a row each data set, a column each way in."""
    for k, (name, (X, y)) in enumerate(data_sets().items()):
        columns = list(ways(X, y, *args, **options))
        if k == 0:
            print("| R² lost | " + " | ".join(way for way, _ in columns) + " |")
            print("|---" * (len(columns) + 1) + "|")
        print(f"| {name} | " + " | ".join(cell(X, y, ask) for _, ask in columns) + " |")
    print()


def main() -> None:
    print("The default call:\n")
    table()
    for words, sgd, standardize in (
        ("`SGD()`", gd.SGD(), False),
        ("`SGD()`, `standardize=True`", gd.SGD(), True),
        ("`SGD(momentum='auto')`, `standardize=True`", gd.SGD(momentum="auto"), True),
    ):
        print(f"{words}, 1000 epochs:\n")
        table(sgd, standardize=standardize)


if __name__ == "__main__":
    main()
