"""`gradcheck` under the calling conventions of torch and SciPy, so that a test changes one import.

::

    from gdcore.oracle.compat import gradcheck    # was: from torch.autograd import gradcheck
    from gdcore.oracle.compat import check_grad   # was: from scipy.optimize import check_grad

Steps are chosen and errors known as in `gdcore.oracle.gradcheck`; ``eps`` and ``epsilon`` are taken
and have no effect. Neither torch nor SciPy is imported here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gdcore.oracle.gradcheck import gradcheck as _gradcheck

__all__ = ["check_grad", "gradcheck"]

_UNSUPPORTED = ("check_batched_grad", "check_batched_forward_grad", "check_forward_ad", "masked")


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
        No effect: the step is chosen.
    direction : {"all", "random"}
        "random" checks one random direction.
    rng, seed : int or numpy.random.Generator, optional
        For the direction; the same one in every call by default.

    Returns
    -------
    float
        The Euclidean norm of ``|grad - estimate| + error of the estimate``: a small number vouches
        for the gradient, and is infinite where no derivative was found.

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
    found = _gradcheck(
        lambda x: func(x, *args),
        lambda x: grad(x, *args),
        np.asarray(x0, np.float64),
        directions=1 if direction == "random" else "all",
        seed=_seed(rng if rng is not None else seed),
    )
    with np.errstate(invalid="ignore"):
        off = np.abs(found.actual - found.expected) + found.error
    return float(np.linalg.norm(np.nan_to_num(np.ravel(off), nan=math.inf)))


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

    Also in float32: the function is then evaluated in float64, if it takes that.

    Parameters
    ----------
    func : callable
        Of tensors, returning a tensor or several.
    inputs : tensor or tuple
        Those that require a gradient are checked; others are passed on as they are.
    eps : float, optional
        No effect: the step is chosen.
    atol, rtol : float, optional
        As in `gdcore.oracle.gradcheck`, whose default is half the digits of the dtype.
    raise_exception : bool
        Return False instead, if False.
    nondet_tol, check_undefined_grad, check_grad_dtypes, check_backward_ad
        No effect: the gradient must be the same twice, and have the input's dtype.
    check_batched_grad, check_batched_forward_grad, check_forward_ad, masked
        Not supported.
    fast_mode : bool
        Check some random directions.

    Returns
    -------
    bool

    Raises
    ------
    torch.autograd.gradcheck.GradcheckError
        If the gradient is WRONG, or the estimate too coarse to tell.
    ValueError
        If no input requires a gradient.
    NotImplementedError
        If an option that is not supported is on, or an input is complex. (A complex output is a
        RuntimeError that says so.)
    """
    values = (check_batched_grad, check_batched_forward_grad, check_forward_ad, masked)
    for name, value in zip(_UNSUPPORTED, values, strict=True):
        if value:
            raise NotImplementedError(f"{name} is not supported; leave that to torch.")
    torch = sys.modules.get("torch")
    if torch is None:
        raise TypeError("inputs are no tensors: torch was never imported; see oracle.gradcheck.")
    given = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    at = [k for k, x in enumerate(given) if isinstance(x, torch.Tensor) and x.requires_grad]
    for k in at:
        if given[k].is_complex():
            raise NotImplementedError(
                f"inputs[{k}] is {given[k].dtype}, and only real tensors are checked; pass its "
                "real and imaginary parts, and let func call torch.complex, or leave that to torch."
            )
    if not at:
        raise ValueError("no input requires a gradient; set requires_grad=True on what to check.")
    call = _Backward(torch, func, given, at)
    found = _gradcheck(
        call.value, call.jacobian, tuple(given[k] for k in at),
        rtol=rtol, atol=atol, directions=8 if fast_mode else "all", method="differences",
    )  # fmt: skip
    if not found and raise_exception:
        module = sys.modules["torch.autograd.gradcheck"]  # its name in torch is the function's
        raise module.GradcheckError(found.message)
    return bool(found)


class _Backward:
    """A function of tensors, and its Jacobian by torch's backward."""

    def __init__(
        self, torch: Any, func: Callable[..., Any], given: tuple[Any, ...], at: list[int]
    ) -> None:
        self.torch, self.func, self.given, self.at = torch, func, given, at

    def _outputs(self, tensors: tuple[Any, ...]) -> Any:
        """Return all differentiable outputs as one vector; those that are not are left out."""
        arguments = list(self.given)
        for k, tensor in zip(self.at, tensors, strict=True):
            arguments[k] = tensor
        outputs = self.func(*arguments)
        several = outputs if isinstance(outputs, tuple | list) else (outputs,)
        found = [o for o in several if isinstance(o, self.torch.Tensor)]
        for o in found:
            if o.is_complex():
                raise NotImplementedError(
                    f"func returned {o.dtype}, and only real tensors are checked; return "
                    "torch.view_as_real of it, or leave that to torch."
                )
        floats = [o for o in found if o.is_floating_point()]
        if not floats:
            raise TypeError("func returned no tensor of floats.")
        return self.torch.cat([o.reshape(-1) for o in floats])

    def value(self, *tensors: Any) -> Any:
        """Return the outputs, as one vector."""
        with self.torch.no_grad():
            return self._outputs(tensors)

    def jacobian(self, *tensors: Any) -> tuple[Any, ...]:
        """Return the derivatives of each output by each input, row by row."""
        leaves = tuple(t.detach().requires_grad_() for t in tensors)
        outputs = self._outputs(leaves)
        rows = [
            self.torch.autograd.grad(o, leaves, retain_graph=True, allow_unused=True)
            for o in (outputs if outputs.requires_grad else ())
        ]
        return tuple(
            self.torch.stack([self._defined(row[k], leaf) for row in rows])
            if rows
            else leaf.new_zeros((len(outputs), *leaf.shape))
            for k, leaf in enumerate(leaves)
        )

    def _defined(self, gradient: Any, leaf: Any) -> Any:
        return self.torch.zeros_like(leaf) if gradient is None else gradient


def _seed(given: Any) -> int:
    """Return a seed from what SciPy takes as one."""
    if isinstance(given, np.random.Generator):
        return int(given.integers(2**32))
    return 0 if given is None else int(given)
