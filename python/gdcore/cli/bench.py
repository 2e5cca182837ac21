"""The command ``gdcore bench``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from gdcore.cli.report import one_sentence
from gdcore.cli.writing import check_outputs

_STYLES = {
    "FAST": "green",
    "SLOW": "bold red",
    "SAME": "cyan",
    "AMBG": "yellow",
    "WRONG": "bold red",
    "FAILED": "bold red",
}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _file(text: str) -> Any:
    return typer.Option(help=text, metavar="FILE", rich_help_panel="Output")


@one_sentence()
def bench(
    suite: Annotated[
        str,
        typer.Argument(
            metavar="[matmul|mse|gradient|operands|fit|rest|all]", help="What to measure."
        ),
    ] = "all",
    quick: Annotated[
        bool, typer.Option("--quick", help="A few small sizes, few rounds: under a minute.")
    ] = False,
    large: Annotated[
        bool, typer.Option("--large", help="Only sizes that need 16 GB and many minutes: of fit.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(help="Libraries to compare with.", metavar="A,B,...", show_default="all"),
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(help="Thread counts.", metavar="N,...", show_default="1 and all CPUs"),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Numbers to compute with.", metavar="A,B")
    ] = "float32,float64",
    peers: Annotated[
        Path | None,
        typer.Option(
            help="Folder of further libraries; $GDCORE_BENCH_PEERS by default.", metavar="DIR"
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds a library may take to answer.", metavar="SECONDS")
    ] = 120,
    json: Annotated[Path | None, _file("Write everything measured.")] = None,
    html: Annotated[Path | None, _file("Write one page with pictures and a table.")] = None,
) -> None:
    """Measure gdcore beside other libraries: checked first, then timed in turns.

    The exit code is 1 if a result of gdcore itself is WRONG or FAILED, 2 for a mistake in the
    command, 130 after Ctrl-C, and otherwise 0.
    """
    from gdcore.bench import run

    check_outputs([], {"--json": json, "--html": html})
    if html:
        from gdcore.bench.page.render import require_matplotlib

        require_matplotlib()
    with _progress() as progress:
        report = run(
            suite,
            against=None if against is None else _words(against),
            threads=None if threads is None else [_count(word) for word in _words(threads)],
            dtypes=_words(dtype),
            quick=quick,
            large=large,
            peers=peers or os.environ.get("GDCORE_BENCH_PEERS"),
            timeout=timeout,
            progress=progress,
        )
    text = Text(str(report))
    for word, style in _STYLES.items():
        text.highlight_regex(rf"\b{word}\b", style)
    Console(highlight=False).print(text, soft_wrap=True)
    if json:
        report.to_json(json)
    if html:
        report.to_html(html)
    if written := [str(path) for path in (json, html) if path]:
        print(f"Wrote {', '.join(written)}.")
    if any(row.library == "gdcore" and row.status in ("wrong", "failed") for row in report.rows):
        raise typer.Exit(1)
    if report.partial:
        raise typer.Exit(130)


def _count(word: str) -> int:
    if not word.isdecimal():
        raise ValueError(f"--threads must be whole numbers such as 1,2, not {word!r}.")
    return int(word)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show progress in one line that goes away, if a person reads it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield lambda text: status.update(Text(text))
