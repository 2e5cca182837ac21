"""The command ``gdcore referee``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from gdcore.cli.report import one_sentence
from gdcore.cli.writing import check_outputs

_EXIT = {"right": 0, "wrong": 1, "cheating": 1, "suspicious": 3, "not decided": 3}
_STYLES = {
    "RIGHT": "bold green",
    "WRONG": "bold red",
    "CHEATING": "bold red",
    "SUSPICIOUS": "bold yellow",
    "NOT DECIDED": "bold yellow",
    "FAST": "green",
    "SLOW": "red",
    "SAME": "cyan",
    "AMBG": "yellow",
}


def _option(part: str, text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=part, **settings)


def _check(text: str, *names: str, **settings: Any) -> Any:
    return _option("Checking", text, *names, **settings)


def _race(text: str, *names: str, **settings: Any) -> Any:
    return _option("Speed", text, *names, **settings)


@one_sentence()
def referee(
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE",
            help="The file with the kernel: candidate.py, candidate.py:softmax, or one with "
            "ModelNew.",
        ),
    ],
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="The file that says what is right, and for which inputs: a function and "
            "get_inputs, or Model.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="With --json: write there, not to the terminal."),
    ] = None,
    dtype: Annotated[
        str | None, _check("float64, float32, float16 or bfloat16.", show_default="of the inputs")
    ] = None,
    families: Annotated[
        str, _check("Which data to try, such as normal,ties.", metavar="A,B,...")
    ] = "all",
    grads: Annotated[bool, _check("Also compare what backward gives.", "--grads")] = False,
    forbid: Annotated[
        str,
        _check("Operations that the kernel may not leave to torch.", metavar="aten::softmax,..."),
    ] = "",
    seed: Annotated[
        int | None,
        _check("Of all data.", min=0, show_default="a new one; the verdict names it"),
    ] = None,
    timeout: Annotated[float, _check("Seconds for everything.", min=1, metavar="SECONDS")] = 60,
    memory: Annotated[str, _check("That the kernel may use.", metavar="SIZE")] = "4GB",
    seconds: Annotated[float, _race("To race for.", metavar="SECONDS")] = 5,
    against: Annotated[str, _race("What to be faster than.", metavar="A,B")] = "eager,compiled",
    race: Annotated[bool, _race("Whether to race at all.", "--race/--no-race")] = True,
    as_json: Annotated[bool, _option("Output", "Print one JSON object only.", "--json")] = False,
    html: Annotated[
        Path | None, _option("Output", "Write one page with everything.", metavar="FILE")
    ] = None,
) -> None:
    """Check a kernel in a process of its own, then race it; say what was seen.

    The exit code is 0 if the kernel is right, 1 if it is wrong or cheating, 3 if it is suspicious
    or nothing could be decided, and 2 for a mistake in the command.
    """
    from gdcore.referee import judge

    if out is not None and not as_json:
        raise ValueError(f"{out} is one name too many; write --json to have the verdict there.")
    check_outputs(
        [Path(name.partition(":")[0]) for name in (candidate, reference)],
        {"FILE": out, "--html": html},
    )
    verdict = judge(
        candidate,
        reference,
        timeout=timeout,
        memory=memory,
        seconds=seconds,
        against=_words(against),
        families=families if families == "all" else _words(families),
        dtype=dtype,
        seed=seed,
        forbid=_words(forbid),
        race=race,
        grads=grads,
    )
    if html:
        verdict.to_html(html)
    if as_json:
        text = verdict.to_json(out)
        if out is None:
            print(text)
    else:
        _show(str(verdict))
    raise typer.Exit(_EXIT[verdict.ruling])


def _show(report: str) -> None:
    text = Text(report)
    head, _, _ = report.partition(":")
    text.stylize(_STYLES.get(head, ""), 0, len(head))
    for word in ("FAST", "SLOW", "SAME", "AMBG"):
        text.highlight_regex(rf"\b{word}\b", _STYLES[word])
    Console(highlight=False).print(text, soft_wrap=True)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
