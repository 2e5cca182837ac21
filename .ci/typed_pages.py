"""Write the Python code of README.md and of the pages in docs, one module a page, for mypy.

Usage: python .ci/typed_pages.py FOLDER

A page's blocks follow one another at their own line numbers, so that what mypy says of line 40 is
about line 40 of the page. A block that begins with a comment such as ``# kernel.py`` is a module of
its own. Blocks that do not parse by themselves are sketches and left out.
"""

import argparse
import ast
import doctest
import re
import sys
from pathlib import Path

from readme_block import fenced_blocks

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SETTING = "# mypy: allow-subclassing-any"  # torch has no types here, and pages have its modules
FILE = re.compile(r"# (\w+)\.py$", re.MULTILINE)


def modules_of(page: Path) -> dict[str, str]:
    """Return the page's modules by name, each with everything but its Python code blanked."""
    text = page.read_text(encoding="utf-8")
    blank = [""] * (text.count("\n") + 1)
    page_name = re.sub(r"\W", "_", page.stem.lower())
    modules: dict[str, list[str]] = {}
    for block in fenced_blocks(text):
        if block.language not in ("python", "pycon", "py"):
            continue
        source = block.text.splitlines()
        if block.text.lstrip().startswith(">>>"):
            source = [""] * len(source)
            for example in doctest.DocTestParser().get_examples(block.text):
                for i, line in enumerate(example.source.splitlines()):
                    source[example.lineno + i] = line
        try:
            ast.parse("\n".join(source))
        except SyntaxError:
            continue
        file = FILE.match(block.text)
        name = f"{page_name}_{file[1]}" if file else page_name
        lines = modules.setdefault(f"{name}_page", blank.copy())
        lines[block.line - 1 : block.line - 1 + len(source)] = source
    return {name: "\n".join(lines) for name, lines in modules.items()}


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        for name, code in modules_of(page).items():
            if code.strip():
                first, rest = code.split("\n", 1)
                assert not first, f"{name} begins with code"
                (folder / f"{name}.py").write_text(f"{SETTING}\n{rest}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
