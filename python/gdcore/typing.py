"""Types that several modules share."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any, Literal, TypedDict

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
Stack = np.ndarray[tuple[int, int, int], np.dtype[Any]]  # X of many problems


class FitOptions(TypedDict, total=False):
    """What `gdcore.fit` takes by keyword alone."""

    epochs: int
    batch_size: int | None
    shuffle: bool
    seed: int
    fit_intercept: bool
    standardize: bool
    init: Any
    offset: npt.ArrayLike | None
    sample_weight: npt.ArrayLike | None
    missing: Missing
    reduction: Reduction
    tol: float | Floats | None
    stop: Stop
    method: Method
    rcond: float | None
    covariance: Covariance | None
    history: int
    progress: Show
    checkpoint: str | PathLike[str] | None
    n_threads: int | None
    device: Any
