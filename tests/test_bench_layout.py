"""What changes places from round to round, what stays, and how a change of values is noticed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from benches import TINY
from gdcore.bench import layout
from gdcore.bench.worker import ContractViolation, Worker


@dataclasses.dataclass
class Model:
    weights: Any
    name: str = "a"


ELSEWHERE = """
import numpy as np
from gdcore.bench import layout
for size in (8, 12, 64, 1000, 1024, 20_000):
    heap, places = layout.Heap(np.random.default_rng(0)), set()
    for _ in range(400):
        heap.shake()
        places.add(np.empty(size, np.uint8).ctypes.data)
    # at addresses of their own, and in other places within a cache line
    print(size, len(places) > 5, len({place % 64 for place in places}) > 2)
"""


def test_the_next_result_lies_elsewhere():
    """In a process of its own: what other tests left on the heap would show."""
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=True
    )
    sizes = (8, 12, 64, 1000, 1024, 20_000)
    assert done.stdout.splitlines() == [f"{size} True True" for size in sizes]


class TestScattered:
    def moved(self, rng, *arguments):
        found = layout.scattered(arguments, rng)
        assert len(found) == len(arguments)
        return found

    def test_values_strides_and_flags_are_kept(self, rng):
        a = rng.random((6, 10))
        a.flags.writeable = False
        for array in (a, a.T, a[::-2, 1::3], a[:, :0], np.broadcast_to(a[0], (4, 10)), a[2, 3:4]):
            (copy,) = self.moved(rng, array)
            np.testing.assert_array_equal(copy, array)
            assert copy.strides == array.strides
            assert copy.flags.writeable == array.flags.writeable
            assert not np.shares_memory(copy, array)

    def test_alignment_is_kept(self, rng):
        memory = np.empty(4096 + 64, np.uint8)
        start = -memory.ctypes.data % 64
        for offset, alignment in ((0, 64), (32, 32), (16, 16), (8, 8), (1, 1)):
            array = memory[start + offset :][:80]
            places = {self.moved(rng, array)[0].ctypes.data for _ in range(20)}
            assert all(place % alignment == 0 for place in places)
            assert len({place % 4096 for place in places}) > 5
            if alignment < 64:
                assert any(place % (2 * alignment) for place in places)

    def test_what_shares_memory_shares_it_again(self, rng):
        a = rng.random(100)
        copies = self.moved(rng, a[:60], a[40:], [a], {"a": a[50:51]}, rng.random(3))
        copies[0][50] = 7
        assert copies[1][10] == copies[2][0][50] == copies[3]["a"][0] == 7
        assert a[50] != 7
        assert not np.shares_memory(copies[0], copies[4])

    def test_other_things(self, rng):
        lines = (line for line in "ab")
        names = np.array(["a", None], object)
        found = self.moved(rng, lines, "text", [1, [2]], names, Model(names))
        assert found[0] is lines
        assert found[1:3] == ("text", [1, [2]])
        assert found[3] is not names
        assert found[4].weights is found[3]


class TestTrace:
    @pytest.mark.parametrize(
        "value",
        [
            np.array(3.0),
            np.float32(2),
            np.array(["2020-01-01"], "M8[D]"),
            np.array(["a", "b"]),
            np.array([1, None], object),
            np.zeros(2, [("a", "i4")]),
            np.array([0.0, np.nan]),
            np.ones((3, 4)).T[::2],
            [1.0, float("nan")],
            {"a": [1], 2: {3}},
            OrderedDict(a=1),
            bytearray(b"abc"),
            Model([1, 2]),
            None,
            range(3),
        ],
        ids=repr,
    )
    def test_the_same_is_the_same(self, value):
        (copy,) = layout.copied((value,))
        assert not layout.changed(layout.trace(value), layout.trace(copy))

    @pytest.mark.parametrize(
        ("value", "other"),
        [
            ([1, 2], [2, 1]),
            ([1, 2], [1]),
            ([0.0], [-0.0]),
            ([1], [True]),
            ({"a": 1}, {"a": 2}),
            ({"a": 1}, {"b": 1}),
            ({1, 2}, {1, 3}),
            (Model([1]), Model([2])),
            (Model([1], "a"), Model([1], "b")),
            (np.zeros(2), np.zeros(3)),
            (np.zeros(2), -np.zeros(2)),
            (np.zeros(2), np.zeros(2, np.int64)),
            (np.array([1, None], object), np.array([None, 1], object)),
            (bytearray(b"ab"), bytearray(b"ba")),
        ],
        ids=repr,
    )
    def test_what_differs_differs(self, value, other):
        assert layout.changed(layout.trace(value), layout.trace(other))

    def test_what_contains_itself(self):
        value: list[Any] = [1]
        value.append(value)
        assert not layout.changed(layout.trace(value), layout.trace(value))

    def test_frames(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
        before = layout.trace(frame)
        (copy,) = layout.copied((frame,))
        assert not layout.changed(before, layout.trace(copy))
        frame.loc[0, "b"] = "z"
        assert layout.changed(before, layout.trace(frame))
        assert not layout.changed(before, layout.trace(copy))


class TestWorker:
    """A library's process: it has the library prepare the case at other addresses."""

    @pytest.fixture
    def places(self):
        return []

    @pytest.fixture
    def worker(self, places):
        worker = Worker("numpy", None, 1)

        def mse(case, pred, target):
            places.append(pred.ctypes.data)
            return lambda repeats: (np.float32(0), pred)

        worker.library.mse = mse
        worker.load(TINY["mse"][0], "float32")
        return worker

    def test_a_round_has_eight_layouts(self, worker, places):
        worker.round(20)
        assert len(places) == 1 + 8
        assert len(set(places)) > 4

    def test_what_takes_long_to_prepare_is_prepared_for_a_long_round_alone(self, worker, places):
        worker.preparing, worker.expected = 10.0, 0.1
        worker.round(20)
        assert len(places) == 1
        worker.expected = 1.0
        worker.round(20)
        assert len(places) == 2

    def test_many_bytes_stay(self, worker, places, monkeypatch):
        monkeypatch.setattr(layout, "LARGEST", 0)
        worker.load(TINY["mse"][0], "float32")
        worker.round(20)
        assert len(places) == 2

    def test_a_change_is_noticed_before_it_is_replaced(self, worker):
        worker.inputs.given[0][3] += 1
        with pytest.raises(ContractViolation, match="it changed its inputs"):
            worker.round(20)
