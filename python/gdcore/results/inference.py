"""What a fit says about the uncertainty of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gdcore.typing import Covariance, Floats


@dataclass(frozen=True, eq=False)
class Inference:
    """The estimated covariance of the weights, all in float64.

    The last two axes are the parameters of one target: the features in their order, then the
    intercept if there is one. Before them come the problems of many, then the targets of several.
    """

    kind: Covariance
    covariance: Floats  # (p, p), (t, p, p), (count, p, p) or (count, t, p, p)
    sigma2: Any  # variance of the errors: a scalar, (t,), (count,) or (count, t)
    r2: Any  # the same shape
    df_resid: Any  # rows that count less parameters: a scalar, or (count,)
    reason: Any = ""  # why all of it is NaN, "" if it is not; for many problems one each
