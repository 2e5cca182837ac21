"""The epochs of a descent as tasks of scikit-learn's callbacks."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore as gd
from gdcore.errors import warn_of_fit
from gdcore.results.fit import History
from gdcore.solvers.descent import pausing
from gdcore.status import Status

BLOCK_SECONDS = 0.1  # blocks of epochs grow until they take this long
BLOCK_BYTES = 32 << 20  # the most that the recorded weights of a block may take


def run_epochs(
    root: Any,
    data: dict[str, Any],
    rows: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    given: dict[str, Any],
    start: gd.Fit | None,
) -> gd.Fit:
    """Descend, and call the callbacks for each epoch; they change no bits."""
    most = BLOCK_BYTES // ((rows[0].shape[1] + 1) * rows[1][:1].nbytes)
    epochs = Epochs(root, data, max(1, most))
    with pausing(epochs):
        fit = gd.fit(*rows, init=start, **given)
    return epochs.cut(fit)


class Epochs:
    """The epochs seen so far, block by block, and whether a callback has ended the descent."""

    def __init__(self, root: Any, data: dict[str, Any], most: int) -> None:
        self._root, self._data, self._most = root, data, most
        self._block, self._began = 1, time.perf_counter()
        self._numbers: list[int] = []
        self._losses: list[Any] = []
        self._end: dict[str, Any] | None = None  # what a fit has where a callback ended it

    def __call__(self, history: History) -> int:
        """Call the callbacks for a block of epochs; return the epochs of the next one, or 0."""
        quick = time.perf_counter() - self._began < BLOCK_SECONDS
        for i, (number, loss) in enumerate(zip(history.epoch, history.loss, strict=True)):
            self._numbers.append(int(number))
            self._losses.append(loss)
            if self._ends(history, i):
                self._end = {"detail": ""}  # nothing is wrong with such an end
                if i + 1 < len(history.epoch) and history.weights is not None:
                    assert history.intercept is not None
                    self._end |= {
                        "weights": history.weights[i],
                        "intercept": history.intercept[i],
                        "loss": history.loss[i + 1],  # measured before the step of the next epoch
                        "epochs": int(number),
                        "status": Status.MAX_EPOCHS,
                        "state": None,
                    }
                return 0
        if self._numbers:
            self._block = self._block * 2 if quick else max(1, self._block // 2)
        self._block, self._began = min(self._block, self._most), time.perf_counter()
        return self._block

    def _ends(self, history: History, i: int) -> bool:
        """Call the callbacks for an epoch; return whether one of them ends the descent."""
        task = self._root.subcontext(task_name="epoch")
        task.call_on_fit_task_begin(**self._data)
        state = None  # the weights of a single epoch may be too large to record
        if history.weights is not None and history.intercept is not None:
            state = {"coef_": history.weights[i].T, "intercept_": history.intercept[i]}
        return bool(task.call_on_fit_task_end(**self._data, reconstruction_attributes=state))

    def cut(self, fit: gd.Fit) -> gd.Fit:
        """Return the fit up to where a callback ended it, with the losses of all blocks."""
        losses = np.array(self._losses, fit.weights.dtype)
        history = History(np.array(self._numbers, np.int64), losses)
        return replace(fit, history=history, **(self._end or {}))


def warn_unless_arrived(fit: gd.Fit) -> None:
    """Warn the user of a fit that ended short of the best one, unless that was asked for."""
    as_asked = fit.status is Status.MAX_EPOCHS and not fit.detail
    if fit.status is not Status.CONVERGED and not as_asked:
        warn_of_fit(fit.message)
