"""The race of a judgement: new processes, and what becomes of a kernel that is wrong in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gdcore.oracle.trials.findings import Finding, Ruling
from gdcore.referee.evidence import GOES_ON, outliving
from gdcore.referee.judgement import START, Judgement
from gdcore.referee.process import Sandbox
from gdcore.referee.race import TIMED, take_rounds, wrong_of

_ROLES = {"eager": "contestant", "compiled": "compiled"}
AGAINST = tuple(_ROLES)
_COMPILE = 20.0  # seconds that must be left for torch.compile to be tried


def time_it(judgement: Judgement, against: Sequence[str], seconds: float) -> None:
    """Time the candidate beside the reference, all in new processes.

    The reference as it is comes first: compiling it may take all the time that is left.
    """
    wanted = [name for name in AGAINST if name in against and _is_possible(judgement, name)]
    if not wanted:
        return
    theirs = replace(judgement.theirs, grads=False, framework=judgement.problem.about["framework"])
    kernel = judgement.start(replace(judgement.candidate_entry, grads=False))
    others = {name: judgement.start(replace(theirs, role=_ROLES[name])) for name in wanted}
    idle = judgement.start(replace(theirs, role="idle"))
    if reason := _made_ready(kernel):
        judgement.limits[f"It was not timed: another process of it did not start. {reason}"] = None
        return
    unusable = _made_ready(idle)
    for name in wanted:
        if reason := _made_ready(others[name]):
            judgement.limits[f"No time was taken against {name}: {reason}"] = None
            del others[name]
    for number, name in enumerate(others):
        race = take_rounds(
            kernel,
            {name: others[name]},
            (judgement.golden, judgement.eager),
            judgement.problem,
            seed=judgement.seed + 1_000_003 * (number + 1),
            seconds=seconds / len(wanted),
            deadline=judgement.deadline - 1.0,
            idle=None if unusable else idle,
        )
        judgement.raced = judgement.raced.followed_by(race)
        if race.finding is not None:
            _withdraw(judgement, race.finding)
            return
    judgement.limits |= dict.fromkeys(judgement.raced.told())
    if not any(each.kind == GOES_ON for each in judgement.findings):
        judgement.suspect(outliving(judgement.raced.notes))


def _is_possible(judgement: Judgement, name: str) -> bool:
    if name == "compiled" and judgement.problem.about["framework"] != "torch":
        return False
    lack = ""
    if judgement.left < judgement.started + START:
        lack = "too little of timeout was left."
    elif name == "compiled" and judgement.left < _COMPILE:
        lack = "compiling may take longer."
    if lack:
        judgement.limits[f"No time was taken against {name}: {lack}"] = None
    return not lack


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
