"""The deliberate bugs: one or more replacements of text each, and the tests that should see it."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SOURCES = ("csrc", "python")
SUFFIXES = (".cpp", ".hpp", ".cu", ".py")


@dataclass(frozen=True)
class Mutant:
    """One bug."""

    name: str
    bug: str  # what the mutated code does wrong, as a sentence
    old: str  # occurs exactly once in all sources
    new: str
    tests: tuple[str, ...]  # "file::function", or a whole file
    objects: tuple[str, ...] = ()  # parts of the names of the only objects to compile; none: all
    hangs: bool = False  # the bug is a loop without end, and the time limit is what sees it


class DoesNotApplyError(Exception):
    """The text that a mutant replaces occurs nowhere or more than once."""


def mutants(folder: Path = HERE) -> list[Mutant]:
    """Read the lists of a folder, in the order of the names of their files."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
        for name, entry in entries.items():
            tests, objects = tuple(entry.pop("tests")), tuple(entry.pop("objects", ()))
            found.append(Mutant(name=name, tests=tests, objects=objects, **entry))
    return found


def sources(root: Path = ROOT) -> dict[Path, str]:
    """Read every source file, by its path from the root."""
    paths = (path for folder in SOURCES for path in sorted((root / folder).rglob("*")))
    return {
        path.relative_to(root): path.read_text(encoding="utf-8")
        for path in paths
        if path.suffix in SUFFIXES
    }


def apply(mutant: Mutant, texts: dict[Path, str]) -> tuple[Path, str]:
    """Return the path of the file with the bug, and its text with it."""
    places = [(path, text.count(mutant.old)) for path, text in texts.items() if mutant.old in text]
    if sum(count for _, count in places) != 1:
        where = ", ".join(f"{count} times in {path}" for path, count in places) or "nowhere"
        raise DoesNotApplyError(f"{mutant.name}: its old text occurs {where}; it must occur once.")
    ((path, _),) = places
    return path, texts[path].replace(mutant.old, mutant.new)


def node_ids(test: str, root: Path = ROOT) -> list[str]:
    """Return what pytest calls a test "file::function": the function may be a method.

    None if there is no such test.
    """
    file, _, function = test.partition("::")
    path = root / file
    if not path.is_file() or not function:
        return [file] if path.is_file() else []
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            found.append(test)
        elif isinstance(node, ast.ClassDef):
            names = [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
            found += [f"{file}::{node.name}::{function}"] * (function in names)
    return found
