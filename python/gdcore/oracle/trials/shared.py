"""The memory through which numbers go between two processes: a file without a name."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gdcore.oracle.trials.operand import SIZES, Operand

_ALIGNED = 64  # bytes, a cache line
_LARGEST_WRITE = 1 << 24


def after(offset: int, size: int) -> int:
    """Return where the next array begins."""
    return -(-(offset + size) // _ALIGNED) * _ALIGNED


def bytes_of(description: dict[str, Any]) -> int:
    """Return the size of a contiguous array with a description that `checked` has seen."""
    count: int = math.prod(description["shape"])
    return count * SIZES[description["dtype"]]


class Shared:
    """A file of three equal parts: inputs, results, and the same results read later.

    It has no name, so only a process that inherits the descriptor can open it, and it is read and
    written by system calls: a process that shortens it cannot harm this one.

    Parameters
    ----------
    part : int
        Bytes of each part. Nothing is allocated before it is written to.
    """

    def __init__(self, part: int) -> None:
        self.part = part
        self.size = 3 * part
        self.descriptor = _nameless()
        os.ftruncate(self.descriptor, self.size)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of some bytes."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self.descriptor, view[:_LARGEST_WRITE], offset)
            view, offset = view[written:], offset + written

    def fill(self, offset: int, size: int, byte: int) -> None:
        """Write one byte everywhere."""
        block = bytes([byte]) * min(size, _LARGEST_WRITE)
        for done in range(0, size, _LARGEST_WRITE):
            self.write(offset + done, memoryview(block)[: size - done])

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes; fewer where the file has become too short."""
        parts = []
        while size:
            part = os.pread(self.descriptor, min(size, _LARGEST_WRITE), offset)
            if not part:
                break
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Give the memory back."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            return os.memfd_create("operands", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # unlinked
        return os.dup(file.fileno())


def placed(calls: Sequence[Sequence[Operand]]) -> tuple[list[list[dict[str, Any]]], int]:
    """Return the descriptions of all arguments with their offsets, and where they end."""
    described, offset = [], 0
    for arguments in calls:
        slot = []
        for operand in arguments:
            about = operand.description() | {"offset": offset, "span": operand.span}
            slot.append(about)
            offset = after(offset, len(operand.raw))
        described.append(slot)
    return described, offset
