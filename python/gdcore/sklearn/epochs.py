"""A descent whose epochs are tasks of scikit-learn's callbacks."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore as gd
from gdcore.errors import warn_of_fit
from gdcore.results.fit import History
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
    """Descend in blocks of epochs, and call the callbacks for each epoch of a block.

    A descent that continues has the bits of one that was never interrupted, so the length of the
    blocks changes nothing.
    """
    first = 0 if start is None else start.epochs
    fit, block, losses, stopped = start, 1, [], False
    most = max(1, BLOCK_BYTES // ((rows[0].shape[1] + 1) * rows[1][:1].nbytes))
    while not stopped:
        done = 0 if fit is None else fit.epochs
        block = min(block, most, first + given["epochs"] - done)
        began = time.perf_counter()
        fit = gd.fit(*rows, init=fit, **(given | {"epochs": block}))
        block = block * 2 if time.perf_counter() - began < BLOCK_SECONDS else max(1, block // 2)
        losses.append(fit.history.loss)
        for epoch in range(done + 1, fit.epochs + 1):
            now = _at_epoch(fit, epoch, done)
            if _ends(root, data, now):
                fit, stopped = replace(now, detail=""), True  # nothing is wrong with this end
                break
        stopped |= fit.status is not Status.MAX_EPOCHS or fit.epochs >= first + given["epochs"]
    assert fit is not None
    epochs = np.arange(first + 1, fit.epochs + 1)
    return replace(fit, history=History(epochs, np.concatenate(losses)[: len(epochs)]))


def _ends(root: Any, data: dict[str, Any], fit: gd.Fit) -> bool:
    """Call the callbacks for an epoch; return whether one of them ends the descent."""
    task = root.subcontext(task_name="epoch")
    task.call_on_fit_task_begin(**data)
    state = {"coef_": fit.weights.T, "intercept_": fit.intercept}
    return bool(task.call_on_fit_task_end(**data, reconstruction_attributes=state))


def _at_epoch(fit: gd.Fit, epoch: int, done: int) -> gd.Fit:
    """Return a fit as it was after an epoch of its last block, which began after `done` epochs."""
    history, i = fit.history, epoch - done - 1
    if epoch == fit.epochs or history.weights is None or history.intercept is None:
        return fit
    return replace(
        fit,
        weights=history.weights[i],
        intercept=history.intercept[i],
        loss=history.loss[i + 1],  # measured before the step of the next epoch
        epochs=epoch,
        status=Status.MAX_EPOCHS,
        state=None,
    )


def warn_unless_arrived(fit: gd.Fit) -> None:
    """Warn the user of a fit that ended short of the best one, unless that was asked for."""
    as_asked = fit.status is Status.MAX_EPOCHS and not fit.detail
    if fit.status is not Status.CONVERGED and not as_asked:
        warn_of_fit(fit.message)
