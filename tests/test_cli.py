"""The command line: what it prints, writes and returns, and a sentence for each mistake."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gdcore as gd
from gdcore import cli

pytest.importorskip("typer")
pytest.importorskip("pyarrow")

from typer.testing import CliRunner

from gdcore.cli import app, training
from gdcore.cli.reading import read_table

DIABETES = Path(__file__).parent.parent / "examples" / "data" / "diabetes.csv"
LINE = "x,y\n0,1\n1,3\n2,5\n3,7\n4,9\n5,11\n6,13\n7,15\n"


def run(*args, given=None):
    return CliRunner().invoke(cli.build_app(), [str(arg) for arg in args], input=given)


def good(*args, code=0):
    """Run a command that should work and return what it printed."""
    result = run(*args)
    assert result.exit_code == code, result.output
    return result


def sentence(*args):
    """Run a command that should fail and return the one sentence it said."""
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.endswith(".\n")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def line(write):
    return write("line.csv", LINE)


@pytest.fixture
def model(line, tmp_path):
    good("fit", line, "--target", "y", "--test-size", 0, "--save", tmp_path / "model.npz")
    return tmp_path / "model.npz"


def diabetes_split():
    table = read_table(DIABETES)
    X, y = table.numbers(table.names[:-1]), table.numbers(["progression"])[:, 0]
    return training.split_rows(X, y, test_size=0.25, seed=0)


def least_squares(X, y):
    return np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]


class TestFit:
    def test_diabetes_against_numpy(self, tmp_path):
        report = json.loads(
            good(
                *("fit", DIABETES, "--target", "progression", "--standardize", "--json"),
                *("--momentum", 0.9, "--epochs", 20_000, "--tol", 1e-10),
            ).stdout
        )
        train, test = diabetes_split()
        *weights, intercept = least_squares(*train)
        for model, rtol in ((report, 1e-6), (report["normal_equation"], 1e-9)):
            assert model["status"] == "CONVERGED"
            assert list(model["weights"]) == model["features"]
            np.testing.assert_allclose(
                list(model["weights"].values()), weights, rtol=rtol, atol=rtol
            )
            np.testing.assert_allclose(model["intercept"], intercept, rtol=rtol)
            for part, (X, y) in {"train": train, "test": test}.items():
                mse = np.mean((X @ weights + intercept - y) ** 2)
                assert model[part]["rows"] == len(y)
                np.testing.assert_allclose(model[part]["mse"], mse, rtol=rtol)
                np.testing.assert_allclose(model[part]["r2"], 1 - mse / np.var(y), rtol=rtol)
        assert (report["train"]["rows"], report["test"]["rows"]) == (331, 111)

    def test_json_is_alone_and_keeps_its_keys(self):
        result = good("fit", DIABETES, "--target", "progression", "--json")
        assert result.stderr == ""
        report = json.loads(result.stdout)
        model = (
            *("target", "features", "method", "method_reason", "lr", "stability_limit", "epochs"),
            *("status", "message", "r2_lost", "weights", "intercept", "train", "test"),
        )
        assert tuple(report) == (
            *("gdcore", "data", *model, "normal_equation", "interrupted", "notes"),
        )
        assert tuple(report["normal_equation"]) == model
        assert tuple(report["train"]) == ("rows", "mse", "r2")
        assert report["gdcore"] == gd.__version__
        assert report["normal_equation"]["lr"] is None  # JSON has no NaN

    def test_table(self):
        result = good("fit", DIABETES, "--target", "progression", "--standardize")
        assert result.stderr == ""
        lines = result.stdout.splitlines()
        assert max(map(len, lines[:-1])) <= 80
        labels = [text.split("  ")[1] for text in lines if text.startswith("  ")]
        names = list(read_table(DIABETES).names[:-1])
        assert [label for label in labels if label] == [
            *("progression =", *names, "intercept", "MSE, 331 train rows", "MSE, 111 test rows"),
            *("R2, 331 train rows", "R2, 111 test rows"),
        ]
        assert "normal equation" in result.stdout
        assert lines[-1].startswith("CONVERGED: ")

    def test_table_without_test_rows(self, line):
        text = good("fit", line, "--target", "y", "--test-size", 0).stdout
        assert "MSE, 8 train rows" in text
        assert "test rows" not in text

    def test_table_of_many_features(self, tmp_path):
        np.save(tmp_path / "wide.npy", np.random.default_rng(0).normal(size=(60, 50)))
        text = good("fit", tmp_path / "wide.npy", "--target", -1).stdout
        assert "... 9 more, see --json" in text

    def test_exact(self, line):
        result = good("fit", line, "--target", "y", "--method", "exact")
        assert "normal equation" in result.stdout
        assert "gradient descent" not in result.stdout
        assert "CONVERGED: " in result.stdout

    def test_names_are_no_markup(self, write):
        path = write("t.csv", LINE.replace("x,y", "[red],[/bold]"))
        text = good("fit", path, "--target", "[/bold]").stdout
        assert "[red]" in text
        assert "[/bold] =" in text

    @pytest.mark.parametrize("target", ["1", "-1", "x1"])
    def test_npy_target_by_index_or_name(self, tmp_path, target):
        np.save(tmp_path / "t.npy", np.loadtxt(LINE.splitlines(), delimiter=",", skiprows=1))
        report = json.loads(good("fit", tmp_path / "t.npy", "--target", target, "--json").stdout)
        assert report["target"] == "x1"
        np.testing.assert_allclose(report["normal_equation"]["weights"]["x0"], 2)

    def test_seed_draws_the_test_rows(self):
        command = ("fit", DIABETES, "--target", "progression", "--json", "--seed")
        first, same, other = (json.loads(good(*command, seed).stdout) for seed in (1, 1, 2))
        assert first == same
        assert first["test"] != other["test"]

    def test_float32(self, tmp_path):
        path = tmp_path / "m.npz"
        good("fit", DIABETES, "--target", "s1", "--dtype", "float32", "--save", path)
        assert gd.load(path).weights.dtype == np.float32

    @pytest.mark.parametrize("standardize", [["--no-standardize"], ["--standardize"]])
    def test_saved_model_is_in_original_units(self, tmp_path, standardize):
        path = tmp_path / "m.npz"
        report = json.loads(
            good(
                *("fit", DIABETES, "--target", "progression", "--json", "--save", path),
                *standardize,
            ).stdout
        )
        saved = gd.load(path)
        assert saved.feature_names == tuple(report["features"])
        assert saved.target_name == "progression"
        assert saved.weights.tolist() == list(report["weights"].values())
        X, y = diabetes_split()[1]
        np.testing.assert_allclose(gd.mse(saved.predict(X), y), report["test"]["mse"], rtol=1e-12)

    def test_every_option_of_sgd_arrives(self, line, monkeypatch):
        seen = {}
        fit = gd.fit

        def spy(X, y, sgd, **settings):
            seen.setdefault("sgd", sgd)
            seen.update(settings)
            return fit(X, y, sgd, **settings)

        monkeypatch.setattr(gd, "fit", spy)
        good(
            *("fit", line, "--target", "y", "--lr", 0.01, "--momentum", 0.5, "--nesterov"),
            *("--weight-decay", 0.1, "--epochs", 7, "--batch-size", 2, "--tol", 0, "--seed", 3),
        )
        spared = {"decay_intercept": False}
        assert seen["sgd"] == gd.SGD(0.01, 0.5, nesterov=True, weight_decay=0.1, **spared)
        assert seen["standardize"] is True
        assert (seen["epochs"], seen["batch_size"], seen["tol"], seen["seed"]) == (7, 2, None, 3)
        seen.clear()
        good("fit", line, "--target", "y", "--momentum", 0.5, "--dampening", 0.2)
        assert seen["sgd"] == gd.SGD(momentum=0.5, dampening=0.2, **spared)
        assert seen["progress"] is False  # nobody watches


class TestNotes:
    def test_divergence(self, tmp_path):
        path = tmp_path / "m.npz"
        result = good("fit", DIABETES, "--target", "progression", "--lr", 1, "--save", path, code=3)
        assert "normal equation" in result.stdout
        assert "DIVERGED: " in result.stdout
        assert "Warning" not in result.stderr
        assert result.stderr.count("Note: ") == 1
        assert "lr" in result.stderr
        assert np.isfinite(gd.load(path).weights).all()

    def test_notes_are_in_the_json(self):
        result = good("fit", DIABETES, "--target", "progression", "--lr", 1, "--json", code=3)
        report = json.loads(result.stdout)
        assert report["status"] == "DIVERGED"
        assert [f"Note: {note}" for note in report["notes"]] == result.stderr.splitlines()

    def test_constant_column(self, write):
        rows = [f"{text},0.1" for text in LINE.splitlines()[1:]]
        path = write("t.csv", "\n".join(["x,y,same", *rows]))
        result = good("fit", path, "--target", "y", "--standardize", "--json", "--epochs", 100)
        assert "constant in the training rows, so of no use: same." in result.stderr
        weights = json.loads(result.stdout)["weights"]
        np.testing.assert_allclose(weights["x"], 2, rtol=1e-5)
        assert weights["same"] == 0

    def test_collinear_columns(self, write):
        rows = [f"{text},{text.split(',')[0]}" for text in LINE.splitlines()[1:]]
        path = write("t.csv", "\n".join(["x,y,again", *rows]))
        result = good("fit", path, "--target", "y")
        assert result.stderr == ""
        assert "\nSINGULAR (normal equation): Rank" in result.stdout
        result = good("fit", path, "--target", "y", "--method", "exact")
        assert "\nSINGULAR: Rank" in result.stdout


class TestMistakes:
    @pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.feather", "t.npy", "t.npz"])
    def test_files(self, write, tmp_path, name):
        assert "No such file" in sentence("fit", tmp_path / name, "--target", "y")
        assert "is an empty file" in sentence("fit", write(name, ""), "--target", "y")

    def test_truncated(self, write, line):
        assert "cannot read" in sentence("fit", write("t.npz", "PK\x03\x04"), "--target", "y")
        assert "has 1 value in row 9 (line 10), and its header names 2 columns." in sentence(
            "fit", write("t.csv", LINE + "8"), "--target", "y"
        )

    def test_suffix(self, write):
        text = sentence("fit", write("t.xls", "x"), "--target", "y")
        assert "it reads .csv, .tsv, .parquet, .feather, .arrow, .npy, .npz." in text

    def test_target(self, line, write):
        text = sentence("fit", DIABETES, "--target", "Progresion")
        assert "no column 'Progresion' (did you mean 'progression'?)" in text
        assert "its columns are 'age', 'sex'" in text
        path = write("t.csv", "x,y\n1,low\n2,high\n")
        text = sentence("fit", path, "--target", "y")
        assert "column 'y'" in text
        assert "is not numeric: 'low' in row 1 (line 2); encode it as numbers first." in text

    def test_features_that_are_not_numeric(self, write):
        path = write("t.csv", "x,town,a b,y,when\n1,Ulm,3,4,2020-01-01\n2,Bonn,4,5,2020-01-02\n")
        text = sentence("fit", path, "--target", "y")
        assert "columns 'town', 'when' of" in text
        assert "are not numeric: 'Ulm' in row 1 (line 2), '2020-01-01' in row 1 (line 2)" in text
        assert "choose others: --features 'x,a b'." in text
        assert "column 'town'" in sentence("fit", path, "--target", "y", "--features", "x,town")

    def test_features(self, line):
        fit = ("fit", line, "--target", "y", "--features")
        assert "no column 'z'" in sentence(*fit, "x,z")
        for wrong in ("x,x", "x,y"):
            assert "each column once, and never the target" in sentence(*fit, wrong)
        assert "no column of" in sentence(*fit, "")

    def test_no_features(self, write):
        path = write("t.csv", "y\n1\n2\n")
        assert "to predict 'y' from" in sentence("fit", path, "--target", "y")

    def test_column_without_a_name(self, write):
        path = write("t.csv", ",x,y\n0,1,2\n1,2,4\n2,3,6\n3,4,7\n")
        text = sentence("fit", path, "--target", "y")
        assert "has a column without a name; choose others: --features x." in text
        good("fit", path, "--target", "y", "--features", "x")

    @pytest.mark.parametrize(("cell", "what"), [("", "no number"), ("inf", "an infinite number")])
    @pytest.mark.parametrize("column", ["x", "y"])
    def test_not_finite(self, write, cell, what, column):
        row = f"{cell},1" if column == "x" else f"1,{cell}"
        text = sentence("fit", write("t.csv", f"x,y\n1,2\n{row}\n"), "--target", "y")
        assert f"column '{column}' of" in text
        assert f"has {what} in row 2 (line 3)" in text

    def test_header(self, write):
        text = sentence("fit", write("t.csv", "x,x,y\n1,2,3\n"), "--target", "y")
        assert "more than one column named 'x'" in text
        text = sentence("fit", write("t.csv", "1,2\n3,4\n"), "--target", "y")
        assert "is the header line missing?" in text
        assert "no rows" in sentence("fit", write("t.csv", "x,y\n"), "--target", "y")

    def test_split(self, line, write):
        fit = ("fit", line, "--target", "y", "--test-size")
        for size in (1, -0.1, "nan"):
            assert "--test-size must be at least 0 and below 1" in sentence(*fit, size)
        one = write("one.csv", "x,y\n1,2\n")
        text = sentence("fit", one, "--target", "y")
        assert "with 1 row and --test-size 0.25 none is left to train on" in text

    @pytest.mark.parametrize("lr", ["fast", "0", "-1", "nan", "inf"])
    def test_lr(self, line, lr):
        assert "lr" in sentence("fit", line, "--target", "y", "--lr", lr)

    @pytest.mark.parametrize(
        ("option", "value", "word"),
        [
            ("--epochs", -1, "epochs"),
            ("--batch-size", 0, "batch_size"),
            ("--batch-size", 9, "batch_size"),
            ("--momentum", -1, "momentum"),
            ("--weight-decay", -1, "weight_decay"),
            ("--tol", -1, "tol"),
            ("--nesterov", "--no-progress", "nesterov"),
        ],
    )
    def test_settings(self, line, option, value, word):
        assert word in sentence("fit", line, "--target", "y", option, value).lower()

    def test_too_large_for_float32(self, write):
        path = write("t.csv", "x,y\n1e300,2\n3,4\n5,6\n")
        text = sentence("fit", path, "--target", "y", "--dtype", "float32")
        assert "holds numbers that float32 does not; use --dtype float64." in text

    def test_too_large_to_standardize(self, write):
        path = write("t.csv", "x,y\n1e200,2\n3e200,4\n5e200,6\n")
        text = sentence("fit", path, "--target", "y", "--standardize")
        assert "scale the columns of X and y" in text

    @pytest.mark.parametrize("option", ["--plot", "--animate", "--save", "--checkpoint"])
    def test_outputs_are_checked_before_the_fit(self, line, tmp_path, option, monkeypatch):
        monkeypatch.setattr(gd, "fit", lambda *_, **__: pytest.fail("fitted all the same"))
        suffix = {"--plot": ".png", "--animate": ".gif"}.get(option, ".npz")
        fit = ("fit", line, "--target", "y", option)
        text = sentence(*fit, tmp_path / "no" / f"f{suffix}")
        assert "cannot write" in text
        assert "No such file or directory" in text
        (tmp_path / f"folder{suffix}").mkdir()
        assert "Is a directory" in sentence(*fit, tmp_path / f"folder{suffix}")
        if option != "--checkpoint":
            assert "its suffix must be" in sentence(*fit, tmp_path / "f.txt")
        assert {path.name for path in tmp_path.iterdir()} == {"line.csv", f"folder{suffix}"}

    def test_outputs_overwrite_nothing_in_use(self, tmp_path):
        path, other = tmp_path / "t.npz", tmp_path / "u.npz"
        np.savez(path, x=np.arange(4.0), y=np.arange(4.0))
        fit = ("fit", path, "--target", "y")
        assert "which this command reads" in sentence(*fit, "--save", path)
        text = sentence(*fit, "--save", other, "--checkpoint", other)
        assert "--checkpoint would overwrite" in text
        assert "which --save writes" in text

    def test_animate_needs_steps_on_one_feature(self, line, tmp_path):
        gif = ("--animate", tmp_path / "f.gif")
        text = sentence("fit", DIABETES, "--target", "progression", *gif)
        assert "on one feature: choose it with --features" in text
        text = sentence("fit", line, "--target", "y", "--method", "exact", *gif)
        assert "leave out --method exact" in text

    def test_mp4_without_ffmpeg(self, line, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", "")
        text = sentence("fit", line, "--target", "y", "--animate", tmp_path / "f.mp4")
        assert "made by ffmpeg, which is not installed" in text

    @pytest.mark.parametrize("option", ["--plot", "--animate"])
    def test_without_matplotlib(self, line, tmp_path, option, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        text = sentence("fit", line, "--target", "y", option, tmp_path / "f.gif")
        assert text.endswith("run: pip install 'gdcore[plot]'.\n")

    def test_checkpoint_of_another_problem(self, line, write, tmp_path):
        state = ("--checkpoint", tmp_path / "state.npz", "--epochs", 5, "--tol", 0)
        good("fit", line, "--target", "y", *state)
        other = write("other.csv", LINE.replace("7,15", "7,16"))
        assert "checkpoint" in sentence("fit", other, "--target", "y", *state)

    @pytest.mark.parametrize(
        "args",
        [
            ("fit",),
            ("fit", DIABETES),
            ("fit", DIABETES, "--target", "s1", "--epochs", "many"),
            ("fit", DIABETES, "--target", "s1", "--method", "magic"),
            ("fit", DIABETES, "--target", "s1", "--seed", "-1"),
            ("predict", "m.npz"),
            ("no-such-command",),
        ],
    )
    def test_usage(self, args):
        result = run(*args)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Usage: " in result.stderr


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


class TestPictures:
    @pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
    @pytest.mark.parametrize("features", ["bmi", "bmi,bp,s5"])
    def test_plot(self, tmp_path, suffix, features):
        path = tmp_path / f"fit.{suffix}"
        command = ("fit", DIABETES, "--target", "progression", "--features", features)
        assert good(*command, "--plot", path).stdout.endswith(f"\nWrote {path}.\n")
        assert path.stat().st_size > 5000

    @pytest.mark.parametrize("extra", [["--method", "exact"], ["--test-size", 0], ["--lr", 99]])
    def test_plot_of_unusual_fits(self, line, tmp_path, extra):
        path = tmp_path / "fit.png"
        run("fit", line, "--target", "y", "--plot", path, *extra)
        assert path.stat().st_size > 5000

    def test_animate(self, line, tmp_path):
        path = tmp_path / "fit.gif"
        good("fit", line, "--target", "y", "--epochs", 5, "--tol", 0, "--animate", path)
        assert path.read_bytes().startswith(b"GIF8")

    def test_animate_standardized(self, tmp_path):
        path = tmp_path / "fit.gif"
        command = ("fit", DIABETES, "--target", "progression", "--features", "bmi")
        good(*command, "--standardize", "--epochs", 2, "--animate", path)
        assert path.read_bytes().startswith(b"GIF8")


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


class TestInterrupt:
    def test_saves_and_prints_what_was_reached(self, line, tmp_path, monkeypatch):
        fit = gd.fit

        def interrupted(*args, method, **settings):
            if method == "exact":
                return fit(*args, method=method, **settings)
            settings |= {"epochs": 3, "tol": None}
            raise gd.FitInterrupted(fit(*args, method=method, **settings))

        monkeypatch.setattr(gd, "fit", interrupted)
        path, picture = tmp_path / "m.npz", tmp_path / "fit.png"
        command = ("fit", line, "--target", "y", "--save", path, "--plot", picture)
        result = good(*command, code=130)
        assert result.stderr == "Note: interrupted after 3 epochs.\n"
        assert "normal equation" in result.stdout
        assert gd.load(path).epochs == 3
        report = json.loads(good(*command, "--json", code=130).stdout)
        assert report["interrupted"] is True
        assert report["epochs"] == 3

    def test_before_the_fit(self, line, monkeypatch):
        def read_table(path, decimal):
            raise KeyboardInterrupt

        monkeypatch.setattr(app, "read_table", read_table)
        result = good("fit", line, "--target", "y", code=130)
        assert result.output == ""

    @pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
    def test_ctrl_c(self, tmp_path):
        path, state = tmp_path / "m.npz", tmp_path / "state.npz"
        command = [
            *(sys.executable, "-m", "gdcore", "fit", DIABETES, "--target", "progression"),
            *("--epochs", "2000000000", "--tol", "0", "--save", path, "--json"),
            *("--checkpoint", state),
        ]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                give_up = time.monotonic() + 30
                while not state.exists() and time.monotonic() < give_up:
                    time.sleep(0.05)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=30)
            finally:
                process.kill()
        assert process.returncode == 130, err
        report = json.loads(out)
        assert report["interrupted"] is True
        assert gd.load(path).epochs == report["epochs"] > 0


class TestTop:
    def test_version(self):
        assert good("--version").stdout == f"gdcore {gd.__version__}\n"

    def test_help(self):
        assert {"fit", "predict", "config", "selftest"} <= set(good("--help").stdout.split())
        for word in ("--standardize", "Training", "auto|<float>"):
            assert word in good("fit", "-h").stdout

    def test_config(self):
        assert gd.__version__ in good("config").stdout

    def test_selftest(self, monkeypatch):
        good("selftest")
        monkeypatch.setattr(gd, "selftest", lambda: [])
        good("selftest", code=1)

    def test_module(self):
        command = [sys.executable, "-m", "gdcore", "fit", DIABETES, "--target", "nothing"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"Error: {DIABETES} has no column 'nothing'; ")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="it is a device of Linux")
    def test_output_on_a_full_disk(self):
        command = [sys.executable, "-m", "gdcore", "fit", DIABETES, "--target", "progression"]
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 2
        assert b"Error: cannot use standard output: No space left on device." in done.stderr

    @pytest.mark.parametrize("module", ["typer", "rich"])
    def test_without_the_extra(self, module):
        code = f"import sys; sys.modules[{module!r}] = None; import gdcore.cli as c; c.main()"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr == (
            f"Error: the command line needs {module}; run: pip install 'gdcore[cli]'.\n"
        )

    def test_main_is_the_app(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["gdcore", "--version"])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 0
        assert capsys.readouterr().out == f"gdcore {gd.__version__}\n"
