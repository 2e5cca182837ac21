"""Imports of python/gdcore run downwards: between layers, and without a circle between files."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

import gdcore

PACKAGE = Path(gdcore.__file__).resolve().parent
Sources = Mapping[str, str]  # text of each module, by its name
Edges = dict[str, set[str]]  # the modules that each module imports

# From the bottom up. A package stands for all its modules that have no place of their own. A module
# imports from layers below its own; within a layer, from any module that does not lead back.
LAYERS = (
    ("gdcore._core", "gdcore.typing", "gdcore.errors", "gdcore.frozen"),
    (
        "gdcore.advice",
        "gdcore.notebook",
        "gdcore.scalars",
        "gdcore.status",
        "gdcore.kernels",
        "gdcore.sgd",
    ),
    ("gdcore.config", "gdcore.torch"),
    ("gdcore.tables",),
    ("gdcore.data",),
    ("gdcore.results",),
    ("gdcore.result", "gdcore.state"),  # for pickles of 0.1.0
    ("gdcore.solvers",),
    ("gdcore.moments",),
    ("gdcore.chunks",),
    ("gdcore.fitting", "gdcore.groups", "gdcore.rolling", "gdcore.selftest"),
    ("gdcore.oracle.numbers",),
    ("gdcore.oracle.references",),
    ("gdcore.oracle.diagnosis",),
    ("gdcore.oracle.probing",),
    ("gdcore.oracle.derivatives",),
    ("gdcore.oracle.trials",),
    ("gdcore.oracle",),
    ("gdcore",),  # the public names
    # Users of the public names, who may write `import gdcore as gd`.
    ("gdcore.sklearn",),
    ("gdcore.plot", "gdcore.dask"),
    ("gdcore.bench",),
    ("gdcore.referee",),
    ("gdcore.cli",),
    ("gdcore.__main__",),
)
# What judges gdcore must not lean on it: the oracle takes exact products from the core alone.
FORBIDDEN = {"gdcore.oracle": ("gdcore.kernels",)}


def module_names(package: Path) -> dict[str, Path]:
    """Return the files of a package by the names of their modules."""
    found = {}
    for path in sorted([*package.rglob("*.py"), *package.glob("*.pyi")]):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def sources_of(package: Path) -> Sources:
    return {name: path.read_text("utf-8") for name, path in module_names(package).items()}


def imports(name: str, text: str, known: Iterable[str]) -> Iterator[str]:
    """Yield the modules that a module imports, in functions and under TYPE_CHECKING too."""
    modules = set(known)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively; write the whole name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in modules:
                    yield inner
                elif node.module in modules:
                    yield node.module


def edges_of(sources: Sources) -> Edges:
    return {name: set(imports(name, text, sources)) for name, text in sources.items()}


def circles(edges: Edges) -> list[list[str]]:
    """Return the circles that a walk over the imports closes."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for imported in sorted(edges[name]):
                walk(imported, [*path, name])
            done.add(name)

    for name in edges:
        walk(name, [])
    return found


def layer_of(module: str) -> int:
    """Return the number of the layer with the longest name that a module belongs to."""
    places = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    while module not in places:
        module = module.rpartition(".")[0]
    return places[module]


def upwards(edges: Edges) -> list[str]:
    """Return the imports from a higher layer."""
    return [
        f"{name} imports {imported}"
        for name, all_imported in edges.items()
        for imported in sorted(all_imported)
        if layer_of(imported) > layer_of(name)
    ]


def forbidden(edges: Edges) -> list[str]:
    return [
        f"{name} imports {imported}"
        for package, others in FORBIDDEN.items()
        for name, all_imported in edges.items()
        if name.startswith(package)
        for imported in all_imported
        if imported in others
    ]


def test_every_module_has_a_place() -> None:
    """Only what lies directly in gdcore may fall to the layer of the public names: nothing does."""
    strays = [n for n in module_names(PACKAGE) if layer_of(n) == layer_of("gdcore")]
    assert strays == ["gdcore"]


def test_no_circle_between_files() -> None:
    assert not circles(edges_of(sources_of(PACKAGE)))


def test_no_import_upwards() -> None:
    assert not upwards(edges_of(sources_of(PACKAGE)))


def test_the_oracle_does_not_use_the_kernels_that_it_judges() -> None:
    assert not forbidden(edges_of(sources_of(PACKAGE)))


def test_planted_circles_are_found() -> None:
    """Lazy imports and those for types close a circle, too."""
    low, high = "gdcore.data.low", "gdcore.data.high"
    for text in (
        f"from {high} import name",
        f"def f():\n    import {high} as high",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from gdcore.data import high",
    ):
        edges = edges_of({low: text, high: f"from {low} import other", "gdcore.data": ""})
        assert circles(edges) == [[low, high, low]]
    assert not circles(edges_of({low: "import os", high: f"import {low}"}))


def test_planted_imports_upwards_are_found() -> None:
    data, solver = "gdcore.data.rows", "gdcore.solvers.plan"
    names = {"gdcore": "", "gdcore.data": "", solver: "", "gdcore.oracle.numbers.wide": ""}
    for imported in ("import gdcore as gd", "from gdcore import fit", f"import {solver}"):
        edges = edges_of(names | {data: f"def f():\n    {imported}"})
        assert len(upwards(edges)) == 1
    oracle = "gdcore.oracle.references.linear"
    edges = edges_of(names | {"gdcore.kernels": "", oracle: "from gdcore.kernels import matmul"})
    assert not upwards(edges)
    assert forbidden(edges) == [f"{oracle} imports gdcore.kernels"]


def test_import_brings_what_a_first_fit_needs_and_no_more() -> None:
    script = """
import sys
import numpy as np
import gdcore as gd
def loaded():
    return {name for name in sys.modules if name.startswith("gdcore")}
before = loaded()
fit = gd.fit(np.arange(6.0).reshape(3, 2) ** 2, np.arange(3.0), gd.SGD(lr=1e-3), epochs=3, tol=None)
fit = gd.fit(np.arange(6.0).reshape(3, 2) ** 2, np.arange(3.0), fit_intercept=False)
repr(fit), fit.predict(np.ones((1, 2))), gd.SGD(lr=0.1)
later = {"gdcore.chunks.fit", "gdcore.groups", "gdcore.moments", "gdcore.results.fits"}
print(sorted(loaded() - before), sorted(before & later))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[0] == "[] []", run.stdout


def test_names_that_are_imported_later_are_like_the_others() -> None:
    assert set(gdcore.__all__) <= set(dir(gdcore))
    values = [getattr(gdcore, name) for name in gdcore.__all__]
    assert {v.__module__ for v in values if isinstance(v, type)} == {"gdcore"}
    with pytest.raises(AttributeError, match="module 'gdcore' has no attribute 'Fitz'"):
        gdcore.Fitz  # noqa: B018


def test_type_checkers_see_each_name_and_no_other() -> None:
    """They take a module with `__getattr__` for one that has every name."""
    body = ast.parse(Path(gdcore.__file__).read_text(encoding="utf-8")).body
    blocks = [node for node in body if isinstance(node, ast.If)]
    seen = {alias.name for node in blocks[0].body if isinstance(node, ast.ImportFrom)
            for alias in node.names}  # fmt: skip
    assert [ast.unparse(node.test) for node in blocks] == ["TYPE_CHECKING", "not TYPE_CHECKING"]
    assert seen == set(gdcore._LATER)
    assert "__getattr__" not in {getattr(node, "name", "") for node in body}
