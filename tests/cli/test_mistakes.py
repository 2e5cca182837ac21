"""Each mistake on the command line gets one sentence."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import gdcore as gd
from commands import DIABETES, LINE, good, run, sentence


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
        assert "ffmpeg, and it is not installed" in text

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
