"""Messages to and from a process that calls a kernel: JSON with its length before it."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

LARGEST = 1 << 20  # bytes of an answer
_HEAD = struct.Struct("!I")
_LOOK = 0.1  # seconds between two looks at a process that has not answered
_LATE = 1.0  # seconds for an answer to be read that had come in time
_STOPPED = 2.0  # seconds that no wait of `_LOOK` takes
_clock = time.perf_counter  # bound early: nobody who is asked here can reach it


class Broken(Exception):
    """The other side died, hung or does not keep to the protocol; the text is a sentence."""


def send(wire: socket.socket, message: dict[str, Any]) -> None:
    """Write one message."""
    text = json.dumps(message).encode()
    wire.sendall(_HEAD.pack(len(text)) + text)


def request(wire: socket.socket) -> dict[str, Any]:
    """Return the next request, for the side that trusts the other; EOFError when it is gone."""
    (length,) = _HEAD.unpack(_exactly(wire, _HEAD.size))
    message: dict[str, Any] = json.loads(_exactly(wire, length))
    return message


def _exactly(wire: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        part = wire.recv(length - len(received))
        if not part:
            raise EOFError
        received += part
    return bytes(received)


def answer(wire: socket.socket, deadline: float, look: Callable[[], None]) -> dict[str, Any]:
    """Return an answer, for the side that trusts nothing the other writes.

    Parameters
    ----------
    wire : socket
        Blocking.
    deadline : float
        By `time.perf_counter`.
    look : callable
        Called ten times a second; it may raise `Broken`.
    """
    (length,) = _HEAD.unpack(_received(wire, _HEAD.size, deadline, look))
    if length > LARGEST:
        raise Broken(f"it announced an answer of {length} bytes, more than any answer has")
    text = _received(wire, length, deadline, look)
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise Broken("it wrote something that is no answer into the protocol") from None
    if not isinstance(message, dict):
        raise Broken("it wrote something that is no answer into the protocol")
    return message


def _received(wire: socket.socket, length: int, deadline: float, look: Callable[[], None]) -> bytes:
    received = bytearray()
    while len(received) < length:
        now = _clock()
        arrived = select.select([wire], [], [], min(max(deadline - now, 0.0), _LOOK))[0]
        passed = _clock() - now
        if passed > _STOPPED:
            deadline += passed  # this process was stopped itself, and the other one with it
        if now >= deadline + (_LATE if arrived else 0.0):
            raise TimeoutError
        if not arrived:
            look()
            continue
        try:
            part = wire.recv(length - len(received))
        except ConnectionError:
            part = b""
        if not part:
            raise EOFError
        received += part
    return bytes(received)


def is_silent(wire: socket.socket) -> bool:
    """Return whether nothing has come that nobody asked for."""
    return not select.select([wire], [], [], 0)[0]
