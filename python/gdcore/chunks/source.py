"""Rows that come in chunks: their source, and each chunk checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gdcore.chunks.prefetch import ahead
from gdcore.data.device import Place, where
from gdcore.data.memmap import guard, maps_a_file
from gdcore.data.problem import RowProblem, make_problem
from gdcore.data.rows import Rows
from gdcore.data.shape import Shape
from gdcore.errors import ChunkError
from gdcore.typing import Names

_END = object()


def require_chunks(given: Any) -> None:
    """Raise TypeError for anything but chunks of rows, such as rows whose y is missing."""
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
    """The parts that chunks come from, which can be read in any order.

    `again` says whether they can be read more than once, `decodes` whether reading them keeps
    threads busy. The rows are copied to the `place`. With ``missing="drop"``, rows with missing
    values are left out; if the targets count in different rows, only one `target` can be read.
    """

    parts: Sequence[Callable[[], Iterable[Any]]]
    again: bool
    decodes: bool = False
    place: Place = None
    missing: str = "error"
    target: int | None = None

    @classmethod
    def of(cls, given: Any) -> Source:
        """Return the source that an argument of `fit` describes."""
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
                yield _in_memory(_as_tuple(given))


class RaggedTargetsError(Exception):
    """The targets of a chunk of this shape count in different rows."""

    def __init__(self, shape: Shape) -> None:
        super().__init__("the targets count in different rows")
        self.shape = shape


class Chunk:
    """One chunk, checked."""

    def __init__(
        self,
        given: Any,
        number: int,
        first_row: int,
        features: Names | None,
        source: Source,
    ) -> None:
        self.number, self.first_row = number, first_row
        if not (isinstance(given, tuple) and len(given) in (2, 3, 4)):
            what = f"a tuple of {len(given)}" if isinstance(given, tuple) else type(given).__name__
            raise self.error(
                f"it is {what}; chunks are tuples (X, y), (X, y, sample_weight) or "
                "(X, y, sample_weight or None, offset)"
            )
        X, y, sample_weight, offset = (*given, None, None)[:4]
        place, missing, target = source.place, source.missing, source.target
        how = True, "mean", features, True, place, missing
        try:
            problem = make_problem(X, y, offset, sample_weight, *how)
        except (TypeError, ValueError) as error:
            raise self.error(str(error)) from None
        if target is not None:
            problem = problem.of_target(target)
        elif problem.is_ragged:
            raise RaggedTargetsError(problem.shape)
        self.problem: RowProblem = problem

    @property
    def shape(self) -> Shape:
        """Sizes, types and names."""
        return self.problem.shape

    @property
    def rows(self) -> Rows:
        """The rows."""
        return self.problem.rows

    def error(self, text: str) -> ChunkError:
        """Return an error that names this chunk."""
        text = text.rstrip(".")
        return ChunkError(f"chunk {self.number} (from row {self.first_row}): {text}.", self.number)

    def check_like(self, first: Chunk) -> None:
        """Raise ChunkError unless the columns, dtype and weights are like the first chunk's."""
        mine, its = self.shape, first.shape
        if mine.d != its.d:
            raise self.error(
                f"it has {mine.d} columns and the chunks before it {its.d}; give all the same"
            )
        if (mine.has_target_axis, mine.t) != (its.has_target_axis, its.t):
            shapes = [f"(n, {s.t})" if s.has_target_axis else "(n,)" for s in (mine, its)]
            raise self.error(
                f"its y has shape {shapes[0]} and that of the chunks before {shapes[1]}"
            )
        if mine.dtype != its.dtype:
            raise self.error(f"it is {mine.dtype} and the chunks before it {its.dtype}; convert it")
        places = where(self.rows.X), where(first.rows.X)
        if places[0] != places[1]:
            raise self.error(
                f"it is {places[0]} and the chunks before it {places[1]}; copy it there, or pass "
                "device='cuda'"
            )
        for name in ("sample_weight", "offset"):
            if (getattr(self.rows, name) is None) != (getattr(first.rows, name) is None):
                raise self.error(f"either all chunks have {name} or none")


def read(source: Source, order: Iterable[int] | None = None) -> Generator[Chunk]:
    """Yield chunks that are read ahead; errors of a reader name the chunk."""
    number = rows = 0
    first: Chunk | None = None
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
            names = None if first is None else first.shape.feature_names
            chunk = Chunk(given, number, rows, names, source)
            first = chunk if first is None else first
            chunk.check_like(first)
            yield chunk
            number, rows = number + 1, rows + chunk.shape.n + chunk.shape.dropped


def _as_tuple(given: Any) -> Any:
    """Return a list of arrays, as torch's DataLoader makes them, as a tuple."""
    is_chunk = isinstance(given, list) and all(hasattr(a, "__array__") for a in given[:2])
    return tuple(given) if is_chunk else given


def _in_memory(given: Any) -> Any:
    """Copy arrays that map files, in the reading thread and not where the rows are needed."""
    if not (isinstance(given, tuple) and any(map(maps_a_file, given))):
        return given
    with guard(**dict(zip(("X", "y", "sample_weight", "offset"), given, strict=False))):
        return tuple(np.array(a) if maps_a_file(a) else a for a in given)
