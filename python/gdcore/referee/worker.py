"""The process in which a file's code runs: loads the function, and calls it when it is asked to.

It is run as a script, in a process that `keeper` has taken rights from.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import resource
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_DUMPABLE = 4


def main(descriptor: int) -> None:
    """Serve the line, whose first message says what to load."""
    line = socket.socket(fileno=descriptor)
    (length,) = struct.unpack("!I", line.recv(4, socket.MSG_WAITALL))
    config: dict[str, Any] = json.loads(line.recv(length, socket.MSG_WAITALL))
    if config["secret"] and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # no process may read its memory
    sys.path.extend(each for each in config["search"] if each not in sys.path)
    from gdcore.oracle.trials import wire
    from gdcore.oracle.trials.runner import said
    from gdcore.oracle.trials.serving import Server

    answer: dict[str, Any] = {"id": config["id"]}
    try:
        _import(config)
        server = Server(line, config["memory"], config["size"])
        _limit_memory(config["bytes"])
        function = loader(config["loader"])(config["path"], config["role"], config["options"])
        server.use(function, getattr(function, "arrays", config["arrays"]), config["device"])
        answer["about"] = getattr(function, "about", {})
        json.dumps(answer)
    except BaseException as error:
        answer = {"id": config["id"], "error": said(error)}
        answer["kind"] = str(getattr(error, "kind", ""))
    wire.send(line, answer)
    if "error" not in answer:
        server.serve()
    line.recv(1)  # until the parent ends this process


def _import(config: dict[str, Any]) -> None:
    """Import what is needed anyway before the memory is limited."""
    if config["arrays"] == "torch":
        import torch

        torch.set_num_threads(config["threads"])


def _limit_memory(more: int) -> None:
    """Let the address space grow by so many bytes from now on; 0: without a limit."""
    with suppress(OSError, ValueError):
        if more:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + more
            resource.setrlimit(resource.RLIMIT_AS, (most, most))


def loader(name: str) -> Callable[[str, str, dict[str, Any]], Any]:
    """Return the function of a module or file, as "module:function" or "file.py:function"."""
    where, _, function = name.rpartition(":")
    if not where.endswith(".py"):
        return getattr(importlib.import_module(where), function)  # type: ignore[no-any-return]
    spec = importlib.util.spec_from_file_location(Path(where).stem, where)
    if spec is None or spec.loader is None:
        raise ImportError(f"{where} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)  # type: ignore[no-any-return]


if __name__ == "__main__":
    main(int(sys.argv[1]))
