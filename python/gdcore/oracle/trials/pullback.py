"""A function with its gradients, as one function of inputs and of gradients of its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gdcore.oracle.trials.arrays import library_of, parts


class Pullback:
    """The values of a function of torch tensors, followed by its vector-Jacobian products.

    Parameters
    ----------
    function : callable
        Its inputs are tensors; torch's autograd must be able to go back through it.
    inputs : int
        How many arguments it has. With more, the others are the gradients of the floating-point
        results, and the gradients of the floating-point inputs follow the values.

    Examples
    --------
    >>> import torch
    >>> square = Pullback(lambda x: x * x, 1)
    >>> square(torch.tensor([3.0]), torch.tensor([1.0]))
    [tensor([9.]), tensor([6.])]
    """

    def __init__(self, function: Callable[..., Any], inputs: int) -> None:
        self.function = function
        self.inputs = inputs

    def __call__(self, *arguments: Any) -> list[Any]:
        """Return the values, and the gradients if there are gradients of the results."""
        import torch

        given, upstream = arguments[: self.inputs], arguments[self.inputs :]
        leaves = [x.detach().requires_grad_(x.is_floating_point()) for x in given]
        values = list(parts(self.function(*leaves)))
        if not upstream:
            return values
        floats = [
            y
            for y in values
            if library_of(y) == "torch" and y.is_floating_point() and y.requires_grad
        ]
        if len(floats) != len(upstream):
            raise TypeError(
                f"{len(floats)} results have a gradient, not {len(upstream)}; the function must "
                "return tensors that torch's autograd can go back from."
            )
        wanted = [x for x in leaves if x.requires_grad]
        gradients = torch.autograd.grad(
            floats, wanted, list(upstream), allow_unused=True, materialize_grads=True
        )
        return [*(y.detach() if library_of(y) == "torch" else y for y in values), *gradients]
