"""The command line: ``gdcore fit``, ``predict``, ``check``, ``referee``, ``bench`` and others.

A command reads its files, calls plain functions, and prints. To add one, write it beside the
others in `gdcore.cli.app`. It needs typer and rich (``gdcore[cli]``).

==========  =======================================================================
exit code   meaning
==========  =======================================================================
0           fine
1           the selftest failed, or the function that was checked is wrong, or cheats
2           bad usage or data; one sentence on standard error says what
3           the fit diverged; its last finite weights were printed and saved all the same;
            the referee finds a kernel suspicious, or cannot decide
130         interrupted by Ctrl-C; what was reached was printed and saved all the same
==========  =======================================================================
"""

import sys
from io import TextIOWrapper

try:
    from gdcore.cli.app import build_app
except ModuleNotFoundError as error:
    _missing = (error.name or "").partition(".")[0]
else:
    _missing = ""

__all__ = ["build_app", "main"]


def main() -> None:
    """Run the command line, as the script ``gdcore`` and ``python -m gdcore`` do."""
    if _missing:
        advice = "run: pip install 'gdcore[cli]'"
        print(f"Error: the command line needs {_missing}; {advice}.", file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # column names the terminal cannot show
    build_app()()
