"""From the times of two contestants to a verdict: which is faster, beyond the noise.

Contestants take turns, so round i of one and round i of the other saw the same machine. The
statistic is the median over rounds of their ratio; its confidence interval is a percentile
bootstrap over rounds. The verdict speaks for the first of the two:

=======  ===================================================================
FAST     the whole interval lies above 1 + margin
SLOW     the whole interval lies below 1 / (1 + margin)
SAME     the whole interval lies between those two
AMBG     anything else, or fewer than 5 rounds: measure again, or longer
=======  ===================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

MARGIN = 0.05
_CONFIDENCE = 0.95
_RESAMPLES = 2000
FEWEST = 5


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
        Median over the rounds of their time divided by ours: above 1, we are faster.
    low, high : float
        95 % confidence interval.
    verdict : Verdict
        For us.
    """

    value: float
    low: float
    high: float
    verdict: Verdict


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
    ratios = np.asarray(theirs[:rounds]) / np.asarray(ours[:rounds])
    draws = np.random.default_rng(0).integers(0, rounds, (_RESAMPLES, rounds))
    medians = np.median(ratios[draws], axis=1)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
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
    return Ratio(float(np.median(ratios)), float(low), float(high), verdict)
