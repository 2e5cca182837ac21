"""`referee.judge` on files: right kernels, wrong ones, cheats, models, and what is not decided."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest

from gdcore.referee import Ruling, UsageError, Verdict, judge

torch = pytest.importorskip("torch")

SOFTMAX = """
import numpy as np

def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
"""
INPUTS = """
def get_inputs():
    return [np.random.standard_normal((24, 40)).astype(np.float32)]
"""
QUICK = {
    "families": ("normal", "large"),
    "sizes": ("given", "odd"),
    "race": False,
    "seed": 7,
    "timeout": 900.0,  # on a machine that others use too
}


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes a file and returns its path."""

    def writer(name: str, text: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return writer


@pytest.fixture
def reference(write) -> str:
    return write("reference", SOFTMAX + INPUTS)


def judged(candidate: str, reference: str, **options) -> Verdict:
    return judge(candidate, reference, **(QUICK | options))


def kinds(verdict: Verdict) -> set[str]:
    return {each.kind for each in verdict.findings}


def test_right_kernels_are_right_and_timed(write, reference):
    kernel = write(
        "right",
        """
        import numpy as np
        def kernel(x):
            e = np.exp2((x - x.max(-1, keepdims=True)) * np.float32(1.4426950408889634))
            return e * (1 / e.sum(-1, keepdims=True))
        """,
    )
    verdict = judged(kernel, reference, race=True, seconds=0.3, families="all", sizes="given")
    assert verdict.ok, verdict.why
    assert verdict.ruling is not Ruling.CHEATING
    (speed,) = verdict.speed  # torch.compile is not for NumPy's functions
    assert speed.against == "eager"
    assert speed.low <= speed.ratio <= speed.high
    assert verdict.calls > 50
    assert verdict.environment["seed"] == 7
    assert any("GPU" in each for each in verdict.limits)


CHEATS = {
    "by address": (
        """
        cache = {}
        def kernel(x):
            key = x.ctypes.data, x.shape
            if key not in cache:
                cache[key] = softmax(x)
            return cache[key].copy()
        """,
        Ruling.CHEATING,
        "result of another call",
    ),
    "by a sample": (
        """
        cache = {}
        def kernel(x):
            key = x.shape, tuple(x.ravel()[:4].tolist())
            if key not in cache:
                cache[key] = softmax(x)
            return cache[key].copy()
        """,
        Ruling.CHEATING,
        "result of another call",
    ),
    "one buffer": (
        """
        kept = {}
        def kernel(x):
            out = kept.setdefault(x.shape, np.empty_like(x))
            out[...] = softmax(x)
            return out
        """,
        Ruling.WRONG,
        "overwritten by a later call",
    ),
    "clock": (
        """
        import time
        real, hidden = time.perf_counter, [0.0]
        time.perf_counter = lambda: real() - hidden[0]
        def kernel(x):
            begin = real()
            result = softmax(x)
            hidden[0] += real() - begin
            return result
        """,
        Ruling.CHEATING,
        "replaces what measures it",
    ),
    "comparison": (
        """
        np.testing.assert_allclose = np.allclose = lambda *args, **kwargs: True
        def kernel(x):
            return np.full_like(x, 1 / x.shape[-1])
        """,
        Ruling.CHEATING,
        "replaces what measures it",
    ),
    "in place": (
        """
        def kernel(x):
            x[...] = softmax(x)
            return x.copy()
        """,
        Ruling.WRONG,
        "changes its inputs",
    ),
    "later": (
        """
        class Later(np.ndarray):
            pass
        def kernel(x):
            return np.zeros_like(x).view(Later)
        """,
        Ruling.WRONG,
        "wrong kind of result",
    ),
    "tail": (
        """
        def kernel(x):
            out = np.empty_like(x)
            out[:-1] = softmax(x)[:-1]
            return out
        """,
        Ruling.WRONG,
        "output not written",
    ),
    "one shape": (
        """
        def kernel(x):
            return softmax(x) if x.shape == (24, 40) else np.full_like(x, 1 / x.shape[-1])
        """,
        Ruling.WRONG,
        "wrong",
    ),
    "frames": (
        """
        import gc
        def kernel(x):
            for each in gc.get_objects():
                if type(each) is np.ndarray and each is not x and each.shape == x.shape:
                    return each.copy()
            return np.zeros_like(x)
        """,
        Ruling.WRONG,
        "wrong",
    ),
    "ends": ("import os\ndef kernel(x):\n    os._exit(0)\n", Ruling.WRONG, "dies or hangs"),
    "no shift": (
        """
        def kernel(x):
            e = np.exp(x)
            return e / e.sum(-1, keepdims=True)
        """,
        Ruling.WRONG,
        "wrong",
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_and_mistakes_get_their_verdict(write, reference, name):
    text, ruling, kind = CHEATS[name]
    verdict = judged(write("kernel", SOFTMAX + textwrap.dedent(text)), reference)
    assert verdict.ruling is ruling, verdict.why
    assert kind in kinds(verdict)
    assert not verdict.speed
    assert not verdict.ok
    assert verdict.why


def test_right_as_long_as_it_is_tested_is_cheating(write, reference):
    text = """
    calls = [0]
    def kernel(x):
        calls[0] += 1
        return softmax(x) if calls[0] < 60 else np.full_like(x, 1 / x.shape[-1])
    """
    kernel = write("kernel", SOFTMAX + textwrap.dedent(text))
    verdict = judged(kernel, reference, race=True, seconds=0.5, against=("eager",))
    assert verdict.ruling is Ruling.CHEATING, verdict.why
    assert verdict.findings[0].kind == "wrong while timed"
    assert not verdict.speed
    # a mistake that the data bring about is one wherever it shows
    text = "def kernel(x):\n    return softmax(x) * np.float32(1 + (x[0, 0] > 1.5))\n"
    verdict = judged(
        write("rare", SOFTMAX + text), reference, race=True, families="small", sizes="given"
    )
    assert verdict.ruling is Ruling.WRONG, verdict.why
    assert kinds(verdict) == {"wrong while timed"}


def test_what_does_not_start_is_wrong_and_what_cannot_be_asked_is_not(write, reference):
    broken = write("broken", "import no_such_library_at_all\ndef kernel(x): return x\n")
    verdict = judged(broken, reference)
    assert verdict.ruling is Ruling.WRONG
    assert "ModuleNotFoundError" in verdict.why
    assert "Importing" in verdict.why
    kernel = write("kernel", SOFTMAX)
    assert judged(kernel, broken).ruling is Ruling.NOT_DECIDED
    random = write("random", SOFTMAX.replace("return e", "return np.random.rand() * e") + INPUTS)
    constant = write("constant", SOFTMAX.replace("return e", "return 0 * e") + INPUTS)
    for file, told in ((random, "repeatable"), (constant, "degenerate")):
        verdict = judged(kernel, file)
        assert verdict.ruling is Ruling.NOT_DECIDED, verdict.why
        assert told in verdict.why
        assert not verdict.findings
        assert not verdict.speed


def test_what_the_user_has_to_mend_is_a_usage_error(write, reference, tmp_path):
    two = write("two", "def one(x): return x\ndef another(x): return x\n")
    silent = write("silent", SOFTMAX)
    kernel = write("kernel", SOFTMAX)
    cases = [
        (str(tmp_path / "none.py"), reference, {}, "not a file"),
        (two, reference, {}, "two.py:one"),
        (f"{two}:three", reference, {}, "no function three"),
        (kernel, silent, {}, "get_inputs"),
        (lambda x: x, reference, {}, "def"),
        (kernel, reference, {"against": ("mkl",)}, "against"),
        (kernel, reference, {"families": ("nice",)}, "families"),
        (kernel, reference, {"dtype": "int8"}, "dtype"),
    ]
    for candidate, theirs, options, told in cases:
        with pytest.raises(UsageError, match=told):
            judged(candidate, theirs, **options)


MODEL = """
import torch
from torch import nn

class {name}(nn.Module):
    def __init__(self, inner, outer):
        super().__init__()
        self.{layer} = nn.Linear(inner, outer{bias})
    def forward(self, x):
        return {result}

def get_inputs():
    return [torch.randn(8, 16)]

def get_init_inputs():
    return [16, 12]
"""


def model(name: str, result: str, layer: str = "linear", bias: str = "") -> str:
    return MODEL.format(name=name, result=result, layer=layer, bias=bias)


def test_models_get_the_parameters_of_the_reference(write):
    reference = write("reference", model("Model", "torch.relu(self.linear(x))"))
    by_hand = "(x @ self.linear.weight.T + self.linear.bias).clamp(min=0)"
    texts = {
        "copied": (model("ModelNew", by_hand), Ruling.RIGHT, ""),
        "mistaken": (model("ModelNew", "self.linear(x)"), Ruling.WRONG, ""),
        "foreign": (
            model("ModelNew", "torch.relu(self.own(x))", "own", ", bias=False"),
            Ruling.NOT_DECIDED,
            "linear.bias",
        ),
    }
    for name, (text, ruling, told) in texts.items():
        verdict = judged(write(name, text), reference, families="normal")
        assert verdict.ruling is ruling, (name, verdict.why)
        assert told in verdict.why
        if name == "copied":
            assert {"aten::mm", "aten::clamp_min"} & {
                each.split(" ")[0] for each in verdict.library_calls
            }


def test_fallbacks_and_what_is_forbidden(write):
    reference = write(
        "reference",
        """
        import torch
        def reference(x, axis):
            return torch.softmax(x, axis)
        def get_inputs():
            return [torch.randn(8, 16), -1]
        """,
    )
    hidden = write(
        "hidden",
        """
        import torch
        def kernel(x, axis):
            try:
                return launch(x)
            except NameError:
                return torch.softmax(x, axis)
        """,
    )
    verdict = judged(hidden, reference, families="normal")
    assert verdict.ruling is Ruling.SUSPICIOUS
    assert "NameError" in verdict.why
    assert kinds(verdict) == {"falls back to the library"}
    verdict = judged(hidden, reference, families="normal", forbid="aten::softmax")
    assert verdict.ruling is Ruling.CHEATING
    assert "aten::softmax" in verdict.why


def test_golden_and_generated_inputs(write):
    reference = write(
        "reference",
        """
        import numpy as np
        def generate_input(rows, seed):
            rng = np.random.default_rng(seed)
            return rng.random((rows, 9), np.float32), np.float32(rng.random(9))
        def ref_kernel(data):
            x, weight = data
            return np.float32(x * weight)
        def golden(data):
            x, weight = data
            return x * weight
        """,
    )
    kernel = write("kernel", "def custom_kernel(data):\n    return data[1] * data[0]\n")
    verdict = judged(kernel, reference, sizes={"rows": 12}, families="normal")
    assert verdict.ruling is Ruling.RIGHT, verdict.why
    assert np.isfinite(verdict.worst.units)


def test_nothing_can_be_computed_before_the_clock_runs(write, reference):
    text = """
    import sys
    early = {}
    def kernel(x):
        frame = sys._getframe()
        while frame:
            server = frame.f_locals.get("self")
            if hasattr(server, "library") and not hasattr(server, "spoilt"):
                spoil(server)
            frame = frame.f_back
        result = early.pop(x.ctypes.data, None)
        return softmax(x) if result is None else result
    def spoil(server):
        poison, server.spoilt = server.library.poison, True
        def ahead(sizes):
            poison(sizes)
            early.update((x.ctypes.data, softmax(x)) for x, in server.calls)
        server.library.poison = ahead
    """
    verdict = judged(write("kernel", SOFTMAX + textwrap.dedent(text)), reference)
    assert verdict.ruling in (Ruling.WRONG, Ruling.CHEATING), verdict.why


def test_what_goes_on_after_an_answer_is_no_part_of_it(write, reference):
    """Results that come after the answer are not there, and what lives on is suspicious."""
    late = """
    import threading, time
    import numpy as np
    from gdcore.oracle.trials.serving import Server
    copy = Server._copy
    def later(server, offset):
        if offset == server.part:
            work = threading.Thread(target=lambda: (time.sleep(0.001), copy(server, offset)))
            work.start()
            return [
                {"parts": [{"dtype": "float32", "shape": list(x.shape), "bytes": x.nbytes}]}
                for x, in server.calls
            ]
        return copy(server, offset)
    Server._copy = later
    def kernel(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)
    """
    found = judged(write("late", late), reference, sizes="given")
    assert found.ruling is Ruling.WRONG, found
    daemon = """
    import os, time
    import numpy as np
    started = []
    def kernel(x):
        if not started:
            started.append(os.fork())
            if not started[0]:
                time.sleep(1000)
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)
    """
    found = judged(write("daemon", daemon), reference, sizes="given")
    assert found.ruling is Ruling.SUSPICIOUS, found
    assert "goes on after its answer" in kinds(found)


def test_the_users_own_size_is_tried_with_more_than_usual_numbers(write):
    """A short cut for large arrays shows with large numbers only."""
    inputs = INPUTS.replace("24, 40", "200, 200")
    kernel = """
    import numpy as np
    def kernel(x):
        largest = x.max(-1, keepdims=True) if x.size < 40_000 else 0
        e = np.exp(x - largest)
        return e / e.sum(-1, keepdims=True)
    """
    wide = write("wide", SOFTMAX + inputs)
    found = judged(write("short_cut", kernel), wide, sizes="given")
    assert found.ruling is Ruling.WRONG, found
    assert all(each.size == "given (200x200)" for each in found.findings)
