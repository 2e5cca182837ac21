"""Files as chunks: formats, columns, missing values, damage."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
from cuttings import N, draw, whole
from fits import bits, refused
from loops import each
from problems import Linear

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
NAMES = ("a", "b", "c")


def write(path: Path, columns: dict[str, Any]) -> Path:
    import pyarrow.csv
    import pyarrow.feather

    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=300)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".tsv":
        pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(delimiter="\t"))
    else:
        pyarrow.feather.write_feather(table, path)
    return path


def columns_of(problem: Linear) -> dict[str, Any]:
    return dict(zip(NAMES, problem.X.T, strict=True)) | {"y": problem.y}


@each("suffix", [".parquet", ".csv", ".tsv", ".feather", ".arrow"])
@each("rows", [97, 65536])
def test_files(tmp_path: Path, rng: Any, suffix: str, rows: int) -> None:
    problem = draw(rng)
    chunks = gd.read_chunks(write(tmp_path / f"t{suffix}", columns_of(problem)), "y", rows=rows)
    fit = gd.fit(chunks, sgd=gd.SGD(), epochs=50)
    assert bits(fit) == bits(whole(problem, method="gram", epochs=50))
    assert (fit.feature_names, fit.target_name) == (NAMES, "y")
    assert sum(len(y) for _, y in chunks) == N
    again = gd.fit(chunks, batch_size=40, epochs=3, tol=None)
    assert bits(again) == bits(gd.fit(chunks, batch_size=40, epochs=3, tol=None))


def test_columns_chosen(tmp_path: Path, rng: Any) -> None:
    problem = draw(rng, parts="bs")
    columns = columns_of(problem) | {"w": problem.sample_weight, "text": ["x"] * N}
    path = write(tmp_path / "t.parquet", columns)
    chunks = gd.read_chunks(path, "y", ["c", "a"], sample_weight="w", dtype=np.float32)
    X, y, w = (np.concatenate(parts) for parts in zip(*chunks, strict=True))  # type: ignore[arg-type]
    assert (X.dtype, y.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(X, problem.X[:, [2, 0]].astype("f4"))
    wanted = gd.fit(X, y, sample_weight=w, method="gram", epochs=20)
    assert bits(gd.fit(chunks, sgd=gd.SGD(), epochs=20)) == bits(wanted)


@each("weight", [None, "w"])
def test_a_column_of_offsets(tmp_path: Path, rng: Any, weight: Any) -> None:
    problem = draw(rng, parts="bos")
    columns = columns_of(problem) | {"w": problem.sample_weight, "o": problem.offset}
    features = None if weight else NAMES
    path = write(tmp_path / "t.parquet", columns)
    chunks = gd.read_chunks(path, "y", features, sample_weight=weight, offset="o", rows=97)
    assert chunks.feature_names == NAMES
    if weight is None:
        problem = replace(problem, sample_weight=None)
    assert bits(gd.fit(chunks, sgd=gd.SGD(), epochs=20)) == bits(
        whole(problem, epochs=20, method="gram")
    )


def test_numbers_of_every_kind(tmp_path: Path) -> None:
    columns = {
        "i": pa.array([1, 2, 3, 4], "int8"),
        "b": pa.array([True, False, False, True]),
        "d": pa.array([1, 2, 5, 3]).cast(pa.decimal128(21, 2)),
        "y": pa.array([1.0, 2.0, 3.0, 5.0], "float32"),
    }
    chunks = gd.read_chunks(write(tmp_path / "t.parquet", columns), "y")
    X, y = next(iter(chunks))
    assert X.tolist() == [[1, 1, 1], [2, 0, 2], [3, 0, 5], [4, 1, 3]]
    assert y.tolist() == [1, 2, 3, 5]


def test_nulls_are_named_or_dropped(tmp_path: Path) -> None:
    columns = {"a": [1.0, None, 3.0, 4.0, None], "y": [1.0, 2.0, None, 4.0, 5.0]}
    path = write(tmp_path / "t.parquet", columns)
    match = r"chunk 0 .*column 'a' of .*t.parquet has no number in row 2 .*missing='drop'"
    refused(lambda: gd.fit(gd.read_chunks(path, "y")), match, gd.ChunkError)
    X, y = next(iter(gd.read_chunks(path, "y", nulls="drop")))
    assert (X.tolist(), y.tolist()) == ([[1], [4]], [1, 4])


def test_nan_in_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"a": np.r_[np.ones(400), np.nan], "y": np.ones(401)})
    chunks = gd.read_chunks(path, "y", rows=100)
    match = r"chunk 4 \(from row 400\) .*column 'a' of .*t.parquet has no number in row 401 .*: nan"
    refused(lambda: gd.fit(chunks), match, gd.ChunkError)
    # Rows 2 and 3 are dropped, and counted in the place of the one that is refused.
    columns = {"a": pa.array([1.0, None, np.nan, np.inf]), "y": np.ones(4)}
    dropping = gd.read_chunks(write(tmp_path / "u.parquet", columns), "y", nulls="drop")
    refused(lambda: gd.fit(dropping), "an infinite number in row 4 .*: inf", gd.ChunkError)


def test_a_truncated_file(tmp_path: Path, rng: Any) -> None:
    for suffix in (".parquet", ".feather"):
        path = write(tmp_path / f"t{suffix}", columns_of(draw(rng)))
        chunks = gd.read_chunks(path, "y")
        gd.fit(chunks, sgd=gd.SGD(), epochs=2, tol=None)
        os.truncate(path, path.stat().st_size // 2)
        match = r"chunk \d+ \(from row \d+\) cannot be read"
        refused(lambda chunks=chunks: gd.fit(chunks, sgd=gd.SGD()), match, gd.ChunkError)


@each("suffix", [".parquet", ".csv"])
def test_a_file_truncated_between_epochs_keeps_the_fit(
    tmp_path: Path, rng: Any, suffix: str
) -> None:
    path = write(tmp_path / f"t{suffix}", columns_of(draw(rng)))
    chunks = gd.read_chunks(path, "y", rows=200)

    def cut_after_two(epoch: int, *_: Any) -> None:
        if epoch == 2:
            os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(gd.ChunkError, match=r"cannot be read|gave \d+ rows after") as caught:
        gd.fit(chunks, method="stream", epochs=9, tol=None, progress=cut_after_two)
    assert caught.value.fit is not None
    assert 2 <= caught.value.fit.epochs < 9


def test_text_in_a_column_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "1,2\n" * 400_000 + "one,2\n")
    refused(
        lambda: gd.fit(gd.read_chunks(path, "y"), sgd=gd.SGD()),
        r"cannot be read.*'one'",
        gd.ChunkError,
    )


@each("how, match, error", [
    ({"target": "z"}, "no column 'z'.*its columns are 'a', 'name', 'y'", ValueError),
    ({"target": "yy"}, r"no column 'yy' \(did you mean 'y'\?\)", ValueError),
    ({"target": "name"}, "column 'name' of .* is not numeric: string, 'x' in row 1", ValueError),
    ({"target": "y"}, r"column 'name' of .*; choose others: features=\['a'\]", ValueError),
    ({"target": "y", "features": ["a", "y"]}, "each column once, and never the target", ValueError),
    ({"target": "y", "features": "a"}, "features is 'a'; pass a list of names", TypeError),
    ({"target": "y", "features": {"a"}}, "features is {'a'}; pass a list of names", TypeError),
    ({"target": "y", "features": ["a"], "nulls": "fill"}, "nulls is 'fill'", ValueError),
    ({"target": "y", "features": ["a"], "rows": 0}, "rows is 0", ValueError),
    ({"target": "y", "features": ["a"], "dtype": int}, "dtype is int64", TypeError),
])  # fmt: skip
def test_bad_columns(tmp_path: Path, how: Any, match: str, error: Any) -> None:
    path = write(tmp_path / "t.parquet", {"a": [1.0], "name": ["x"], "y": [2.0]})
    refused(lambda: gd.read_chunks(path, **how), match, error)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gd.read_chunks(tmp_path / "none.parquet", "y")
    refused(lambda: gd.read_chunks(tmp_path / "t.xls", "y"), "suffix that gdcore does not read")
    refused(lambda: gd.read_chunks(3, "y"), "source is int; pass a path", TypeError)


def test_without_pyarrow() -> None:
    source = """
import sys
sys.modules["pyarrow"] = None
import gdcore as gd
try:
    gd.read_chunks("t.parquet", "y")
except ModuleNotFoundError as error:
    print(error)
"""
    assert "pip install 'gdcore[cli]'" in fits.python(source).stdout
