"""Kernels that hang, kill, steal or lie: each ends in a sentence, and leaves nothing behind."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.runner import POISON, Outcome
from gdcore.referee.family import can_look
from gdcore.referee.process import Sandbox, size_of

X = Operand.of(np.arange(12.0).reshape(3, 4), "float32")
Y = Operand.of(np.arange(12.0).reshape(3, 4) ** 2, "float32", order=(1, 0))
LOADER = '''
import runpy
def load(path, role, options):
    return runpy.run_path(path)[options.get("name", "kernel")]
'''
needs_proc = pytest.mark.skipif(not can_look(), reason="processes are found through /proc")


class Bench:
    """Makes sandboxes of kernels written on the spot, and sees that nothing of them is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "loader.py").write_text(LOADER)
        self.count = 0

    def sandbox(self, text: str, **options: object) -> Sandbox:
        self.count += 1
        path = self.folder / f"kernel{self.count}.py"
        path.write_text("import os, sys, time\nimport numpy as np\n" + textwrap.dedent(text))
        settings = {"arrays": "numpy", "timeout": 20.0} | options
        return Sandbox(path, loader=f"{self.folder}/loader.py:load", **settings)  # type: ignore[arg-type]

    def outcomes(self, kernels: dict[str, float], **options: object) -> dict[str, Outcome]:
        """Run kernels once each, with time-outs, after they were loaded side by side."""
        found = {}
        names = list(kernels)
        for group in (names[i : i + 6] for i in range(0, len(names), 6)):
            boxes = [self.sandbox(text, **options) for text in group]
            for text, sandbox in zip(group, boxes, strict=True):
                assert sandbox.ready() == ""
                sandbox._exchange.timeout = kernels[text]
                begin = time.perf_counter()
                found[text] = sandbox.run([[X]])
                sandbox.close()
                assert time.perf_counter() - begin < kernels[text] + 2, found[text]
        assert not left_over()
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield Bench(tmp_path)
    assert not left_over()


def left_over() -> list[str]:
    """Return processes that run a kernel's Python or its keeper, and temporary folders."""
    found = [str(path) for path in Path(tempfile.gettempdir()).glob("gdcore-*")]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        ours = b"referee/keeper.py" in command or b"referee/worker.py" in command
        if ours and state not in "ZX" and descends(int(entry.name)):
            found.append(f"{entry.name} {command!r}")
    return found


def descends(pid: int) -> bool:
    """Return whether a process comes from this one, or has lost whom it came from."""
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def values(outcome: Outcome, call: int = 0) -> list[list[float]]:
    assert not outcome.error, outcome
    result: list[list[float]] = outcome.results[call].operands[0].values().tolist()
    return result


def test_honest_kernels(bench: Bench) -> None:
    """Right results, at the same addresses, in the layout asked for; all times are positive."""
    kernel = """
    def kernel(x):
        at.append((x.ctypes.data, x.strides))
        return x * 2, {"sum": x.sum(axis=0)}
    at = []
    kernel.about = {"name": "double"}
    kernel.notes = lambda: [str(at)]
    """
    with bench.sandbox(kernel) as sandbox:
        first = sandbox.run([[X], [Y]])
        second = sandbox.run([[Y], [X]])
        assert sandbox.about == {"name": "double"}
    assert values(first) == (2 * X.values()).tolist() == values(second, 1)
    assert first.results[0].operands[1].values().tolist() == X.values().sum(axis=0).tolist()
    assert first.seconds > 0
    assert not first.changed
    (a, b), (c, d) = eval(first.notes[0]), eval(second.notes[0])[2:]
    assert (a[0], b[0]) == (c[0], d[0])
    assert b[1] == c[1] == (4, 12)


def test_mistakes_are_no_end(bench: Bench) -> None:
    """Exceptions, wrong kinds and changed inputs are reported, and the process goes on."""
    kernel = """
    calls = 0
    def kernel(x):
        global calls
        calls += 1
        if calls == 1: raise ValueError("no\\nsuch  luck")
        if calls == 2: sys.exit(3)
        if calls == 3: return None
        if calls == 4: return type("Lazy", (np.ndarray,), {})((2,))
        if calls == 5: return x[1:]
        if calls == 6: x[0, 1] = 7; return x + 1
        if calls == 7: return np.zeros(2, np.complex64)
        if calls == 8: return np.zeros(2)[::-1].astype(np.float16)
        return np.empty_like(x)
    """
    with bench.sandbox(kernel) as sandbox:
        outcomes = [sandbox.run([[X]]) for _ in range(9)]
    assert not any(outcome.fatal for outcome in outcomes)
    assert outcomes[0].error == "call 0: ValueError: no such luck"
    assert outcomes[1].error == "call 0: SystemExit: 3"
    assert outcomes[2].results[0].fault == "returned NoneType, not a plain array or tensor"
    assert "Lazy" in outcomes[3].results[0].fault
    assert set(outcomes[4].results[0].operands[0].raw) == {POISON}
    assert outcomes[5].changed == ((0, 0),)
    assert "complex64" in outcomes[6].results[0].fault
    assert outcomes[7].results[0].operands[0].dtype == "float16"
    assert set(outcomes[8].results[0].operands[0].raw) == {POISON}


HANGS = (
    "while True: pass",
    "import signal; signal.signal(15, signal.SIG_IGN); time.sleep(60)",
    "\n    for i in range(5):\n        if not os.fork(): os.setsid(); time.sleep(60)\n    while True: pass",
    "os.kill(os.getpid(), 19); time.sleep(60)",
    "line.sendall(b'\\x00\\x00\\x00')\n    time.sleep(60)",
)
ENDINGS = {
    "os._exit(5)": "exit status 5",
    "import ctypes; ctypes.string_at(0)": "killed by SIGSEGV",
    "os.closerange(3, 100); time.sleep(60)": "closed the line",
    "return np.ones(10**11)": "MemoryError",
    "return np.empty(10**7)": "larger than the memory shared",
    "\n    while True: os.fork()": "",
    "\n    while True:\n        try: os.fork()\n        except OSError: pass": "more than 32 processes",
    "\n    while True:\n        if os.fork(): os._exit(0)": "closed the line",
    "[os.write(1, bytes(10**6)) + os.write(2, bytes(10**6)) for i in range(500)]; return x": "",
    "open(os.environ['TMPDIR'] + '/f', 'wb').write(bytes(3 * 10**7))": "OSError",
    "line.sendall(b'\\x00\\x00\\x00\\x05hello')": "no answer into the protocol",
    "line.sendall(b'\\x7f' * 1000)": "announced an answer of",
    "line.sendall(b'\\x00\\x00\\x00\\x04[[1]')": "no answer into the protocol",
    "answer(results=[]); return x": "does not describe a result",
    "answer(results=[{'parts': [{'dtype': 'float32', 'shape': [-1]}]}])": "no array can be",
    "answer(results=[{'parts': [{'dtype': 'float32', 'shape': [1 << 40]}]}])": "larger than the memory",
    "answer(results=[{'parts': [{'dtype': ['x'], 'shape': []}]}])": "no array can be",
    "answer(results=[{'parts': [{'dtype': 'float32', 'shape': [3, 4]}]}]); return x + 1": "answer",
    "os.ftruncate(memory(), 4096); answer(results=[{'parts': []}]); return x + 1": "",
}
TOOLS = """
import gc, json, socket, struct
line = next(o for o in gc.get_objects() if type(o) is socket.socket)
def answer(**about):
    text = json.dumps({"id": identity() } | about).encode()
    line.sendall(struct.pack("!I", len(text)) + text)
def identity():
    frame = sys._getframe()
    while frame:
        if isinstance(frame.f_locals.get("request"), dict): return frame.f_locals["request"]["id"]
        frame = frame.f_back
def memory():
    return next(int(f) for f in os.listdir("/proc/self/fd") if "operands" in os.readlink(f"/proc/self/fd/{f}"))
"""


@needs_proc
def test_each_ends_in_a_sentence(bench: Bench) -> None:
    expected = ENDINGS | dict.fromkeys(HANGS, "no answer within")
    kernels = {f"{TOOLS}\ndef kernel(x):\n    {body}": body for body in expected}
    timeouts = {text: 0.5 if body in HANGS else 20.0 for text, body in kernels.items()}
    limits = {"memory": "200MB", "file_size": "20MB", "processes": 32}
    for text, outcome in bench.outcomes(timeouts, **limits).items():
        said = (outcome.error, *(result.fault for result in outcome.results))
        assert any(expected[kernels[text]] in each for each in said), (kernels[text], outcome)
