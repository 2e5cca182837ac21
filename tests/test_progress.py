"""A progress callable is called after every slice of work, in every kind of fit."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
from fits import bits, draw, slow_blocks
from gdcore.chunks.prefetch import ahead
from loops import each

Calls = list[tuple[int, int, float]]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((480_000, 12))
Y = X.sum(axis=1) + RNG.standard_normal(480_000)
FEW_X, FEW_Y = X[:160_000], Y[:160_000]
STACK = FEW_X.reshape(1600, 100, 12), FEW_Y.reshape(1600, 100)
LABELS = np.arange(160_000) % 500
SGD = gd.SGD()


def chunks() -> Iterator[Any]:
    for begin in range(0, 480_000, 200_000):
        yield X[begin : begin + 200_000], Y[begin : begin + 200_000]


WAYS: dict[str, Callable[..., Any]] = {
    "exact": lambda **how: gd.fit(X, Y, method="exact", **how),
    "gram": lambda **how: gd.fit(X, Y, SGD, method="gram", **how),
    "stream": lambda **how: gd.fit(X, Y, SGD, method="stream", **how),
    "batches": lambda **how: gd.fit(X, Y, SGD, batch_size=4000, **how),
    "stack": lambda **how: gd.fit(*STACK, SGD, **how),
    "stack exact": lambda **how: gd.fit(*STACK, method="exact", **how),
    "groups": lambda **how: gd.fit_groups(FEW_X, FEW_Y, LABELS, SGD, **how),
    "groups exact": lambda **how: gd.fit_groups(FEW_X, FEW_Y, LABELS, method="exact", **how),
    "chunks": lambda **how: gd.fit(chunks, sgd=SGD, **how),
    "chunks exact": lambda **how: gd.fit(chunks, method="exact", **how),
    "chunks stream": lambda **how: gd.fit(chunks, sgd=SGD, method="stream", **how),
}  # fmt: skip


@each("name", WAYS)
def test_every_slice_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With slices of no length, the sums, the curvature and the closed form take several."""
    monkeypatch.setattr("gdcore.data.slices.SECONDS", 0.0)
    monkeypatch.setattr("gdcore.solvers.progress._Callback.quiet", 0.0)
    calls: Calls = []
    WAYS[name](progress=lambda *args: calls.append(args), epochs=3, tol=None)
    done, targets, _ = zip(*calls, strict=True)
    before = [epoch for epoch in done if epoch == 0]
    assert len(before) >= 2
    assert list(done) == sorted(done)
    assert set(targets) <= {3, 500, 1600}


def test_epochs_count_on_from_an_earlier_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step too, while the moments are summed."""
    monkeypatch.setattr("gdcore.solvers.progress._Callback.quiet", 0.0)
    monkeypatch.setattr("gdcore.data.slices.SECONDS", 0.0)
    first = gd.fit(X, Y, SGD, epochs=4, tol=None)
    calls: Calls = []
    how: dict[str, Any] = {"progress": lambda *args: calls.append(args), "epochs": 3, "tol": None}
    gd.fit(X, Y, SGD, init=first, method="gram", **how)
    assert {epoch for epoch, _, _ in calls} <= {4, 5, 6, 7}
    assert {target for _, target, _ in calls} == {7}
    assert calls[-1][0] == 7


def test_a_fit_within_a_callable_reports_its_own() -> None:
    outer: Calls = []
    inner: Calls = []

    def tell(*args: Any) -> None:
        if not outer:
            gd.fit(X[:90], Y[:90], SGD, epochs=2, tol=None)
            gd.fit(X[:90], Y[:90], SGD, epochs=2, tol=None, progress=lambda *a: inner.append(a))
        outer.append(args)

    gd.fit(X, Y, SGD, epochs=5, tol=None, progress=tell)
    assert {target for _, target, _ in outer} == {5}
    assert {target for _, target, _ in inner} == {2}
    moments = gd.Moments(12).update(X, Y)
    moments.fit(SGD, epochs=2, tol=None, progress=lambda *a: inner.append(a))
    assert inner[-1][:2] == (2, 2)


def test_a_callable_may_end_a_fit_before_its_first_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    def tell(*_: Any) -> None:
        raise Enough

    monkeypatch.setattr("gdcore.data.slices.SECONDS", 0.0)
    monkeypatch.setattr("gdcore.solvers.progress._Callback.quiet", 0.0)
    for method in ("exact", "gram", "stream"):
        with pytest.raises(Enough):
            gd.fit(X, Y, SGD, method=method, progress=tell)
    gd.fit(X, Y, SGD, epochs=1, tol=None)


def test_waiting_for_rows_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a slow source is read."""
    monkeypatch.setattr("gdcore.solvers.progress._Callback.quiet", 0.0)
    monkeypatch.setattr("gdcore.chunks.prefetch._POLL", 0.01)

    def slow() -> Iterator[Any]:
        for chunk in chunks():
            time.sleep(0.25)
            yield chunk

    calls: Calls = []
    gd.fit(slow, method="exact", progress=lambda *args: calls.append(args))
    assert len(calls) > 10
    assert list(ahead(iter([1, 2, 3]))) == [1, 2, 3]


# What is called and shown.


def test_progress_calls(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_blocks(monkeypatch)
    problem = draw(rng, n=8000, d=64)
    calls: list[tuple[int, int, float]] = []
    options: dict[str, Any] = {"epochs": 30, "tol": None, "method": "stream"}
    result = fits.fit(problem, progress=lambda *call: calls.append(call), **options)
    assert len(calls) > 5
    epochs, targets, losses = zip(*calls, strict=True)
    assert set(targets) == {30}
    assert fits.falls(epochs[::-1])
    assert epochs[-1] == 30
    assert all(type(e) is int and type(x) is float for e, _, x in calls)
    known = dict(zip(result.history.epoch.tolist(), result.history.loss.tolist(), strict=True))
    assert all(known[e] == x for e, x in zip(epochs, losses, strict=True) if e)


def test_progress_counts_on_after_a_warm_start(rng: Any) -> None:
    problem, calls = draw(rng), list[tuple[int, int, float]]()
    first = fits.fit(problem, epochs=5, tol=None)
    how: dict[str, Any] = {"epochs": 5, "tol": None, "init": first}
    fits.fit(problem, progress=lambda *call: calls.append(call), **how)
    assert calls[-1][:2] == (10, 10)


def test_progress_does_not_change_a_bit(rng: Any, capsys: Any) -> None:
    problem = draw(rng)
    shown: tuple[Any, ...] = (False, True, lambda *_: None)
    assert len({str(bits(fits.fit(problem, epochs=50, progress=p))) for p in shown}) == 1


def test_an_error_in_the_callable_comes_through(rng: Any) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        fits.fit(draw(rng), progress=fail)


class Screen(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(rng: Any, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO) -> str:
    slow_blocks(monkeypatch)
    monkeypatch.setattr(sys, "stderr", stderr)
    problem = draw(rng, n=8000, d=64)
    fits.fit(problem, epochs=30, tol=None, method="stream", progress=True)
    return stderr.getvalue()


LINE = r"epoch \d+/30  loss [-+.\de]+\n"


def test_plain_lines_where_there_is_no_terminal(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(rng, monkeypatch, io.StringIO())
    assert re.fullmatch(f"({LINE})+", text)
    assert text.count("\n") > 5
    assert text.splitlines()[-1].startswith("epoch 30/30")


def test_a_bar_on_a_terminal(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    text = shown(rng, monkeypatch, Screen())
    assert "30/30" in text
    assert "━" in text
    assert not re.search(LINE, text)


def test_plain_lines_without_rich(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    assert re.fullmatch(f"({LINE})+", shown(rng, monkeypatch, Screen()))
