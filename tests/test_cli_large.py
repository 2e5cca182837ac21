"""The command line on files too large to be read whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd

pytest.importorskip("typer")
pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from gdcore import cli

N = 3000


def run(*arguments: Any, code: int = 0) -> str:
    result = CliRunner().invoke(cli.build_app(), ["fit", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of which one byte is too much to be read whole."""
    monkeypatch.setattr("gdcore.cli.large.LARGE_BYTES", 1)
    rng = np.random.default_rng(0)
    a, b = 5 + 3 * rng.standard_normal(N), rng.standard_normal(N)
    columns = {"a": a, "b": b, "y": 2 * a - b + 1 + 0.1 * rng.standard_normal(N)}
    pq.write_table(pa.table(columns), tmp_path / "big.parquet", row_group_size=700)
    return tmp_path / "big.parquet"


@pytest.mark.parametrize("options", [
    (), ("--standardize",), ("--batch-size", 50, "--lr", 0.02, "--epochs", 60, "--standardize"),
    ("--standardize", "--dtype", "float32", "--tol", 1e-4), ("--method", "stream", "--standardize"),
])  # fmt: skip
def test_fitted_and_scored_in_chunks(data: Path, options: tuple[Any, ...]) -> None:
    report = json.loads(run(data, "--target", "y", "--json", *options))
    assert report["weights"]["a"] == pytest.approx(2, abs=0.02)
    assert report["weights"]["b"] == pytest.approx(-1, abs=0.02)
    assert report["intercept"] == pytest.approx(1, abs=0.05)
    rows = report["train"]["rows"], report["test"]["rows"]
    assert sum(rows) == N
    assert 0.2 < rows[1] / N < 0.3
    for part in ("train", "test"):
        assert report[part]["r2"] > 0.99
        assert report[part]["mse"] == pytest.approx(0.01, rel=0.2)
    assert report["normal_equation"] is None


def test_text_is_read_as_in_small_files(data: Path) -> None:
    rows = np.loadtxt(["1 2.5", "2 4.5", "3 6.5"] * 20)
    texts = {
        "t.csv": "x; y\n" + "".join(f"{x};{y}\n" for x, y in rows),
        "u.csv": "x,y\n" + "".join(f"{x:.0f},{y}\n" for x, y in rows) + "3.5,7.5\n",
    }
    for name, text in texts.items():
        path = data.with_name(name)
        path.write_text(text)
        report = json.loads(run(path, "--target", "y", "--json", "--method", "exact"))
        assert report["weights"]["x"] == pytest.approx(2)
        assert report["intercept"] == pytest.approx(0.5)
    path.write_text("x,y\n1,2\nlate,3\n")
    message = run(path, "--target", "y", code=2)
    assert "column 'x' of" in message
    assert "is not numeric: 'late' in row 2 (line 3)" in message


def test_the_same_seed_draws_the_same_rows(data: Path) -> None:
    one, same = (run(data, "--target", "y", "--json", "--seed", 3) for _ in range(2))
    assert one == same
    assert one != run(data, "--target", "y", "--json", "--seed", 4)


def test_the_table_and_the_model(data: Path, tmp_path: Path) -> None:
    text = run(data, "--target", "y", "--features", "a", "--save", tmp_path / "m.npz")
    assert "gradient descent" in text
    assert "normal equation" not in text
    assert "Wrote" in text
    assert gd.load(tmp_path / "m.npz").feature_names == ("a",)


def test_closed_form(data: Path) -> None:
    """The rows are never in memory together."""
    assert "CONVERGED: Solved in closed form." in run(data, "--target", "y", "--method", "exact")


@pytest.mark.parametrize(("options", "match"), [
    (("--target", "z"), "no column 'z'"),
    (("--target", "y", "--plot", "p.png"), "too large to be read whole"),
    (("--target", "y", "--test-size", "1"), "--test-size must be at least 0 and below 1"),
])  # fmt: skip
def test_mistakes(data: Path, options: tuple[str, ...], match: str) -> None:
    message = run(data, *options, code=2)
    assert match in message
    assert message.count("\n") == 1
