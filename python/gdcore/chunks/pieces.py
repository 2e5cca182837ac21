"""Chunks cut into pieces, whose size does not depend on how the rows came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.chunks.source import Chunk, Source
from gdcore.data.device import is_local
from gdcore.data.shape import Shape
from gdcore.solvers.options import Options
from gdcore.typing import Floats

PIECE_BYTES = 32 << 20  # of rows that are shuffled among themselves, about
MOST_WORK_OF_ONE = 512  # features times threads: see `threads_beside`


def pieces(
    chunks: Iterable[Chunk],
    unit: int,
    fit_intercept: bool,
    reduction: str,
    piece_bytes: int | None = None,
) -> Iterator[_core.Problem]:
    """Cut chunks into pieces whose size depends only on the columns, `unit` and the bytes.

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
        shape = chunk.shape
        if not size:
            row = (shape.d + shape.t) * shape.dtype.itemsize
            size = max(1, round((piece_bytes or PIECE_BYTES) / row / unit)) * unit
        at = 0
        while shape.n - at >= size - rows:
            held.append([None if a is None else a[at : at + size - rows] for a in chunk.rows])
            at += size - rows
            yield piece()
            held, rows = [], 0
        if at < shape.n:
            held.append([_copied(a) for a in chunk.rows.part(at, shape.n)])
            rows += shape.n - at
    if rows:
        yield piece()


def _copied(rows: Any) -> Any:
    """Return rows that stay as they are when the source uses its memory again."""
    if rows is None:
        return None
    return rows.copy() if is_local(rows) else _core.DeviceArray.joined([rows])


def _joined(parts: Sequence[Any]) -> Any:
    """Return rows that are contiguous in memory: those of Parquet come column by column.

    Rows on a device are copied if they are not in one part already.
    """
    first = parts[0]
    if first is None:
        return None
    if not is_local(first):
        return first if len(parts) == 1 else _core.DeviceArray.joined(parts)
    out = np.empty((sum(map(len, parts)), *first.shape[1:]), first.dtype)
    return np.concatenate(parts, out=out)


def threads_beside(source: Source, options: Options, shape: Shape) -> int:
    """Return the threads that work on chunks, 0 for all, while others decode the next ones.

    A thread that waits for the next chunk would take a processor from the decoding ones. One thread
    takes about d / 96 nanoseconds a number for second moments (float64: eight times as long);
    decoding takes some seven on each of the threads (docs/experiments.md).
    """
    if options.n_threads or not source.decodes:
        return options.threads
    slower = 1 if shape.dtype == np.float32 else 8
    return 1 if shape.d * slower * _core.get_num_threads() <= MOST_WORK_OF_ONE else 0


def epoch_order(source: Source, seed: int, epoch: int) -> Iterable[int]:
    """Return the order of the parts in a shuffled epoch."""
    order: Iterable[int] = _core.permutation(len(source.parts), _mixed(seed, 0, 3), epoch).tolist()
    return order


def piece_seed(seed: int, piece: int) -> int:
    """Return the seed that shuffles the rows of a piece."""
    return _mixed(seed, piece, 2)


def _mixed(seed: int, number: int, purpose: int) -> int:
    words = _core.philox([number % 2**32, number >> 32, 0, purpose], [seed % 2**32, seed >> 32])
    return words[0] | words[1] << 32


def unit_of(batch_size: int | None) -> int:
    """Return the unit of pieces in rows: a segment of the sums, or a batch."""
    return _core.SEGMENT["float64"] if batch_size is None else batch_size
