"""What sandboxes give kernels and take from them: layouts, results of all kinds, mistakes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gdcore.oracle.trials import exchange, libraries
from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.runner import POISON, Returned
from gdcore.referee.process import size_of
from sandboxes import Bench, X, Y, opened, values


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from opened(tmp_path, monkeypatch)


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
        return x * 2, [x.sum(), (True, np.float16(2))], {"last": last}, (x + 1).astype(">f4")
    """
    empty = Operand.of(np.zeros((0, 4)), "float64")
    number = Operand.of(3.0, "float32")
    with bench.sandbox(kernel) as sandbox:
        outcome = sandbox.run([[X], [empty], [number]])
    kinds = [("float32", ()), ("bool", ()), ("float16", ()), ("float64", (0, 3))]
    first, second, third = outcome.results
    whole = ("float32", (3, 4))
    assert [(x.dtype, x.shape) for x in first.operands] == [whole, *kinds, whole]
    assert (first.operands[-1].values() == X.values() + 1).all()
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
    assert outcomes[2].results[0].fault == "It returned NoneType, not a plain array or tensor."
    assert "Lazy" in outcomes[3].results[0].fault
    assert set(outcomes[4].results[0].operands[0].raw) == {POISON}
    assert outcomes[5].changed == ((0, 0),)
    assert "complex64" in outcomes[6].results[0].fault
    assert outcomes[7].results[0].operands[0].dtype == "float16"
    if sys.platform == "linux":  # what an allocator returns elsewhere is not known
        assert set(outcomes[8].results[0].operands[0].raw) == {POISON}


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
    card.copy(x * 2, memory, 1024)
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
