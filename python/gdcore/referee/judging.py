"""Whether the results of a candidate are right, whether it misleads, and how fast it is."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gdcore.oracle.trials.families import FAMILIES
from gdcore.oracle.trials.findings import Ruling
from gdcore.oracle.trials.operand import FLOATS
from gdcore.oracle.trials.plan import names_of
from gdcore.oracle.trials.sizes import NAMES
from gdcore.referee.judgement import Judgement
from gdcore.referee.problem import Source, Undecided, UsageError, entry_of
from gdcore.referee.timed import AGAINST, time_it
from gdcore.referee.verdict import Verdict


def judge(
    candidate: Source,
    reference: Source,
    *,
    timeout: float = 60.0,
    memory: str = "4GB",
    seconds: float = 5.0,
    against: Sequence[str] = AGAINST,
    families: str | Sequence[str] = "all",
    sizes: Any = None,
    dtype: str | None = None,
    seed: int | None = None,
    forbid: str | Sequence[str] = (),
    race: bool = True,
    grads: bool = False,
    device: str | None = None,
) -> Verdict:
    """Judge a kernel by a reference, and time it if it is right.

    The candidate runs in a process of its own with limits; golden values and the clock are
    elsewhere. It is called with families of data at several sizes, of which the reference's inputs
    are the pattern. What it returns is compared with the reference in float64, element by element,
    in units of what rounding the inputs changes. Nothing of this proves that a kernel is right.

    Parameters
    ----------
    candidate, reference : str, path or callable
        "file.py", "file.py:name", or a function or class at the top of a module. See
        ``gdcore.referee.source`` for what is looked for in a file.
    timeout : float
        Seconds for everything. Two more may pass until all processes are gone.
    memory : str
        That each process may take, such as "4GB".
    seconds : float
        Of the race.
    against : sequence of str
        "eager" and "compiled": the reference as it is, and by torch.compile.
    families : "all" or sequence of str
        Of data; see ``gdcore.oracle.trials.families``.
    sizes : sequence of str or of dict, optional
        Names such as "given" and "odd"; None: all. A dict has what the reference's
        ``generate_input`` takes.
    dtype : str, optional
        That floating-point inputs are to have instead of their own.
    seed : int, optional
        Of all data and models; None: a new one, which the verdict has in `environment`. A candidate
        that knew it could compute before it is asked, so give one only to see a verdict again.
    forbid : str or sequence of str
        Operations of torch that the candidate must not call, such as "aten::softmax"; "reference"
        for those that the reference calls, "library" for all that compute.
    race : bool
        Whether to time it.
    grads : bool
        Whether its gradients are judged too.
    device : str, optional
        Such as "cuda"; None: where the reference's inputs are.

    Returns
    -------
    Verdict

    Raises
    ------
    UsageError
        A ValueError: a file is not there, has no such function, or makes no inputs; or an option
        has no meaning.
    """
    forbid = (forbid,) if isinstance(forbid, str) else tuple(forbid)
    _check_options(timeout, seconds, against, dtype, families)
    chosen = secrets.randbits(32) if seed is None else seed
    kwargs, names = _sizes_of(sizes)
    common: dict[str, Any] = {
        "seed": _seed_of_models(chosen),
        "dtype": dtype or "",
        "grads": grads,
        "sizes": kwargs,
    }
    ours = replace(entry_of(candidate, "candidate", "candidate"), **common)
    theirs = replace(entry_of(reference, "reference", "reference"), **common)
    with Judgement(ours, theirs, chosen, timeout, memory, device or "cpu") as judgement:
        try:
            judgement.pose(dtype)
            judgement.examine(families, names, seconds if race else 0.0)
            judgement.gather(forbid)
            if race and judgement.ok:
                time_it(judgement, against, seconds)
        except Undecided as error:
            judgement.ruling, judgement.why = Ruling.NOT_DECIDED, str(error)
        return judgement.verdict()


def _seed_of_models(seed: int) -> int:
    """Return what a candidate may know, and from which it cannot tell the data to come."""
    return int.from_bytes(hashlib.sha256(f"models {seed}".encode()).digest()[:4], "big")


def _check_options(
    timeout: float,
    seconds: float,
    against: Sequence[str],
    dtype: str | None,
    families: str | Sequence[str],
) -> None:
    if isinstance(against, str) or any(each not in AGAINST for each in against):
        raise UsageError(f"against is {against!r}; give some of {AGAINST}.")
    if not timeout > 0 or not seconds > 0:
        raise UsageError(f"timeout and seconds are {timeout} and {seconds}; give more than 0.")
    if dtype is not None and dtype not in FLOATS:
        raise UsageError(f"dtype is {dtype!r}; give one of {FLOATS}, or None.")
    _check_names(families, FAMILIES, "families")


def _check_names(wished: str | Sequence[str], known: Sequence[str], what: str) -> None:
    try:
        names_of(wished, known, what)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _sizes_of(sizes: Any) -> tuple[dict[str, Any], Sequence[str] | None]:
    """Return what `generate_input` takes, and the names of sizes."""
    if isinstance(sizes, dict):
        sizes = [sizes]
    if sizes is None or isinstance(sizes, str):
        return {}, sizes
    tables = [each for each in sizes if isinstance(each, dict)]
    names = [each for each in sizes if not isinstance(each, dict)]
    if len(tables) > 1:
        raise UsageError("Give one dict of sizes for generate_input, and judge each by itself.")
    if names:
        _check_names(names, NAMES, "sizes")
    return (tables[0] if tables else {}), (names or None)
