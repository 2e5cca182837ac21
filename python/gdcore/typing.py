"""Types that several modules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Statuses = npt.NDArray[np.object_]  # of Status
Names = tuple[str, ...]
Reduction = Literal["mean", "sum", "half_mean", "half_sum"]
Method = Literal["auto", "stream", "gram", "exact"]
Stop = Literal["gradient", "loss_equal"]
Schedule = Callable[[int], float]
LearningRate = float | Floats | Literal["auto"] | Schedule
Missing = Literal["error", "drop"]
Covariance = Literal["ols", "hc0", "hc1", "hc2", "hc3"]
Interval = Literal["confidence", "prediction"]
Show = bool | Callable[[int, int, float], None]  # what progress= takes
