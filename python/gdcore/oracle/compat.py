"""`gradcheck` under the calling conventions of torch and SciPy, so that a test changes one import.

::

    from gdcore.oracle.compat import gradcheck    # was: from torch.autograd import gradcheck
    from gdcore.oracle.compat import check_grad   # was: from scipy.optimize import check_grad

Steps are chosen and errors known as in `gdcore.oracle.gradcheck`. Neither torch nor SciPy is
imported here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gdcore.oracle.derivatives.functions import BadValue, Random
from gdcore.oracle.derivatives.gradcheck import GradCheck
from gdcore.oracle.derivatives.gradcheck import gradcheck as _gradcheck

__all__ = ["check_grad", "gradcheck"]

_UNSUPPORTED = ("check_batched_forward_grad", "check_forward_ad", "masked")
_RTOL = 1e-7  # of float64: some of torch's own kernels hold constants in float32


def check_grad(
    func: Callable[..., Any],
    grad: Callable[..., Any],
    x0: npt.ArrayLike,
    *args: Any,
    epsilon: float | None = None,
    direction: Literal["all", "random"] = "all",
    rng: Any = None,
    seed: Any = None,
) -> float:
    """Return how wrong a gradient is, as `scipy.optimize.check_grad` does.

    Parameters
    ----------
    func, grad : callable
        ``func(x0, *args)`` is a number or a vector, ``grad(x0, *args)`` its gradient or Jacobian.
    x0 : array_like
    *args
        Further arguments of both.
    epsilon : float, optional
        Take forward differences with this step, as SciPy does. By default the step is chosen.
    direction : {"all", "random"}
        "random" checks one random direction, of a func that returns one number.
    rng, seed : int, numpy.random.Generator or numpy.random.RandomState, optional
        For the direction; the same one in every call by default.

    Returns
    -------
    float
        The Euclidean norm of ``|grad - estimate| + error of the estimate``: a small number vouches
        for the gradient, and is infinite where no derivative was found. With `epsilon`, the norm of
        ``grad - estimate``.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `gdcore.oracle.gradcheck`.

    Examples
    --------
    >>> import numpy as np
    >>> from gdcore.oracle.compat import check_grad
    >>> check_grad(lambda x: np.sum(x**3), lambda x: 3 * x**2, np.array([1.0, 2.0])) < 1e-6
    True
    """
    if direction not in ("all", "random"):
        raise ValueError(f"direction is {direction!r}; choose 'all' or 'random'.")
    x = np.atleast_1d(np.asarray(x0, np.float64))
    shape = np.shape(func(x.copy(), *args))
    if direction == "random" and math.prod(shape) != 1:
        raise ValueError(f"func returned shape {shape}; direction='random' needs one number.")

    def jacobian(x: Any) -> Any:
        """Return what grad returns in f's shape followed by x's; SciPy takes any for one."""
        value = np.asarray(grad(x, *args), np.float64)
        wanted = (*shape, *x.shape)
        return value.reshape(wanted) if value.size == math.prod(wanted) else value

    seeds = _generator(rng if rng is not None else seed)
    if epsilon is not None:
        return _forward(lambda x: func(x, *args), jacobian(x.copy()), x, epsilon, direction, seeds)
    found = _gradcheck(
        lambda x: func(x, *args),
        jacobian,
        x,
        directions=1 if direction == "random" else "all",
        seed=int(seeds.integers(2**32)),
    )
    with np.errstate(invalid="ignore"):
        off = np.abs(found.actual - found.expected) + found.error
    return float(np.linalg.norm(np.nan_to_num(np.ravel(off), nan=math.inf)))


def _forward(
    func: Callable[..., Any],
    jacobian: Any,
    x: Any,
    step: float,
    direction: str,
    rng: np.random.Generator,
) -> float:
    """Return how far a Jacobian is from forward differences, by a step of the user's choice."""
    lines = np.eye(x.size) if direction == "all" else rng.standard_normal((1, x.size))
    start = np.ravel(func(x.copy()))
    moved = [np.ravel(func(x + step * line.reshape(x.shape))) for line in lines]
    estimate = (np.reshape(moved, (len(lines), -1)) - start) / step
    actual = lines @ jacobian.reshape(-1, x.size).T
    return float(np.linalg.norm(actual - estimate))


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float | None = None,
    atol: float = 0.0,
    rtol: float | None = None,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Check what torch's backward makes of a function, as `torch.autograd.gradcheck` does.

    Also in float32, without torch's warning: the function is then evaluated in float64, if it takes
    that. Complex numbers are checked by their real and imaginary parts. Outputs that are detached
    or not of floats are left out; if none is left, the function must be constant.

    What differs from torch: the default tolerances are tighter; a kink, such as relu at 0, raises,
    even if the gradient is the mean of both sides; an input that holds NaN or infinity is refused;
    sparse inputs are not supported.

    Parameters
    ----------
    func : callable
        Of tensors, returning a tensor or several.
    inputs : tensor or tuple
        Those that require a gradient are checked; others are passed on as they are.
    eps : float, optional
        No effect: the step is chosen.
    atol, rtol : float, optional
        As in `gdcore.oracle.gradcheck`. The default of rtol is 1e-7, and half the digits of the
        dtype if an input has fewer than float64.
    raise_exception : bool
        If False, return False where GradcheckError would be raised.
    nondet_tol : float
        How far two backward passes may be apart, and each from the derivative.
    check_undefined_grad : bool
        Check that an output without a gradient counts as one with a gradient of zeros.
    check_grad_dtypes
        No effect: the gradient must have the input's dtype.
    check_batched_grad : bool
        Check that torch.vmap of backward gives the same.
    check_batched_forward_grad, check_forward_ad, masked
        Not supported.
    check_backward_ad : bool
        Must be True, as there is nothing else to check.
    fast_mode : bool
        Check some random directions.

    Returns
    -------
    bool

    Raises
    ------
    torch.autograd.gradcheck.GradcheckError
        If the gradient is WRONG, or the estimate too coarse to tell; if func or backward is random,
        func returns NaN, or backward is not linear in grad_output.
    ValueError
        If no input requires a gradient, or an output is sparse.
    RuntimeError
        If func raises an error, or an input shares memory between its elements.
    AssertionError
        If func returns another shape or dtype beside the inputs.
    NotImplementedError
        If an option that is not supported is on, or an input is sparse.
    """
    for name, value in zip(
        _UNSUPPORTED, (check_batched_forward_grad, check_forward_ad, masked), strict=True
    ):
        if value:
            raise NotImplementedError(f"{name} is not supported; leave that to torch.")
    if not check_backward_ad:
        raise AssertionError(
            "check_backward_ad is False; it must be True, nothing else is checked."
        )
    torch = sys.modules.get("torch")
    if torch is None:
        raise TypeError("inputs are not tensors: torch was never imported; see oracle.gradcheck.")
    given = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    call = _Backward(torch, func, given, _differentiable(torch, given))
    try:
        _check(call, rtol, max(atol, nondet_tol), nondet_tol, fast_mode)
        if check_undefined_grad:
            call.check_undefined()
        if check_batched_grad:
            call.check_batched()
    except (BadValue, Random, call.error) as error:
        if raise_exception:
            raise call.error(str(error)) from None
        return False
    return True


def _check(
    call: _Backward, rtol: float | None, atol: float, nondet_tol: float, fast_mode: bool
) -> None:
    """Raise if the Jacobian is wrong or undecided, or if backward is not a product with it."""
    torch = call.torch
    outputs = call.outputs(call.points)
    if not sum(o.numel() for o in outputs) or not sum(x.numel() for x in call.points):
        return
    if rtol is None and all(x.dtype == torch.float64 for x in call.points):
        rtol = _RTOL
    found = _gradcheck(
        call.value, call.jacobian, call.points,
        rtol=rtol, atol=atol, directions=8 if fast_mode else "all", method="differences",
    )  # fmt: skip
    call.check_layouts()
    if not found:
        raise call.error(call.where(found) + found.message)
    call.check_linear(nondet_tol, rtol, atol)


def _differentiable(torch: Any, given: tuple[Any, ...]) -> list[int]:
    """Return which inputs are checked; raise gradcheck's errors for inputs that cannot be."""
    at = [k for k, x in enumerate(given) if isinstance(x, torch.Tensor) and x.requires_grad]
    if not at:
        raise ValueError(
            "gradcheck needs at least one input tensor to require gradient; set requires_grad=True "
            "on what to check."
        )
    for k in at:
        if given[k].layout != torch.strided:
            raise NotImplementedError(
                f"inputs[{k}] has layout {given[k].layout}, and only dense tensors are checked; "
                "pass its values, and let func build the sparse tensor, or leave that to torch."
            )
        if any(s == 0 and n > 1 for s, n in zip(given[k].stride(), given[k].shape, strict=True)):
            raise RuntimeError(
                f"The {k}th input has a dimension with stride 0, so that its elements share memory "
                f"and have no gradients of their own; pass inputs[{k}].contiguous()."
            )
    return at


class _Backward:
    """A function of tensors, and its Jacobian by torch's backward.

    Complex tensors are seen as real ones, with a last axis of two.

    Attributes
    ----------
    chosen : list of int or None
        Which of the tensors that the function returns are checked, once it was called.
    differentiable : bool
        Whether any of them requires a gradient; else the function must be constant.
    """

    def __init__(
        self, torch: Any, func: Callable[..., Any], given: tuple[Any, ...], at: list[int]
    ) -> None:
        self.torch, self.func, self.given, self.at = torch, func, given, at
        self.error = sys.modules["torch.autograd.gradcheck"].GradcheckError  # an import finds
        self.points = tuple(
            self._real(given[k].detach()).requires_grad_() for k in at
        )  # a function
        self.chosen: list[int] | None = None
        self.differentiable = False
        self.layouts: dict[Any, Any] = {}  # of outputs, by the dtypes of inputs
        self.layout_changes = False
        self.jacobians: dict[Any, tuple[Any, ...]] = {}

    def outputs(self, leaves: tuple[Any, ...]) -> list[Any]:
        """Return what the function returns, as real tensors, without what is not checked."""
        arguments = list(self.given)
        for k, leaf in zip(self.at, leaves, strict=True):
            complex_ = self.given[k].is_complex()
            arguments[k] = self.torch.view_as_complex(leaf) if complex_ else leaf
        returned = self.func(*arguments)
        several = returned if isinstance(returned, tuple | list) else (returned,)
        tensors = [o for o in several if isinstance(o, self.torch.Tensor)]
        if self.chosen is None:
            self.chosen = self._choose(tensors)
        layout = [(o.shape, o.dtype) for o in tensors]
        known = self.layouts.setdefault(tuple(leaf.dtype for leaf in leaves), layout)
        self.layout_changes |= layout != known
        return [self._real(tensors[k]) for k in self.chosen]

    def _choose(self, tensors: list[Any]) -> list[int]:
        floats = [k for k, o in enumerate(tensors) if o.is_floating_point() or o.is_complex()]
        if any(tensors[k].layout != self.torch.strided for k in floats):
            raise ValueError(
                "Sparse output is not supported at gradcheck yet; let func return its to_dense()."
            )
        attached = [k for k in floats if tensors[k].requires_grad]
        self.differentiable = bool(attached)
        return attached or floats

    def value(self, *leaves: Any) -> Any:
        """Return the outputs, as one vector."""
        return self.torch.cat([o.reshape(-1) for o in self.outputs(leaves)])

    def jacobian(self, *tensors: Any) -> tuple[Any, ...]:
        """Return the derivatives of each output by each input, the same in every call."""
        key = tuple(t.detach().cpu().numpy().tobytes() for t in tensors)
        if key not in self.jacobians:
            leaves = tuple(t.detach().requires_grad_() for t in tensors)
            self.jacobians[key] = self._rows(leaves, self.value(*leaves))
        return self.jacobians[key]

    def _rows(self, leaves: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
        """Run backward once for each element of the value."""
        if not value.requires_grad or not value.numel():
            return tuple(leaf.new_zeros((value.numel(), *leaf.shape)) for leaf in leaves)
        rows = [self._backward([o], leaves) for o in value]
        return tuple(self.torch.stack(columns) for columns in zip(*rows, strict=True))

    def _backward(self, outputs: list[Any], leaves: Any, *options: Any, **more: Any) -> list[Any]:
        """Return the gradients of outputs by leaves, zeros where there are none."""
        found = self.torch.autograd.grad(
            outputs, leaves, *options, retain_graph=True, allow_unused=True, **more
        )
        zeros = self.torch.zeros_like
        return [zeros(x) if g is None else g for g, x in zip(found, leaves, strict=True)]

    def check_layouts(self) -> None:
        """Raise AssertionError, as torch does, if the outputs' shapes or dtypes vary."""
        if self.layout_changes:
            raise AssertionError(
                "Expected `func` to return outputs with the same shape and outputs with the same "
                "dtype when inputs are perturbed; check at another point, or let func not depend "
                "on values so."
            )

    def check_linear(self, nondet_tol: float, rtol: float | None, atol: float) -> None:
        """Raise if backward is random, or is not the product of grad_output and the Jacobian."""
        value = self.value(*self.points)
        if not value.requires_grad:
            return
        expected = self.jacobian(*self.points)
        again = self._rows(self.points, value)
        for one, other in zip(expected, again, strict=True):
            gap = float((one - other).abs().max()) if one.numel() else 0.0
            if gap > nondet_tol:
                raise self.error(
                    f"Backward is not reentrant: two passes are up to {gap:.1g} apart, and "
                    f"nondet_tol is {nondet_tol:g}; pass a larger one if that is meant."
                )
        rng = np.random.default_rng(0)
        for scale in (0.0, 1.0, 16.0):
            weights = (
                scale * rng.uniform(0.5, 2, value.numel()) * rng.choice([-1, 1], value.numel())
            )
            v = self.torch.as_tensor(weights).to(value)
            found = self._backward([value], self.points, v)
            self._compare(found, v, expected, value.detach(), rtol, atol + nondet_tol)

    def _compare(
        self, found: list[Any], v: Any, jacobian: Any, value: Any, rtol: float | None, atol: float
    ) -> None:
        """Hold what backward makes of grad_output v against the product with the Jacobian.

        Where the function is constant, both are rounding errors of terms as large as f over x.
        """
        join = self.torch.cat
        got = join([g.reshape(-1) for g in found])
        rows = join([part.reshape(len(v), -1) for part in jacobian if part.numel()], dim=1)
        sizes = join([x.detach().reshape(-1).abs() for x in self.points])
        epsilon = max(self.torch.finfo(x.dtype).eps for x in self.points)
        v = v.to(rows)
        off = (got - v @ rows).abs()
        terms = v.abs() @ value.abs().clamp(min=1).to(rows)
        terms = terms / sizes[sizes > 0].min() if sizes.any() else terms
        allowed = max(rtol or 0.0, math.sqrt(epsilon)) * (v.abs() @ rows.abs()).max()
        if not bool((off <= allowed + 64 * epsilon * terms + atol * v.abs().sum()).all()):
            raise self.error(
                "backward not multiplied by grad_output: its result for a grad_output of "
                f"{'other numbers than 1' if v.any() else 'zeros'} is up to {off.max():.3g} "
                "off from grad_output times the Jacobian; let backward multiply by grad_output."
            )

    def check_undefined(self) -> None:
        """Raise if an output without a gradient does not count as one with zeros."""
        count = len(self.outputs(self.points)) if self.differentiable else 0
        chosen = [set(range(count))] + [{k} for k in range(count) if count > 1]
        for missing in chosen[: len(chosen) if count else 0]:
            outputs = self.outputs(self.points)
            ends = [_undefined(self.torch, o) if k in missing else o for k, o in enumerate(outputs)]
            zeros = [self.torch.zeros_like(o) for o in ends]
            try:
                found = self._backward(ends, self.points, zeros)
            except RuntimeError as error:
                raise self.error(
                    "Expected backward function to handle undefined output grads, and it raised "
                    f"{error}; let it take None, or pass check_undefined_grad=False."
                ) from error
            if any(g.any() for g in found):
                raise self.error(
                    "Expected all input grads to be undefined or zero when all output grads are "
                    "undefined or zero; let backward return zeros, or pass "
                    "check_undefined_grad=False."
                )

    def check_batched(self) -> None:
        """Raise if backward of many grad_outputs at once differs from one at a time."""
        value = self.value(*self.points)
        if not value.requires_grad or not value.numel():
            return
        ones = self.torch.eye(value.numel()).to(value)
        expected = self.jacobian(*self.points)
        what = "gradcheck or gradgradcheck failed while testing batched gradient computation: "
        try:
            found = self.torch.autograd.grad(
                value, self.points, ones, allow_unused=True, is_grads_batched=True
            )
        except RuntimeError as error:
            raise self.error(f"{what}torch.vmap of backward raised {error}") from error
        for got, wanted in zip(found, expected, strict=True):
            if not self.torch.allclose(
                self.torch.zeros_like(wanted) if got is None else got, wanted
            ):
                raise self.error(
                    f"{what}torch.vmap of backward differs from backward of one grad_output at a "
                    "time."
                )

    def where(self, found: GradCheck) -> str:
        """Name, as torch does, output and input of the first derivative that is not right."""
        if not self.differentiable:
            return "Numerical gradient for function expected to be zero. "
        sizes = [o.numel() for o in self.outputs(self.points)]
        parts = found.verdicts if isinstance(found.verdicts, tuple) else (found.verdicts,)
        for k, verdicts in enumerate(parts):
            rows = np.argwhere(verdicts == found.verdict)
            if len(rows):
                output = int(np.searchsorted(np.cumsum(sizes), rows[0, 0], side="right"))
                return f"Jacobian mismatch for output {output} with respect to input {k}. "
        return ""

    def _real(self, tensor: Any) -> Any:
        return self.torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _undefined(torch: Any, output: Any) -> Any:
    """Return the output, whose gradient backward then sees as None."""

    class Undefined(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            return x.view_as(x)

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            return None

    return Undefined.apply(output)


def _generator(given: Any) -> np.random.Generator:
    """Return a random generator from what SciPy takes as one."""
    if isinstance(given, np.random.RandomState):
        return np.random.default_rng(given.randint(2**31))
    return np.random.default_rng(0 if given is None else given)
