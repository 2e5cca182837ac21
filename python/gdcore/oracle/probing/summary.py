"""The sentence about a wrong function: the mistake that explains most of its wrong results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.diagnosis.causes import find_causes, unwritten
from gdcore.oracle.diagnosis.match import explained
from gdcore.oracle.numbers.intake import to_numpy
from gdcore.oracle.probing.probe import GROUPS, LAYOUTS, Probe
from gdcore.oracle.references.mistakes import Cause
from gdcore.oracle.references.reference import Reference
from gdcore.oracle.references.verdict import Status, Verdict

Array = NDArray[Any]
_UNKNOWN = "no known mistake explains it"
_IGNORED = "the strides of the arguments are ignored"
_FROM_ON = "right up to"
_TAIL = "an uninitialised tail"  # small results are all tail
_WEAK = {"all zero", "NaN", "a wrong factor", _TAIL}
_EXPLAINED = 16  # wrong probes whose causes are looked for
_TELLING = 8  # elements of a result that say as much as any more
_MODULI = (2, 4, 8, 16, 32)
_SPECIAL = list(GROUPS).index("nan")  # groups up to here hold finite numbers alone


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
    asked = [each for each in asked if not _is_idle(each.actual)] or asked
    partly = [each for each in asked if 2 * np.count_nonzero(_wrong(each)) <= _wrong(each).size]
    finding, chosen = _elected(partly or asked)
    if not any(_TAIL in cause.name for cause in chosen):
        finding, chosen = _elected(asked)
    name = chosen[0].name if chosen else _UNKNOWN
    if pattern:
        name = f"{name}, {pattern}" if chosen and _FROM_ON not in pattern else pattern
    return name, _told(finding, chosen or [Cause(name, f"{_sentence(name)}.")], pattern)


def _elected(asked: Sequence[Finding]) -> tuple[Finding, list[Cause]]:
    """Return the cause that explains at least half of some findings, and one that shows it.

    Shown is a probe where the fewest other mistakes give the same numbers.
    """
    found = [(each, _causes(each)) for each in asked[:: -(-len(asked) // _EXPLAINED)]]
    votes = Counter(name for _, causes in found for name in dict.fromkeys(map(_same, causes)))
    half = [name for name in votes if 2 * votes[name] >= len(found)]
    likeliest = max(half, key=lambda name: (name not in _WEAK, votes[name]), default=None)
    named = [each for each in found if any(_same(c) == likeliest for c in each[1])] or found
    finding, causes = min(
        named, key=lambda each: (len(each[1]), -min(each[0].verdict.status.size, _TELLING))
    )
    return finding, [cause for cause in causes if _same(cause) == likeliest]


def _wrong(finding: Finding) -> Array:
    """Return which elements are proven wrong."""
    wrong: Array = finding.verdict.status >= Status.WRONG
    return wrong


def _rank(probe: Probe) -> int:
    """Return how special a probe is."""
    return max((list(GROUPS).index(group) + 1 for group in probe.groups), default=0)


def _is_idle(actual: Any) -> bool:
    """Whether all is zero or NaN, as of a tail that begins at the first element."""
    return bool(np.all((actual == 0) | np.isnan(actual)))


def _causes(finding: Finding) -> list[Cause]:
    memory = finding.memory & _wrong(finding)
    if memory.any():
        return [unwritten(finding.reference, memory)]
    actual = to_numpy("the result", finding.actual).astype(np.float64, copy=False)
    return find_causes(actual, finding.reference, finding.verdict)


def _told(finding: Finding, causes: list[Cause], pattern: str) -> str:
    verdict = explained(finding.verdict, causes)
    if pattern and _sentence(pattern) not in (verdict.cause or ""):
        verdict = replace(verdict, cause=f"{verdict.cause} {_sentence(pattern)}.")
    return f"{finding.probe.name}, {finding.probe.shapes}: {verdict}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _same(cause: Cause) -> str:
    """Return a cause without the numbers that differ from probe to probe."""
    return re.sub(r"\d+", "#", cause.name.replace(" block of", "")).replace("last # of", "last of")


def _pattern(findings: Sequence[Finding], probes: Sequence[Probe]) -> str:
    """Return at which sizes alone the function is wrong, if finite probes show a rule."""
    kind = _rank(findings[0].probe)
    if kind > _SPECIAL:
        return ""
    wrong = {id(each.probe) for each in findings}
    alike = [probe for probe in probes if _rank(probe) == kind]
    bad = [probe.sizes for probe in alike if id(probe) in wrong]
    good = [probe.sizes for probe in alike if id(probe) not in wrong and probe.sizes not in bad]
    return next(_rules(bad, good), "") if len(good) > 2 else ""


def _rules(bad: list[dict[str, int]], good: list[dict[str, int]]) -> Iterator[str]:
    """Yield rules that tell the sizes of wrong probes from those of right ones."""
    sizes = {name: ({s[name] for s in bad}, {s[name] for s in good}) for name in bad[0]}
    for name, (wrong, right) in sizes.items():
        if min(wrong) > max(right) and len(right) > 2:
            yield f"{_FROM_ON} {name} = {max(right)}, wrong from {name} = {min(wrong)} on"
    alone = [
        f"{name} = {min(wrong)}"
        for name, (wrong, right) in sizes.items()
        if len(wrong) == 1 and not wrong & right
    ]
    if alone:
        yield f"wrong only where {', '.join(alone)}"
    for modulus in _MODULI:
        for name, (wrong, right) in sizes.items():
            here, there = ({size % modulus for size in each} for each in (wrong, right))
            if len(wrong) < 2 or here & there:
                continue
            if there == {0} and len(right) > 2:
                word = "odd" if modulus == 2 else f"not a multiple of {modulus}"
                yield f"wrong only where {name} is {word}"
            elif len(here) == 1:
                yield f"wrong only where {name} = {min(here)} modulo {modulus}"
