"""The state of a descent, as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any

import numpy as np

from gdcore.frozen import at_once
from gdcore.typing import Floats

NOTHING: Floats = np.empty(0)


def constant(value: Any, count: int) -> Any:
    """Return `count` times the same number, in no memory: the array cannot be written to."""
    one = np.asarray(value)
    return np.ndarray(count, one.dtype, one.tobytes(), strides=(0,))  # broadcast_to takes 5 us


@at_once
@dataclass(frozen=True, eq=False)
class FitState:
    """The state of gradient descent: everything that the next step depends on.

    Attributes
    ----------
    params : ndarray, shape (p,)
        Weights, then intercepts.
    velocity : ndarray, shape (p,) or (0,)
        Empty before the first step and without momentum.
    previous : ndarray, shape (p,) or (0,)
        Parameters before the last update.
    scaling : ndarray of float64, shape (2 d + t,) or (0,)
        Means of the features, 1 / their deviations, means of y, if the parameters are those of
        standardised columns.
    epoch, step : int
        Epochs done, and mini-batches done in the one begun.
    first_loss, last_loss : float
        Losses measured during the first and the last epoch.
    epoch_sums : ndarray of float64
        Sums over the mini-batches of the epoch begun.
    lr, momentum : float
        Last learning rate used; momentum that "auto" chose, NaN if it was given.
    moved, epoch_moved : bool
        Whether the last update, and any of the epoch begun, changed a bit.
    rows, batch_size : int
        Those of the fit that `step` counts in.
    """

    params: Floats
    velocity: Floats
    previous: Floats
    scaling: Floats
    epoch: int = 0
    step: int = 0
    first_loss: float = nan
    last_loss: float = nan
    epoch_sums: Floats | None = None
    lr: float = nan
    momentum: float = nan
    moved: bool = True
    epoch_moved: bool = False
    rows: int = 0
    batch_size: int = 0

    @classmethod
    def before_steps(cls, params: Floats, epoch: int = 0) -> FitState:
        """Return the state before any step of a fit."""
        return cls(params, NOTHING, NOTHING, NOTHING, epoch)

    def __repr__(self) -> str:
        return f"FitState({self.params.size} parameters, epoch={self.epoch}, step={self.step})"

    def fits(self, size: int, dtype: np.dtype[Any]) -> bool:
        """Whether this is a state of a problem with that many parameters of that dtype."""
        return self.params.shape == (size,) and self.params.dtype == dtype

    def for_new_run(self) -> FitState:
        """Return the state for another call of fit, which forgets what the last step did."""
        chosen = nan if isnan(self.momentum) else self.lr
        return replace(self, lr=chosen, previous=NOTHING, moved=True)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as the core takes them."""
        fields = vars(self).copy()
        if self.epoch_sums is None:
            fields["epoch_sums"] = np.zeros(0)
        return fields

    @staticmethod
    def from_file(arrays: dict[str, Any]) -> FitState:
        """Return the state in the arrays of a file; those of gdcore 0.1 lack what came later."""
        return FitState(
            params=arrays["params"],
            velocity=arrays["velocity"],
            epoch=int(arrays["epoch"]),
            step=int(arrays["step"]),
            first_loss=float(arrays["first_loss"]),
            last_loss=float(arrays["last_loss"]),
            epoch_sums=arrays["epoch_sums"],
            lr=float(arrays["lr"]),
            momentum=float(arrays.get("momentum", nan)),
            previous=arrays["previous"],
            moved=bool(arrays["moved"]),
            epoch_moved=bool(arrays["epoch_moved"]),
            rows=int(arrays.get("rows", 0)),
            batch_size=int(arrays.get("batch_size", 0)),
            scaling=arrays.get("scaling", NOTHING),
        )


@dataclass(eq=False)
class ManyState:
    """The states of many descents: the fields of `FitState`, one entry or row a problem.

    Attributes
    ----------
    params : ndarray, shape (count, p)
    velocity : ndarray, shape (count, p) or (0, 0)
        Empty without momentum.
    moving : ndarray of uint8, shape (count,)
        Whether a problem's velocity is one: it made a step with momentum.
    epoch : ndarray of int64, shape (count,)
    first_loss, last_loss : ndarray, shape (count,)
    lr, momentum : ndarray of float64, shape (count,)
        Those that "auto" chose, NaN if they were given.
    scaling : ndarray of float64, shape (count, 2 d + t) or (0, 0)
    """

    params: Floats
    velocity: Floats
    moving: Any
    epoch: Any
    first_loss: Floats
    last_loss: Floats
    lr: Floats
    momentum: Floats
    scaling: Floats

    def __repr__(self) -> str:
        count, size = self.params.shape
        return f"ManyState({count} problems of {size} parameters)"

    @classmethod
    def before_steps(cls, params: Floats) -> ManyState:
        """Return the states before any step."""
        count, dtype = len(params), params.dtype
        unknown = np.full(count, np.nan, dtype)
        return cls(
            params,
            np.empty((0, 0), dtype),
            np.zeros(count, np.uint8),
            np.zeros(count, np.int64),
            unknown,
            unknown.copy(),
            constant(np.nan, count),
            constant(np.nan, count),
            np.empty((0, 0)),
        )

    def fits(self, count: int, size: int, dtype: np.dtype[Any]) -> bool:
        """Whether these are the states of `count` problems of `size` parameters of that dtype."""
        one_each = (self.moving, self.epoch, self.first_loss, self.last_loss)
        return (
            self.params.shape == (count, size)
            and self.params.dtype == dtype
            and self.velocity.shape in ((count, size), (0, 0))
            and all(array.shape == (count,) for array in one_each)
        )

    def restarted(self) -> ManyState:
        """Return a copy in which problems without finite parameters are back at zeros."""
        state, lost = self.copy(), ~np.isfinite(self.params).all(axis=1)
        fresh = ManyState.before_steps(np.zeros_like(self.params))
        for name, array in fresh.as_dict().items():
            own = getattr(state, name)
            if array.size and name != "scaling" and own.flags.writeable:
                own[lost] = array[lost]
        return state

    def copy(self) -> ManyState:
        """Return a state with arrays of its own, but for constants."""
        arrays = self.as_dict().values()
        return ManyState(*(a if a.strides == (0,) else a.copy() for a in arrays))

    def part(self, part: Any) -> ManyState:
        """Return the state of some of the problems."""
        one_each = (a if len(a) != len(self.moving) else a[part] for a in self.as_dict().values())
        return ManyState(*one_each)

    def put(self, part: Any, states: dict[str, Any]) -> None:
        """Copy the states that some of the problems have now."""
        if states["velocity"].size and not self.velocity.size:
            self.velocity = np.zeros_like(self.params)
        for name in ("params", "velocity", "moving", "epoch", "first_loss", "last_loss"):
            if states[name].size:
                array = getattr(self, name)
                array[part] = states[name].reshape(array[part].shape)

    def one(self, i: int) -> FitState:
        """Return the state of one problem."""
        moving = self.velocity.size and self.moving[i]
        return FitState(
            params=self.params[i].copy(),
            velocity=self.velocity[i].copy() if moving else NOTHING,
            previous=NOTHING,
            epoch=int(self.epoch[i]),
            first_loss=float(self.first_loss[i]),
            last_loss=float(self.last_loss[i]),
            lr=float(self.lr[i]),
            momentum=float(self.momentum[i]),
            scaling=self.scaling[i].copy() if self.scaling.size else NOTHING,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as the core takes them."""
        return vars(self).copy()

    @staticmethod
    def from_file(arrays: dict[str, Any]) -> ManyState:
        """Return the states in the arrays of a file; those of gdcore 0.1 lack what came later."""
        fresh = ManyState.before_steps(arrays["params"]).as_dict()
        arrays = {name: fresh[name] for name in ("lr", "momentum", "scaling")} | arrays
        return ManyState(**{name: arrays[name] for name in ManyState.__dataclass_fields__})
