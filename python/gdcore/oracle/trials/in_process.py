"""A runner that calls a function in this very process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.arrays import ready, returned
from gdcore.oracle.trials.libraries import array_in
from gdcore.oracle.trials.operand import SIZES, Operand
from gdcore.oracle.trials.runner import POISON, Outcome, said

ALIGNMENT = 64
FRESH_BLOCKS = 3  # of each size: a call may allocate its result after a workspace of that size
COMMON_LIMIT = 1 << 26  # bytes; larger blocks come from the system, which has cleared them


class InProcess:
    """Calls a function here; it can see and change everything, so it must be trusted not to.

    Parameters
    ----------
    function : callable
    library : str
        Whose arrays it is given: "numpy", "torch" or "jax".
    """

    def __init__(self, function: Callable[..., Any], library: str = "numpy") -> None:
        self._function = function
        self._library = library
        self._slots: dict[tuple[int, int, int], NDArray[np.uint8]] = {}
        self._result_sizes: set[int] = set()

    def run(self, calls: Sequence[Sequence[Operand]], *, trace: bool = False) -> Outcome:
        """Call the function with each set of arguments; see `Runner`. `trace` does nothing."""
        slots = [
            [self._put(i, j, operand) for j, operand in enumerate(call)]
            for i, call in enumerate(calls)
        ]
        self._poison_free_memory(calls)
        held = []
        start = time.perf_counter()
        try:
            with np.errstate(all="ignore"):
                for call, memory in zip(calls, slots, strict=True):
                    views = [
                        array_in(m, operand, self._library)
                        for m, operand in zip(memory, call, strict=True)
                    ]
                    held.append(self._function(*views))
                    ready(held[-1])
        except Exception as error:
            return Outcome(error=said(error), seconds=time.perf_counter() - start)
        seconds = time.perf_counter() - start
        changed = []
        for i, (call, memory) in enumerate(zip(calls, slots, strict=True)):
            for j, (operand, m) in enumerate(zip(call, memory, strict=True)):
                if m.tobytes() != operand.raw:
                    changed.append((i, j))
                m.fill(POISON)
        results = tuple(returned(result) for result in held)
        for result in results:
            self._result_sizes.update(x.size * SIZES[x.dtype] for x in result.operands)
        return Outcome(results=results, changed=tuple(changed), seconds=seconds)

    def close(self) -> None:
        """Give the memory back."""
        self._slots.clear()

    def _put(self, call: int, argument: int, operand: Operand) -> NDArray[np.uint8]:
        """Copy an operand into its slot, whose address depends on its size alone."""
        size = len(operand.raw)
        key = (call, argument, size)
        if key not in self._slots:
            memory = np.empty(size + ALIGNMENT, np.uint8)
            start = -memory.ctypes.data % ALIGNMENT
            self._slots[key] = memory[start : start + size]
        self._slots[key][:] = np.frombuffer(operand.raw, np.uint8)
        return self._slots[key]

    def _poison_free_memory(self, calls: Sequence[Sequence[Operand]]) -> None:
        """Fill blocks that the next allocations are likely to be given, and free them."""
        sizes = self._result_sizes | {len(operand.raw) for call in calls for operand in call}
        likely = [size for size in sizes if 0 < size < COMMON_LIMIT]
        blocks: list[Any] = []
        for size in likely:
            for _ in range(FRESH_BLOCKS * len(calls)):
                blocks.append(self._block(size))
        del blocks

    def _block(self, size: int) -> Any:
        if self._library == "torch":
            import torch

            return torch.full((size,), POISON, dtype=torch.uint8)
        return np.full(size, POISON, np.uint8)
