"""Run commands of the command line in this process, and check how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gdcore import cli
from gdcore.cli import training
from gdcore.cli.reading import read_table

pytest.importorskip("typer")
pytest.importorskip("pyarrow")

from typer.testing import CliRunner

DIABETES = Path(__file__).parent.parent / "examples" / "data" / "diabetes.csv"
LINE = "x,y\n0,1\n1,3\n2,5\n3,7\n4,9\n5,11\n6,13\n7,15\n"
APP = cli.build_app()


def run(*args: Any, given: Any = None) -> Any:
    """Run a command and return its result."""
    return CliRunner().invoke(APP, [str(arg) for arg in args], input=given)


def good(*args: Any, code: int = 0) -> Any:
    """Run a command that should work and return its result."""
    result = run(*args)
    assert result.exit_code == code, result.output
    return result


def sentence(*args: Any) -> str:
    """Run a command that should fail and return its one sentence."""
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.endswith(".\n")
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


def diabetes_split() -> Any:
    """Return the rows of training and of test as the command draws them."""
    table = read_table(DIABETES)
    X, y = table.numbers(table.names[:-1]), table.numbers(["progression"])[:, 0]
    return training.split_rows(X, y, test_size=0.25, seed=0)
