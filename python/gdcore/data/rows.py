"""Rows as arrays of one dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import gdcore._core as _core
from gdcore.data.device import Place, is_local, local, placed, taken, upload
from gdcore.data.sums import moments_of
from gdcore.typing import Bools, Floats, Ints

# Numbers looked at together: those that stay in a cache, and those worth a copy from a device.
LOCAL_BLOCK, DEVICE_BLOCK = 1 << 15, 1 << 21


class Rows(NamedTuple):
    """X (n, d), y (n, t), offset (n, t) or None, sample_weight (n,) or None, of one dtype."""

    X: Floats
    y: Floats
    offset: Floats | None
    sample_weight: Floats | None

    @property
    def nbytes(self) -> int:
        """Bytes of X and y."""
        return self.X.nbytes + self.y.nbytes

    def placed(self, place: Place) -> Rows:
        """Return the rows where they are to be: on a CUDA device, or where they are."""
        return Rows(*(None if a is None else placed(a, place) for a in self))  # type: ignore[arg-type]

    def local(self) -> Rows:
        """Return the rows as NumPy's arrays: themselves, or copies of what is on a device."""
        return Rows(*(None if a is None else local(a) for a in self))  # type: ignore[arg-type]

    def local_blocks(self) -> Iterator[Rows]:
        """Yield the rows as NumPy's arrays, a block of them after the other."""
        rows = LOCAL_BLOCK if is_local(self.X) else DEVICE_BLOCK
        step = max(1, rows // (self.X.shape[1] + self.y.shape[1]))
        for begin in range(0, len(self.X), step):
            yield self.part(begin, begin + step).local()

    def part(self, begin: int, end: int) -> Rows:
        """Return some of the rows."""
        return Rows(*(None if a is None else a[begin:end] for a in self))  # type: ignore[arg-type]

    def of_target(self, j: int) -> Rows:
        """Return the rows with one of their targets."""
        offset = None if self.offset is None else self.offset[..., j : j + 1]
        return Rows(self.X, self.y[..., j : j + 1], offset, self.sample_weight)

    def taken(self, at: Ints) -> Rows:
        """Return the rows with these numbers, where they are."""
        return Rows(*(None if a is None else taken(a, at) for a in self))  # type: ignore[arg-type]

    def gathered(self, known: Bools) -> Rows:
        """Return a table of the rows of stacked problems that count (count, n), where they are."""

        def gather(array: Any) -> Any:
            chosen = local(array)[known]
            return chosen if is_local(array) else upload(chosen, array.ordinal)

        return Rows(*(None if a is None else gather(a) for a in self))  # type: ignore[arg-type]

    def copy(self) -> Rows:
        """Return the rows in NumPy's arrays of their own."""
        return Rows(*(None if a is None else np.array(a, order="C") for a in self))  # type: ignore[arg-type]

    def astype(self, dtype: type[np.floating]) -> Rows:
        """Return the rows in another dtype."""
        return Rows(*(None if a is None else a.astype(dtype) for a in self))  # type: ignore[arg-type]

    def followed_by(self, other: Rows) -> Rows:
        """Return these rows, then others, in NumPy's arrays.

        A missing offset is 0, a missing weight 1.
        """
        other = other.local()
        offset = weight = None
        if self.offset is not None or other.offset is not None:
            offset = np.concatenate(
                [np.zeros_like(r.y) if r.offset is None else r.offset for r in (self, other)]
            )
        if self.sample_weight is not None or other.sample_weight is not None:
            weight = np.concatenate(
                [
                    np.ones(len(r.X), r.X.dtype) if r.sample_weight is None else r.sample_weight
                    for r in (self, other)
                ]
            )
        X, y = np.concatenate([self.X, other.X]), np.concatenate([self.y, other.y])
        return Rows(X, y, offset, weight)

    def add_to(self, moments: _core.Moments, n_threads: int = 0) -> _core.Moments:
        """Return moments with those of these rows added."""
        if not len(self.X):
            return moments
        return moments_of(_core.Problem(*self, True, "mean"), n_threads, moments)

    def count_nonzero(self) -> Ints:
        """Count, for each column of [X 1 y-offset], the rows of weight above 0 that are not 0."""
        n, d, t = len(self.X), self.X.shape[1], self.y.shape[1]
        zeros = 0 if self.offset is None else self.offset
        all_count = self.sample_weight is None or self.sample_weight.all()
        if all_count and self.X.all() and (self.y != zeros).all():  # in a third of the time
            return np.full(d + 1 + t, n, np.int64)
        counts = np.zeros(d + 1 + t)
        for X, y, offset, weight in self.local_blocks():
            zeros = 0 if offset is None else offset
            has_weight = np.ones(len(X)) if weight is None else weight > 0
            ones = has_weight.astype(np.float32)  # whose sums are exact
            counts[:d] += ones @ (X != 0).astype(np.float32)
            counts[d] += ones.sum()
            counts[d + 1 :] += ones @ (y != zeros).astype(np.float32)
        return counts.astype(np.int64)

    def has_finite_squares(self) -> bool:
        """Whether there is neither NaN nor infinity, in the squares either."""
        with np.errstate(over="ignore", invalid="ignore"):
            return all(a is None or bool(np.isfinite(a.astype(float) ** 2).all()) for a in self)
