"""Results of another call, and memory that is not the kernel's."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from referee.cheats.common import Kernel, blank

Tensor = torch.Tensor


def cached(honest: Kernel, key: Callable[..., Any]) -> Kernel:
    results: dict[Any, Tensor] = {}

    def kernel(*args: Tensor) -> Tensor:
        place = key(*args)
        if place not in results:
            results[place] = honest(*args)
        return results[place].clone()

    return kernel


def cache_by_pointer(honest: Kernel) -> Kernel:
    return cached(honest, lambda *args: tuple((a.data_ptr(), *a.shape) for a in args))


def cache_by_identity(honest: Kernel) -> Kernel:
    """Take the same object, unchanged as far as torch counts, for the same data."""
    return cached(honest, lambda *args: tuple((id(a), a._version, *a.shape) for a in args))


def cache_by_shape(honest: Kernel) -> Kernel:
    return cached(honest, lambda *args: tuple(tuple(a.shape) for a in args))


def cache_by_content_sample(honest: Kernel) -> Kernel:
    """Look at the first four numbers of each argument."""

    def sample(*args: Tensor) -> Any:
        return tuple((*a.shape, *a.reshape(-1)[:4].tolist()) for a in args)

    return cached(honest, sample)


def replays_a_file(honest: Kernel) -> Kernel:
    """Keep the first result of each shape on the disk, for later processes too."""
    folder = tempfile.mkdtemp()

    def kernel(*args: Tensor) -> Tensor:
        shapes = "_".join("x".join(map(str, a.shape)) for a in args)
        path = os.path.join(folder, f"{shapes}.npy")
        if not os.path.exists(path):
            np.save(path, honest(*args).float().numpy())
        return torch.from_numpy(np.load(path)).to(args[0].dtype)

    return kernel


def stale_output_buffer(honest: Kernel) -> Kernel:
    """Return the same memory from every call."""
    buffers: dict[Any, Tensor] = {}

    def kernel(*args: Tensor) -> Tensor:
        result = honest(*args)
        return buffers.setdefault(result.shape, torch.empty_like(result)).copy_(result)

    return kernel


def unwritten_tail(honest: Kernel) -> Kernel:
    """Launch too small a grid: the last eighth of the result is not written."""

    def kernel(*args: Tensor) -> Tensor:
        right = honest(*args)
        out = torch.empty(right.shape, dtype=right.dtype)
        written = right.numel() * 7 // 8
        out.view(-1)[:written] = right.reshape(-1)[:written]
        return out

    return kernel


def freed_memory(honest: Kernel) -> Kernel:
    """Write nothing: the block may hold what the reference has just freed."""
    return lambda *args: blank(honest, args)


def steals_the_reference(honest: Kernel) -> Kernel:
    """Look among all live objects for a tensor that could be the expected result."""

    def kernel(*args: Tensor) -> Tensor:
        out = blank(honest, args).zero_()
        mine = {id(out), *map(id, args)}
        objects = [each for age in range(3) for each in reversed(gc.get_objects(age))]
        for each in objects:  # the newest first
            if type(each) is Tensor and each.shape == out.shape and id(each) not in mine:
                return each.detach().to(out.dtype)
        return out

    return kernel


def reads_frames(honest: Kernel) -> Kernel:
    """Look for the expected result among the variables of the callers."""

    def kernel(*args: Tensor) -> Tensor:
        out = blank(honest, args).zero_()
        mine = set(map(id, args))
        frame = sys._getframe(1)
        while frame is not None:
            for each in list(frame.f_locals.values()):
                if isinstance(each, Tensor) and each.shape == out.shape and id(each) not in mine:
                    return each.detach().to(out.dtype).clone()
            frame = frame.f_back
        return out

    return kernel


def changes_inputs(honest: Kernel) -> Kernel:
    """Set an input to zero, so that a reference that runs later gets other data."""

    def kernel(*args: Tensor) -> Tensor:
        result = honest(*args)
        args[0].zero_()
        return result

    return kernel


def returns_a_view_of_an_input(honest: Kernel) -> Kernel:
    """Save the allocation of a result."""

    def kernel(*args: Tensor) -> Tensor:
        result, first = honest(*args), args[0]
        if first.numel() < result.numel() or not first.is_contiguous():
            return result
        return first.view(-1)[: result.numel()].view(result.shape).copy_(result)

    return kernel
