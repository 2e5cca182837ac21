"""The sentence about a wrong function: the mistake that explains most of its wrong results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.causes import Cause, find_causes, unwritten
from gdcore.oracle.intake import to_numpy
from gdcore.oracle.match import explained
from gdcore.oracle.probes import GROUPS, LAYOUTS, Probe
from gdcore.oracle.reference import Reference
from gdcore.oracle.verdict import Status, Verdict

Array = NDArray[Any]
_UNKNOWN = "no known mistake explains it"
_IGNORED = "the strides of the arguments are ignored"
_TRIVIAL = {"all zero", "NaN"}  # what a tail is that begins at the first element
_WEAK = {*_TRIVIAL, "a wrong factor", "an uninitialised tail", "uninitialised memory"}
_EXPLAINED = 16  # wrong probes whose causes are looked for
_TELLING = 64  # elements of a result that say as much as any more
_MODULI = (2, 4, 8, 16, 32)


class Finding(NamedTuple):
    """A wrong result of a probe; `memory` says which of its elements nobody wrote."""

    probe: Probe
    reference: Reference
    actual: Any
    verdict: Verdict
    memory: Array


def summarize(findings: Sequence[Finding], probes: Sequence[Probe]) -> tuple[str, str]:
    """Return the likeliest cause in a few words, and a sentence on the probe that says most.

    `probes` are all that were run. The simplest wrong probes are asked: those of plain matrices
    before stacks or several targets, and finite numbers before NaN and infinity.
    """
    simplest = min(_rank(each.probe) for each in findings)
    asked = [each for each in findings if _rank(each.probe) == simplest]
    asked = [each for each in asked if each.reference.name != "loss"] or asked
    pattern = _pattern(asked, probes)
    if {each.probe.name for each in asked} <= set(LAYOUTS):
        sentence = f"Likely cause: {_IGNORED}: only arrays that are not contiguous are wrong."
        return _IGNORED, _told(asked[0], [Cause(_IGNORED, sentence)], "")
    found = [(each, _causes(each)) for each in asked[:: -(-len(asked) // _EXPLAINED)]]
    telling = [each for each in found if not {c.name for c in each[1]} & _TRIVIAL] or found
    votes = Counter(
        name for _, causes in telling for name in dict.fromkeys(_same(cause) for cause in causes)
    )
    half = [name for name in votes if 2 * votes[name] >= len(telling)]
    likeliest = max(half, key=lambda name: (name not in _WEAK, votes[name]), default=None)
    # Shown is a probe where the fewest other mistakes give the same numbers.
    named = [each for each in telling if any(_same(c) == likeliest for c in each[1])] or telling
    finding, causes = min(
        named, key=lambda each: (len(each[1]), -min(each[0].verdict.status.size, _TELLING))
    )
    chosen = [cause for cause in causes if _same(cause) == likeliest]
    name = chosen[0].name if chosen else pattern or _UNKNOWN
    return name, _told(finding, chosen or [Cause(name, f"{_sentence(name)}.")], pattern)


def _rank(probe: Probe) -> int:
    """Return how special a probe is."""
    return max((list(GROUPS).index(group) + 1 for group in probe.groups), default=0)


def _causes(finding: Finding) -> list[Cause]:
    wrong = finding.verdict.status >= Status.WRONG
    memory = finding.memory & wrong
    if memory.any():
        return [unwritten(finding.reference, memory)]
    actual = to_numpy("the result", finding.actual).astype(np.float64, copy=False)
    return find_causes(actual, finding.reference, finding.verdict)


def _told(finding: Finding, causes: list[Cause], pattern: str) -> str:
    verdict = explained(finding.verdict, causes)
    if pattern and pattern not in (verdict.cause or ""):
        verdict = replace(verdict, cause=f"{verdict.cause} {_sentence(pattern)}.")
    return f"{finding.probe.name}, {finding.probe.shapes}: {verdict}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _same(cause: Cause) -> str:
    """Return a cause without the numbers that differ from probe to probe."""
    return re.sub(r"\d+", "#", cause.name)


def _pattern(findings: Sequence[Finding], probes: Sequence[Probe]) -> str:
    """Return at which sizes alone the function is wrong, if the finite probes show a rule."""
    wrong = {id(each.probe) for each in findings}
    alike = [probe for probe in probes if _rank(probe) == _rank(findings[0].probe)]
    bad = [probe.sizes for probe in alike if id(probe) in wrong]
    good = [probe.sizes for probe in alike if id(probe) not in wrong and probe.sizes not in bad]
    if _rank(findings[0].probe) > len(GROUPS) - 3 or len(good) < 3:
        return ""
    return next(_rules(bad, good), "")


def _rules(bad: list[dict[str, int]], good: list[dict[str, int]]) -> Iterator[str]:
    """Yield rules that tell the sizes of wrong probes from those of right ones."""
    for name in bad[0]:
        wrong, right = {sizes[name] for sizes in bad}, {sizes[name] for sizes in good}
        if min(wrong) > max(right):
            yield f"it is right up to {name} = {max(right)}, and wrong from {name} = {min(wrong)} on"
        for modulus in _MODULI if len(wrong) > 1 else ():
            here, there = ({size % modulus for size in sizes} for sizes in (wrong, right))
            if there == {0} and 0 not in here and len(right) > 2:
                word = "odd" if modulus == 2 else f"not a multiple of {modulus}"
                yield f"it is wrong only where {name} is {word}"
            elif len(here) == 1 and not here & there:
                rest = here.pop()
                word = f"= {rest} modulo {modulus}" if rest else f"a multiple of {modulus}"
                yield f"it is wrong only where {name} is {word}".replace(" is =", " =")
