"""The example of 3 000 stores prints, draws and saves what it says, without a warning."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gdcore as gd

pytest.importorskip("matplotlib")
pytest.importorskip("narwhals")
pytest.importorskip("pandas")
pytest.importorskip("scipy")
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPT = EXAMPLES / "store_sales.py"
if not SCRIPT.is_file():
    pytest.skip("only a checkout has the examples", allow_module_level=True)


def test_the_page_lists_every_example() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f"]({path.name})" not in page] == []


def test_the_script_is_short() -> None:
    statements = ast.parse(SCRIPT.read_text(encoding="utf-8")).body[1:]  # without the docstring
    assert sum(node.end_lineno - node.lineno + 1 for node in statements if node.end_lineno) <= 45


def test_what_it_prints_draws_and_saves(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(SCRIPT), str(tmp_path / "new" / "pictures")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3000 problems: 2998 CONVERGED, 2 SINGULAR.")
    assert "515 of 50000 rows have missing values and do not count." in done.stdout
    assert "Linear model" in done.stdout  # the summary
    assert done.stdout.splitlines()[-1].startswith("Fit(status=CONVERGED")  # the other process

    fits = gd.load(tmp_path / "new" / "pictures" / "stores.npz")
    singular = fits.status == gd.Status.SINGULAR
    assert fits.groups[singular].tolist() == ["s0000", "s0001"]  # two rows; one price
    assert np.isfinite(fits.stderr[~singular]).all()
    with Image.open(tmp_path / "new" / "pictures" / "store_sales.png") as picture:
        colors = np.asarray(picture.convert("RGB")).astype(int) @ [1 << 16, 1 << 8, 1]
    assert len(np.unique(colors)) > 20  # not an empty page
