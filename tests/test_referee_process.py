"""Kernels that hang, kill, steal or lie: each ends in a sentence, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gdcore.oracle.trials import exchange, libraries
from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.runner import POISON, Outcome, Returned
from gdcore.referee import confined, family
from gdcore.referee.family import can_look
from gdcore.referee.process import Sandbox, size_of

X = Operand.of(np.arange(12.0).reshape(3, 4), "float32")
Y = Operand.of(np.arange(12.0).reshape(3, 4) ** 2, "float32", order=(1, 0))
LOADER = """
import runpy
def load(path, role, options):
    return runpy.run_path(path)[options.get("name", "kernel")]
"""
SLACK = 8.0  # seconds; 2 on a machine that does nothing else
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
                sandbox.end_within(kernels[text])
                begin = time.perf_counter()
                found[text] = sandbox.run([[X]])
                sandbox.close()
                assert time.perf_counter() - begin < kernels[text] + SLACK, found[text]
        assert not left_over()
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield Bench(tmp_path)
    assert not left_over()


def left_over() -> list[str]:
    """Return processes that were given one of our folders, and such folders."""
    here = tempfile.gettempdir()
    found = [str(path) for path in Path(here).glob("gdcore-*")]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if here.encode() in environment and state not in "ZX":
            found.append(entry.name)
    return found


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


def test_results_of_all_kinds(bench: Bench) -> None:
    """Empty arrays, numbers and nested containers come back; what is no array is a fault."""
    kernel = """
    def kernel(x):
        last = np.zeros((0, 3)) if x.ndim else 10**30
        return x * 2, [x.sum(), (True, np.float16(2))], {"last": last}
    """
    empty = Operand.of(np.zeros((0, 4)), "float64")
    number = Operand.of(3.0, "float32")
    with bench.sandbox(kernel) as sandbox:
        outcome = sandbox.run([[X], [empty], [number]])
    kinds = [("float32", ()), ("bool", ()), ("float16", ()), ("float64", (0, 3))]
    first, second, third = outcome.results
    assert [(x.dtype, x.shape) for x in first.operands] == [("float32", (3, 4)), *kinds]
    assert second.operands[0] == Operand(b"", "float64", (0, 4), (4, 1))
    assert "object" in third.fault


def test_a_result_is_what_it_was_at_the_answer() -> None:
    """Only poison that came into it later is seen in it: it lies where the arguments do."""
    early, late = (Operand(raw, "uint8", (4,), (1,)) for raw in (b"abcd", b"aX\x7fd"))
    results, written = exchange._joined(
        [Returned((early,))] * 2, [Returned((x,)) for x in (late, early)]
    )
    assert results[0].operands[0].raw == b"ab\x7fd"
    assert results[1].operands[0] == early
    assert written == [0]


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
    if sys.platform == "linux":  # what an allocator returns elsewhere is not known
        assert set(outcomes[8].results[0].operands[0].raw) == {POISON}


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


def without_namespaces(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have the keeper find that the system allows no namespaces."""
    here = folder / "without"
    here.mkdir()
    for name in ("keeper.py", "worker.py"):
        text = (confined._HERE / name).read_text()
        (here / name).write_text(text.replace('_libc("unshare",', '_libc("unshare", -1 |'))
    monkeypatch.setattr(confined, "_HERE", here)


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
    late = "it gave no answer within"
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


def test_torch(bench: Bench) -> None:
    """Tensors in any layout and parameters; lazy results are faults; calls are listed."""
    pytest.importorskip("torch")
    kernel = """
    import torch
    class Lazy(torch.Tensor): pass
    mode = 0
    def kernel(x):
        global mode
        mode += 1
        if mode == 1: return torch.softmax(x, -1)
        if mode == 2: return torch.nn.Parameter(x * 2), (x.bfloat16().T,)
        if mode == 3: return (x + 1).as_subclass(Lazy)
        if mode == 4: return torch.empty(3, 4, device="meta")
        if mode == 5: return (x + 1).to_sparse()
        if mode == 6: return torch.empty(3, 4)
        if mode == 7: return x.T
        if mode == 8: return x.expand(2, 3, 4).clone().numpy()
    """
    with bench.sandbox(kernel, arrays="torch") as sandbox:
        outcomes = [sandbox.run([[Y]], trace=i == 0) for i in range(8)]
        assert "no card was used" in sandbox.limits
    y = Y.values()
    exact = np.exp(y - y.max(-1, keepdims=True))
    np.testing.assert_allclose(values(outcomes[0]), exact / exact.sum(-1, keepdims=True), 1e-6)
    assert outcomes[0].library_calls == ("aten::_softmax",)
    first, second = outcomes[1].results[0].operands
    assert (first.values() == 2 * y).all()
    assert second.dtype == "bfloat16"
    assert second.shape == (4, 3)
    faults = [outcome.results[0].fault for outcome in outcomes[2:5]]
    for word, fault in zip(("Lazy", "meta", "sparse"), faults, strict=True):
        assert word in fault
    for outcome in outcomes[5:7] if sys.platform == "linux" else outcomes[6:7]:
        assert set(outcome.results[0].operands[0].raw) == {POISON}
    assert outcomes[7].results[0].operands[0].shape == (2, 3, 4)


def test_results_on_a_card_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a device that only looks like a card: all is moved there and back, and waited for."""
    torch = pytest.importorskip("torch")
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("wait"))
    monkeypatch.setattr(libraries, "_CACHE", 1 << 12)
    card = libraries.library("torch", "cpu:0")
    memory = bytearray(1 << 12)
    memory[:48] = X.raw
    described = [[X.description() | {"offset": 0, "span": X.span}]]
    ((x,),) = card.views(memory, described)
    assert waited == ["wait"]
    assert x.data_ptr() != torch.frombuffer(memory, dtype=torch.float32).data_ptr()
    (same,) = card.views(memory, described)[0]
    assert same.data_ptr() == x.data_ptr()
    card.poison([64, 128])
    assert len(waited) == 3
    result, about = card.described(x * 2)
    card.copy(result, about, memory, 1024)
    assert len(waited) == 4
    assert np.frombuffer(memory, np.float32, 12, 1024).tolist() == (2 * X.values()).ravel().tolist()
    x.zero_()
    card.give_back(memory)
    assert set(memory[:48]) == {0}
    memory[:48] = bytes([POISON]) * 48
    card.take_again(memory)
    assert (x == x[0, 0]).all()
    assert x[0, 0] != 0


def test_sandboxes_that_cannot_be(bench: Bench) -> None:
    """Sizes that are none are refused; a file that does not load says why, each time."""
    for size in ("", "4 apples", "-1GB", "0", "1.2.3MB"):
        with pytest.raises(ValueError, match="is not a size"):
            size_of(size)
    with bench.sandbox("raise OSError('none')") as sandbox:
        assert sandbox.ready() == "OSError: none"
        outcome = sandbox.run([[X]])
        assert outcome.fatal
        assert outcome.error == "OSError: none"
    with bench.sandbox("time.sleep(60)", timeout=1.0) as sandbox:
        assert "no answer within" in sandbox.ready()
    with bench.sandbox("def kernel(x): return x + 1", memory="60MB") as sandbox:
        large = Operand.of(np.zeros(10**6), "float64")
        outcome = sandbox.run([[large] * 2])
        assert "give the process more memory" in outcome.error
        assert not outcome.fatal
        sandbox.close()
        assert sandbox.run([[X]]).fatal


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
