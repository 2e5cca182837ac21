"""What the calls and notes of a candidate's process amount to, besides its numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch

from gdcore.oracle.trials.findings import Finding, Ruling
from gdcore.referee.confined import OUTLIVED, WORKS_ON
from gdcore.referee.watch import HIDDEN, REPLACED

TAMPERS = "replaces what measures it"
FORBIDDEN = "calls what is forbidden"
FALLS_BACK = "falls back to the library"
GOES_ON = "goes on after its answer"

# Operations that move, shape or make numbers, and compute none.
_MOVES = frozenset(
    {
        "alias",
        "arange",
        "as_strided",
        "cat",
        "chunk",
        "clone",
        "contiguous",
        "copy",
        "detach",
        "empty",
        "empty_like",
        "empty_strided",
        "expand",
        "fill",
        "flatten",
        "full",
        "full_like",
        "index",
        "item",
        "lift_fresh",
        "local_scalar_dense",
        "movedim",
        "narrow",
        "new_empty",
        "ones",
        "ones_like",
        "permute",
        "reshape",
        "reshape_alias",
        "resize",
        "resolve_conj",
        "resolve_neg",
        "scalar_tensor",
        "select",
        "set",
        "slice",
        "split",
        "squeeze",
        "stack",
        "t",
        "to",
        "to_copy",
        "transpose",
        "unbind",
        "unflatten",
        "unsafe_view",
        "unsqueeze",
        "view",
        "view_as",
        "zero",
        "zeros",
        "zeros_like",
    }
)


_NO_ANSWER = re.compile(r"no answer within ([0-9.e+-]+) s")
_PATIENCE = 200  # times what the reference takes, until what gives no answer is called hanging
_LEAST = 1.0  # seconds that a machine with other work may keep a process waiting


def enough(usual: float) -> float:
    """Return the seconds after which a call hangs that takes the reference so many.

    Examples
    --------
    >>> enough(0.001), enough(0.5)
    (1.0, 100.0)
    """
    return max(_LEAST, _PATIENCE * usual)


def is_unfinished(error: str, enough: float) -> bool:
    """Return whether a process that gave no answer had less than enough seconds for it.

    Examples
    --------
    >>> is_unfinished("it gave no answer within 2.5 s", 3.0)
    True
    """
    found = _NO_ANSWER.search(error)
    return found is not None and float(found[1]) < enough


def plain_name(operation: str) -> str:
    """Return an operation without overload and underscores, as users know it.

    Examples
    --------
    >>> plain_name("aten::_softmax.out")
    'aten::softmax'
    """
    library, _, name = operation.rpartition("::")
    name = name.partition(".")[0].strip("_")
    return f"{library}::{name}" if library else name


def computing(calls: Iterable[str]) -> set[str]:
    """Return the operations among some that compute anything, by their plain names."""
    names = {plain_name(each) for each in calls}
    return {each for each in names if each.rpartition("::")[2] not in _MOVES}


def counted(calls: Iterable[str]) -> tuple[str, ...]:
    """Return each operation with how often it was called, the most frequent first.

    Examples
    --------
    >>> counted(["aten::mm", "aten::exp", "aten::mm"])
    ('aten::mm x 2', 'aten::exp')
    """
    return tuple(
        name if count == 1 else f"{name} x {count}" for name, count in Counter(calls).most_common()
    )


def forbidden(calls: Sequence[str], forbid: Sequence[str], theirs: Iterable[str]) -> list[str]:
    """Return the operations called that a rule forbids.

    Parameters
    ----------
    calls : sequence of str
    forbid : sequence of str
        Names such as "aten::softmax", with ``*`` for anything; "library" for all that compute, and
        "reference" for those that the reference calls.
    theirs : iterable of str
        What the reference calls.
    """
    found = set()
    for rule in forbid:
        if rule in ("library", "reference"):
            computed = computing(calls)
            found |= computed if rule == "library" else computed & computing(theirs)
            continue
        pattern = plain_name(rule)
        found |= {
            each
            for each in map(plain_name, calls)
            if fnmatch(each, pattern) or fnmatch(each.rpartition("::")[2], pattern)
        }
    return sorted(found)


def library_share(calls: Iterable[str], theirs: Iterable[str]) -> str:
    """Return what of a candidate's work is the library's, in a sentence, or an empty string."""
    own, reference = computing(calls), computing(theirs)
    if not reference or not reference <= own:
        return ""
    names = ", ".join(sorted(reference))
    what = "operation" if len(reference) == 1 else "operations"
    return f"The library does the work: it calls {names}, the reference's own {what}."


def tamperings(notes: Iterable[str]) -> list[Finding]:
    """Return a finding for the clocks and comparisons that a candidate replaced, if it did."""
    names = [note.removeprefix(REPLACED) for note in notes if note.startswith(REPLACED)]
    if not names:
        return []
    sentence = (
        f"It replaces {', '.join(names)} in its process. "
        "The referee's clock and golden values are in another one."
    )
    return [Finding(TAMPERS, Ruling.CHEATING, sentence)]


def outliving(notes: Iterable[str]) -> list[Finding]:
    """Return a finding for what went on after an answer: its time cannot be the kernel's."""
    found = [
        f"{note[0].upper()}{note[1:]}." for note in notes if note.startswith((WORKS_ON, OUTLIVED))
    ]
    return [Finding(GOES_ON, Ruling.SUSPICIOUS, found[0])] if found else []


def fallback(notes: Iterable[str], share: str) -> list[Finding]:
    """Return a finding if a candidate hid an exception and the library did the work.

    Either alone is ordinary: kernels call libraries, and programs handle exceptions.
    """
    hidden = [note.removeprefix(HIDDEN) for note in notes if note.startswith(HIDDEN)]
    if not hidden or not share:
        return []
    sentence = f"It raises and hides {hidden[0]!r}. {share} Its own code may not have run at all."
    return [Finding(FALLS_BACK, Ruling.SUSPICIOUS, sentence)]


def breaches(calls: Sequence[str], forbid: Sequence[str], theirs: Sequence[str]) -> list[Finding]:
    """Return a finding if a candidate calls what the user forbids."""
    found = forbidden(calls, forbid, theirs)
    if not found:
        return []
    sentence = f"It calls {', '.join(found)}, which is forbidden here."
    return [Finding(FORBIDDEN, Ruling.CHEATING, sentence)]


def ordinary(notes: Iterable[str]) -> list[str]:
    """Return the notes that no finding is made of."""
    return [note for note in notes if not note.startswith((REPLACED, HIDDEN, WORKS_ON, OUTLIVED))]
