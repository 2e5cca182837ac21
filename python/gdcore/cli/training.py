"""From a table to a model: choose columns, split rows, and fit."""

from __future__ import annotations

import csv
import math
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

import gdcore as gd
from gdcore.tables import Table

Array = NDArray[Any]
Rows = tuple[Array, Array]  # X (n, d) and y (n,)


class Learned(NamedTuple):
    """What came of the rows: the model asked for, and the closed form beside it."""

    model: gd.Fit
    exact: gd.Fit
    interrupted: bool


def learn(
    rows: Rows,
    names: tuple[str, ...],
    target: str,
    sgd: gd.SGD,
    *,
    standardize: bool,
    dtype: str,
    save: Path | None,
    **settings: Any,
) -> Learned:
    """Fit rows, with the settings of `gdcore.fit`, to models of the columns as they are.

    The model is saved as soon as it is there: Ctrl-C during the closed form cannot lose it.
    """
    X, y = _in_dtype(*rows, dtype)

    def named(model: gd.Fit) -> gd.Fit:
        return replace(model, feature_names=names, target_name=target)

    interrupted = False
    try:
        model = gd.fit(X, y, sgd, standardize=standardize, **settings)
    except gd.FitInterrupted as stopped:
        model, interrupted = stopped.fit, True
        warnings.warn(f"interrupted after {model.epochs} epochs.", stacklevel=1)
    model = named(model)
    if save:
        model.save(save)
    warn_of_constants(model, standardize)
    same = {name: settings[name] for name in ("device", "covariance") if name in settings}
    exact = gd.fit(X, y, sgd, method="exact", standardize=standardize, **same)
    return Learned(model, named(exact), interrupted)


def warn_of_constants(model: gd.Fit, standardize: bool) -> None:
    """Name the features that have no spread: their standardised weights stay 0."""
    if not (standardize and model.feature_names and model.epochs):
        return
    if constant := [n for n, w in zip(model.feature_names, model.weights, strict=True) if w == 0]:
        listed = ", ".join(constant)
        warnings.warn(f"constant in the training rows, so of no use: {listed}.", stacklevel=2)


def choose_features(table: Table, target: str, wanted: str | None) -> tuple[str, ...]:
    """Return the columns to predict from.

    Parameters
    ----------
    wanted : str, optional
        Names separated by commas, quoted as in a CSV file where a name holds one; by default,
        all columns but the target.

    Examples
    --------
    >>> from gdcore.tables.arrays import ArrayTable
    >>> table = ArrayTable("cars.npz", {name: np.ones(1) for name in ("mass", "hp", "mpg")})
    >>> choose_features(table, "mpg", None)
    ('mass', 'hp')
    >>> choose_features(table, "mpg", "hp")
    ('hp',)
    """
    names = None
    if wanted is not None:
        names = [name.strip() for name in next(csv.reader([wanted], skipinitialspace=True), [])]
    chosen = table.choose(target, names, (), _features_option)
    if not chosen:
        raise ValueError(f"there is no column of {table.label} to predict {target!r} from.")
    return chosen


def _features_option(names: Sequence[str]) -> str:
    """Return the option that chooses columns."""
    return f"--features {shlex.quote(','.join(names))}"


def model_columns(model: gd.Fit, table: Table) -> tuple[str, ...]:
    """Return the columns of a table that a model predicts from: by name, if it has any."""
    d, names = len(model.weights), tuple(name for name in table.names if name not in table.index)
    if model.feature_names is None and len(names) != d:
        raise ValueError(
            f"the model has no names for its {d} features, so {table.label} must have exactly "
            f"{d} columns in the same order, not {len(names)}."
        )
    return model.feature_names or names


def parse_rate(option: str, text: str) -> float | Literal["auto"]:
    """Return the learning rate or momentum that a word means."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} must be auto or a number, not {text!r}.") from None


def read_rows(table: Table, names: Sequence[str], *, drop: bool) -> tuple[Array, int]:
    """Return the rows of some columns without those of missing values, and the number of those.

    ValueError if there is one, unless they are to be dropped, or if no row is left.
    """
    rows = table.numbers(names, gaps=drop, advice=", or pass --missing drop")
    known = ~np.isnan(rows).any(axis=1)
    if not known.any() and len(rows):
        nothing = [
            name for name, column in zip(names, rows.T, strict=True) if np.isnan(column).all()
        ]
        why = f": {nothing[0]!r} has no value" if nothing else ""
        raise ValueError(
            f"every row of {table.label} has a missing value{why}; choose other columns with "
            "--features."
        )
    return (rows, 0) if known.all() else (rows[known], int((~known).sum()))


def note_of_dropped(dropped: int, rows: int) -> None:
    """Say how many rows were left out."""
    if dropped:
        text = f"{dropped} of {rows} rows have missing values and were left out."
        warnings.warn(text, stacklevel=2)


def split_rows(X: Array, y: Array, *, test_size: float, seed: int) -> tuple[Rows, Rows]:
    """Draw rows to test on; the rest, in their order, are for training.

    Parameters
    ----------
    test_size : float
        Share of the rows to test on, rounded up to a whole number of them.
    seed : int
        Which draw: the first of ``numpy.random.default_rng(seed).permutation(n)``.

    Examples
    --------
    >>> X, y = np.arange(4.0)[:, None], np.arange(4.0)
    >>> train, test = split_rows(X, y, test_size=0.25, seed=0)
    >>> train[1], test[1]
    (array([0., 1., 3.]), array([2.]))
    """
    if not 0 <= test_size < 1:
        raise ValueError(f"--test-size must be at least 0 and below 1, not {test_size:g}.")
    n = len(y)
    n_test = math.ceil(n * test_size)
    if n_test == n:
        raise ValueError(
            f"with {n} row{'s' if n > 1 else ''} and --test-size {test_size:g} none is left to "
            "train on; use --test-size 0."
        )
    testing = np.zeros(n, bool)
    testing[np.random.default_rng(seed).permutation(n)[:n_test]] = True
    return (X[~testing], y[~testing]), (X[testing], y[testing])


def _in_dtype(X: Array, y: Array, dtype: str) -> Rows:
    """Return data in the dtype to compute with, none of its numbers overflown."""
    with np.errstate(over="ignore"):
        X, y = X.astype(dtype), y.astype(dtype)
    if not (np.isfinite(X).all() and np.isfinite(y).all()):
        raise ValueError(f"the data holds numbers that {dtype} does not; use --dtype float64.")
    return X, y
