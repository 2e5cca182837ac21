"""The one reader of tables: what it takes for a number, what it leaves out, and what it says."""

from __future__ import annotations

import bz2
import decimal
import gzip
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from fits import refused
from gdcore.tables import lines, open_table
from problems import Array

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


MANY = 300_000  # rows: more than one block of text


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: Any, name: str = "t.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, pa.Table):
            import pyarrow.feather

            save = pq.write_table if name.endswith("parquet") else pyarrow.feather.write_feather
            save(content, path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def numbers(source: Any, **how: Any) -> Array:
    """Return all columns that a fit of y would see, y last."""
    chunks = [np.column_stack(chunk) for chunk in gd.read_chunks(source, "y", **how)]  # type: ignore[arg-type]
    assert max(map(len, chunks)) <= 65536
    return np.concatenate(chunks)


def test_delimiters_are_found(write: Any) -> None:
    for delimiter in (",", ";", "\t", "|", " ", ", ", "   "):
        rows = ["x", "y"], ["1", "3"], ["2.5", "5"]
        path = write("".join(delimiter.join(row) + "\n" for row in rows))
        assert numbers(path).tolist() == [[1, 3], [2.5, 5]], delimiter
    tables = {
        '"a;b";y\n1;2\n': ["a;b"],
        "x y,z,y\n1,3,2\n": ["x y", "z"],
        "  x    y \n 1    2\n10   20 \n": ["x"],
        '" x ", "y"\n1, "2"\n': ["x"],
        "\ufeffx,y\r\n1,2\r\n": ["x"],
        "x,y\r1,2\r": ["x"],
        "\n\nx,y\n\n1,2": ["x"],
    }
    for content, names in tables.items():
        chunks = gd.read_chunks(write(content), "y")
        assert list(chunks.feature_names) == names
        assert next(iter(chunks))[1].tolist()[0] == 2  # type: ignore[union-attr]
    assert gd.read_chunks(write("a, b\ty\n1\t2\n", "t.tsv"), "y").feature_names == ("a, b",)


def test_types_are_those_of_all_rows(write: Any) -> None:
    """Whatever the first block of rows looks like, a later number is a number."""
    cases = {
        "1": ["3.5", "1e+02", "-.5", " 7 ", "99999999999999999999", "true"],
        "true": ["False", "2.5", "0"],
        "": ["1.0", "true", "1e3"],
        "1.5": ["1", "TRUE"],
    }
    words = {"true": 1.0, "TRUE": 1.0, "False": 0.0}
    for usual, late in cases.items():
        path = write("x,y\n" + f"{usual},2\n" * MANY + "".join(f"{value},3\n" for value in late))
        found = numbers(path, nulls="drop")
        wanted = [words.get(value) or float(words.get(value, value)) for value in late]
        assert found[-len(late) :, 0].tolist() == wanted, usual
        assert len(found) == len(late) + (MANY if usual else 0)


def test_nulls_by_any_name(write: Any) -> None:
    path = write("x, y\n1, 2\n , 3\nNA, 4\n nan , 5\nnull,6\n7,8\n")
    assert numbers(path, nulls="drop").tolist() == [[1, 2], [7, 8]]
    refused(
        lambda: numbers(path), r"column 'x' of .*t.csv has no number in row 2 \(line 3\); .*drop"
    )
    assert numbers(write("x,y\n,1\n,2\n"), nulls="drop").shape == (0, 2)


def test_values_that_are_refused(write: Any) -> None:
    cases = {
        "late": (
            "one",
            r"column 'x' of .*t.csv holds 'one' in row 300001 \(line 300002\), .*encode",
        ),
        "late comma": (
            "1,5",
            r"holds '1,5' in row 300001 .*; if its decimal point is ',', pass --d",
        ),
        "inf": (
            "-inf",
            r"column 'x' .* has an infinite number in row 300001 \(line 300002\): -inf",
        ),
        "large": ("1e300", r"has 1e\+300 in row 300001 .*, which float32 does not hold"),
        "ragged": ("1;2", r"t.csv has 3 values in row 300001 \(line 300002\), .* names 2 columns"),
    }
    for how, (value, match) in cases.items():
        path = write("x;y\n" + "1;2\n" * MANY + f"{value};3\n")
        dtype = np.float32 if how == "large" else np.float64
        refused(lambda path=path, dtype=dtype: numbers(path, dtype=dtype), match)
    first = {
        "x,y\n1,2\n1.5.2,3\n": r"column 'x' of .* is not numeric: '1.5.2' in row 2 \(line 3\)",
        'n,y\n"a\nb",2\nc,\nd,e\n': r"column 'y' of .* '[e]' in row 3 \(line 5\)",
        "x;y\n3,5;2\n": r"column 'x' .*'3,5' in row 1 \(line 2\); if its decimal point is ','",
        'x,y\n"1,000",2\n': r"'1,000' in row 1 .*; if ',' separates thousands, take it out",
        "x;y\n1.234.567,5;2\n": r"'1.234.567,5' .*; if '.' separates thousands, take it out",
        "x;y\n0,125;2\n": r"'0,125' in row 1 \(line 2\); if its decimal point is ','",
        "x,y\n1,2,\n": "3 values in row 1 .* names 2 columns; take the delimiters at its end out",
        "# of today\nx,y\n1,2\n": "; the header has to be the first line: take the comments out",
        "x,y\n3,5,2,0\n": "4 values in row 1 .* names 2 columns; where ',' is the decimal point",
        "x y\n1 2 3\n": "3 values in row 1 .*; the name of its first column may be missing",
        ",x,y\n0,1,2\n": r"has a column without a name; choose others: features=\['x'\]",
        "Unnamed: 0,x,y\n0,1,2\n": "without a name, which pandas called 'Unnamed: 0'",
        "x,x,y\n1,2,3\n": "more than one column named 'x'; rename",
        "X,y\n1,2\n": "no column 'x'",
        "1,2\n3,4\n": "is the header line missing",
        "x,y\n": "has no rows of data, only its header line",
        "x,y\n\n\n": "has no rows of data, only its header line",
        "": "is an empty file",
        " \n\n": "is an empty file",
    }
    for content, match in first.items():
        how: Any = {"features": ["x"]} if content.startswith("X") else {}
        refused(lambda content=content, how=how: numbers(write(content), **how), match)
    for data, match in {
        "x,y\n1,2\n".encode("utf-16"): "UTF-16 text",
        b"caf\xe9,y\n1,2\n": "header of .* is not UTF-8",
        b"n,y\ncaf\xe9,2\n": r"column 'n' of .* is not numeric: 'caf.' in row 1",
    }.items():
        refused(lambda data=data: numbers(write(data)), match)


def test_only_the_columns_asked_for_have_to_be_numbers(write: Any) -> None:
    rows = "x,note,y\n" + "1,5,2\n" * MANY + '2,"a\nlate, text",3\n'
    assert numbers(write(rows), features=["x"])[-1].tolist() == [2, 3]
    rows = "x,note,y\n" + '1,5" wide,2\n' * MANY + "2,,3\n"
    assert len(numbers(write(rows), features=["x"])) == MANY + 1
    data = b"note,x,y\ncaf\xe9,1,2\n"
    assert numbers(write(data), features=["x"]).tolist() == [[1, 2]]


def test_rows_are_never_cut(write: Any, monkeypatch: Any) -> None:
    """Wherever a block of text ends, in numbers, between quotes, or in an end of line."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2)) * [1, 1e-9]
    notes = ["plain", '"with ""quotes"""', '"two\r\nlines"', '"a, b"', "", '5" wide']
    for newline in ("\n", "\r\n", "\r"):
        rows = [f"{a!r},{notes[i % 6]},{b!r}" for i, (a, b) in enumerate(X.tolist())]
        path = write(newline.join(["x,note,y", *rows]))
        for size in (1, 7, 33, 200, 5000):
            monkeypatch.setattr(lines, "BLOCK_BYTES", size)
            assert numbers(path, features=["x"]).tobytes() == X.tobytes(), (newline, size)


def test_decimal_comma(write: Any) -> None:
    path = write('x;y\n1,5;2\n-0,25;3,0\n1e3;4\n"7,5"; 8,0 \n')
    assert numbers(path, decimal=",").tolist() == [[1.5, 2], [-0.25, 3], [1000, 4], [7.5, 8]]
    assert numbers(write('x,y\n"1,5",2\n'), decimal=",").tolist() == [[1.5, 2]]
    match = r"'1.5' in row 1 \(line 2\); if its decimal point is '.', pass --decimal . or"
    refused(lambda: numbers(write("x;y\n1.5;2\n"), decimal=","), match)
    refused(lambda: numbers(path, decimal="'"), "decimal is .*; choose '.' or ','")


def test_compressed_text(write: Any) -> None:
    data = b"x,y\n" + b"1.5,2\n" * 1000
    members = gzip.compress(data[:604]) + gzip.compress(data[604:])
    zstd = pa.compress(data, codec="zstd", asbytes=True)
    files = {"t.csv.gz": members, "t.csv.bz2": bz2.compress(data), "T.CSV.ZST": zstd}
    for name, packed in files.items():
        assert numbers(write(packed, name)).tolist() == [[1.5, 2]] * 1000
    assert numbers(write(gzip.compress(b"x\ty\n1\t2\n"), "t.tsv.gz")).tolist() == [[1, 2]]
    refused(lambda: numbers(write(members[:30], "t.csv.gz")), "cannot read .*t.csv.gz: Truncated")
    refused(lambda: numbers(write(data, "t.csv.gz")), "cannot read .*t.csv.gz")
    refused(lambda: numbers(write(data, "t.parquet.gz")), "suffix that gdcore does not read")


def test_integers_of_any_size_are_rounded_as_arrays_are(write: Any) -> None:
    large = [1_700_000_000_000_000_001, 2**53 + 1, -(2**63)]
    unsigned = np.array([2**64 - 1, 2**63, 3], np.uint64)
    table = pa.table({"i": large, "u": unsigned, "y": [1, None, 3]})
    wanted = np.column_stack([np.array(large, float), unsigned.astype(float), [1, 2, 3]])[[0, 2]]
    rows = "".join(f"{i},{u},{y}\n" for i, u, y in zip(large, unsigned, (1, "", 3), strict=True))
    for path in (write(table, "t.parquet"), write(table, "t.feather"), write("i,u,y\n" + rows)):
        assert np.array_equal(numbers(path, nulls="drop"), wanted), path


def test_columns_that_stand_for_numbers(write: Any) -> None:
    columns = {
        "bool": pa.array([True, None, False]),
        "half": pa.array(np.float16([1, 2, 3])),
        "decimal": pa.array(
            [decimal.Decimal("0.10"), decimal.Decimal("7"), decimal.Decimal("-2.5")]
        ),
        "code": pa.array([50, 60, 50]).dictionary_encode(),
        "y": pa.array([1, 2, 3], "int8"),
    }
    for name in ("t.parquet", "t.feather"):
        path = write(pa.table(columns), name)
        assert numbers(path, nulls="drop").tolist() == [[1, 1, 0.1, 50, 1], [0, 3, -2.5, 50, 3]]


def test_columns_that_are_no_numbers(write: Any) -> None:
    y = pa.array([1.0, 2.0])
    columns = {
        "timestamp": pa.array(np.array(["2020-01-01", "2021-01-01"], "M8[ns]")),
        "duration": pa.array([1, 2], "duration[s]"),
        "date32": pa.array([1, 2], "date32"),
        "string": pa.array(["1", "2"]),
        "dictionary": pa.array(["a", "b"]).dictionary_encode(),
        "list": pa.array([[1], [2]]),
    }
    for kind, column in columns.items():
        path = write(pa.table({"c": column, "x": y, "y": y}), "t.parquet")
        match = (
            rf"column 'c' of .*t.parquet is not numeric: {kind}.*; choose others: features=\['x'\]"
        )
        refused(lambda path=path: numbers(path), match)
    path = write(pa.table({"z": pa.nulls(2), "y": y}), "t.parquet")
    refused(lambda: numbers(path), r"column 'z' of .* has no number in row 1 \(counted from 1\)")
    path = write(pa.table({"a": y, "y": y}).slice(0, 0), "t.parquet")
    refused(lambda: numbers(path), "has no rows of data")
    twice = pa.Table.from_arrays([y, y, y], ["a", "a", "y"])
    refused(lambda: numbers(write(twice, "t.parquet")), "more than one column named 'a'")


def test_an_index_of_pandas_is_no_feature(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2, 3, 4], "y": [3.0, 5, 7, 9], "k": [7, 8, 9, 9]})
    stored = {
        "filtered": frame[["a", "y"]][frame.a != 2],
        "named": frame.set_index("k"),
        "several": frame.assign(j=0).set_index(["j", "k"]),
        "range": frame[["a", "y"]],
    }
    path = tmp_path / "t.parquet"
    for kind, rows in stored.items():
        rows.to_parquet(path)
        assert gd.read_chunks(path, "y").feature_names == ("a",), kind
    stored["filtered"].to_parquet(path)
    both = gd.read_chunks(path, "y", ["a", "__index_level_0__"])
    assert next(iter(both))[0].tolist() == [[1, 0], [3, 2], [4, 3]]  # type: ignore[union-attr]
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert gd.read_chunks(path, "y").feature_names == ("a",)


def test_folders(write: Any, tmp_path: Path) -> None:
    whole, parted = (
        pa.table({"x": [1, 2**53 + 1], "y": [1.0, 2.0]}),
        pa.table({"y": [3], "x": [0.5]}),
    )
    wanted = [[1, 1], [2.0**53, 2], [0.5, 3]]
    for name, (first, second) in {"a": (whole, parted), "b": (parted, whole)}.items():
        write(first, f"{name}/1.parquet")
        write(second, f"{name}/2.parquet")
        write("", f"{name}/_SUCCESS")
        assert sorted(numbers(tmp_path / name).tolist()) == sorted(wanted)
    write("x,y\n1,2\n", "c/1.csv")
    write("y;x\n3;2.5\n", "c/2.csv")
    write("x,y\n", "c/3.csv")
    assert numbers(tmp_path / "c").tolist() == [[1, 2], [2.5, 3]]
    write("x,y\n1,late\n", "c/4.csv")
    refused(lambda: numbers(tmp_path / "c"), r"column 'y' .*'late' in row 1 \(line 2\) of .*4.csv")
    write("z,y\n1,2\n", "c/4.csv")
    refused(lambda: numbers(tmp_path / "c"), "4.csv has no column 'x'")
    write(whole, "c/5.parquet")
    refused(lambda: numbers(tmp_path / "c"), r"files of several kinds \(.csv, .parquet\)")
    write("", "d/README.md")
    refused(lambda: numbers(tmp_path / "d"), "no file to read")


def test_datasets(write: Any, tmp_path: Path) -> None:
    import pyarrow.dataset as ds

    write(pa.table({"x": [1, 2], "y": [1.0, 2.0]}), "a/1.parquet")
    write(pa.table({"x": [0.5], "y": [3]}), "a/2.parquet")
    assert numbers(ds.dataset(tmp_path / "a")).tolist() == [[1, 1], [2, 2], [0.5, 3]]
    table = pa.table({"k": [1, 2], "x": [1.0, 2.0], "y": [1.0, 2.0]})
    pq.write_to_dataset(table, tmp_path / "hive", partition_cols=["k"])
    by_key = ds.dataset(tmp_path / "hive", partitioning="hive")
    assert numbers(by_key, features=["k", "x"]).tolist() == [[1, 1, 1], [2, 2, 2]]
    with pa.ipc.new_stream(tmp_path / "s.arrow", table.schema) as stream:
        stream.write_table(table)
    assert numbers(tmp_path / "s.arrow").tolist() == [[1, 1, 1], [2, 2, 2]]


def test_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.arange(6).reshape(3, 2))
    table = open_table(tmp_path / "t.npy")
    assert (table.find("-1"), table.numbers(["x1"]).tolist()) == ("x1", [[1], [3], [5]])
    np.savez(tmp_path / "t.npz", a=np.ones(3), y=np.ones(4))
    refused(lambda: open_table(tmp_path / "t.npz"), "columns of different lengths: 'a' 3, 'y' 4")
    np.savez(tmp_path / "t.npz", a=np.array(["u", "v"]), y=np.ones(2))
    match = r"column 'a' of .*t.npz is not numeric: <U1, 'u' in row 1"
    refused(lambda: gd.read_chunks(tmp_path / "t.npz", "y"), match)


def test_the_process_ends_as_it_should(write: Any) -> None:
    """No thread inside pyarrow holds a Python object when the interpreter ends."""
    pytest.importorskip("typer")
    files = [
        write(pa.table({"x": ["a", "b"], "y": [1.0, 2.0]}), "t.parquet"),
        write("x,y\n" + "1,2\n" * 400_000 + "one,2\n"),
    ]
    for path in files:
        command = [sys.executable, "-m", "gdcore", "fit", path, "--target", "y"]
        codes = Counter(
            subprocess.run(command, capture_output=True, check=False).returncode for _ in range(2)
        )
        assert codes == {2: 2}, path
