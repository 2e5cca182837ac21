"""``gdcore bench``: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json

import pytest

import gdcore.bench
from benches import tiny, write_peers
from gdcore.bench import Report, Row, race


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with tiny():
        yield


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    return write_peers(tmp_path_factory.mktemp("peers"))


@pytest.fixture
def command():
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from gdcore import cli

    return lambda *args: CliRunner().invoke(cli.build_app(), ["bench", *map(str, args)])


def test_writes_and_prints(command, tmp_path):
    files = tmp_path / "r.json", tmp_path / "r.html"
    result = command(
        *("mse", "--quick", "--against", "numpy", "--threads", 1, "--dtype", "float64"),
        *("--json", files[0], "--html", files[1]),
    )
    assert result.exit_code == 0, result.output
    assert "mse, float64, 1 thread" in result.stdout
    assert result.stdout.endswith(f"Wrote {files[0]}, {files[1]}.\n")
    report = Report.from_json(files[0].read_text())
    assert [row.library for row in report.rows] == ["gdcore", "numpy"]
    assert files[1].read_text().startswith("<!doctype html>")


def test_interrupted(command, tmp_path, monkeypatch):
    def stop(contest, case):
        raise KeyboardInterrupt

    monkeypatch.setattr(race._Session, "hold", stop)
    path = tmp_path / "r.json"
    result = command("mse", "--quick", "--against", "numpy", "--threads", 1, "--json", path)
    assert result.exit_code == 130
    assert json.loads(path.read_text())["partial"] is True


@pytest.mark.parametrize(
    ("status", "partial", "code"),
    [
        ("timed", False, 0),
        ("timed", True, 130),
        ("wrong", False, 1),
        ("failed", False, 1),
        ("wrong", True, 1),
    ],
)
def test_the_exit_code_tells_of_a_wrong_gdcore(command, monkeypatch, status, partial, code):
    rows = [
        Row("mse", "10", "float32", 1, "gdcore", status, rounds=(1.0,)),
        Row("mse", "10", "float32", 1, "numpy", "wrong", "1 < 2"),
    ]
    environment = {"load_before": (0, 0, 0), "cpus_usable": 2}
    report = Report("gdcore", environment, rows, partial=partial)
    monkeypatch.setattr(gdcore.bench, "run", lambda *args, **settings: report)
    assert command().exit_code == code


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["mm"],
            "there is no suite 'mm'; choose from matmul, mse, gradient, operands, fit, rest, all.",
        ),
        (
            ["--against", "numpy,x"],
            "there is no peer 'x'; choose from gdcore, numpy, torch, torch-vmap, torch-solve, "
            "torch-lstsq, jax, scipy, sklearn, polars, polars-ols, polars-ds, polars-statistics, "
            "duckdb, statsmodels, contiguous, exact.",
        ),
        (["--dtype", "int8"], "there is no dtype 'int8'; choose from float32, float64."),
        (["--threads", "two"], "--threads must be whole numbers such as 1,2, not 'two'."),
        (
            ["--json", "/no/such/r.json"],
            "cannot write /no/such/r.json: No such file or directory.",
        ),
    ],
)
def test_mistakes(command, args, message):
    result = command(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"Error: {message}\n"


def test_peers_of_the_environment(command, peers, monkeypatch):
    monkeypatch.setenv("GDCORE_BENCH_PEERS", str(peers))
    assert "contiguous, exact, absent, bad." in command("--against", "x").stderr
