"""The second reading of chunks: the residuals that some covariances are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gdcore._core as _core
from gdcore.chunks.pieces import pieces, threads_beside, unit_of
from gdcore.chunks.source import Chunk, Source, read
from gdcore.data import slices
from gdcore.data.shape import Shape
from gdcore.errors import ChunkError
from gdcore.solvers.options import Options


def check_covariance(given: Any, source: Source, options: Options) -> None:
    """Raise ValueError if a covariance reads rows again that can be read once only."""
    if options.covariance not in (None, "ols") and not source.again:
        raise ValueError(
            f"covariance={options.covariance!r} reads the rows again when the weights are known, "
            f"and the chunks are a {type(given).__name__}, which can be read once only: pass a "
            "list or a function that returns a new iterator, or use covariance='ols'."
        )


def chunk_reader(
    source: Source, shape: Shape, options: Options
) -> Callable[[_core.Inference], None]:
    """Return what gives all chunks to an inference."""

    def read_all(found: _core.Inference) -> None:
        threads, rows = threads_beside(source, options, shape), 0

        def counted(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
            nonlocal rows
            for chunk in chunks:
                rows += chunk.shape.n
                yield chunk

        with closing(read(source)) as chunks:
            how = unit_of(None), shape.fit_intercept, shape.reduction
            for piece in pieces(counted(chunks), *how):
                found.begin_rows(piece)
                slices.run(lambda seconds: found.advance(seconds, threads))
        if shape.n != rows:
            raise ChunkError(
                f"the chunks gave {rows} rows when they were read again and {shape.n} before: pass "
                "chunks that can be read again and again, or use covariance='ols'.",
                0,
            )

    return read_all
