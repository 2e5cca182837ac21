"""Reading columns from files and writing them: every format, every kind of damage."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gdcore.cli.reading import read_table
from gdcore.cli.writing import _WRITERS, check_writable, write_table
from gdcore.tables import TableError
from gdcore.tables.arrays import ArrayTable
from gdcore.tables.open import _SUFFIXES as SUFFIXES

DIABETES = Path(__file__).parent.parent / "examples" / "data" / "diabetes.csv"

pa = pytest.importorskip("pyarrow")


@pytest.fixture
def write(tmp_path):
    """Write a file, text or bytes, and return its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def message(call, *args):
    """Return the sentence of the `TableError` that a call raises."""
    with pytest.raises(TableError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


def arrow_table():
    return pa.table(
        {
            "i": pa.array([1, 2, None], pa.int32()),
            "f": pa.array([1.5, 2.5, 3.5], pa.float32()),
            "b": [True, False, True],
            "d": pa.array([1, 2, 3], pa.int32()).cast(pa.decimal128(12, 2)),
            "text": ["p", "q", "r"],
            "day": pa.array([0, 1, 2], pa.date32()),
        }
    )


def write_parquet(path, table):
    pytest.importorskip("pyarrow.parquet").write_table(table, path)


def write_feather(path, table):
    pytest.importorskip("pyarrow.feather").write_feather(table, path)


class TestFormats:
    def test_diabetes(self):
        table = read_table(DIABETES)
        assert table.names == (
            *("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
            "progression",
        )
        assert table.numeric == table.names
        X = table.numbers(table.names)
        np.testing.assert_array_equal(X, np.loadtxt(DIABETES, delimiter=",", skiprows=1))
        assert X.dtype == np.float64

    def test_diabetes_is_what_scikit_learn_ships(self):
        datasets = pytest.importorskip("sklearn.datasets")
        X, y = datasets.load_diabetes(return_X_y=True, scaled=False)
        table = read_table(DIABETES)
        np.testing.assert_array_equal(table.numbers(table.names), np.column_stack([X, y]))

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_csv_dialects(self, write, delimiter, newline, mark):
        lines = ["a, b", "1,2.5", "", "-3,4e2"]
        text = mark + newline.join(lines).replace(",", delimiter)
        table = read_table(write("t.csv", text))
        assert table.names == ("a", "b")
        np.testing.assert_array_equal(table.numbers(["b", "a"]), [[2.5, 1], [400, -3]])

    @pytest.mark.parametrize(
        ("suffix", "save"), [(".parquet", write_parquet), (".feather", write_feather)]
    )
    def test_arrow(self, tmp_path, suffix, save):
        path = tmp_path / f"t{suffix}"
        save(path, arrow_table())
        table = read_table(path)
        assert table.names == ("i", "f", "b", "d", "text", "day")
        assert table.numeric == ("i", "f", "b", "d")
        np.testing.assert_array_equal(
            table.numbers(["d", "b", "f"]), [[1, 1, 1.5], [2, 0, 2.5], [3, 1, 3.5]]
        )
        assert "column 'i' of" in message(table.numbers, ["i"])
        assert "has no number in row 3 (counted from 1);" in message(table.numbers, ["i"])
        assert "'p' in row 1" in message(table.numbers, ["text"])
        assert "'1970-01-01' in row 1" in message(table.numbers, ["day"])

    def test_npy(self, tmp_path):
        path = tmp_path / "t.npy"
        array = np.arange(6, dtype=np.float32).reshape(3, 2)
        np.save(path, array)
        table = read_table(path)
        assert table.names == ("x0", "x1")
        np.testing.assert_array_equal(table.numbers(["x1"]), array[:, 1:])
        assert [table.find(name) for name in ("x1", "1", "-2")] == ["x1", "x1", "x0"]
        assert "no column '2'" in message(table.find, "2")

    def test_npy_vector_and_structured(self, tmp_path):
        np.save(tmp_path / "v.npy", np.array([1, 2, 3]))
        assert read_table(tmp_path / "v.npy").names == ("x0",)
        rows = np.array([(1, 2.5), (3, 4.5)], dtype=[("count", int), ("size", float)])
        np.save(tmp_path / "s.npy", rows)
        table = read_table(tmp_path / "s.npy")
        np.testing.assert_array_equal(table.numbers(["size", "count"]), [[2.5, 1], [4.5, 3]])

    def test_npz(self, tmp_path):
        path = tmp_path / "t.npz"
        np.savez(path, X=np.eye(3), y=np.arange(3), label=np.array(["a", "b", "c"]))
        table = read_table(path)
        assert table.names == ("x0", "x1", "x2", "y", "label")
        assert table.numeric == ("x0", "x1", "x2", "y")
        np.testing.assert_array_equal(table.numbers(["x0", "y"]), [[1, 0], [0, 1], [0, 2]])

    def test_index_is_a_name_only_in_npy(self, write):
        table = read_table(write("t.csv", "a,b\n1,2\n"))
        assert "no column '1'" in message(table.find, "1")


class TestColumns:
    def test_missing_names_and_close_matches(self):
        table = read_table(DIABETES)
        text = message(table.require, ["progresion", "age", "weight"])
        assert "has no columns 'progresion', 'weight'" in text
        assert "(did you mean 'progression'?)" in text
        assert "its columns are 'age', 'sex'," in text

    def test_many_names_are_cut(self):
        table = ArrayTable("t.npy", {f"x{j}": np.zeros(1) for j in range(100)})
        assert message(table.require, ["other"]).endswith("'x11' and 88 more.")

    def test_header_line_missing(self, write):
        table = read_table(write("t.csv", "1,2.5\n3,4\n"))
        assert "is the header line missing?" in message(table.find, "y")

    @pytest.mark.parametrize("cell", ["nan", "NA", "", "null"])
    def test_missing_value(self, write, cell):
        table = read_table(write("t.csv", f"a,b\n1,2\n\n3,{cell}\n"))
        text = message(table.numbers, ["a", "b"])
        assert "column 'b' of" in text
        assert "has no number in row 2 (line 4)" in text

    @pytest.mark.parametrize("cell", ["inf", "-inf", "1e999"])
    def test_infinity(self, write, cell):
        table = read_table(write("t.csv", f"a,b\n1,2\n{cell},3\n"))
        assert "column 'a' of" in message(table.numbers, ["b", "a"])
        assert "has an infinite number in row 2 (line 3)" in message(table.numbers, ["a"])

    def test_line_behind_newlines_in_values(self, write):
        table = read_table(write("t.csv", 'note,b\n"one\n\ntwo",1\n"three",\n'))
        assert "row 2 (line 5)" in message(table.numbers, ["b"])

    def test_text(self, write):
        table = read_table(write("t.csv", "a,b,c,d\n1,2,u,3\n4,x y,v,5\n"))
        assert table.numeric == ("a", "d")
        text = message(table.numbers, ["a", "b"])
        assert re.search(r"column 'b' of \S+ is not numeric: 'x y' in row 2 \(line 3\)\.", text)
        text = message(table.numbers, ["b", "c"])
        assert "columns 'b', 'c' of" in text
        assert "are not numeric: 'x y' in row 2 (line 3), 'u' in row 1 (line 2)." in text

    def test_text_that_looks_like_numbers(self, tmp_path):
        write_parquet(tmp_path / "t.parquet", pa.table({"a": [None, "1"]}))
        table = read_table(tmp_path / "t.parquet")
        assert message(table.numbers, ["a"]).endswith("is not numeric: string.")

    def test_complex(self, tmp_path):
        np.save(tmp_path / "t.npy", np.array([1j]))
        assert "'1j' in row 1" in message(read_table(tmp_path / "t.npy").numbers, ["x0"])


class TestDamage:
    def test_suffix(self, write):
        text = message(read_table, write("t.xlsx", "a"))
        assert "suffix that gdcore does not read" in text
        assert ".csv" in text
        assert ".npz" in text

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"No such file.*t.csv"):
            read_table(tmp_path / "t.csv")

    def test_directory(self, tmp_path):
        (tmp_path / "t.csv").mkdir()
        assert "t.csv holds no file to read" in message(read_table, tmp_path / "t.csv")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_empty(self, write, suffix):
        assert "is an empty file" in message(read_table, write(f"t{suffix}", ""))

    @pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s not in (".csv", ".tsv")])
    @pytest.mark.parametrize(
        "content", [b"PK\x03\x04 nonsense", b"PAR1", b"\x93NUMPY", b"a,b\n1,2"]
    )
    def test_nonsense(self, write, suffix, content):
        assert f"cannot read {write(f't{suffix}', content)}" in message(
            read_table, write(f"t{suffix}", content)
        )

    @pytest.mark.parametrize(
        ("suffix", "save"),
        [
            (".parquet", write_parquet),
            (".feather", write_feather),
            (".npy", lambda path, _: np.save(path, np.arange(100.0))),
            (".npz", lambda path, _: np.savez(path, X=np.eye(9), y=np.ones(9))),
        ],
    )
    def test_truncated_anywhere(self, tmp_path, suffix, save):
        path = tmp_path / f"t{suffix}"
        save(path, arrow_table())
        whole = path.read_bytes()
        for size in range(1, len(whole), max(1, len(whole) // 50)):
            path.write_bytes(whole[:size])
            assert f"cannot read {path}" in message(read_table, path)

    def test_ragged_csv(self, write):
        text = message(read_table, write("t.csv", "a,b\n1,2\n3\n"))
        assert "has 1 value in row 2 (line 3), and its header names 2 columns." in text

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            (b"\xff\xfea\x00\n\x001\x00", "t.csv is UTF-16 text"),
            (b"\xe9,b\n1,2\n", "the header of .*t.csv is not UTF-8"),
            (b"\n", "t.csv is an empty file"),
            (b"a,b", "t.csv has no rows of data"),
        ],
    )
    def test_not_csv(self, write, content, match):
        assert re.search(match, message(read_table, write("t.csv", content)))

    @pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
    def test_header_only(self, write, name):
        assert "has no rows of data" in message(read_table, write(name, "a\tb\n"))

    def test_no_rows(self, tmp_path):
        np.save(tmp_path / "t.npy", np.zeros((0, 2)))
        assert "has no rows of data" in message(read_table, tmp_path / "t.npy")
        np.save(tmp_path / "t.npy", np.zeros((2, 0)))
        assert "has no rows of data" in message(read_table, tmp_path / "t.npy")

    def test_same_name_twice(self, write, tmp_path):
        table = read_table(write("t.csv", "a,b,a\n1,2,3\n"))
        assert table.numbers(["b"]) == 2
        text = message(table.numbers, ["a"])
        assert "more than one column named 'a'" in text
        np.savez(tmp_path / "t.npz", x=np.eye(2), X=np.eye(2))
        assert "named 'x0', 'x1'" in message(read_table, tmp_path / "t.npz")

    def test_shapes(self, tmp_path):
        np.savez(tmp_path / "t.npz", X=np.eye(3), y=np.arange(2))
        assert "different lengths: 'x0' 3, 'x1' 3, 'x2' 3, 'y' 2" in message(
            read_table, tmp_path / "t.npz"
        )
        np.save(tmp_path / "t.npy", np.zeros((2, 2, 2)))
        assert "array 'x' has 3 dimensions" in message(read_table, tmp_path / "t.npy")

    def test_objects_are_never_unpickled(self, tmp_path):
        np.save(tmp_path / "t.npy", np.array([{}], dtype=object))
        assert "allow_pickle=False" in message(read_table, tmp_path / "t.npy")

    def test_npy_named_npz(self, tmp_path):
        np.save(tmp_path / "t.npy", np.eye(2))
        (tmp_path / "t.npy").rename(tmp_path / "t.npz")
        assert "name it .npy" in message(read_table, tmp_path / "t.npz")

    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather"])
    def test_without_pyarrow(self, write, suffix, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        with pytest.raises(ImportError, match="needs pyarrow; run: pip install 'gdcore"):
            read_table(write(f"t{suffix}", "a\n1\n"))


class TestWriting:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("suffix", _WRITERS)
    def test_round_trip(self, tmp_path, suffix, dtype):
        path = tmp_path / f"t{suffix}"
        values = np.array([0.1, 1 / 3, -1e-30, 1e30], dtype)
        write_table(path, {"p": values})
        table = read_table(path)
        assert table.names == (("x0",) if suffix == ".npy" else ("p",))
        np.testing.assert_array_equal(table.numbers(table.names)[:, 0].astype(dtype), values)

    def test_several_columns(self, tmp_path):
        columns = {"p, 0": np.array([1.0, 2.0]), "p1": np.array([3.0, 4.0])}
        write_table(tmp_path / "t.csv", columns)
        assert (tmp_path / "t.csv").read_text() == '"p, 0",p1\n1.0,3.0\n2.0,4.0\n'
        write_table(tmp_path / "t.npy", columns)
        np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), [[1, 3], [2, 4]])

    def test_check_writable(self, tmp_path):
        path = tmp_path / "t.csv"
        check_writable(path)
        assert not path.exists()
        path.write_text("kept")
        check_writable(path, [".csv"])
        assert path.read_text() == "kept"
        assert "suffix must be .csv, .parquet or .npy" in message(
            check_writable, tmp_path / "t.txt", tuple(_WRITERS)
        )
        assert "No such file or directory" in message(check_writable, tmp_path / "no" / "t.csv")
        assert "Is a directory" in message(check_writable, tmp_path)
