"""Rows that come in chunks: from where, in which order, checked and cut into pieces."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import gdcore._core as _core
from gdcore.chunks.prefetch import ahead
from gdcore.data.columns import Names
from gdcore.data.memmap import maps_a_file, watched
from gdcore.data.problem import Problem, make_problem
from gdcore.kernels import Floats
from gdcore.solvers.options import Options

if TYPE_CHECKING:
    from gdcore.moments import Moments
    from gdcore.results.fit import Fit

PIECE_BYTES = 32 << 20  # of rows that are shuffled among themselves, about
MOST_WORK_OF_ONE = 512  # features times threads: see `threads_beside`
_END = object()


class ChunkError(ValueError):
    """A chunk of rows cannot be used.

    Parameters
    ----------
    message : str
    chunk : int
        Its number, counted from 0.
    moments : Moments, optional
        Those of the rows before it, if it is the first reading that failed.
    fit : Fit, optional
        The fit so far, if it is a later one.

    Attributes
    ----------
    chunk : int
    moments : Moments or None
    fit : Fit or None
    """

    def __init__(
        self, message: str, chunk: int, moments: Moments | None = None, fit: Fit | None = None
    ) -> None:
        super().__init__(message)
        self.chunk, self.moments, self.fit = chunk, moments, fit


def require_chunks(given: Any) -> None:
    """Raise TypeError for what is no chunks of rows but, say, rows whose y is missing."""
    if isinstance(given, str | os.PathLike):
        raise TypeError(f"X is the path {str(given)!r}; pass gdcore.read_chunks(path, target=...).")
    rows = isinstance(given, bytes | Mapping) or hasattr(given, "__array__")
    if isinstance(given, Sequence) and given and not isinstance(given[0], tuple):
        rows = True
    if rows or not (callable(given) or isinstance(given, Iterable)):
        raise TypeError(
            f"y is missing and X is {type(given).__name__}: pass fit(X, y), or chunks that are "
            "tuples (X, y)."
        )


@dataclass(frozen=True)
class Source:
    """Where chunks come from.

    `parts` can be read in any order; `again` is whether they can be read more than once, `decodes`
    whether reading them keeps threads busy.
    """

    parts: Sequence[Callable[[], Iterable[Any]]]
    again: bool
    decodes: bool = False

    @classmethod
    def of(cls, given: Any) -> Source:
        """Return the source that an argument of `fit` means."""
        if hasattr(given, "parts"):
            return cls(given.parts(), True, decodes=True)
        if callable(given):
            return cls([given], True)
        if isinstance(given, Sequence):
            return cls(
                [partial(given.__getitem__, slice(i, i + 1)) for i in range(len(given))], True
            )
        return cls([lambda: given], iter(given) is not given)

    def chunks(self, order: Iterable[int] | None = None) -> Iterator[Any]:
        """Yield the chunks of the parts, in this order of them."""
        for i in range(len(self.parts)) if order is None else order:
            for given in self.parts[i]():
                yield _in_memory(given)


class Chunk:
    """One chunk, as it was given."""

    def __init__(
        self, given: Any, number: int, first_row: int, features: Names | None = None
    ) -> None:
        self.number, self.first_row = number, first_row
        if not (isinstance(given, tuple) and len(given) in (2, 3, 4)):
            what = f"a tuple of {len(given)}" if isinstance(given, tuple) else type(given).__name__
            raise self.error(
                f"it is {what}; chunks are tuples (X, y), (X, y, sample_weight) or "
                "(X, y, sample_weight or None, offset)"
            )
        X, y, sample_weight, offset = (*given, None, None)[:4]
        try:
            self.problem = make_problem(X, y, offset, sample_weight, True, "mean", features, True)
        except (TypeError, ValueError) as error:
            raise self.error(str(error)) from None

    def error(self, text: str) -> ChunkError:
        """Return an error of this chunk's."""
        text = text.rstrip(".")
        return ChunkError(f"chunk {self.number} (from row {self.first_row}): {text}.", self.number)

    def check_like(self, first: Problem) -> None:
        """Raise ChunkError unless the columns, dtype and weights are like the first chunk's."""
        p = self.problem
        if p.d != first.d:
            raise self.error(
                f"it has {p.d} columns and the chunks before it {first.d}; give all the same"
            )
        if (p.several, p.t) != (first.several, first.t):
            shapes = [f"(n, {q.t})" if q.several else "(n,)" for q in (p, first)]
            raise self.error(
                f"its y has shape {shapes[0]} and that of the chunks before {shapes[1]}"
            )
        if p.dtype != first.dtype:
            raise self.error(f"it is {p.dtype} and the chunks before it {first.dtype}; convert it")
        for name in ("sample_weight", "offset"):
            if (getattr(p, name) is None) != (getattr(first, name) is None):
                raise self.error(f"either all chunks have {name} or none")


def read(source: Source, order: Iterable[int] | None = None) -> Generator[Chunk]:
    """Yield chunks that are read ahead; what a reader raises names the chunk."""
    number = rows = 0
    first: Problem | None = None
    with closing(ahead(source.chunks(order), patient=source.decodes)) as items:
        while True:
            try:
                given = next(items, _END)
            except (OSError, ValueError, TypeError, EOFError) as error:
                text = str(error).splitlines()[0].rstrip(".") if str(error) else repr(error)
                message = f"chunk {number} (from row {rows}) cannot be read: {text}."
                raise ChunkError(message, number) from error
            if given is _END:
                return
            chunk = Chunk(given, number, rows, None if first is None else first.feature_names)
            first = chunk.problem if first is None else first
            chunk.check_like(first)
            yield chunk
            number, rows = number + 1, rows + chunk.problem.n


def _in_memory(given: Any) -> Any:
    """Copy what a chunk maps of files, while the last one is worked on and not when it is due."""
    if not (isinstance(given, tuple) and any(map(maps_a_file, given))):
        return given
    with watched(**dict(zip(("X", "y", "sample_weight", "offset"), given, strict=False))):
        return tuple(np.array(a) if maps_a_file(a) else a for a in given)


def pieces(
    chunks: Iterable[Chunk],
    unit: int,
    fit_intercept: bool,
    reduction: str,
    piece_bytes: int | None = None,
) -> Iterator[_core.Problem]:
    """Cut chunks into pieces of a size that depends on the columns, `unit` and the bytes alone.

    Every piece but the last is a multiple of `unit` rows.
    """
    held: list[list[Floats | None]] = []
    rows = size = 0

    def piece() -> _core.Problem:
        X, y, offset, weight = map(_joined, zip(*held, strict=True))
        assert X is not None
        assert y is not None
        return _core.Problem(X, y, offset, weight, fit_intercept, reduction)

    for chunk in chunks:
        p = chunk.problem
        if not size:
            row = (p.d + p.t) * p.dtype.itemsize
            size = max(1, round((piece_bytes or PIECE_BYTES) / row / unit)) * unit
        arrays = (p.X, p.y, p.offset, p.sample_weight)
        at = 0
        while p.n - at >= size - rows:
            held.append([None if a is None else a[at : at + size - rows] for a in arrays])
            at += size - rows
            yield piece()
            held, rows = [], 0
        if at < p.n:
            held.append([None if a is None else a[at:].copy() for a in arrays])
            rows += p.n - at
    if rows:
        yield piece()


def _joined(parts: Sequence[Floats | None]) -> Floats | None:
    """Return rows one after another in memory: those of Parquet come column by column."""
    first = parts[0]
    if first is None:
        return None
    out = np.empty((sum(map(len, parts)), *first.shape[1:]), first.dtype)  # type: ignore[arg-type]
    return np.concatenate(parts, out=out)  # type: ignore[arg-type]


def threads_beside(source: Source, options: Options, problem: Problem) -> int:
    """Return the threads to work on chunks with, 0 for all, while others decode the next ones.

    A thread that waits for the next chunk would take a processor from those. One takes about d / 96
    nanoseconds a number for second moments (float64: eight times that), decoding some seven on each
    of the threads (docs/experiments.md).
    """
    if options.n_threads or not source.decodes:
        return options.n_threads or 0
    slower = 1 if problem.dtype == np.float32 else 8
    return 1 if problem.d * slower * _core.get_num_threads() <= MOST_WORK_OF_ONE else 0


def epoch_order(source: Source, seed: int, epoch: int) -> Iterable[int]:
    """Return the order of the parts in a shuffled epoch."""
    order: Iterable[int] = _core.permutation(len(source.parts), _mixed(seed, 0, 3), epoch).tolist()
    return order


def piece_seed(seed: int, piece: int) -> int:
    """Return the seed by which the rows of an epoch's piece are shuffled."""
    return _mixed(seed, piece, 2)


def _mixed(seed: int, number: int, purpose: int) -> int:
    words = _core.philox([number % 2**32, number >> 32, 0, purpose], [seed % 2**32, seed >> 32])
    return words[0] | words[1] << 32


def unit_of(batch_size: int | None) -> int:
    """Return the rows that a piece is a multiple of: whole chunks of the sums, or whole batches."""
    return _core.CHUNK["float64"] if batch_size is None else batch_size
