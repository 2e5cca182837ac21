"""From the times of two contestants to a verdict: which is faster, beyond the noise.

Contestants take turns, so round i of one and round i of the other saw the same machine. The
statistic is the Hodges-Lehmann estimate of the logarithm of their ratio, the median of the means of
all pairs of rounds, and the interval that of Wilcoxon's signed ranks. For two contestants that are
the same, either may be the faster one of a round with equal odds, whatever the noise: the interval
then misses 1 in at most 5 % of races, if their rounds are independent. The verdict speaks for the
first of the two:

=======  ===================================================================
FAST     the whole interval lies above 1 + margin
SLOW     the whole interval lies below 1 / (1 + margin)
SAME     the whole interval lies between those two
AMBG     anything else, or fewer than 6 rounds: measure again, or longer
=======  ===================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from typing import NamedTuple

import numpy as np

MARGIN = 0.05
_CONFIDENCE = 0.95
FEWEST = 6  # with fewer, all rounds on one side happen too often by chance


class Verdict(StrEnum):
    """What can be said of the speed of one contestant beside another's."""

    FAST = "FAST"
    SLOW = "SLOW"
    SAME = "SAME"
    AMBG = "AMBG"


class Ratio(NamedTuple):
    """How many times as long one contestant takes as another.

    Attributes
    ----------
    value : float
        Their time divided by ours, the centre over the rounds: above 1, we are faster.
    low, high : float
        95 % confidence interval.
    verdict : Verdict
        For us.
    """

    value: float
    low: float
    high: float
    verdict: Verdict


def check_margin(margin: float) -> None:
    """Raise ValueError unless a margin is a share of a time."""
    if not (isinstance(margin, int | float) and 0 <= margin < np.inf):
        raise ValueError(
            f"margin is {margin!r}; give how much faster counts as faster: 0.05 for 5 %, 0 or more."
        )


def judge(ours: Sequence[float], theirs: Sequence[float], margin: float = MARGIN) -> Ratio:
    """Compare the seconds of rounds taken in turns.

    Parameters
    ----------
    ours, theirs : sequence of float
        Seconds; the i-th of each belong to one round.
    margin : float
        How much faster counts as faster.

    Examples
    --------
    >>> judge([1.0, 1.1, 1.0, 1.0, 1.1, 1.0], [2.0, 2.2, 2.1, 2.0, 2.2, 2.0]).verdict
    <Verdict.FAST: 'FAST'>
    """
    rounds = min(len(ours), len(theirs))
    logs = np.log(np.asarray(theirs[:rounds]) / np.asarray(ours[:rounds]))
    first, second = np.triu_indices(rounds)
    means = np.sort(logs[first] + logs[second]) / 2
    outside = _outside(rounds)
    centre, low, high = np.exp([np.median(means), means[outside], means[-1 - outside]]).tolist()
    faster, slower = 1 + margin, 1 / (1 + margin)
    if rounds < FEWEST:
        verdict = Verdict.AMBG
    elif low > faster:
        verdict = Verdict.FAST
    elif high < slower:
        verdict = Verdict.SLOW
    elif low >= slower and high <= faster:
        verdict = Verdict.SAME
    else:
        verdict = Verdict.AMBG
    return Ratio(centre, low, high, verdict)


@cache
def _outside(rounds: int) -> int:
    """Return how many means of pairs the interval leaves out at each end."""
    ways = np.ones(1)  # of each sum of ranks with a positive sign, over 2^rounds
    for rank in range(1, rounds + 1):
        ways = (np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))) / 2
    tails = np.cumsum(ways) <= (1 - _CONFIDENCE) / 2
    return max(int(np.argmin(tails)) - 1, 0)
