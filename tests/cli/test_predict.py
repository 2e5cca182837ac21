"""gdcore predict, and the kinds of tables that both commands read."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

import gdcore as gd
from commands import DIABETES, LINE, good, run, sentence
from gdcore.cli.reading import read_table


class TestTables:
    """`test_read_tables.py` has what the reader takes; here, that both commands use it."""

    def test_standard_input(self, model, line, tmp_path):
        np.savez(tmp_path / "t.npz", x=np.arange(8.0), y=1 + 2 * np.arange(8.0))
        zipped = gzip.compress(line.read_bytes())
        for given in (line.read_bytes(), zipped, (tmp_path / "t.npz").read_bytes()):
            result = run("fit", "-", "--target", "y", "--json", given=given)
            assert json.loads(result.stdout)["normal_equation"]["weights"]["x"] == pytest.approx(2)
            result = run("predict", model, "-", given=given)
            assert len(result.stdout.splitlines()) == 9
        bad = run("fit", "-", "--target", "y", given=b"x,y\n1,2\n,3\n")
        assert "column 'x' of standard input has no number in row 2 (line 3)" in bad.stderr
        assert "standard input is an empty file" in run("predict", model, "-", given=b"").stderr

    def test_decimal_comma(self, model, write):
        path = write("t.csv", "x;y\n" + "".join(f"{x},5;{2 * x + 2},0\n" for x in range(8)))
        text = sentence("fit", path, "--target", "y")
        assert text.endswith("if its decimal point is ',', pass --decimal , or decimal=','.\n")
        report = good("fit", path, "--target", "y", "--decimal", ",", "--method", "exact", "--json")
        assert json.loads(report.stdout)["weights"]["x"] == pytest.approx(2)
        numbers = good("predict", model, path, "--decimal", ",").stdout.splitlines()[1:]
        np.testing.assert_allclose(np.array(numbers, float), 2 + 2 * np.arange(8.0), atol=1e-3)
        assert "choose '.' or ','" in sentence("fit", path, "--target", "y", "--decimal", ";")

    def test_folder(self, write, tmp_path):
        (tmp_path / "parts").mkdir()
        write("parts/a.csv", LINE)
        write("parts/b.csv", "y;x\n18.5;8.75\n")
        report = json.loads(good("fit", tmp_path / "parts", "--target", "y", "--json").stdout)
        assert report["train"]["rows"] + report["test"]["rows"] == 9
        assert report["features"] == ["x"]


class TestPredict:
    def test_columns_by_name(self, model, write):
        path = write("new.csv", "note,x,more\nfirst,10,0\nsecond,-1,0\n")
        header, *numbers = good("predict", model, path).stdout.splitlines()
        assert header == "prediction"
        np.testing.assert_allclose(np.array(numbers, float), [21, -1], atol=1e-3)

    def test_columns_in_another_order(self, write, tmp_path):
        data = write("plane.csv", "a,b,y\n1,0,1\n0,1,3\n1,1,4\n2,1,5\n0,2,6\n")  # y = a + 3 b
        how = ("--target", "y", "--test-size", 0, "--method", "exact")
        good("fit", data, *how, "--save", tmp_path / "plane.npz")
        printed = good("predict", tmp_path / "plane.npz", write("new.csv", "b,a\n1,0\n")).stdout
        assert float(printed.splitlines()[1]) == pytest.approx(3)

    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
    def test_out(self, model, line, tmp_path, suffix):
        out = tmp_path / f"p{suffix}"
        assert good("predict", model, line, "--out", out).stdout == f"8 predictions in {out}\n"
        table = read_table(out)
        assert table.names == (("x0",) if suffix == ".npy" else ("prediction",))
        expected = gd.load(model).predict(np.arange(8.0)[:, None])
        np.testing.assert_array_equal(table.numbers(table.names)[:, 0], expected)

    def test_json(self, model, line):
        report = json.loads(good("predict", model, line, "--json").stdout)
        assert tuple(report) == ("gdcore", "model", "data", "rows", "predictions")
        assert report["rows"] == len(report["predictions"]) == 8

    def test_model_of_arrays(self, tmp_path, line):
        gd.fit(np.eye(2), [1.0, 2.0], gd.SGD()).save(tmp_path / "m.npz")
        good("predict", tmp_path / "m.npz", line)
        text = sentence("predict", tmp_path / "m.npz", DIABETES)
        assert "no names for its 2 features" in text
        assert "must have exactly 2 columns in the same order, not 11." in text

    def test_several_targets(self, tmp_path, line):
        gd.fit(np.eye(2), np.eye(2), gd.SGD()).save(tmp_path / "m.npz")
        text = good("predict", tmp_path / "m.npz", line).stdout
        assert text.startswith("prediction0,prediction1\n")

    def test_missing_features(self, model, write):
        text = sentence("predict", model, write("new.csv", "z,y\n1,2\n"))
        assert "has no column 'x'" in text

    def test_missing_values(self, model, write):
        assert "no number in row 1 (line 2)" in sentence(
            "predict", model, write("new.csv", "x,y\n,2\n")
        )

    def test_model_file(self, line, tmp_path):
        assert "No such file" in sentence("predict", tmp_path / "no.npz", line)
        assert str(line) in sentence("predict", line, line)
        np.savez(tmp_path / "other.npz", a=1)
        assert "other.npz" in sentence("predict", tmp_path / "other.npz", line)

    def test_outputs(self, model, line, tmp_path):
        assert "its suffix must be .csv, .parquet or .npy" in sentence(
            "predict", model, line, "--out", tmp_path / "p.txt"
        )
        assert "which this command reads" in sentence("predict", model, line, "--out", line)
        assert "No such file or directory" in sentence(
            "predict", model, line, "--out", tmp_path / "no" / "p.csv"
        )
