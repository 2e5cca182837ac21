"""What chunks do wrong is said, and the rows before it are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from cuttings import GOOD, X, Y, cut, draw
from fits import refused
from loops import each
from problems import Array


def nan_at(row: int) -> tuple[Array, Array]:
    bad = X.copy()
    bad[row, 1] = np.nan
    return bad, Y


def failing(error: Exception) -> Any:
    def chunks() -> Iterator[Any]:
        yield GOOD
        raise error

    return chunks


@each("how", [{}, {"batch_size": 3}, {"method": "stream"}])
@each("bad, match", [
    ((np.ones((6, 3)), Y), r"chunk 2 \(from row 12\): it has 3 columns and the chunks before it 2"),
    ((X, Y[:5]), r"chunk 2 .*y has shape \(5,\) and X \(6, 2\)"),
    ((X, Y[:, None]), r"chunk 2 .*y has shape \(n, 1\).*before \(n,\)"),
    ((X.astype("f4"), Y.astype("f4")), "chunk 2 .*float32 and the chunks before it float64"),
    ((X, Y, Y), "chunk 2 .*either all chunks have sample_weight or none"),
    ((X, Y, None, Y), "chunk 2 .*either all chunks have offset or none"),
    ((X, Y, None, Y[:4]), "chunk 2 .*offset has shape"),
    ((X, Y, None, Y, Y), "chunk 2 .*a tuple of 5"),
    ((X.astype(str), Y), "chunk 2 .*X"),
    (nan_at(4), r"chunk 2 \(from row 12\): X holds nan at row 4, column 1"),
    ((X, np.where(Y > 3, np.inf, Y)), r"chunk 2 .*y holds inf at row 4"),
    (X, "chunk 2 .*it is ndarray; chunks are tuples"),
    ((X,), "chunk 2 .*a tuple of 1"),
    ((X * 1e200, Y), "chunk 2 .*overflow or underflow float64"),
])  # fmt: skip
def test_a_bad_chunk_is_named_and_the_rows_before_it_kept(how: Any, bad: Any, match: str) -> None:
    refused(lambda: gd.fit([GOOD, GOOD, bad], sgd=gd.SGD(), **how), match, gd.ChunkError)
    with pytest.raises(gd.ChunkError) as caught:
        gd.fit([GOOD, GOOD, bad], sgd=gd.SGD(), **how)
    assert caught.value.chunk == 2
    assert caught.value.moments == gd.Moments(2).update(*GOOD).update(*GOOD)


@each("given, match, error", [
    ([], "there are no chunks", ValueError),
    (lambda: iter(()), "there are no chunks", ValueError),
    (X, "y is missing and X is ndarray", TypeError),
    (X.tolist(), "y is missing and X is list", TypeError),
    (None, "y is missing and X is NoneType", TypeError),
    ({"X": X, "y": Y}, "y is missing and X is dict", TypeError),
    ("big.parquet", r"the path 'big.parquet'; pass gdcore.read_chunks", TypeError),
    (Path("big.csv"), r"the path 'big.csv'; pass gdcore.read_chunks", TypeError),
    (lambda: 3, r"chunk 0 .*cannot be read: .*int", gd.ChunkError),
    (failing(OSError("the disk is gone")), r"chunk 1 \(from row 6\).*the disk is gone",
     gd.ChunkError),
    (failing(LookupError("mine")), "mine", LookupError),
])  # fmt: skip
def test_no_chunks(given: Any, match: str, error: type[Exception]) -> None:
    refused(lambda: gd.fit(given, sgd=gd.SGD()), match, error)


@each("how, match", [
    ({"method": "exact", "batch_size": 2}, "'exact' takes no batch_size"),
    ({"method": "exact", "checkpoint": "x"}, "'exact' takes no steps that a checkpoint keeps"),
    ({"batch_size": 13}, "batch_size is 13.*from 1 to the 12 rows"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"epochs": -1}, "epochs is -1"),
    ({"offset": 1.0}, r"chunks take no offset=; put it into the chunks: .*, offset\)"),
    ({"sample_weight": Y}, r"chunks take no sample_weight=; put .*\(X, y, sample_weight\)"),
    ({"reduction": "max"}, "max"),
    ({"init": [1.0]}, "init"),
    ({"method": "gram", "batch_size": 2}, "takes no batch_size"),
])  # fmt: skip
def test_options(how: Any, match: str) -> None:
    refused(lambda: gd.fit([GOOD, GOOD], **how), match)


def test_sgd_goes_by_its_name() -> None:
    refused(
        lambda: gd.fit([GOOD], gd.SGD()),
        "y is an SGD object; .*sgd=",
        TypeError,
    )  # type: ignore[arg-type]


@each("how", [{"batch_size": 3}, {"method": "stream"}])
def test_chunks_read_once_cannot_stream(how: Any) -> None:
    refused(
        lambda: gd.fit(iter([GOOD]), sgd=gd.SGD(), **how),
        "list_iterator, which can be read once.*'gram'",
    )
    once = iter([GOOD, GOOD])
    with pytest.raises(gd.ChunkError, match=r"0 rows after 0 epochs and 12.*'gram'") as caught:
        gd.fit(lambda: once, sgd=gd.SGD(), tol=None, **how)
    assert caught.value.fit is not None
    assert caught.value.fit.epochs == 0


def test_rows_that_shrink_while_fitting_keep_the_fit(rng: Any) -> None:
    chunks, calls = cut(draw(rng), 400), []

    def shrinking() -> Any:
        calls.append(1)
        return chunks[: 5 - len(calls) // 4]

    with pytest.raises(gd.ChunkError, match=r"rows after 2 epochs and 1613") as caught:
        gd.fit(shrinking, method="stream", tol=None)
    assert caught.value.fit is not None
    assert caught.value.fit.epochs == 2
    readings = iter([chunks[:4], chunks[:4], chunks])
    with pytest.raises(gd.ChunkError, match="1613 rows after 1 epochs and 1600"):
        gd.fit(lambda: next(readings), method="stream", tol=None)
