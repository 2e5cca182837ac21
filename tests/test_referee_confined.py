"""Kernels that hang, kill, steal or lie: each ends in a sentence, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gdcore.oracle.trials.operand import Operand
from gdcore.referee import confined, family
from sandboxes import SLACK, Bench, X, left_over, needs_proc, opened, values, without_namespaces


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from opened(tmp_path, monkeypatch)


HANGS = (
    "\n    while True:\n        try: os.fork()\n        except OSError: pass",
    "while True: pass",
    "import signal; signal.signal(15, signal.SIG_IGN); time.sleep(60)",
    "\n    if any(os.fork() == 0 for i in '12'): os.setsid(); time.sleep(9)\n    while True: pass",
    "os.kill(os.getpid(), 19); time.sleep(60)",
    "\n    for byte in b'\\x00\\x01\\x00[[[[[[[[[': time.sleep(0.1); line.sendall(bytes([byte]))",
)
ENDINGS = {
    "os._exit(5)": "exit status 5",
    "import ctypes; ctypes.string_at(0)": "killed by SIGSEGV",
    "os.closerange(3, 100); time.sleep(60)": "closed the line",
    "return np.ones(10**8)[:3]": "Unable to allocate",
    "return np.empty(10**7)": "larger than the memory shared",
    "\n    while True: os.fork()": "",
    "\n    while True:\n        if os.fork(): os._exit(0)": "without an answer",
    "[os.write(1, bytes(10**6)) + os.write(2, bytes(10**6)) for i in range(500)]; return x": "",
    "open(os.environ['TMPDIR'] + '/f', 'wb').write(bytes(3 * 10**7))": "OSError",
    "line.sendall(b'\\x00\\x00\\x00\\x05hello')": "no answer into the protocol",
    "line.sendall(b'\\x7f' * 1000)": "announced an answer of",
    "line.sendall(b'\\x00\\x00\\x00\\x04[[1]')": "no answer into the protocol",
    "answer(results=[]); return x": "does not describe a result",
    "answer(results=[{'parts': [{'dtype': 'float32', 'shape': [-1]}]}])": "no array can be",
    "answer(results=[{'parts': [{'dtype': 'bool', 'shape': [1 << 40]}]}])": "larger than the",
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
    folder = "/proc/self/fd"
    return next(int(f) for f in os.listdir(folder) if "operands" in os.readlink(f"{folder}/{f}"))
"""


@needs_proc
def test_each_ends_in_a_sentence(bench: Bench) -> None:
    expected = ENDINGS | dict.fromkeys(HANGS, "no answer within")
    expected[HANGS[0]] = "it "  # has too many processes at the first look, or hangs
    expected[HANGS[4]] = "it "  # the first process of a namespace cannot stop itself
    kernels = {f"{TOOLS}\ndef kernel(x):\n    {body}": body for body in expected}
    timeouts = {text: 0.5 if body in HANGS else 20.0 for text, body in kernels.items()}
    limits = {"memory": "200MB", "file_size": "20MB", "processes": 32}
    for text, outcome in bench.outcomes(timeouts, **limits).items():
        said = (outcome.error, *(result.fault for result in outcome.results))
        assert any(expected[kernels[text]] in each for each in said), (kernels[text], outcome)


THIEF = """
import gc, glob
def kernel(x):
    found = []
    paths = glob.glob("/dev/shm/*") + glob.glob(FOLDER + "/**", recursive=True)
    paths += [FOLDER + "/reference.py"]
    for pid in PIDS:
        paths += [f"/proc/{pid}/mem", f"/proc/{pid}/environ", *glob.glob(f"/proc/{pid}/fd/*")]
    for path in paths:
        try:
            if path.endswith("/mem"): texts = list(pieces(path))
            elif os.path.isfile(path): texts = [open(path, "rb").read(1 << 20)]
            else: continue
        except OSError: continue
        found += [path] * any(MARK in text for text in texts)
    for thing in gc.get_objects():
        if isinstance(thing, (bytearray, memoryview)) and MARK in bytes(thing): found.append("gc")
    found += [name for name, value in os.environ.items() if MARK.decode() in value]
    frame = sys._getframe()
    while frame:
        found += [k for k, v in frame.f_locals.items() if type(v) is bytes and MARK in v]
        frame = frame.f_back
    kernel.found = found
    return x
def pieces(path):
    with open(path.replace("/mem", "/maps")) as maps, open(path, "rb", 0) as memory:
        for line in maps:
            first, last = (int(n, 16) for n in line.split()[0].split("-"))
            if "r" in line.split()[1] and last - first < 1 << 28 and "[v" not in line:
                memory.seek(first)
                try: yield memory.read(last - first)
                except OSError: pass
kernel.notes = lambda: kernel.found
"""


@needs_proc
def test_golden_values_are_not_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the parent's memory and environment, nor in another sandbox, a file or the mapping."""
    secret = os.urandom(24).hex()
    monkeypatch.setenv("GDCORE_SECRET", secret)
    masked = bytes(byte ^ 0x55 for byte in secret.encode())
    prelude = f"FOLDER = {str(bench.folder)!r}\nMARK = bytes(b ^ 0x55 for b in {masked!r})\n"
    held = Operand(secret.encode() * 2, "uint8", (96,), (1,))
    reference = bench.folder / "reference.py"
    for bare in (False, True):
        if bare:
            without_namespaces(monkeypatch, bench.folder)
            reference.unlink()
        else:
            reference.write_text(f"SECRET = {secret!r}")
        with bench.sandbox("def kernel(x): return x.copy()", role="golden") as golden:
            assert golden.run([[held]]).results[0].operands[0].raw == held.raw
            held_by = golden._process._family
            assert held_by
            pids = f"PIDS = {[os.getpid(), held_by.keeper, held_by.worker]}\n"
            with bench.sandbox(
                prelude + pids + THIEF, hidden=[reference], memory="100MB"
            ) as sandbox:
                outcome = sandbox.run([[X]])
                is_open = any("it may read" in limit for limit in sandbox.limits)
        assert not outcome.error
        if not bare and is_open:  # the system allows no namespaces, and says so
            assert outcome.notes == (str(reference),) * len(outcome.notes)
        else:
            assert not outcome.notes, sandbox.limits


@needs_proc
def test_without_namespaces_nothing_is_left_either(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then processes are found as descendants, also in sessions of their own."""
    without_namespaces(monkeypatch, bench.folder)
    bodies = (HANGS[0], HANGS[3], HANGS[4])
    kernels = {f"{TOOLS}\ndef kernel(x):\n    {body}": 1.5 for body in bodies}
    kernels["def kernel(x):\n    while True:\n        if os.fork(): os._exit(0)"] = 20.0
    said = [outcome.error for outcome in bench.outcomes(kernels, processes=32).values()]
    late = "it gave no answer within 1."
    assert said[0].startswith(("it started more than 32 processes", late))
    assert said[1].startswith(late)
    assert said[2].startswith(("it stopped itself", late))
    assert "ended without an answer" in said[3]


@needs_proc
def test_work_after_the_answer_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and processes that go on are reported, and a result is what it was at the answer."""
    thread = """
    import threading
    def kernel(x):
        result = np.zeros_like(x)
        threading.Thread(target=finish, args=(x.copy(), result), daemon=True).start()
        return result
    def finish(x, result):
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end: pass
        result[...] = x
        while True: pass
    """
    daemon = """
    def kernel(x):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0: time.sleep(60)
            os._exit(0)
        return x.copy()
    """
    pool = """
    from concurrent.futures import ThreadPoolExecutor
    executor = ThreadPoolExecutor(3)
    def kernel(x):
        return np.stack(list(executor.map(lambda row: row * 2, x)))
    """
    with bench.sandbox(thread) as sandbox:
        outcome = sandbox.run([[X]])
    assert values(outcome) == np.zeros((3, 4)).tolist()
    assert any("went on computing after its answer" in note for note in outcome.notes)
    with bench.sandbox(daemon) as sandbox, monkeypatch.context() as patches:
        patches.setattr(family, "_LISTS_CHILDREN", Path("/nowhere"))
        outcome = sandbox.run([[X]])
    assert values(outcome) == X.values().tolist()
    assert "processes that it had started were alive after its answer" in outcome.notes
    with bench.sandbox(pool) as sandbox:
        outcomes = [sandbox.run([[X]]) for _ in range(5)]
    assert all(values(outcome) == (2 * X.values()).tolist() for outcome in outcomes)
    assert not any(outcome.notes for outcome in outcomes)


@needs_proc
def test_nothing_is_left_of_a_parent_that_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper ends the process with all that it started, and removes its folder."""
    kernel = bench.folder / "kernel.py"
    daemon = "import os, time\nif not os.fork():\n    os.setsid()\n    time.sleep(60)\n"
    kernel.write_text(daemon + "def kernel(x): return x")
    without_namespaces(monkeypatch, bench.folder)
    script = f"""
import pathlib, tempfile, time
from gdcore.referee import confined
confined._HERE = pathlib.Path({str(confined._HERE)!r})
tempfile.tempdir = {tempfile.gettempdir()!r}
from gdcore.referee.process import Sandbox
sandbox = Sandbox({str(kernel)!r}, loader={str(bench.folder / "loader.py:load")!r}, arrays="numpy")
print(repr(sandbox.ready()), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"''\n"
        assert left_over()
        parent.kill()
    end = time.perf_counter() + SLACK
    while left_over() and time.perf_counter() < end:
        time.sleep(0.01)
    assert not left_over()
