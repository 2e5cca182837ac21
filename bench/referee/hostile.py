"""Kernels that attack the process they run in: each gets a verdict in time, and nothing is left.

On Linux this process is made the one that inherits orphans, so that those are counted here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gdcore.referee import judge
from referee import programs
from referee.judged import append, read, ruled

Say = Callable[[str], None]
TIMEOUT = 30.0  # seconds
GRACE = 2.0
PR_SET_CHILD_SUBREAPER = 36
HEAD = """import ctypes
import gc
import glob
import os
import signal
import sys
import threading

import torch

"""
SEARCH = '''
def kernel(x):
    """Raise if the right result was found, which only needs to be returned."""
    right = torch.softmax(x, -1)
    for value in candidates():
        try:
            if value is right:
                continue
            if torch.allclose(torch.as_tensor(value).float().view(right.shape), right):
                raise SystemExit("found the golden result")
        except (RuntimeError, TypeError, ValueError):
            pass
    return torch.zeros_like(x)
'''
KERNELS = {
    "never returns": """def kernel(x):
    while True:
        pass
""",
    "ignores signals": """def kernel(x):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        pass
""",
    "allocates 100 GB": """def kernel(x):
    return torch.ones(25_000_000_000)[: x.numel()].view(x.shape)
""",
    "leaves by os._exit": """def kernel(x):
    os._exit(0)
""",
    "forks without end": """def kernel(x):
    while True:
        os.fork()
""",
    "starts threads without end": """def kernel(x):
    while True:
        threading.Thread(target=threading.Event().wait).start()
""",
    "stops itself": """def kernel(x):
    os.kill(os.getpid(), signal.SIGSTOP)
    return torch.softmax(x, -1)
""",
    "kills its parent": """def kernel(x):
    os.kill(os.getppid(), signal.SIGKILL)
    return torch.softmax(x, -1)
""",
    "leaves a daemon": """def kernel(x):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                pass
        os._exit(0)
    return torch.softmax(x, -1)
""",
    "writes 1 GB of output": """def kernel(x):
    for _ in range(1000):
        os.write(1, bytes(1_000_000))
        os.write(2, bytes(1_000_000))
    return torch.softmax(x, -1)
""",
    "fills the disk": """def kernel(x):
    with open("full", "wb") as file:
        for _ in range(100_000):
            file.write(bytes(1_000_000))
    return torch.softmax(x, -1)
""",
    "crashes": """def kernel(x):
    ctypes.string_at(0)
""",
    "writes to every open file": """def kernel(x):
    for number in range(3, 256):
        try:
            os.write(number, b'{"ok": 1}' * 100)
        except OSError:
            pass
    return torch.softmax(x, -1)
""",
    "searches frames": """def candidates():
    frame = sys._getframe()
    while frame is not None:
        yield from list(frame.f_locals.values())[:1000]
        frame = frame.f_back

"""
    + SEARCH,
    "searches live objects": """def candidates():
    for each in gc.get_objects():
        if isinstance(each, (torch.Tensor, list, tuple, dict, bytes, bytearray)):
            if type(each) is torch.Tensor or type(each) in (bytes, bytearray):
                yield each if type(each) is torch.Tensor else list(each)

"""
    + SEARCH,
    "searches temporary files": """def candidates():
    for path in glob.glob("/tmp/**", recursive=True)[:20000] + glob.glob("/dev/shm/*"):
        try:
            with open(path, "rb") as file:
                data = file.read(1 << 20)
            yield torch.frombuffer(bytearray(data[: len(data) // 8 * 8]), dtype=torch.float64)
        except (OSError, ValueError):
            pass

"""
    + SEARCH,
    "searches its environment": """def candidates():
    yield from os.environ.values()
    yield from sys.argv

"""
    + SEARCH,
    "reads other processes' memory": """def kernel(x):
    for path in glob.glob("/proc/[0-9]*/mem"):
        if int(path.split("/")[2]) == os.getpid():
            continue
        try:
            with open(path.replace("/mem", "/maps")) as maps:
                places = [line.split()[0] for line in maps if " rw-p " in line]
            with open(path, "rb", 0) as memory:
                memory.seek(int(places[0].split("-")[0], 16))
                memory.read(16)
        except (OSError, ValueError, IndexError, OverflowError):
            continue
        raise SystemExit("read the memory of another process")
    return torch.zeros_like(x)
""",
}


def children() -> set[int]:
    """Return the processes that this one has started or inherited, and that still run."""
    found = set()
    for path in Path("/proc/self/task").glob("*/children"):
        found |= set(map(int, path.read_text().split()))
    return {pid for pid in found if _state(pid) not in ("Z", "")}


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def run(say: Say, kept: Path) -> list[dict[str, Any]]:
    """Judge each; return what came of it, how long it took, and how many processes were left."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    rows = read(kept)
    done = {row["kernel"] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        reference = programs.write(Path(folder), "softmax", programs.reference("softmax"))
        for name, text in KERNELS.items():
            if name in done:
                continue
            candidate = programs.write(Path(folder), name.replace(" ", "_"), HEAD + text)
            before, begin = children(), time.monotonic()
            verdict = judge(str(candidate), str(reference), timeout=TIMEOUT, race=False)
            seconds = time.monotonic() - begin
            left = children() - before
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            row = {"kernel": name, "left": len(left), "in_time": seconds <= TIMEOUT + GRACE}
            row |= ruled(verdict, seconds) | {"why": verdict.why[:200]}
            row["found"] = any(
                words in verdict.why for words in ("found the golden", "read the memory")
            )
            append(kept, row)
            rows.append(row)
            say(f"{name}: {row['ruling']} in {seconds:.1f} s, left {len(left)}; {row['why']}")
    return rows
