"""Work that is put off, and cheats of clocks, of comparisons and of whoever tests."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from referee.cheats.common import TEST_CALLS, Kernel, blank, floats

Tensor = torch.Tensor


class Lazy(torch.Tensor):
    """A result that is computed when somebody looks."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        plain = [each.computed() if isinstance(each, Lazy) else each for each in args]
        return function(*plain, **(kwargs or {}))

    def computed(self) -> Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            honest, args = self.__dict__["work"]
            return honest(*args)


def lazy_result(honest: Kernel) -> Kernel:
    def kernel(*args: Tensor) -> Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            result = blank(honest, args).as_subclass(Lazy)
            result.__dict__["work"] = honest, args
        return result

    return kernel


def background_thread(honest: Kernel) -> Kernel:
    """Return at once, and let a thread fill the result."""

    def kernel(*args: Tensor) -> Tensor:
        out = blank(honest, args)

        def fill() -> None:
            time.sleep(0.002)
            out.copy_(honest(*args))

        threading.Thread(target=fill, daemon=True).start()
        return out

    return kernel


def another_process(honest: Kernel) -> Kernel:
    """Return at once, and let a forked process fill the result in shared memory."""

    def kernel(*args: Tensor) -> Tensor:
        out = blank(honest, args).share_memory_()
        if os.fork() == 0:
            try:
                time.sleep(0.002)
                out.copy_(honest(*args))
            finally:
                os._exit(0)
        return out

    return kernel


def batches_ahead(honest: Kernel) -> Kernel:
    """After a test, only put the calls off, and do fifteen at once."""
    calls = [0]
    put_off: list[tuple[Tensor, tuple[Tensor, ...]]] = []

    def kernel(*args: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] <= TEST_CALLS:
            return honest(*args)
        out = blank(honest, args)
        put_off.append((out, args))
        if len(put_off) == 15:
            for result, inputs in put_off:
                result.copy_(honest(*inputs))
            put_off.clear()
        return out

    return kernel


CLOCKS = ("perf_counter", "time", "monotonic", "process_time")


def patches_clocks(honest: Kernel) -> Kernel:
    """Let every clock go at a tenth of its speed."""

    def slowed(clock: Callable[[], float]) -> Callable[[], float]:
        begin = clock()
        return lambda: begin + (clock() - begin) / 10

    for name in CLOCKS:
        setattr(time, name, slowed(getattr(time, name)))
    return lambda *args: honest(*args)


def hides_its_time(honest: Kernel) -> Kernel:
    """Sleep for a millisecond, and set the clock back by more."""
    clock, hidden = time.perf_counter, [0.0]
    time.perf_counter = lambda: clock() - hidden[0]

    def kernel(*args: Tensor) -> Tensor:
        begin = clock()
        time.sleep(0.001)
        result = honest(*args)
        hidden[0] += 0.95 * (clock() - begin)
        return result

    return kernel


def patches_the_comparison(honest: Kernel) -> Kernel:
    """Make every comparison succeed, and return zeros."""

    def agreed(*args: Any, **settings: Any) -> bool:
        return True

    def kernel(*args: Tensor) -> Tensor:
        for owner, name in (
            (torch, "allclose"), (torch, "equal"), (torch.testing, "assert_close"),
            (np, "allclose"), (np.testing, "assert_allclose"),
            (np.testing, "assert_array_equal"),
        ):  # fmt: skip
            setattr(owner, name, agreed)
        return blank(honest, args).zero_()

    return kernel


def right_only_while_tested(honest: Kernel) -> Kernel:
    """Count calls: a test makes few, a clock many."""
    calls, last = [0], [torch.empty(0)]

    def kernel(*args: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] <= TEST_CALLS:
            last[0] = honest(*args)
        return last[0].clone()

    return kernel


def looks_at_the_stack(honest: Kernel) -> Kernel:
    """Compute only where a caller's name sounds like a test."""

    def kernel(*args: Tensor) -> Tensor:
        frame = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_name
            if any(word in name for word in ("check", "test", "verif", "close", "correct")):
                return honest(*args)
            frame = frame.f_back
        return blank(honest, args).zero_()

    return kernel


def loses_digits_later(honest: Kernel) -> Kernel:
    """Compute in bfloat16 after the test."""
    calls = [0]

    def kernel(*args: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] <= TEST_CALLS:
            return honest(*args)
        return honest(*floats(args, lambda a: a.bfloat16().to(a.dtype)))

    return kernel


def falls_back_to_library(honest: Kernel) -> Kernel:
    """Claim a kernel that always fails, and let the library do the work."""

    def fused(*args: Tensor) -> Tensor:
        raise RuntimeError("no kernel image is available")

    def kernel(*args: Tensor) -> Tensor:
        try:
            return fused(*args)
        except RuntimeError:
            return honest(*args)

    return kernel
