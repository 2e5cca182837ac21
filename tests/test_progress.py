"""A progress callable hears of every slice of work, whatever a fit is busy with."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from gdcore.chunks.prefetch import ahead
from loops import each

Told = list[tuple[int, int, float]]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((480_000, 12))
Y = X.sum(axis=1) + RNG.standard_normal(480_000)
STACK = X.reshape(1600, 300, 12), Y.reshape(1600, 300)
LABELS = np.arange(480_000) % 500
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
    "groups": lambda **how: gd.fit_groups(X, Y, LABELS, SGD, **how),
    "groups exact": lambda **how: gd.fit_groups(X, Y, LABELS, method="exact", **how),
    "chunks": lambda **how: gd.fit(chunks, sgd=SGD, **how),
    "chunks exact": lambda **how: gd.fit(chunks, method="exact", **how),
    "chunks stream": lambda **how: gd.fit(chunks, sgd=SGD, method="stream", **how),
}  # fmt: skip


@each("name", WAYS)
def test_every_slice_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With slices of no length, the sums, the curvature and the closed form take many."""
    for module in [m for key, m in sys.modules.items() if key.startswith("gdcore.")]:
        if hasattr(module, "BLOCK_SECONDS"):
            monkeypatch.setattr(module, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr("gdcore.solvers.progress._Callback.quiet", 0.0)
    told: Told = []
    WAYS[name](progress=lambda *args: told.append(args), epochs=3, tol=None)
    done, targets, _ = zip(*told, strict=True)
    before = [epoch for epoch in done if epoch == 0]
    assert len(before) >= 2
    assert list(done) == sorted(done)
    assert set(targets) <= {3, 500, 1600}


def test_epochs_count_on_from_an_earlier_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step too, while the moments are summed."""
    monkeypatch.setattr("gdcore.solvers.progress._Callback.quiet", 0.0)
    monkeypatch.setattr("gdcore.solvers.method.BLOCK_SECONDS", 0.0)
    first = gd.fit(X, Y, SGD, epochs=4, tol=None)
    told: Told = []
    how: dict[str, Any] = {"progress": lambda *args: told.append(args), "epochs": 3, "tol": None}
    gd.fit(X, Y, SGD, init=first, method="gram", **how)
    assert {epoch for epoch, _, _ in told} <= {4, 5, 6, 7}
    assert {target for _, target, _ in told} == {7}
    assert told[-1][0] == 7


def test_a_fit_within_a_callable_tells_its_own() -> None:
    outer: Told = []
    inner: Told = []

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

    monkeypatch.setattr("gdcore.solvers.exact.BLOCK_SECONDS", 0.0)
    monkeypatch.setattr("gdcore.solvers.progress._Callback.quiet", 0.0)
    for method in ("exact", "gram", "stream"):
        with pytest.raises(Enough):
            gd.fit(X, Y, SGD, method=method, progress=tell)
    gd.fit(X, Y, SGD, epochs=1, tol=None)


def test_waiting_for_rows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a slow source is read."""
    monkeypatch.setattr("gdcore.solvers.progress._Callback.quiet", 0.0)
    monkeypatch.setattr("gdcore.chunks.prefetch._LOOK", 0.01)

    def slow() -> Iterator[Any]:
        for chunk in chunks():
            time.sleep(0.25)
            yield chunk

    told: Told = []
    gd.fit(slow, method="exact", progress=lambda *args: told.append(args))
    assert len(told) > 10
    assert list(ahead(iter([1, 2, 3]))) == [1, 2, 3]
