"""Print what gdcore with some of its extras requires, one requirement a line, but not gdcore.

Usage: python .ci/requirements.py EXTRA... [--without NAME...]

It lets a stage install the tools without building the extension, or the test tools without torch.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

NAME = re.compile(r"[A-Za-z0-9._-]+")
OWN_EXTRAS = re.compile(r"\[(.*?)\]")


def requirements(
    project: dict[str, Any], extras: Iterable[str], without: Collection[str] = ()
) -> list[str]:
    """Resolve pyproject's `project` table, following its references to its own extras."""
    known = project["optional-dependencies"]
    found: list[str] = []
    pending = [*project["dependencies"], f"{project['name']}[{','.join(extras)}]"]
    for line in pending:  # grows while it is read
        name = "".join(NAME.findall(line)[:1])
        if name == project["name"]:
            for extra in ",".join(OWN_EXTRAS.findall(line)).split(","):
                if extra.strip() not in known:
                    raise ValueError(f"there is no extra {extra!r}; there are {', '.join(known)}")
                pending += [new for new in known[extra.strip()] if new not in pending]
        elif name not in without:
            found.append(line)
    return found


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("extras", nargs="+", metavar="EXTRA")
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME")
    options = parser.parse_args()
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    try:
        print("\n".join(requirements(project, options.extras, options.without)))
    except ValueError as error:
        print(f"pyproject.toml: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
