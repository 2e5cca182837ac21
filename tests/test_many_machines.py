"""The page on many machines: its recipes run as a reader would run them."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "many_machines.md"
if not PAGE.is_file():
    pytest.skip("only a checkout has this page", allow_module_level=True)
pytest.importorskip("pandas")
pytest.importorskip("narwhals")

BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
SETUP = (
    BLOCKS[0]
    .partition("frame = ")[0]
    .replace("import dask.dataframe as dd\n", "")
    .replace("import gdcore.dask\n", "")
)
(SHARED,) = [block for block in BLOCKS if "def fit_shops" in block]


def run(*code: str) -> str:
    """Run code in a process of its own, without warnings of other packages."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(code)],
        env=os.environ | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_three_fits_with_dask() -> None:
    for package in ("dask.dataframe", "xarray"):
        pytest.importorskip(package)
    printed = run(*BLOCKS[:3], "print(shops.columns.tolist())")
    assert printed.splitlines()[0] in ("[-2.  1.]", "[-1.9  1. ]", "[-2.1  1. ]")
    assert "(30, 40)" in printed
    comment = re.search(r"compute\(\)  # (.*)", BLOCKS[1])
    assert comment is not None
    assert ast.literal_eval(printed.splitlines()[-1]) == comment[1].split(", ")


@pytest.mark.parametrize("package", ["joblib", "pyspark", "ray"])
def test_recipes(package: str) -> None:
    """Ten lines at most, and the answer of one call."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    (recipe,) = [block for block in BLOCKS if re.search(rf"(import|from) {package}\b", block)]
    assert len([line for line in recipe.splitlines() if line.strip()]) <= 11
    found = run(SETUP, SHARED, recipe).splitlines()[-6:]
    wanted = run(SETUP, SHARED, "print(fit_shops(sales).head())").splitlines()
    assert [line.split()[1:] for line in found[1:]] == [line.split()[1:] for line in wanted[1:]]
