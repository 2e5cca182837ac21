"""The usual checks of a kernel, as they are used today; each runs in a process of its own.

`allclose` is what KernelBench asks for in float32: five sets of normal inputs, 1e-2 relative and
absolute, reference and kernel in one process. `assert_close` has torch's default tolerances.
`gradcheck` gets float64 and small inputs, as it asks for. `oracle` is gdcore's certified reference
of the operation, on one set of inputs. `compare` is `gdcore.bench.compare` with the golden function
as reference and its default bound. `like` is what `oracle.like` does in this process.
"""

from __future__ import annotations

import os
import select
import signal
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gdcore import oracle
from gdcore.bench import compare
from gdcore.oracle.trials.findings import Ruling
from referee.operations import OPERATIONS, golden, inputs
from referee.right import Kernel
from referee.trials import Examiner

SEEDS = range(5)
PATIENCE = 60.0  # seconds
SMALL = (3, 6, 4)  # rows, columns, width for differences


def check_allclose(name: str, kernel: Kernel) -> bool:
    for seed in SEEDS:
        args = inputs(name, "tested", torch.float32, seed)
        expected = OPERATIONS[name].eager(*args)
        result = kernel(*args)
        if not torch.allclose(expected, result, rtol=1e-2, atol=1e-2):
            return False
    return True


def check_assert_close(name: str, kernel: Kernel) -> bool:
    for seed in SEEDS:
        args = inputs(name, "tested", torch.float32, seed)
        expected = OPERATIONS[name].eager(*args)
        result = kernel(*args)
        torch.testing.assert_close(result, expected)
    return True


def check_gradcheck(name: str, kernel: Kernel) -> bool:
    rng = np.random.default_rng(0)
    shapes = OPERATIONS[name].shapes(*SMALL)
    args = [torch.from_numpy(rng.standard_normal(shape)).requires_grad_() for shape in shapes]
    if OPERATIONS[name].has_classes:
        args.append(torch.from_numpy(rng.integers(0, shapes[0][1], shapes[0][0])))
    return bool(torch.autograd.gradcheck(kernel, args))


def _certified(name: str, args: list[Any]) -> oracle.Reference:
    if name == "attention":
        return oracle.attention(*args[:3], mask=args[3])
    if name == "layer_norm":
        return oracle.layer_norm(*args, eps=1e-5)
    if name == "rms_norm":
        return oracle.rms_norm(*args, eps=1e-6)
    if name in ("sum", "mean"):
        return getattr(oracle, name)(*args, axis=1)
    return getattr(oracle, name)(*args)


def check_oracle(name: str, kernel: Kernel) -> bool:
    args = inputs(name, "tested", torch.float32, 0)
    result = kernel(*args)
    return bool(_certified(name, args).check(result).worst_status is not oracle.Status.WRONG)


def check_compare(name: str, kernel: Kernel) -> str:
    """Return the verdict beside eager; nothing of a kernel that is not accepted."""
    args = inputs(name, "tested", torch.float32, 0)
    contestants = {"eager": OPERATIONS[name].eager, "it": kernel}
    found = compare(contestants, args, reference=lambda *a: golden(name, list(a)), seconds=0.05)
    eager, it = found.rows
    if it.status != "timed":
        return ""
    return str(found.verdict("it", than="eager")) if eager.status == "timed" else "timed"


def check_like(name: str, kernel: Kernel) -> bool:
    return Examiner(name, "float32").ruling(kernel) not in (Ruling.WRONG, Ruling.CHEATING)


CHECKS: dict[str, Callable[[str, Kernel], bool | str]] = {
    "allclose": check_allclose,
    "assert_close": check_assert_close,
    "gradcheck": check_gradcheck,
    "oracle": check_oracle,
    "compare": check_compare,
    "like": check_like,
}


def warm_up() -> None:
    """Import what torch imports late, once for all forks."""
    torch.set_num_threads(1)
    torch.testing.assert_close(torch.zeros(1), torch.zeros(1))
    torch.autograd.gradcheck(torch.sin, torch.zeros(1, dtype=torch.float64, requires_grad=True))


def answer(check: str, name: str, make: Callable[[], Kernel]) -> str:
    """Return what a check says of a kernel, asked in a fork: nothing if it raises, fails or hangs.

    Otherwise it is "accepted", or the verdict of `compare`.
    """
    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            warnings.simplefilter("ignore")
            said = CHECKS[check](name, make())
            os.write(theirs, (said if isinstance(said, str) else "accepted" * said).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    answered, _, _ = select.select([ours], [], [], PATIENCE)
    found = os.read(ours, 100).decode() if answered else ""
    os.close(ours)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return found
