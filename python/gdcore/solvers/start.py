"""The state that a descent starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

import gdcore._core as _core
from gdcore.data.device import local
from gdcore.data.home import on_host
from gdcore.data.problem import check_names
from gdcore.data.shape import Shape
from gdcore.results.fit import Fit
from gdcore.results.state import FitState, ManyState
from gdcore.typing import Floats

if TYPE_CHECKING:
    from gdcore.data.problems import Problems


def initial_state(init: Any, shape: Shape, batch_size: int | None) -> FitState:
    """Return the state that `init` describes, its parameters checked against the shape."""
    if init is None:
        return FitState.before_steps(np.zeros(shape.size, shape.dtype))
    epoch = 0
    if isinstance(init, Fit):
        init = on_host(init)
        epoch = init.epochs
        check_names(init, shape)
        if init.weights.shape != shape.weights_shape:
            raise ValueError(
                f"init is a fit with weights of shape {init.weights.shape}; this problem's have "
                f"shape {shape.weights_shape}."
            )
        state: FitState | None = init.state
        if state is not None and state.fits(shape.size, shape.dtype):
            fresh = state.for_new_run()
            if (state.rows, state.batch_size) == (shape.n, batch_size or 0):
                return fresh
            return replace(fresh, step=0, epoch_sums=None)  # an unfinished epoch starts again
        weights, intercept = init.weights, init.intercept
    elif isinstance(init, tuple) and len(init) == 2:
        weights, intercept = init
    else:
        weights, intercept = init, 0.0
    weights, intercept = _local_numbers(weights, intercept)
    if weights.shape != shape.weights_shape:
        raise ValueError(
            f"init has weights of shape {weights.shape}; they must have shape "
            f"{shape.weights_shape}."
        )
    if intercept.shape not in ((), shape.weights_shape[1:]):
        raise ValueError(
            f"init has an intercept of shape {intercept.shape}; "
            f"it must have shape {shape.weights_shape[1:]}."
        )
    _check_values(weights, intercept, shape)
    parts = [weights.ravel()]
    if shape.fit_intercept:
        parts.append(np.broadcast_to(intercept, (shape.t,)))
    return FitState.before_steps(np.concatenate(parts).astype(shape.dtype), epoch)


def initial_states(init: Any, problems: Problems) -> ManyState:
    """Return the states that `init` describes, their parameters checked against the shapes."""
    from gdcore.results.fits import Fits

    shape, count = problems.shape, problems.count
    if init is None:
        return ManyState.before_steps(np.zeros((count, shape.size), shape.dtype))
    weights: Any
    intercept: Any
    if isinstance(init, Fit):
        init = on_host(init)
    if isinstance(init, Fits):
        check_names(init, shape)
        state: ManyState | None = init.state
        if state is not None and state.fits(count, shape.size, shape.dtype):
            return state.restarted()
        weights, intercept = np.nan_to_num(init.weights), np.nan_to_num(init.intercept)
    elif isinstance(init, Fit):
        weights, intercept = init.weights, init.intercept
    elif isinstance(init, tuple) and len(init) == 2:
        weights, intercept = init
    else:
        weights, intercept = init, 0.0
    weights, intercept = _local_numbers(weights, intercept)
    wanted = (count, *shape.weights_shape), (count, *shape.weights_shape[1:])
    try:
        weights = np.broadcast_to(weights, wanted[0])
        intercept = np.broadcast_to(intercept, wanted[1])
    except ValueError:
        raise ValueError(
            f"init has weights of shape {weights.shape} and an intercept of shape "
            f"{intercept.shape}; they must broadcast to {wanted[0]} and {wanted[1]}."
        ) from None
    _check_values(weights, intercept, shape)
    parts = [weights.reshape(count, shape.d * shape.t)]
    if shape.fit_intercept:
        parts.append(intercept.reshape(count, shape.t))
    state = ManyState.before_steps(np.concatenate(parts, axis=1).astype(shape.dtype))
    if isinstance(init, Fits):
        state.epoch[:] = init.epochs
    return state


def _local_numbers(weights: Any, intercept: Any) -> Iterator[Floats]:
    """Return weights and intercepts of any library, on any device, as NumPy's arrays."""
    return map(local, _core.prepare(("init weights", weights), ("init intercept", intercept)))


def _check_values(weights: Any, intercept: Any, shape: Shape) -> None:
    if not (np.isfinite(weights).all() and np.isfinite(intercept).all()):
        raise ValueError("init holds NaN or infinity; pass finite weights and intercept.")
    if not shape.fit_intercept and np.any(intercept):
        raise ValueError(
            "init has an intercept but fit_intercept is False; pass it as offset to keep it fixed."
        )


def in_coordinates_of(shape: Shape, state: FitState) -> FitState:
    """Return a state whose parameters are those of the shape's columns, standardised or as given.

    Where they were others the velocity is lost: it belongs to a step in the other coordinates.
    """
    own = np.empty(0) if shape.scaling is None else shape.scaling
    if own.size == state.scaling.size == 0 or np.array_equal(own, state.scaling):
        return state
    params = state.params
    if state.scaling.size:
        params = shape.rescaled(params, state.scaling, to_scaled=False)
    if own.size:
        params = shape.rescaled(params, own, to_scaled=True)
    fresh = np.empty(0, params.dtype)
    return replace(
        state,
        params=params,
        velocity=fresh,
        previous=fresh,
        step=0,
        epoch_sums=None,
        scaling=own,
    )
