"""Loops inside tests: every case runs on its own, and each failure is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import gdcore as gd
from conftest import ISAS
from loops import each


def test_every_failing_case_is_named() -> None:
    seen = []

    @each("a", [1, 2, 3])
    @each("b, c", [(4, 5), (6, 7)])
    def body(a: int, b: int, c: int) -> None:
        seen.append((a, b, c))
        assert a != 2
        with pytest.raises(ZeroDivisionError):
            divmod(1, c - 5)

    with pytest.raises(AssertionError) as caught:
        body()
    first, *lines = str(caught.value).splitlines()
    assert seen == [(a, b, c) for a in (1, 2, 3) for b, c in ((4, 5), (6, 7))]
    assert first == "4 of 6 cases failed:"
    assert [line.partition(": ")[0] for line in lines] == [
        "a=1, b=6, c=7", "a=2, b=4, c=5", "a=2, b=6, c=7", "a=3, b=6, c=7",
    ]  # fmt: skip
    assert "DID NOT RAISE" in lines[0]
    assert caught.value.__cause__ is not None


def test_a_skipped_case_hides_no_failure() -> None:
    @each("a", [1, 2, 3])
    def body(a: int) -> None:
        if a > 1:
            pytest.skip("not here")
        assert a != 1

    with pytest.raises(AssertionError, match="1 of 3 cases failed"):
        body()

    @each("a", [1, 2])
    def skipping(a: int) -> None:
        pytest.skip("not here")

    with pytest.raises(pytest.skip.Exception, match="not here"):
        skipping()


def test_a_case_does_not_see_those_before_it(
    rng: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isa, threads = ISAS[0], 3
    gd._core.set_isa(isa)
    gd.set_num_threads(threads)
    numbers = []

    @each("n", [0, 1])
    def body(rng: Any, folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
        assert os.listdir(folder) == []
        assert not file.exists()
        assert "GDCORE_CASE" not in os.environ
        assert (gd._core.get_isa(), gd.get_num_threads()) == (isa, threads)
        numbers.append(rng.integers(10**9))
        (folder / "x").touch()
        file.touch()
        monkeypatch.setenv("GDCORE_CASE", str(n))
        gd._core.set_isa("reference")
        gd.set_num_threads(1)

    for run in ("first", "second"):
        folder, parent = tmp_path / run, tmp_path / f"{run}-file"
        folder.mkdir()
        parent.mkdir()
        body(rng=rng, folder=folder, file=parent / "file", monkeypatch=monkeypatch)
    assert "GDCORE_CASE" not in os.environ
    assert (gd._core.get_isa(), gd.get_num_threads()) == (isa, threads)
    assert numbers[0] != numbers[1]
    assert numbers[:2] == numbers[2:]


def test_a_time_limit_ends_the_loop() -> None:
    seen = []

    @each("n", [0, 1])
    def body(n: int) -> None:
        seen.append(n)
        pytest.fail("Timeout (>300.0s) from pytest-timeout.")

    with pytest.raises(pytest.fail.Exception, match="Timeout"):
        body()
    assert seen == [0]


def test_a_loop_needs_an_argument_and_values() -> None:
    with pytest.raises(AssertionError, match="m is not an argument of"):
        each("m", [1])(lambda n: None)
    with pytest.raises(AssertionError, match="no values of m"):
        each("m", [])
