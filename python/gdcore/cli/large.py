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
from gdcore.cli.training import Rows, warn_of_constants
from gdcore.tables import Table

LARGE_BYTES = 1 << 30


def is_large(table: Table) -> bool:
    """Whether a table is read in chunks rather than whole."""
    return table.size >= LARGE_BYTES


class Share:
    """The rows of chunks for testing, or for training: each row is drawn by itself."""

    def __init__(self, chunks: gd.ChunkReader, share: float, seed: int, testing: bool) -> None:
        self._chunks, self._share, self._seed, self._testing = chunks, share, seed, testing
        self._dropped: dict[int, int] = {}  # rows with missing values, by part

    @property
    def dropped(self) -> int:
        """Rows with missing values in the parts that were read; they are left out."""
        return sum(self._dropped.values())

    def __iter__(self) -> Iterator[Rows]:
        for part in self.parts():
            yield from part()

    def parts(self) -> Sequence[Callable[[], Iterable[Rows]]]:
        """Return functions that each read a part of the rows; the draw depends on its number."""
        return [partial(self._read, i, part) for i, part in enumerate(self._chunks.parts())]

    def _read(self, number: int, part: Callable[[], Iterable[Any]]) -> Iterator[Rows]:
        rng = np.random.default_rng([self._seed, number])
        dropped = 0
        for X, y in part():
            chosen = (rng.random(len(y)) < self._share) == self._testing
            known = ~(np.isnan(X).any(axis=1) | np.isnan(y))
            dropped += int((chosen & ~known).sum())
            yield X[chosen & known], y[chosen & known]
        self._dropped[number] = dropped


def learn_large(
    table: Table,
    target: str,
    features: tuple[str, ...],
    sgd: gd.SGD,
    *,
    drop: bool,
    test_size: float,
    standardize: bool,
    dtype: str,
    save: Path | None,
    **settings: Any,
) -> tuple[gd.Fit, dict[str, float], dict[str, float], int, bool]:
    """Return a model of a table's columns, and what came of the rows.

    That is the scores on training and on test rows, the rows left out, and if it was stopped.
    """
    if not 0 <= test_size < 1:
        raise ValueError(f"--test-size must be at least 0 and below 1, not {test_size:g}.")
    advice = ", or pass --missing drop"
    chunks = gd.ChunkReader(table, target, features, dtype=dtype, advice=advice)
    chunks = chunks.keeping_gaps() if drop else chunks
    train, test = (Share(chunks, test_size, settings["seed"], testing) for testing in (False, True))
    interrupted = False
    try:
        model = gd.fit(train, sgd=sgd, standardize=standardize, **settings)
    except gd.FitInterrupted as stopped:
        model, interrupted = stopped.fit, True
        warnings.warn(f"interrupted after {model.epochs} epochs.", stacklevel=1)
    model = replace(model, feature_names=chunks.feature_names, target_name=target)
    if save:
        model.save(save)
    warn_of_constants(model, standardize)
    scores = [_nothing() if interrupted else _score(model, part) for part in (train, test)]
    return model, scores[0], scores[1], train.dropped + test.dropped, interrupted


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
