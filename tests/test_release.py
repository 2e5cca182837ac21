"""What a release says of itself: its version, its licence, its wheels."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import gdcore as gd

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEELS = PYPROJECT["tool"]["cibuildwheel"]


def test_the_citation_has_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {gd.__version__}\n" in citation
    assert f"\nlicense: {PYPROJECT['project']['license']}\n" in citation
    assert PYPROJECT["project"]["urls"]["Homepage"] in citation


def test_the_installed_package_has_a_url_and_a_licence() -> None:
    data = importlib.metadata.metadata("gdcore")
    assert data["License-Expression"] == "BSD-3-Clause"
    labels = {url.partition(",")[0] for url in data.get_all("Project-URL") or ()}
    assert labels == {"Homepage", "Documentation", "Changelog", "Issues"}


def test_wheels_for_every_python_that_the_classifiers_name() -> None:
    named = [c.rpartition(" :: ")[2] for c in PYPROJECT["project"]["classifiers"]]
    versions = {v.replace(".", "") for v in named if re.fullmatch(r"3\.\d+", v)}
    built = {re.sub(r"\D", "", pattern) for pattern in WHEELS["build"]}
    assert versions == built
    assert "cp314t-*" in WHEELS["build"]
    assert WHEELS["test-command"] == "gdcore selftest"


def test_the_extension_needs_no_gil() -> None:
    module = (ROOT / "csrc/bindings/module.cpp").read_text(encoding="utf-8")
    assert "mod_gil_not_used()" in module
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python has a GIL; the wheels of cp314t run this without")
    # An extension that needs the GIL switches it on, with a warning.
    code = "import sys, gdcore; gdcore.selftest(); sys.exit(sys._is_gil_enabled())"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
