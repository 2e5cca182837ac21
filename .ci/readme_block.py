"""Print the N-th fenced `sh` block of README.md (or of another Markdown file).

Usage: python .ci/readme_block.py N [FILE]

Continuous integration runs what this prints, so the commands a reader copies are the commands
that are tested.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^ {0,3}(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^\n]*?)[ \t]*$")


class Block(NamedTuple):
    """One fenced block: its language (`""` where none is said), first line's number, and text."""

    language: str
    line: int
    text: str


def fenced_blocks(markdown: str) -> list[Block]:
    """Return every fenced block of a Markdown text, in order."""
    blocks = []
    mark, language, start, body = "", "", 0, list[str]()
    for number, line in enumerate(markdown.splitlines(), start=1):
        fence = FENCE.match(line)
        if not mark:
            if fence and not (fence["mark"][0] == "`" and "`" in fence["info"]):
                mark, start, body = fence["mark"], number + 1, []
                language = (fence["info"].split() or [""])[0]
        elif fence and fence["mark"].startswith(mark) and not fence["info"]:
            blocks.append(Block(language, start, "".join(f"{text}\n" for text in body)))
            mark = ""
        else:
            body.append(line)
    if mark:
        raise ValueError(f"the fenced block that starts at line {start - 1} is never closed")
    return blocks


def shell_block(markdown: str, number: int) -> str:
    """Return the text of `sh` block `number`, counted from 1."""
    blocks = [block for block in fenced_blocks(markdown) if block.language == "sh"]
    if not 1 <= number <= len(blocks):
        raise ValueError(f"there is no sh block {number}; there are {len(blocks)}")
    return blocks[number - 1].text


def main(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    if len(arguments) not in (1, 2) or not arguments[0].isdecimal():
        print(__doc__, file=sys.stderr)
        return 2
    readme = Path(__file__).parent.parent / "README.md"
    path = Path(arguments[1]) if len(arguments) == 2 else readme
    try:
        sys.stdout.write(shell_block(path.read_text(encoding="utf-8"), int(arguments[0])))
    except (OSError, ValueError) as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
