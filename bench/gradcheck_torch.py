"""Verdicts of oracle.compat.gradcheck on the operator samples of torch's own tests.

    pip install expecttest
    python bench/gradcheck_torch.py [operator ...]

Takes up to SAMPLES samples of each operator that torch.autograd.gradcheck accepts, and prints the
counts and every sample that is not RIGHT. Torch's tolerances are 1e-3 and 1e-5, so a gradient may
be off by less: each WRONG deserves a look.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

from gdcore.oracle.compat import gradcheck

SAMPLES = 6
LARGEST = 3000  # elements of a Jacobian
WIDEST = 200  # elements of the inputs

Call = tuple[Callable[..., Any], tuple[Any, ...]]

warnings.simplefilter("ignore")
torch.set_num_threads(1)


def leaves(value: Any) -> list[Any]:
    """Return the tensors in nested tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [x for each in value for x in leaves(each)] if isinstance(value, list | tuple) else []


def replaced(value: Any, tensors: Iterator[Any]) -> Any:
    """Return the same structure with the next of `tensors` for each that requires a gradient."""
    if isinstance(value, torch.Tensor):
        return next(tensors) if value.requires_grad else value
    if isinstance(value, dict):
        return {name: replaced(each, tensors) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(replaced(each, tensors) for each in value)
    return value


def call_of(op: Any, sample: Any) -> Call | None:
    """Return a function of the sample's tensors, and those; None if it is no case for the check."""
    given = ((sample.input, *sample.args), sample.kwargs)
    inputs = tuple(x for x in leaves(given) if x.requires_grad)

    def call(*tensors: Any) -> Any:
        args, kwargs = replaced(given, iter(tensors))
        output = op.gradcheck_wrapper(op.get_op(), *args, **kwargs)
        finish = sample.output_process_fn_grad
        return output if finish is None else finish(output)

    sizes = [x.numel() for x in inputs]
    if not sum(sizes) or sum(sizes) > WIDEST:
        return None
    if not all(x.layout == torch.strided and torch.isfinite(x).all() for x in inputs):
        return None
    try:
        outputs = [o for o in leaves(call(*inputs)) if o.requires_grad]
        count = sum(o.numel() for o in outputs) * sum(sizes)
        accepted = torch.autograd.gradcheck(
            call, inputs, nondet_tol=op.gradcheck_nondet_tol, raise_exception=False
        )
    except Exception:  # the operator's own checks, or torch's
        return None
    return (call, inputs) if accepted and 0 < count <= LARGEST else None


def calls(op: Any) -> Iterator[tuple[int, Call]]:
    """Return the samples of an operator, with their numbers."""
    torch.manual_seed(0)
    samples = op.sample_inputs("cpu", torch.float64, requires_grad=True)
    found = ((k, call_of(op, sample)) for k, sample in enumerate(islice(samples, 60)))
    return islice(((k, call) for k, call in found if call is not None), SAMPLES)


def verdict(call: Call, nondet_tol: float) -> tuple[str, str]:
    """Return gdcore's verdict and its message."""
    try:
        gradcheck(*call, nondet_tol=nondet_tol)
    except Exception as error:
        message = str(error)
        known = [v for v in ("WRONG", "UNDECIDED") if f"{v}:" in message]
        return (known or [type(error).__name__])[0], message
    return "RIGHT", ""


def main() -> None:
    names, counts, begin = sys.argv[1:], Counter[str](), time.perf_counter()
    for op in op_db:
        if names and op.name not in names:
            continue
        if not op.supports_autograd or torch.float64 not in op.supported_dtypes("cpu"):
            continue
        for k, call in calls(op):
            found, message = verdict(call, op.gradcheck_nondet_tol)
            counts[found] += 1
            if found != "RIGHT":
                shapes = ", ".join(str(tuple(x.shape)) for x in call[1])
                print(f"{op.name} {op.variant_test_name} sample {k} of {shapes}: {message}")
    took = time.perf_counter() - begin
    print(f"{sum(counts.values())} samples, {dict(counts)}, {took:.0f} s")


if __name__ == "__main__":
    main()
