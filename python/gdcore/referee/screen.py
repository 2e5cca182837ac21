"""A verdict as text on one screen."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_WIDTH = 100
_LABEL = 16
_SHOWN = 6  # library calls, and what was not tried
_KINDS = 3  # of findings
_LINES = 4  # of a sentence


def screen(verdict: Mapping[str, Any]) -> str:
    """Return a verdict, as `Verdict.as_dict` has it, in some twenty lines; never above thirty."""
    head = f"{verdict['ruling'].upper()}: {verdict['candidate'] or 'a kernel'}"
    if verdict["reference"]:
        head += f" beside {verdict['reference']}"
    lines = [head, *_wrapped(verdict["why"], "  ")]
    sections = (
        ("Evidence", _findings(verdict["findings"], verdict["why"])),
        ("Worst element", _worst(verdict["worst"])),
        ("Tried", _tried(verdict)),
        ("Not tried", ("; ".join(shortened(verdict["not_tried"])),)),
        ("Speed", map(speed_in_words, verdict["speed"])),
        ("Library calls", (", ".join(shortened(verdict["library_calls"])),)),
        ("Not covered", verdict["limits"]),
    )
    for label, texts in sections:
        lines += _section(label, [text for text in texts if text])
    return "\n".join(lines)


def speed_in_words(speed: Mapping[str, Any]) -> str:
    """Return a ratio with its interval, and between what it is.

    Examples
    --------
    >>> from gdcore.referee.verdict import Speed
    >>> from dataclasses import asdict
    >>> speed_in_words(asdict(Speed("eager", 1.5, 1.4, 1.6, "FAST", 2e-4, 3e-4, 11, "64x128")))
    'FAST, 1.5 x eager [1.4, 1.6] in 11 rounds of 64x128: 200 us a call, 300 us'
    """
    of = f" of {speed['size']}" if speed["size"] else ""
    return (
        f"{speed['label']}, {speed['ratio']:.3g} x {speed['against']} [{speed['low']:.3g}, "
        f"{speed['high']:.3g}] in {speed['rounds']} rounds{of}: {_duration(speed['seconds'])} a "
        f"call, {_duration(speed['theirs'])}"
    )


def grouped(findings: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return findings of one kind together, in the order in which kinds come first."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for finding in findings:
        groups.setdefault(finding["kind"], []).append(finding)
    return list(groups.values())


def place(finding: Mapping[str, Any]) -> str:
    """Return what data a finding is of."""
    return ", ".join(finding[key] for key in ("family", "size", "dtype") if finding[key])


def element(finding: Mapping[str, Any]) -> str:
    """Return the worst element of a finding in words; nothing if there is none."""
    if not finding["element"] and math.isnan(finding["units"]):
        return ""
    where = f"at {list(finding['element'])}: " if finding["element"] else ""
    text = f"{where}{_number(finding['value'])} where {_number(finding['golden'])} is right"
    if not math.isnan(finding["units"]):
        text += f", {finding['units']:.3g} units apart"
    return text


def shortened(texts: Sequence[str]) -> list[str]:
    """Return the first few, and how many more there are."""
    more = len(texts) - _SHOWN
    return [*texts[:_SHOWN], f"{more} more"] if more > 1 else list(texts)


def families_and_sizes(tried: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the families and the sizes of data, each once.

    Examples
    --------
    >>> families_and_sizes(["normal, 8x3", "ties, 8x3"])
    (['normal', 'ties'], ['8x3'])
    """
    pairs = [text.partition(", ") for text in tried]
    sizes = dict.fromkeys(size for _, _, size in pairs if size)
    return list(dict.fromkeys(family for family, _, _ in pairs)), list(sizes)


def _findings(findings: Sequence[Mapping[str, Any]], why: str) -> Iterator[str]:
    groups = grouped(findings)
    for group in groups[:_KINDS]:
        first = group[0]
        where = place(first)
        where = f" [{where}, seed {first['seed']}]" if where else ""
        again = f" ({len(group)} times)" if len(group) > 1 else ""
        said = "" if first["sentence"] in why else f": {first['sentence']}"
        if said or where:
            yield f"{first['kind']}{again}{said}{where}"
    if len(groups) > _KINDS:
        yield f"{len(groups) - _KINDS} more kinds, which JSON and the page have"


def _worst(worst: Mapping[str, Any] | None) -> Iterator[str]:
    if worst is not None and (text := element(worst)):
        yield f"{text} [{place(worst)}]"


def _tried(verdict: Mapping[str, Any]) -> Iterator[str]:
    families, sizes = families_and_sizes(verdict["tried"])
    if families:
        of = f" of {', '.join(sizes)}" if sizes else ""
        seed = verdict["environment"].get("seed")
        again = "" if seed is None else f"; the same data with seed {seed}"
        took = _duration(verdict["seconds"])
        yield f"{', '.join(families)}{of}; {verdict['calls']} results in {took}{again}"


def _section(label: str, texts: Sequence[str]) -> Iterator[str]:
    for i, text in enumerate(texts):
        start = f"  {label if i == 0 else '':<{_LABEL - 2}}"
        yield from _wrapped(text, start)


def _wrapped(text: str, start: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=_LINES,
        placeholder=" ...",
    )


def _number(x: float) -> str:
    return f"{x:.9g}"


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
