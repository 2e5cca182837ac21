"""gdcore fit: what it prints, saves and draws."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gdcore as gd
from commands import DIABETES, LINE, diabetes_split, good, run
from gdcore.cli.reading import read_table
from inferences import reference


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
            "inference",
        )
        assert tuple(report) == (
            *("gdcore", "data", *model, "dropped", "normal_equation", "interrupted", "notes"),
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

    def test_standard_errors(self, tmp_path):
        """Those of the training rows: as a table, in JSON, and in the file."""
        command = ("fit", DIABETES, "--target", "progression", "--covariance", "hc3")
        (X, y), _ = diabetes_split()
        known = reference(X, y, "hc3")
        report = json.loads(good(*command, "--json", "--save", tmp_path / "m.npz").stdout)
        names = [*report["features"], "intercept"]
        errors = np.sqrt(np.diagonal(known.covariance))
        for found in (report["inference"], report["normal_equation"]["inference"]):
            assert (found["covariance"], found["reason"]) == ("hc3", "")
            assert list(found["stderr"]) == list(found["tvalues"]) == names
            np.testing.assert_allclose(list(found["stderr"].values()), errors, rtol=1e-9)
            np.testing.assert_allclose(found["r2"], known.r2, rtol=1e-10)
            assert found["df_resid"] == known.df_resid == 331 - 11
        np.testing.assert_allclose(gd.load(tmp_path / "m.npz").stderr, errors, rtol=1e-9)
        text = good(*command).stdout
        rows = [line.split() for line in text.splitlines()]
        assert [row[0] for row in rows if len(row) in (4, 7)][-11:] == names
        assert "std err" in text
        assert "(covariance='hc3')" in text
        assert "std err" not in good(*command[:-2]).stdout

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


class TestPictures:
    @pytest.mark.parametrize(
        ("suffix", "features"),
        [("png", "bmi"), ("png", "bmi,bp,s5"), ("svg", "bmi,bp,s5"), ("pdf", "bmi")],
    )
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
