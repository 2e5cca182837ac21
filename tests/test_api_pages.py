"""Every public name has a page on the site, and every page a name."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "api").glob("*.rst"))
if not PAGES:
    pytest.skip("only a checkout has the site", allow_module_level=True)

MODULES = {  # and what stands on another page, or is a value
    "gdcore": {"__version__"},
    "gdcore.bench": {"bounds"},
    "gdcore.dask": set[str](),
    "gdcore.oracle": {"compat"},
    "gdcore.oracle.compat": set[str](),
    "gdcore.oracle.strategies": set[str](),
    "gdcore.plot": set[str](),
    "gdcore.referee": {"Likeness", "like"},
    "gdcore.sklearn": set[str](),
    "gdcore.torch": set[str](),
}
OTHERS = ("gdcore.bench.bounds", "pytest_gdcore")  # modules without `__all__`


def names_with_a_page() -> dict[str, set[str]]:
    """Return the entries of the `autosummary` directives, by module."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        module, inside = "", False
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = match[1]
            elif line and not line.startswith(" "):
                inside = line.startswith(".. autosummary::")
            elif inside and (match := re.match(r"   (\w+)$", line)):
                found.setdefault(module, set()).add(match[1])
    return found


@pytest.mark.parametrize("module", MODULES)
def test_the_pages_list_the_public_names(module: str) -> None:
    if module.endswith("strategies"):
        pytest.importorskip("hypothesis")
    if module.endswith("sklearn"):
        pytest.importorskip("sklearn.callback")
    if module == "gdcore.dask":
        pytest.importorskip("dask.dataframe")
    public = set(importlib.import_module(module).__all__) - MODULES[module]
    assert names_with_a_page()[module] == public


def test_the_other_names_on_the_pages() -> None:
    found = names_with_a_page()
    assert set(found) == {*MODULES, *OTHERS}
    for module in OTHERS:
        defined = {
            name
            for name, value in vars(importlib.import_module(module)).items()
            if not name.startswith(("_", "pytest_"))
            and (inspect.isfunction(value) or inspect.isclass(value))
            and value.__module__ == module
        }
        assert found[module] == defined - {"gradient_oracle"}  # the fixture has no page of its own


def test_every_command_has_its_help_on_the_page() -> None:
    pytest.importorskip("typer")
    from typer.main import get_command

    from gdcore.cli import build_app

    group: Any = get_command(build_app())
    page = (ROOT / "docs" / "api" / "cli.rst").read_text(encoding="utf-8")
    assert set(re.findall(r"^\.\. command-help:: (\w+)$", page, re.MULTILINE)) == set(
        group.commands
    )


def test_every_api_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   (\w+)$", index, re.MULTILINE))
    assert listed == {page.stem for page in PAGES} - {"index"}
