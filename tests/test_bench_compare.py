"""Comparing functions of one's own: the same rigour, and a check for a test suite."""

from __future__ import annotations

import numpy as np
import pytest

import gdcore.bench
from gdcore.bench import Verdict, bounds, compare, timing

A = np.linspace(-1, 1, 60, dtype=np.float32).reshape(6, 10)
B = np.linspace(2, 3, 40, dtype=np.float32).reshape(10, 4)


def against(function, **settings):
    """Compare a function with `np.matmul` and return its row."""
    settings = {"reference": np.matmul, "bound": bounds.matmul, "seconds": 0.01} | settings
    report = compare({"right": np.matmul, "it": function}, (A, B), **settings)
    assert [row.library for row in report.rows] == ["right", "it"]
    assert report.rows[0].status == "timed"
    assert len(report.rows[0].rounds) >= 7
    return report.rows[1]


def raising(a, b):
    raise RuntimeError("out of luck\nand more")


def changing(a, b):
    a[2, 3] += 1
    return a @ b


def nan(a, b):
    c = a @ b
    c[1, 1] = np.nan
    return c


@pytest.mark.parametrize(
    ("function", "status", "note"),
    [
        (raising, "failed", "RuntimeError: out of luck"),
        (changing, "failed", "it changed its inputs"),
        (nan, "wrong", "1 of 24 elements of the result are NaN"),
        (lambda a, b: a @ b[:, 1:], "wrong", "the result has shape (6, 3) instead of (6, 4)"),
        (lambda a, b: (a @ b, a), "wrong", "2 outputs instead of 1 (result)"),
        (lambda a, b: a[:, :-1] @ b[:-1], "wrong", "24 of 24 elements of the result outside"),
        (lambda a, b: np.float16(a) @ np.float16(b), "wrong", ""),
        (lambda a, b: None, "wrong", "the result has shape () instead of (6, 4)"),
    ],
)
def test_a_bad_contestant_is_told_and_not_timed(function, status, note):
    before = A.copy()
    row = against(function)
    assert row.status == status
    assert row.note.startswith(note)
    assert "\n" not in row.note
    assert row.rounds == ()
    assert row.ratio is None
    np.testing.assert_array_equal(A, before)


def test_a_good_contestant():
    row = against(lambda a, b: np.einsum("ij,jk->ik", a, b), flops=480, bytes=496)
    assert row.status == "timed"
    assert row.ratio.low <= row.ratio.value <= row.ratio.high
    assert row.case == "6x10 10x4"
    assert row.dtype == "float32"
    assert row.gflops == pytest.approx(480e-9 / row.seconds)
    assert row.gbs == pytest.approx(496e-9 / row.seconds)
    assert row.percent > 0


def test_without_work_there_is_no_limit():
    row = against(np.dot, name="dot", threads=1)
    assert row.case == "dot"
    assert np.isnan([row.flops, row.bytes, row.floor]).all()
    assert row.roof == ""


@pytest.mark.parametrize("reference", [np.matmul, A @ B], ids=["callable", "array"])
def test_default_bound(reference):
    assert against(np.dot, reference=reference, bound=None, flops=480).status == "timed"
    assert against(nan, reference=reference, bound=None).status == "wrong"
    wrong = against(lambda a, b: a @ b + 1e-3, reference=reference, bound=None, flops=480)
    assert wrong.status == "wrong"


def test_several_results():
    def loss(a, b):
        r = a @ b
        return (r**2).sum(), r

    settings = {"reference": loss, "bound": (1e-3, 1e-4), "seconds": 0.01}
    report = compare({"x": loss, "y": lambda a, b: (0.0, a @ b)}, (A, B), **settings)
    assert [row.status for row in report.rows] == ["timed", "wrong"]
    assert "of the result 0 outside" in report.rows[1].note
    with pytest.raises(ValueError, match="1 bounds for 2 results"):
        compare({"x": loss}, (A, B), reference=loss, bound=1e-3)


def test_check_of_ones_own():
    def positive(result):
        assert (result > 0).all(), "not positive"

    contestants = {"x": lambda a: a + 2, "y": lambda a: a - 2}
    report = compare(contestants, (A,), check=positive, seconds=0.01)
    assert [row.status for row in report.rows] == ["timed", "wrong"]
    assert report.rows[1].note == "not positive"
    report = compare(contestants, (A,), check=lambda result: False)
    assert {row.note for row in report.rows} == {"the check says so"}


def test_mistakes():
    with pytest.raises(ValueError, match="no contestants"):
        compare({}, (A, B), reference=np.matmul)
    with pytest.raises(ValueError, match="pass reference= or check="):
        compare({"x": np.matmul}, (A, B))
    report = compare({"x": np.matmul, "y": nan}, (A, B), reference=np.matmul, seconds=0.01)
    with pytest.raises(ValueError, match="no contestant 'z'; there are x, y"):
        report.verdict("x", than="z")
    with pytest.raises(ValueError, match="y was not timed; it is wrong: 1 of 24 elements"):
        report.assert_not_slow("x", than="y")


def test_interrupted(monkeypatch):
    rounds = []

    def interrupted(run, repeats, expected):
        rounds.append(run)
        if len(rounds) == 7:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(timing, "timed_round", interrupted)
    report = compare({"x": np.matmul, "y": np.dot}, (A, B), reference=np.matmul)
    assert report.partial
    assert [len(row.rounds) for row in report.rows] == [3, 3]
    assert "Interrupted" in str(report)


@pytest.fixture
def timed(monkeypatch):
    """Let each of two contestants take the seconds it is given."""

    def timed(mine, theirs, **settings):
        turns = {}

        def timed_round(run, repeats, expected):
            name = "mine" if run(1) == 1 else "theirs"
            turns[name] = turns.get(name, -1) + 1
            return {"mine": mine, "theirs": theirs}[name][turns[name] % len(mine)]

        monkeypatch.setattr(timing, "timed_round", timed_round)
        contestants = {"mine": lambda: 1, "theirs": lambda: 2}
        return compare(contestants, (), check=bool, seconds=0.01, **settings)

    return timed


class TestInPytest:
    def test_slow_fails(self, timed):
        report = timed([2e-3] * 7, [1e-3] * 7)
        assert report.verdict("mine", than="theirs") is Verdict.SLOW
        assert report.verdict("theirs", than="mine") is Verdict.FAST
        with pytest.raises(AssertionError, match=r"mine is SLOW: theirs takes only 0.5 x as long"):
            report.assert_not_slow("mine", than="theirs")

    @pytest.mark.parametrize(
        ("mine", "verdict"),
        [([1e-3] * 7, "SAME"), ([1e-4] * 7, "FAST"), ([1e-4, 1e-2, 1e-3, 9e-2], "AMBG")],
    )
    def test_nothing_else_fails(self, timed, mine, verdict):
        report = timed(mine, [1e-3] * len(mine))
        assert report.verdict("mine", than="theirs") == verdict
        report.assert_not_slow("mine", than="theirs")

    def test_a_kernel_as_its_user_would_test_it(self):
        """Real rounds: 50 times the work cannot be the same or faster."""

        def repeatedly(a, b):
            for _ in range(49):
                np.matmul(a, b)
            return np.matmul(a, b)

        report = compare({"once": np.matmul, "often": repeatedly}, (A, B), reference=np.matmul)
        report.assert_not_slow("once", than="often")


def test_json_and_html(tmp_path):
    report = compare(
        {"x": np.matmul, "y": np.dot, "z": nan}, (A, B), flops=480, bytes=496, threads=1,
        reference=np.matmul, seconds=0.01,
    )  # fmt: skip
    text = report.to_json(tmp_path / "r.json")
    assert gdcore.bench.Report.from_json(text).to_json() == text
    assert "6x10 10x4" in report.to_html(tmp_path / "r.html")
    assert "x.json" not in str(report)
    assert "compare, float32, 1 thread; peak" in str(report)


def test_the_margin_survives_json(timed):
    report = timed([1.2e-3] * 7, [1e-3] * 7, margin=0.5)
    assert report.verdict("mine", than="theirs") is Verdict.SAME
    again = gdcore.bench.Comparison.from_json(report.to_json())
    assert again.to_json() == report.to_json()
    assert again.verdict("mine", than="theirs") is Verdict.SAME
