"""Tables too large to be read whole: trained on, and scored, a chunk of rows at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import gdcore as gd
from gdcore.cli.training import Rows, Scaling
from gdcore.tables import Table

LARGE_BYTES = 1 << 30


def is_large(table: Table) -> bool:
    """Whether a table is read in chunks rather than whole."""
    return table.size >= LARGE_BYTES


class Share:
    """The rows of chunks that are for testing, or the others: each row is drawn by itself."""

    def __init__(self, chunks: gd.ChunkReader, share: float, seed: int, testing: bool) -> None:
        self._chunks, self._share, self._seed, self._testing = chunks, share, seed, testing
        self.scaling: Scaling | None = None

    def __iter__(self) -> Iterator[Rows]:
        for part in self.parts():
            yield from part()

    def parts(self) -> Sequence[Callable[[], Iterable[Rows]]]:
        """Return functions that each read a part of the rows; the draw depends on its number."""
        return [partial(self._read, i, part) for i, part in enumerate(self._chunks.parts())]

    def _read(self, number: int, part: Callable[[], Iterable[Any]]) -> Iterator[Rows]:
        rng = np.random.default_rng([self._seed, number])
        for X, y in part():
            chosen = (rng.random(len(y)) < self._share) == self._testing
            X = X[chosen]
            X = self.scaling.apply(X).astype(X.dtype) if self.scaling else X
            yield X, y[chosen]


def learn_large(
    table: Table,
    target: str,
    features: tuple[str, ...],
    sgd: gd.SGD,
    *,
    test_size: float,
    standardize: bool,
    dtype: str,
    save: Path | None,
    **settings: Any,
) -> tuple[gd.Fit, dict[str, float], dict[str, float], bool]:
    """Return a model of a table's columns, its scores on training and test rows, and if stopped."""
    if not 0 <= test_size < 1:
        raise ValueError(f"--test-size must be at least 0 and below 1, not {test_size:g}.")
    chunks = gd.ChunkReader(table, target, features, dtype=dtype)
    train, test = (Share(chunks, test_size, settings["seed"], testing) for testing in (False, True))
    scaling = _scaling(train, chunks.feature_names) if standardize else None
    train.scaling, interrupted = scaling, False
    try:
        model = gd.fit(train, sgd=sgd, **settings)
    except gd.FitInterrupted as stopped:
        model, interrupted = stopped.fit, True
        warnings.warn(f"interrupted after {model.epochs} epochs.", stacklevel=1)
    model = scaling.undo(model) if scaling else model
    model = replace(model, feature_names=chunks.feature_names, target_name=target)
    if save:
        model.save(save)
    train.scaling = None
    scores = [_nothing() if interrupted else _score(model, part) for part in (train, test)]
    return model, scores[0], scores[1], interrupted


def _scaling(chunks: Share, names: Sequence[str]) -> Scaling:
    """Measure columns in one reading; a constant one becomes 0, with a warning that names it."""
    moments = gd.Moments(len(names))
    for X, y in chunks:
        moments.update(X, y)
    d, n = len(names), max(moments.n, 1)
    table = (moments.hi + moments.lo)[: (d + 1) * (d + 2)].reshape(d + 1, d + 2)
    mean = table[:d, d] / n
    variance = table.diagonal()[:d] / n - mean**2
    constant = variance <= 4 * np.finfo(float).eps * mean**2
    if constant.any():
        listed = ", ".join(np.asarray(names)[constant])
        warnings.warn(f"constant in the training rows, so of no use: {listed}.", stacklevel=2)
    return Scaling(mean, np.where(constant, 1.0, np.sqrt(np.where(constant, 1.0, variance))))


def _score(model: gd.Fit, chunks: Iterable[Rows]) -> dict[str, float]:
    """Return the size, mean squared error and R2 of the rows of chunks; NaN where not defined."""
    squares, targets = 0.0, gd.Moments(0)
    for X, y in chunks:
        if len(y):
            squares += float(gd.mse(model.predict(X), y, reduction="sum"))
            targets.update(np.empty((len(y), 0)), y.astype(float))
    if not targets.n:
        return _nothing()
    mse, mean = squares / targets.n, float(targets.hi[1]) / targets.n
    variance = max(0.0, float(targets.hi[2]) / targets.n - mean**2)
    return {"rows": targets.n, "mse": mse, "r2": 1 - mse / variance if variance else math.nan}


def _nothing() -> dict[str, float]:
    return {"rows": 0, "mse": math.nan, "r2": math.nan}
