"""The race of a judgement: new processes, and what becomes of a kernel that is wrong in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gdcore.oracle.trials.findings import Finding, Ruling
from gdcore.referee.judgement import START, Judgement
from gdcore.referee.process import Sandbox
from gdcore.referee.race import TIMED, take_rounds, wrong_of

AGAINST = ("eager", "compiled")
_COMPILE = 20.0  # seconds that must be left for torch.compile to be tried


def time_it(judgement: Judgement, against: Sequence[str], seconds: float) -> None:
    """Time the candidate beside the reference, all in new processes."""
    wanted = [name for name in against if _can_race(judgement, name)]
    if not wanted:
        return
    roles = {"eager": "contestant", "compiled": "compiled"}
    entry = replace(judgement.theirs, grads=False, framework=judgement.problem.about["framework"])
    kernel = judgement.start(replace(judgement.candidate_entry, grads=False))
    others = {name: judgement.start(replace(entry, role=roles[name])) for name in wanted}
    idle = judgement.start(replace(entry, role="idle"))
    for name in list(others):
        if reason := _made_ready(others[name]):
            del others[name]
            judgement.limits[f"No time was taken against {name}: {reason}"] = None
    if reason := _made_ready(kernel):
        judgement.limits[f"It was not timed: another process of it did not start. {reason}"] = None
        return
    unusable = _made_ready(idle)
    if not others:
        return
    judgement.raced = take_rounds(
        kernel,
        others,
        (judgement.golden, judgement.eager),
        judgement.problem,
        seed=judgement.seed + 1_000_003,
        seconds=seconds,
        deadline=judgement.deadline - 1.0,
        idle=None if unusable else idle,
    )
    judgement.limits |= dict.fromkeys(judgement.raced.limits)
    if judgement.raced.finding is not None:
        _withdraw(judgement, judgement.raced.finding)


def _can_race(judgement: Judgement, name: str) -> bool:
    if judgement.left < judgement.started + START:
        judgement.limits[f"No time was taken against {name}: too little of timeout was left."] = (
            None
        )
        return False
    if name != "compiled":
        return True
    if judgement.problem.about["framework"] != "torch":
        return False
    if judgement.left < _COMPILE:
        judgement.limits["No time was taken against compiled: compiling may take longer."] = None
        return False
    return True


def _made_ready(sandbox: Sandbox) -> str:
    sandbox.perturb = False  # it costs a pass over memory
    return sandbox.ready()


def _withdraw(judgement: Judgement, finding: Finding) -> None:
    """Withdraw a candidate whose timed results are wrong.

    If the same calls in a fresh process are wrong again, and right where they are asked alone,
    the data are not to blame.
    """
    judgement.findings.insert(0, finding)
    judgement.ruling, judgement.why = Ruling.WRONG, finding.sentence
    again, alone = judgement.fresh(), judgement.fresh()
    if again is None or alone is None:
        return
    again.perturb = alone.perturb = False
    if _goes_wrong(judgement, again, judgement.raced.asked) and not _goes_wrong(
        judgement, alone, [[finding.seed]]
    ):
        judgement.convict(
            replace(
                finding,
                kind=TIMED,
                sentence=f"{finding.sentence} The same data alone give a right result: "
                "it was right as long as it was tested.",
            )
        )


def _goes_wrong(judgement: Judgement, sandbox: Sandbox, asked: Sequence[Sequence[int]]) -> bool:
    """Whether calls with data of these seeds, run by run, are wrong in the last run."""
    for seeds in asked:
        sets = [judgement.problem.draw(each) for each in seeds]
        outcome = sandbox.run(sets)
        if outcome.error:
            return True
    return wrong_of(outcome, sets, seeds, judgement.golden, judgement.eager) is not None
