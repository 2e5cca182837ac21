"""Kernels through the trials of `gdcore.oracle`, in this process: right variants and mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch

from gdcore.oracle.trials.arrays import copying
from gdcore.oracle.trials.examine import Examination, examine
from gdcore.oracle.trials.families import FAMILIES
from gdcore.oracle.trials.findings import Ruling
from gdcore.oracle.trials.in_process import InProcess
from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.runner import Outcome
from referee.libraries import COMPILED, NUMPY, compiled_kernel, jax_kernel
from referee.mistakes import MISTAKES
from referee.operations import OPERATIONS, inputs
from referee.right import LESS_ACCURATE, RIGHT, Kernel

DTYPES = ("float64", "float32", "bfloat16", "float16")
DTYPES_OF_MISTAKES = ("float32", "float64", "bfloat16")
PATIENCE = 600.0  # seconds a kernel and dtype: enough to try everything on a busy machine
Say = Callable[[str], None]


def template(name: str) -> list[Operand]:
    """Return inputs of the size that is tested."""
    found = []
    for each in inputs(name, "tested", torch.float32, 0):
        dtype = "float32" if each.is_floating_point() else "int64"
        found.append(Operand.of(each.numpy(), dtype))
    return found


class Remembering:
    """A runner that is asked the same of each kernel of an operation, and computes it once."""

    def __init__(self, function: Kernel) -> None:
        self.runner = InProcess(function, "torch")
        self.outcomes: dict[int, Outcome] = {}

    def run(self, calls: Sequence[Sequence[Operand]], *, trace: bool = False) -> Outcome:
        key = hash(tuple(map(tuple, calls)))
        if key not in self.outcomes:
            self.outcomes[key] = self.runner.run(calls)
        return self.outcomes[key]

    def close(self) -> None:
        self.runner.close()


class Examiner:
    """What kernels of one operation are held against, in one dtype."""

    def __init__(self, name: str, dtype: str) -> None:
        operation = OPERATIONS[name]
        self.golden = Remembering(copying(operation.golden))
        self.eager = Remembering(operation.eager)
        self.name, self.dtype, self.template = name, dtype, template(name)

    def __call__(self, kernel: Kernel, seed: int = 0, families: Any = "all") -> Examination:
        """Try a kernel on all sizes."""
        runners = (InProcess(kernel, "torch"), self.golden, self.eager)
        settings: dict[str, Any] = {"families": families, "seed": seed, "seconds": PATIENCE}
        with torch.no_grad():
            return examine(*runners, self.template, dtype=self.dtype, **settings)

    def ruling(self, kernel: Kernel) -> Ruling:
        """Return the gravest ruling; nothing is tried after a kernel is found wrong."""
        gravest = Ruling.RIGHT
        for family in FAMILIES:
            found = self(kernel, families=[family]).ruling
            if found in (Ruling.WRONG, Ruling.CHEATING):
                return found
            gravest = found if found is Ruling.SUSPICIOUS else gravest
        return gravest


def variants(name: str, compiled: bool) -> list[Kernel]:
    """Return the right kernels of an operation, JAX's too, and perhaps torch.compile's."""
    found = [*RIGHT[name], jax_kernel(name)]
    if name in NUMPY:
        found.append(NUMPY[name])
    if compiled and name in COMPILED:
        found.append(compiled_kernel(COMPILED[name]))
    return found


def places(found: Examination, ruling: str) -> list[str]:
    """Return the families and sizes with a finding that amounts to a ruling."""
    return sorted({f"{f.family}, {f.size}" for f in found.findings if str(f.ruling) == ruling})


def right(say: Say, names: Sequence[str]) -> dict[str, Any]:
    """Return what is said of right kernels: rows by operation and dtype, and all objections.

    Those that are known to be less accurate count in the rows, but have a list of their own.
    """
    found: dict[str, Any] = {"rows": [], "objections": [], "less accurate": []}
    for name in names:
        less_accurate = LESS_ACCURATE.get(name, [])
        for dtype in DTYPES:
            examiner = Examiner(name, dtype)
            kernels = variants(name, compiled=dtype == "float32")
            counts: Counter[str] = Counter()
            for kernel in kernels:
                objections = _objections(examiner, kernel, counts)
                found["less accurate" if kernel in less_accurate else "objections"] += objections
            found["rows"].append(
                {"operation": name, "dtype": dtype, "kernels": len(kernels), **counts}
            )
            say(f"{name} {dtype}: {dict(counts)}")
    return found


def _objections(examiner: Examiner, kernel: Kernel, counts: Counter[str]) -> list[dict[str, Any]]:
    """Return what is objected to in a kernel, and count trials and rulings."""
    found, objections = examiner(kernel), []
    counts["trials"] += len(found.tried)
    counts["results"] += found.calls
    counts["not decided"] += found.ruling is Ruling.NOT_DECIDED
    for ruling in ("cheating", "wrong", "suspicious"):
        where = places(found, ruling)
        counts[ruling] += len(where)
        of = {"operation": examiner.name, "kernel": kernel.__name__, "dtype": examiner.dtype}
        objections += [of | {"ruling": ruling, "data": data} for data in where]
    return objections


def mistakes(say: Say, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is said of each mistake in each dtype."""
    rows = []
    for name in names:
        examiners = {dtype: Examiner(name, dtype) for dtype in DTYPES_OF_MISTAKES}
        for kernel in MISTAKES[name]:
            rulings = {dtype: str(each.ruling(kernel)) for dtype, each in examiners.items()}
            rows.append({"operation": name, "mistake": kernel.__name__, **rulings})
            say(f"{kernel.__name__}: {rulings}")
    return rows
