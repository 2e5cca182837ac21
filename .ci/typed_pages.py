"""Write the Python code of README.md and of the pages in docs, one module a page, for mypy.

Usage: python .ci/typed_pages.py FOLDER

A page's blocks follow one another at their own line numbers, so that what mypy says of line 40 is
about line 40 of the page. Blocks that do not parse by themselves are sketches and left out.
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


def code_of(page: Path) -> str:
    """Return the page with everything but its Python code blanked."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 1)
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
        lines[block.line - 1 : block.line - 1 + len(source)] = source
    return "\n".join(lines)


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        code = code_of(page)
        if code.strip():
            name = re.sub(r"\W", "_", page.stem.lower())
            (folder / f"{name}_page.py").write_text(code + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
