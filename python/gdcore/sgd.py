"""The options of stochastic gradient descent and its step, as in torch.optim.SGD."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal

import numpy as np

import gdcore._core as _core
from gdcore.notebook import html_block, html_row
from gdcore.scalars import as_numpy, as_scalar, is_finite
from gdcore.typing import Floats, LearningRate


@dataclass
class SGDState:
    """The state of SGD between steps.

    Attributes
    ----------
    velocity : list of array or None
        One buffer for each parameter, of its library and on its device; None before the first
        step and without momentum.
    step : int
        Steps done.
    """

    velocity: list[Any] = field(default_factory=list)
    step: int = 0

    def __repr__(self) -> str:
        return f"SGDState(step={self.step}, velocity of {len(self.velocity)} parameters)"


@dataclass(frozen=True, eq=False)
class SGD:
    """Options of gradient descent, as in `torch.optim.SGD`.

    A step with gradient g is: ``g = -g`` if maximize; ``g += weight_decay * w``; with momentum,
    ``v = momentum * v + (1 - dampening) * g`` (the first v is g itself) and
    ``g = g + momentum * v`` if nesterov, else ``g = v``; then ``w -= lr * g``.

    Parameters
    ----------
    lr : float, array_like, "auto" or callable, default "auto"
        Learning rate; an array has one for each of many problems. "auto" is 1/lambda_max of the
        loss's Hessian, half the stability limit of plain descent (`gdcore.fit` only). A callable
        maps the epoch, counted from 0, to a rate; it is called ahead of time, and may be called
        twice for an epoch.
    momentum : float or "auto", default 0.0
        "auto" chooses lr and momentum for the fewest epochs (`gdcore.fit`, `fit_groups` and
        `fit_rolling` only).
    dampening : float, default 0.0
    weight_decay : float or array_like, default 0.0
        Adds ``weight_decay / 2 * |w|^2`` to the objective; an array has one for each of many
        problems.
    nesterov : bool, default False
        Needs a momentum and no dampening.
    maximize : bool, default False
        Climb instead of descend.
    decay_intercept : bool, default True
        Whether weight decay applies to the intercept, as in torch. False excludes it, as ridge
        regression does (not in `step`, which cannot tell the intercept from the weights).

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If lr is not a number, "auto" or a callable.

    Examples
    --------
    >>> import numpy as np, gdcore as gd
    >>> sgd = gd.SGD(lr=0.1)
    >>> w = np.array([1.0, 2.0])
    >>> state = sgd.init(w)
    >>> sgd.step(w, np.array([1.0, -1.0]), state)
    >>> w
    array([0.9, 2.1])
    """

    lr: LearningRate = "auto"
    momentum: float | Literal["auto"] = 0.0
    dampening: float = 0.0
    weight_decay: float | Floats = 0.0
    nesterov: bool = False
    maximize: bool = False
    decay_intercept: bool = True

    def __repr__(self) -> str:
        """Name the options that are not the defaults."""
        changed = (f for f in fields(self) if not self._is_default(f))
        return f"SGD({', '.join(f'{f.name}={self._in_words(f.name)}' for f in changed)})"

    def _repr_html_(self) -> str:
        rows = (html_row([f.name], [self._in_words(f.name)]) for f in fields(self))
        return html_block("SGD", list(rows))

    def _is_default(self, option: Field[Any]) -> bool:
        value = getattr(self, option.name)
        return isinstance(value, int | float | str) and bool(value == option.default)

    def _in_words(self, name: str) -> str:
        """Return the value of an option; an array or a schedule is only named."""
        value = getattr(self, name)
        if isinstance(value, np.ndarray):
            return f"<array of {value.size}>"
        return "<schedule>" if callable(value) else repr(value)

    def __post_init__(self) -> None:
        for name, given in vars(self).items():
            if (value := as_scalar(given)) is not given:
                object.__setattr__(self, name, value)
        if isinstance(self.lr, str):
            if self.lr != "auto":
                raise ValueError(
                    f"lr is {self.lr!r}; pass a positive number, 'auto' or a schedule."
                )
        elif not callable(self.lr):
            self._check("lr", "a positive number, one for each problem, 'auto' or a callable", True)
        self._check("weight_decay", "a finite number, 0 or larger, or one for each problem", False)
        if self.momentum == "auto":
            self._check_auto_momentum()
        elif not (is_finite(self.momentum) and self.momentum >= 0):
            raise ValueError(
                f"momentum is {self.momentum!r}; it must be 'auto' or a finite number, 0 or larger."
            )
        if not is_finite(self.dampening):
            raise ValueError(f"dampening is {self.dampening!r}; it must be a finite number.")
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening.")

    def _check_auto_momentum(self) -> None:
        if self.lr != "auto" or self.dampening != 0 or self.nesterov or self.maximize:
            raise ValueError(
                "momentum='auto' chooses lr too; leave out lr, dampening, nesterov and maximize."
            )

    def _check(self, name: str, wanted: str, positive: bool) -> None:
        """Check a number or an array of numbers; arrays are kept as float64, read-only."""
        given = getattr(self, name)
        if isinstance(given, bool) or not isinstance(given, int | float | np.number):
            try:
                numbers = as_numpy(given)
                given = np.empty(0) if numbers.dtype.kind == "c" else np.array(numbers, np.float64)
            except (TypeError, ValueError, RuntimeError):  # also a tensor without data
                given = np.empty(0)
            if given.ndim == 0 or given.size == 0:
                raise TypeError(f"{name} is {getattr(self, name)!r}; pass {wanted}.")
            given.flags.writeable = False
            object.__setattr__(self, name, given)
        values = np.asarray(given, np.float64)
        bad = ~(np.isfinite(values) & ((values > 0) | ((values == 0) & (not positive))))
        if bad.any():
            raise ValueError(f"{name} is {values[bad].flat[0]:g}; it must be {wanted}.")

    def _key(self) -> tuple[Any, ...]:
        values = (getattr(self, name) for name in self.__dataclass_fields__)
        return tuple((v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for v in values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SGD) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def check_for_many(self, count: int) -> None:
        """Raise ValueError if an array of options has not one entry for each of many problems."""
        for name in ("lr", "weight_decay"):
            value = getattr(self, name)
            if isinstance(value, np.ndarray) and value.shape != (count,):
                raise ValueError(
                    f"{name} has shape {value.shape}; with {count} problems it must be ({count},)."
                )

    def check_for_one(self) -> None:
        """Raise ValueError if one of the options is an array, which only many problems take."""
        for name in ("lr", "weight_decay"):
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                raise ValueError(
                    f"{name} is an array of shape {value.shape}, one for each of many problems, "
                    "but this is one problem: pass a number."
                )

    def init(self, params: Any | Sequence[Any]) -> SGDState:
        """Return the state before the first step.

        Parameters
        ----------
        params : array or sequence of arrays
            The parameters that `step` will update.

        Returns
        -------
        SGDState
        """
        return SGDState([None] * len(_as_params(params)))

    def step(
        self, params: Any | Sequence[Any], grads: Any | Sequence[Any], state: SGDState
    ) -> None:
        """Update `params` and `state` in place by one step.

        Parameters
        ----------
        params : array or sequence of arrays
            float32 or float64, writable, any shape and strides: NumPy arrays, or those of a library
            with DLPack, on the CPU or a CUDA device.
        grads : array_like or sequence of array_like
            One gradient of the parameter's shape for each; on a device, of its dtype and there.
        state : SGDState
            From `init`. A schedule's epoch is ``state.step``.

        Raises
        ------
        ValueError
            If lr is "auto", shapes differ, a parameter is read-only, two parameters share memory,
            or the state is another's.
        TypeError
            If a parameter is not a float32 or float64 array.
        """
        self.check_for_one()
        if isinstance(self.lr, str):
            raise ValueError("lr='auto' needs the data: use gdcore.fit, or SGD(lr=a number).")
        if not self.decay_intercept:
            raise ValueError(
                "step cannot tell the intercept from the weights: use gdcore.fit, or step the "
                "intercept by itself with weight_decay=0."
            )
        arrays = _as_params(params)
        gradients = [grads] if _is_array(params) else list(grads)
        if len(gradients) != len(arrays) or len(state.velocity) != len(arrays):
            raise ValueError(
                f"{len(arrays)} parameters came with {len(gradients)} gradients and a state for "
                f"{len(state.velocity)}; pass one gradient each, and the state from init(params)."
            )
        checked = [
            _check(i, p, g, v)
            for i, (p, g, v) in enumerate(zip(arrays, gradients, state.velocity, strict=True))
        ]
        _check_apart([param for param, _, _ in checked])
        lr = rate_at(self.lr, state.step)
        options = _core.SgdOptions(**self.options)
        for i, (param, grad, velocity) in enumerate(checked):
            first = velocity is None
            if self.momentum != 0 and first:
                state.velocity[i] = _core.empty_like(arrays[i])
                velocity = _core.updatable("velocity", state.velocity[i])
            _core.sgd_step(param, grad, velocity, first, lr, options)
            if param is not arrays[i]:
                _core.tell_of_write(arrays[i])
        state.step += 1

    @property
    def given_momentum(self) -> float:
        """The momentum, a number; ValueError if it is "auto"."""
        if isinstance(self.momentum, str):
            raise ValueError(
                "momentum='auto' needs the data: use gdcore.fit, or SGD(momentum=a number)."
            )
        return self.momentum

    @property
    def options(self) -> dict[str, Any]:
        """All options but lr, as keyword arguments of the C++ core."""
        return {
            "momentum": self.momentum,
            "dampening": self.dampening,
            "weight_decay": self.weight_decay,
            "nesterov": self.nesterov,
            "maximize": self.maximize,
        }

    def stability_limit(self, curvature: Any) -> Any:
        """Return the lr above which descent on a quadratic diverges.

        Both roots of the iteration's characteristic polynomial lie in the unit circle up to it:
        ``2 (1 + m) / ((1 - dampening) c)``, and for Nesterov ``2 (1 + m) / ((1 + 2 m) c)``, where
        c is the largest eigenvalue of the Hessian plus weight_decay (Polyak 1964; O'Donoghue and
        Candes 2015).

        Parameters
        ----------
        curvature : float or ndarray
            Largest eigenvalue of the loss's Hessian, without weight decay.

        Returns
        -------
        float or ndarray
            0 if maximize, or if momentum is 1 or more; infinite for a constant loss.

        Raises
        ------
        ValueError
            If momentum is "auto".
        """
        m = self.given_momentum
        stretch = 1.0 if m == 0 else 1 + 2 * m if self.nesterov else 1 - self.dampening
        slope = (curvature + self.weight_decay) * stretch
        if isinstance(slope, float):
            if self.maximize or m >= 1:
                return 0.0
            return 2 * (1 + m) / slope if slope > 0 else math.inf if slope == 0 else 0.0
        slope = np.asarray(slope, np.float64)
        if self.maximize or m >= 1:
            limit = np.zeros_like(slope)
        else:
            flat = np.where(slope == 0, math.inf, 0.0)
            limit = np.divide(2 * (1 + m), slope, out=flat, where=slope > 0)
        return limit if limit.ndim else float(limit)


def rate_at(lr: LearningRate, epoch: int) -> float:
    """Return the learning rate of an epoch; ValueError if a schedule gives no usable number."""
    if not callable(lr):
        return float(lr)
    given = lr(epoch)
    try:
        value = float(given)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"the lr schedule gave {given!r} for epoch {epoch}; it must be a number."
        ) from None
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"the lr schedule gave {value} for epoch {epoch}; it must be finite and not negative."
        )
    return value


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or _is_foreign(value)


def _is_foreign(value: Any) -> bool:
    """Whether a value is an array of another library."""
    return not isinstance(value, np.ndarray) and (
        hasattr(value, "__dlpack__") or hasattr(value, "__cuda_array_interface__")
    )


def _as_params(params: Any | Sequence[Any]) -> list[Any]:
    return [params] if _is_array(params) else list(params)


def _check(index: int, param: Any, grad: Any, velocity: Any) -> tuple[Any, Any, Any]:
    """Return the three as the core takes them; ValueError or TypeError if they do not fit."""
    if grad is None:
        raise TypeError(
            f"gradient {index} is None: its parameter took no part in the loss; leave both out."
        )
    if not _is_foreign(param):
        _check_numpy(index, param)
    target = _core.updatable(f"parameter {index}", param)
    if _is_foreign(grad):
        (gradient,) = _core.prepare((f"gradient {index}", grad))
    else:
        gradient = np.asarray(grad)
    if gradient.dtype.kind not in "fiub":
        raise TypeError(f"gradient {index} has dtype {gradient.dtype}; pass real numbers.")
    if gradient.shape != target.shape:
        raise ValueError(
            f"gradient {index} has shape {gradient.shape}, its parameter {target.shape}; "
            "they must be equal."
        )
    _check_place(f"gradient {index}", gradient, target)
    if velocity is None:
        return target, gradient, None
    buffer = _core.updatable("velocity", velocity)
    if _kind(buffer) != _kind(target):
        raise ValueError(f"the state of parameter {index} is another's; call init(params) again.")
    return target, gradient, buffer


def _check_numpy(index: int, param: Any) -> None:
    """Raise TypeError or ValueError unless a parameter is a NumPy array of floats, writable."""
    if not isinstance(param, np.ndarray) or param.dtype not in (np.float32, np.float64):
        kind = param.dtype if isinstance(param, np.ndarray) else type(param).__name__
        raise TypeError(
            f"parameter {index} is {kind}; step updates float32 and float64 arrays in place."
        )
    if not param.flags.writeable:
        raise ValueError(f"parameter {index} is read-only; pass a writable array.")


def _ordinal(array: Any) -> int | None:
    """Return the CUDA device of what the core takes, or None for the host."""
    return array.ordinal if isinstance(array, _core.DeviceArray) else None


def _kind(array: Any) -> tuple[Any, ...]:
    return array.shape, array.dtype, _ordinal(array)


def _check_place(name: str, gradient: Any, param: Any) -> None:
    """Raise TypeError unless a gradient is where its parameter is, and on a device of its dtype."""
    here, there = _ordinal(gradient), _ordinal(param)
    if here != there:
        places = ("in the host's memory" if i is None else f"on device {i}" for i in (here, there))
        raise TypeError("{} is {} and its parameter {}; copy one of them.".format(name, *places))
    if here is not None and gradient.dtype != param.dtype:
        raise TypeError(
            f"{name} is {gradient.dtype} and its parameter {param.dtype}, on a device; "
            "convert it with its own library."
        )


def _check_apart(params: list[Any]) -> None:
    """Raise ValueError if two parameters share memory: one step would change it twice."""
    for i, j in _core.overlapping(params):
        raise ValueError(
            f"parameters {i} and {j} share memory, so that one step would change it twice; "
            "pass it once, with the sum of its gradients."
        )
