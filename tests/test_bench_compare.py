"""Comparing functions of one's own: the same rigour, and a check for a test suite."""

from __future__ import annotations

import time
from itertools import count

import numpy as np
import pytest

import gdcore.bench
from benches import use_a_fake_clock
from gdcore.bench import Verdict, bounds, compare, layout, timing

A = np.linspace(-1, 1, 60, dtype=np.float32).reshape(6, 10)
B = np.linspace(2, 3, 40, dtype=np.float32).reshape(10, 4)


@pytest.fixture(autouse=True)
def _clock(request, monkeypatch):
    """Use a fake clock, but for tests of real rounds."""
    if request.node.get_closest_marker("real_clock") is None:
        use_a_fake_clock(monkeypatch)


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
def test_a_bad_contestant_is_named_and_not_timed(function, status, note):
    before = A.copy()
    row = against(function)
    assert row.status == status
    assert row.note.startswith(note)
    assert "\n" not in row.note
    assert row.rounds == ()
    assert row.ratio is None
    np.testing.assert_array_equal(A, before)


def late(wrong):
    """Return a function that multiplies at first, and does `wrong` from its fourth call on."""
    calls = count()
    return lambda a, b: a @ b if next(calls) < 3 else wrong(a, b)


@pytest.mark.parametrize(
    ("wrong", "status", "note"),
    [
        (raising, "failed", "on a later call, RuntimeError: out of luck"),
        (changing, "failed", "on a later call, it changed its inputs"),
        (nan, "wrong", "after timing, 1 of 24 elements of the result are NaN"),
    ],
)
def test_what_goes_wrong_later_withdraws_the_figures(wrong, status, note):
    before = A.copy()
    row = against(late(wrong))
    assert (row.status, row.note) == (status, note)
    assert row.rounds == ()
    assert row.ratio is None
    np.testing.assert_array_equal(A, before)


def test_the_others_are_timed_without_the_baseline():
    contestants = {"it": late(raising), "x": np.matmul, "y": np.dot}
    report = compare(contestants, (A, B), reference=np.matmul, seconds=0.01)
    assert [row.status for row in report.rows] == ["failed", "timed", "timed"]
    assert "FAILED: on a later call, RuntimeError: out of luck" in str(report)
    assert report.verdict("x", than="y") in Verdict


def test_a_round_that_raises_is_no_round():
    calls = count()

    def raising_late(a, b):
        if next(calls) == 5:
            raise RuntimeError("out of luck")
        return a @ b

    report = compare({"x": np.matmul, "y": raising_late}, (A, B), reference=np.matmul, seconds=0.01)
    assert [row.status for row in report.rows] == ["timed", "failed"]
    assert [len(row.rounds) for row in report.rows] == [9, 0]


class TestInputs:
    """Contestants get copies, and whoever writes to them is found out: nobody else."""

    class Thing:
        def __init__(self, value):
            self.value = value

    def statuses(self, changing, reading, *inputs):
        report = compare(
            {"changes": changing, "reads": reading, "reads too": reading}, inputs,
            check=lambda result: True, seconds=0.01,
        )  # fmt: skip
        notes = {row.library: row.note for row in report.rows}
        assert [row.status for row in report.rows] == ["failed", "timed", "timed"], notes
        assert notes["changes"].endswith("it changed its inputs")

    def test_containers_of_all_kinds(self):
        def second(values):
            values["b"][0][1] = 7

        self.statuses(lambda v: v.sort(), sorted, [3, 1, 2])
        self.statuses(second, len, {"a": 1, "b": ([1, 2], 3)})
        self.statuses(lambda v: v.pop(), len, {3, 1})
        self.statuses(lambda v: v[0].fill(0), len, [A])
        self.statuses(lambda v: v.reverse(), len, bytearray(b"abc"))
        self.statuses(lambda v: v.value.append(1), id, self.Thing([1]))

    def test_what_an_object_keeps_for_later_is_no_change(self):
        def caching(thing):
            thing.cached = 3

        report = compare({"x": caching}, (self.Thing(1),), check=lambda result: True)
        assert report.rows[0].status == "timed"

    @pytest.mark.torch
    def test_tensors(self):
        torch = pytest.importorskip("torch")
        weights = torch.ones(3, requires_grad=True)
        self.statuses(lambda t: t.add_(1), torch.clone, torch.ones(3))
        self.statuses(lambda t: t.data.add_(1), torch.clone, weights * 2)

    def test_through_a_closure(self):
        before = np.array(A[:, ::-1])
        a = before.copy()
        self.statuses(lambda v: a.sort(), np.sort, a)
        np.testing.assert_array_equal(a, before)

    def test_only_later(self):
        calls = count()
        self.statuses(lambda v: v.sort() if next(calls) > 6 else None, sorted, [3, 1, 2])

    def test_each_call_has_them_at_other_addresses_in_the_same_layout(self):
        places = set()

        def look(a, b, c):
            places.add(a.ctypes.data % 4096)
            assert np.shares_memory(a, b)
            assert (b.strides, b.flags.writeable) == ((-80, 8), False)
            assert c is a
            np.testing.assert_array_equal(b, A[::-2, ::2])

        a = A.copy()
        b = a[::-2, ::2]
        b.flags.writeable = False
        report = compare({"x": look}, (a, b, a), check=lambda result: True, seconds=0.01)
        assert report.rows[0].status == "timed", report.rows[0].note
        assert len(places) > 5
        assert all((place - a.ctypes.data) % 16 == 0 for place in places)

    def test_many_bytes_are_copied_once(self, monkeypatch):
        monkeypatch.setattr(layout, "LARGEST", A.nbytes - 1)
        places = set()
        compare({"x": lambda a: places.add(a.ctypes.data)}, (A,), check=lambda result: True)
        assert len(places) == 1
        self.statuses(lambda a: a.sort(), np.sort, np.array(A[:, ::-1]))


def test_whole_numbers_have_to_be_exact():
    def nearly(a, b):
        return np.nextafter(a @ b, np.float32(9))

    whole = np.ones((6, 10), np.float32), np.ones((10, 4), np.float32)
    assert against(nearly).status == "timed"
    row = against(nearly, whole=whole)
    assert row.status == "wrong"
    assert row.note.startswith("on whole numbers, 24 of 24 elements of the result outside")
    with pytest.raises(ValueError, match="whole= needs a reference that is a function"):
        against(nearly, whole=whole, reference=A @ B)


class Later:
    """A result that is not there yet when the call returns."""

    def __init__(self, value):
        self.value, self.awaited = value, 0

    def block_until_ready(self):
        self.awaited += 1

    def __array__(self, dtype=None, copy=None):
        return self.value


class Elsewhere:
    device = "cuda:0"

    def __dlpack_device__(self):
        return (2, 0)


class Nowhere(Elsewhere):
    def __dlpack_device__(self):
        raise ValueError("unknown device")


@pytest.mark.parametrize("wrap", [lambda each: each, lambda each: [each]], ids=["one", "list"])
def test_what_is_computed_later_is_awaited(wrap):
    results = []

    def later(a, b):
        results.append(Later(a @ b))
        return wrap(results[-1])

    assert against(later).status == "timed"
    assert {result.awaited for result in results} == {1}


@pytest.mark.parametrize(
    "result", [Elsewhere(), {"loss": Elsewhere()}, Nowhere()], ids=["one", "dict", "nowhere"]
)
def test_what_is_computed_elsewhere_is_refused(result):
    report = compare({"x": lambda: result}, (), check=lambda result: True, seconds=0.01)
    (row,) = report.rows
    assert row.status == "failed"
    assert row.note.startswith("its result is on the device cuda:0, which may still be at work")
    assert "synchronise inside the function" in row.note


@pytest.mark.real_clock
def test_a_lazy_result_is_read_in_the_timed_span(monkeypatch):
    def lazily(a, b):
        class Lazy:
            def __array__(self, dtype=None, copy=None):
                events.append("read")
                return a @ b

        return Lazy()

    events: list[str] = []

    def timed_round(run, repeats, expected):
        events.append("begin")
        run(1)
        events.append("end")
        return 1.0

    monkeypatch.setattr(timing, "timed_round", timed_round)
    assert against(lazily).status == "timed"
    rounds = "".join({"begin": "(", "read": "x", "end": ")"}[each] for each in events)
    assert 2 * rounds.count("(x)") == rounds.count("(") > 6


def kept_by(key):
    """Return a function that keeps its results."""
    results: dict[object, np.ndarray] = {}

    def kept(a, b):
        place = key(a, b)
        if place not in results:
            results[place] = a @ b
        return results[place] + 0

    return kept


def test_results_kept_by_address_are_wrong():
    row = against(kept_by(lambda a, b: (a.ctypes.data, b.ctypes.data)))
    assert row.status == "wrong"
    assert row.note == (
        "after timing, it returns what it kept of a call with other numbers at the same addresses"
    )
    assert row.rounds == ()
    torch = pytest.importorskip("torch")
    by_version = kept_by(lambda a, b: (a.data_ptr(), a._version))
    inputs = torch.from_numpy(A), torch.from_numpy(B)
    report = compare({"it": by_version}, inputs, reference=torch.matmul, seconds=0.01)
    assert report.rows[0].status == "wrong"
    whole = kept_by(lambda a, b: (a.tobytes(), b.tobytes()))
    assert against(whole).status == "timed"  # it has to look at all of its inputs


@pytest.mark.parametrize("function", [kept_by(lambda a, b: a.shape), lambda a, b: A @ B])
def test_who_does_not_look_at_its_inputs_is_wrong(function):
    row = against(function)
    assert row.status == "wrong"
    assert row.note.startswith("after timing, it returns the same whatever its inputs are")


def test_whole_numbers_and_scale_free_results_are_not_stale():
    n = np.arange(6)
    for function, args in ((np.sort, (n,)), (np.argsort, (A,)), (lambda a: a / a.max(), (abs(A),))):
        report = compare({"it": function}, args, reference=function, seconds=0.01)
        assert report.rows[0].status == "timed"


@pytest.mark.real_clock
def test_a_clock_that_a_contestant_changes_is_not_read(monkeypatch):
    clock, hidden = time.perf_counter, [0.0]

    def hides_its_time(a, b):
        begin = clock()
        time.sleep(0.0005)
        result = a @ b
        hidden[0] += clock() - begin
        return result

    monkeypatch.setattr(time, "perf_counter", lambda: clock() - hidden[0])
    contestants = {"right": np.matmul, "it": hides_its_time}
    report = compare(contestants, (A, B), reference=np.matmul, seconds=0.05)
    assert min(report.rows[1].rounds) >= 0.0005


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
    with pytest.raises(ValueError, match="a generator can be read only once; pass a list"):
        compare({"x": sum}, [(i for i in range(3))], reference=3)
    for seconds in (0, -1, np.nan, np.inf, "1", None):
        with pytest.raises(ValueError, match="give how long to measure, a number above 0"):
            compare({"x": np.matmul}, (A, B), reference=np.matmul, seconds=seconds)
    for margin in (-0.1, np.nan, np.inf, "5 %", None):
        with pytest.raises(ValueError, match=r"give how much faster counts as faster: 0\.05"):
            compare({"x": np.matmul}, (A, B), reference=np.matmul, margin=margin)
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


@pytest.mark.parametrize("place", ["calibrate", "timed_round"])
def test_interrupted_before_the_first_complete_round(monkeypatch, place):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(timing, place, interrupted)
    assert_interrupted(np.dot)


def test_interrupted_in_a_check():
    def interrupted(a, b):
        raise KeyboardInterrupt

    assert_interrupted(interrupted)


def assert_interrupted(function):
    report = compare({"x": np.matmul, "y": function}, (A, B), reference=np.matmul)
    assert report.partial
    assert [row.status for row in report.rows] == ["interrupted", "interrupted"]
    assert "INTERRUPTED: the run ended before its first complete round" in str(report)
    assert str(report).endswith("Interrupted: nothing was measured until then.")
    with pytest.raises(ValueError, match="x was not timed; it is interrupted: the run ended"):
        report.verdict("x", than="y")
    assert gdcore.bench.Comparison.from_json(report.to_json()).to_json() == report.to_json()


@pytest.fixture
def timed(monkeypatch):
    """Let each of two contestants take the seconds it is given."""

    def timed(mine, theirs, **settings):
        turns = {}
        monkeypatch.setattr(timing, "calibrate", lambda run, seconds: (1, 1.0))

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

    @pytest.mark.real_clock
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


def test_a_comparison_is_short_and_a_table_in_a_notebook():
    report = compare(
        {"<right>": np.matmul, "sum": raising}, (A, B), reference=np.matmul, seconds=0.01
    )
    assert repr(report) == "Comparison(2 rows of 2 contestants, baseline='<right>')"
    assert len(repr(report.rows[0])) <= 300
    page = report._repr_html_()
    assert "<th>&lt;right&gt;</th>" in page
    assert "<th>sum</th>" in page
    assert "out of luck" in page
    assert page.count("<tr>") == page.count("</tr>") == 3
