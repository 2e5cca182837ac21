"""The command line on files in which values are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from commands import good, run, sentence

GAPS = "x,z,y\n1,2,3\n2,NA,5\n,1,7\n4,0,NaN\n5,1,12\n6,2,13\n7,0,15\n8,1,17\n"


@pytest.fixture
def gaps(tmp_path: Path) -> Path:
    path = tmp_path / "gaps.csv"
    path.write_text(GAPS)
    return path


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The rows of `gaps` in which nothing is missing."""
    path = tmp_path / "whole.csv"
    lines = GAPS.splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[5:]))
    return path


@pytest.mark.parametrize("size", ["0.3", "0"])
def test_fit_of_the_rows_that_are_kept(gaps: Path, whole: Path, size: str) -> None:
    options = "--target", "y", "--json", "--test-size", size
    result = good("fit", gaps, *options, "--missing", "drop")
    found, want = json.loads(result.stdout), json.loads(good("fit", whole, *options).stdout)
    note = "3 of 8 rows have missing values and were left out."
    assert (found.pop("dropped"), want.pop("dropped")) == (3, 0)
    assert (found.pop("notes"), want.pop("notes")) == ([note], [])
    assert result.stderr == f"Note: {note}\n"
    assert found | {"data": want["data"]} == want
    same = good("fit", whole, *options, "--missing", "drop")
    assert json.loads(same.stdout) | {"dropped": None} == want | {"dropped": None, "notes": []}


def test_only_the_columns_that_are_read_count(gaps: Path) -> None:
    options = "--target", "y", "--json", "--features", "x", "--missing", "drop"
    assert json.loads(good("fit", gaps, *options).stdout)["dropped"] == 2


def test_a_missing_value_is_refused_with_the_way_out(gaps: Path, tmp_path: Path) -> None:
    for size in (1, 1 << 30):  # in chunks, and whole
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gdcore.cli.large.LARGE_BYTES", size)
            said = sentence("fit", gaps, "--target", "y")
        assert "has no number in row" in said
        assert said.endswith("or pass --missing drop.\n")
    gaps.write_text("x,z,y\n1,,3\n2,,5\n")
    said = sentence("fit", gaps, "--target", "y", "--missing", "drop")
    assert "every row of" in said
    assert "'z' has no value; choose other columns with --features" in said
    infinite = tmp_path / "infinite.csv"
    infinite.write_text("x,y\n1,2\n,3\ninf,4\n")
    said = sentence("fit", infinite, "--target", "y", "--missing", "drop")
    assert "an infinite number in row 3" in said
    for command in (("fit", gaps, "--target", "y"), ("predict", gaps, gaps)):
        assert run(*command, "--missing", "skip").exit_code == 2


def test_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read in chunks; training, test and the rows left out make up the file."""
    monkeypatch.setattr("gdcore.cli.large.LARGE_BYTES", 1)
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal(2000), 0.01 * rng.standard_normal(2000)
    y = 2 * x + 1 + noise
    x[::10], y[5::20] = np.nan, np.nan
    np.savez(tmp_path / "t.npz", x=x, y=y)
    options = "fit", tmp_path / "t.npz", "--target", "y", "--json", "--missing", "drop"
    for method in ("auto", "stream", "exact"):
        result = good(*options, "--method", method)
        report = json.loads(result.stdout)
        rows = [report[part]["rows"] for part in ("train", "test")]
        assert report["dropped"] == 300
        assert sum(rows) == 1700
        assert abs(report["weights"]["x"] - 2) <= 0.01
        assert "300 of 2000 rows have missing values and were left out." in report["notes"]


def test_predict_keeps_the_rows_aligned(gaps: Path, whole: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.npz"
    good("fit", whole, "--target", "y", "--save", model)
    said = sentence("predict", model, gaps)
    assert said.endswith("or pass --missing nan.\n")
    lines = good("predict", model, gaps, "--missing", "nan").stdout.splitlines()
    wanted = good("predict", model, whole).stdout.splitlines()
    assert lines[1] == wanted[1]
    assert lines[2:4] == ['""', '""']
    assert lines[5:] == wanted[2:]
    report = json.loads(good("predict", model, gaps, "--missing", "nan", "--json").stdout)
    missing = [value is None for value in report["predictions"]]
    assert missing == [False, True, True, False, False, False, False, False]
    for suffix in ("npy", "csv", "parquet"):
        out = tmp_path / f"out.{suffix}"
        good("predict", model, gaps, "--missing", "nan", "--out", out)
        assert np.isnan(read(out)).tolist() == missing, suffix


def read(path: Path) -> Any:
    """Return the predictions in a file."""
    if path.suffix == ".npy":
        return np.load(path)
    other = path.with_name(f"padded{path.suffix}")
    if path.suffix == ".csv":
        lines = path.read_text().splitlines()
        other.write_text("\n".join(["a,b", *(f"{line},1" for line in lines[1:])]) + "\n")
        chunks = gd.read_chunks(other, "b", ["a"]).keeping_gaps()
    else:
        import pyarrow.parquet as pq

        return pq.read_table(path)["prediction"].to_numpy()
    return np.concatenate([X[:, 0] for X, _ in chunks])
