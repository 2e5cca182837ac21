"""Many fits as users handle them: some of them, a frame, predictions by label, pickles, files."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from fits import bits, refused
from loops import each

LIBRARIES = ("pandas", "polars", "pyarrow")
COUNT, D = 7, 2
LABELS: dict[str, Any] = {
    "text": [f"s{i}" for i in range(COUNT)],
    "tuples": [("s1", 2020 + i) for i in range(COUNT)],
    "dates": [date(2020, 1, 1) + timedelta(i) for i in range(COUNT)],
    "instants": [datetime(2020, 1, 1 + i, tzinfo=UTC) for i in range(COUNT)],
    "floats": [i / 2 for i in range(COUNT)],
    "whole numbers": [10 * i for i in range(COUNT)],
    "days of NumPy": np.datetime64("2020-01-01") + np.arange(COUNT),
    "nanoseconds": np.datetime64("2020-01-01", "ns") + np.arange(COUNT),
    "spans": np.timedelta64(3, "s") * np.arange(COUNT),
    "bytes": [b"%d" % i for i in range(COUNT)],
}
any_labels = each("labels", LABELS.values())


def fit(rng: Any, labels: Any, **options: Any) -> gd.Fits:
    """Fit 8 rows of each label, in no order."""
    order = rng.permutation(np.repeat(np.arange(COUNT), 8))
    given = labels[order] if isinstance(labels, np.ndarray) else [labels[i] for i in order]
    X, y = rng.normal(size=(len(order), D)), rng.normal(size=len(order))
    how: dict[str, Any] = {"history": 1, "epochs": 9, "tol": None} | options
    return gd.fit_groups(X, y, given, gd.SGD(momentum=0.5), **how)


def same(a: gd.Fits, b: gd.Fits) -> None:
    """Assert that two fits of many problems are equal in every bit."""
    assert len(a) == len(b)
    for i in range(len(a)):
        assert bits(a[i]) == bits(b[i])
        assert a[i].message == b[i].message
    assert a.rows.tolist() == b.rows.tolist()
    assert (a.groups is None) == (b.groups is None)
    if a.groups is not None:
        assert a.groups.tolist() == b.groups.tolist()


class TestIndices:
    @any_labels
    def test_labels(self, rng: Any, labels: Any) -> None:
        fits = fit(rng, labels)
        for i, label in enumerate(labels):
            assert label in fits
            assert bits(fits.get_group(label)) == bits(fits[i])
            if not isinstance(label, int):
                assert bits(fits[label]) == bits(fits[i])
                same(fits[[labels[3], label]], fits[[3, i]])
        for other in ("s99", ("s1", 1), -1.5, date(1990, 1, 1), None, np.datetime64("NaT")):
            assert other not in fits
            refused(lambda other=other: fits.get_group(other), "no group ", KeyError)

    def test_equal_times_of_other_units(self, rng: Any) -> None:
        pd = pytest.importorskip("pandas")
        fits = fit(rng, LABELS["days of NumPy"])
        noon = np.datetime64("2020-01-02T12")
        for second in ("2020-01-02", date(2020, 1, 2), datetime(2020, 1, 2)):
            label = np.datetime64(second, "ns") if isinstance(second, str) else second
            for like in (label, pd.Timestamp(label)):
                assert bits(fits[like]) == bits(fits[1])
        for other in (noon, pd.Timestamp(noon), pd.Timestamp("2020-01-02", tz="UTC"), 18263):
            assert other not in fits
        far = np.array(["1000-01-01"], "M8[D]")[0]  # not a time of nanoseconds
        assert far not in fit(rng, LABELS["nanoseconds"])
        objects = fit(rng, LABELS["dates"])
        assert np.datetime64("2020-01-03") in objects
        assert np.datetime64("2020-01-03T12") not in objects

    def test_positions_slices_and_masks(self, rng: Any) -> None:
        pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
        fits = fit(rng, LABELS["whole numbers"])
        every = list(range(COUNT))
        mask = fits.groups > 30
        for key, want in (
            (slice(5), every[:5]), (slice(None, None, -2), every[::-2]), (slice(9, 20), []),
            (mask, [4, 5, 6]), (mask.tolist(), [4, 5, 6]), (pd.Series(mask), [4, 5, 6]),
            (pl.Series(mask), [4, 5, 6]), ([1, -1, 1], [1, 6, 1]), (np.array([3], np.uint8), [3]),
            (range(2, 4), [2, 3]), ([], []), (fits.status == "DIVERGED", []),
        ):  # fmt: skip
            found = fits[key]
            assert type(found) is gd.Fits
            assert found.groups.tolist() == [10 * i for i in want]
            for one, i in zip(found, want, strict=True):
                assert bits(one) == bits(fits[i])
        for key in (3, np.int8(3), np.array(3), -4):
            assert bits(fits[key]) == bits(fits[3])

    def test_parts_hold_arrays_of_their_own(self, rng: Any) -> None:
        fits = fit(rng, LABELS["text"])
        part = fits[:2]
        part.weights[:], part.state.params[:] = 0, 0
        assert fits.weights[:2].all()
        assert fits.state.params[:2].all()

    @each("options", [{}, {"method": "exact", "history": 0, "tol": 1e-6}, {"standardize": True}])
    def test_parts_continue_predict_and_come_back(
        self, rng: Any, tmp_path: Path, options: Any
    ) -> None:
        labels = np.repeat(np.array(LABELS["text"]), 8)
        X, y = rng.normal(size=(len(labels), D)), rng.normal(size=len(labels))
        sgd = None if options.get("method") == "exact" else gd.SGD(momentum=0.5)
        how: dict[str, Any] = {"history": 1, "epochs": 9, "tol": None} | options
        whole = gd.fit_groups(X, y, labels, sgd, **how)
        rows = np.isin(labels, ["s1", "s4"])
        part = whole[["s1", "s4"]]
        some = gd.fit_groups(X[rows], y[rows], labels[rows], sgd, **how)
        same(part, some)
        part.save(tmp_path / "part")
        back: Any = gd.load(tmp_path / "part")
        same(back, part)
        for first in (part, back, pickle.loads(pickle.dumps(part))):
            more = gd.fit_groups(X[rows], y[rows], labels[rows], sgd, **how, init=first)
            same(more, gd.fit_groups(X[rows], y[rows], labels[rows], sgd, **how, init=some))
        found = part.predict(X[rows], groups=labels[rows])
        assert found.tobytes() == whole.predict(X, groups=labels)[rows].tobytes()

    def test_a_stack_has_positions_alone(self, rng: Any) -> None:
        fits: Any = gd.fit(rng.normal(size=(4, 9, 2)), rng.normal(size=(4, 9)))
        assert [bits(one) for one in fits] == [bits(fits[i]) for i in range(4)]
        assert len(fits[1:3]) == 2
        assert "a" not in fits
        for key in ("a", 1.0, None, ..., True, (1, 2), [0.5], ["a"]):
            refused(lambda key=key: fits[key], "the number of a problem is a whole", TypeError)
        refused(lambda: fits.get_group("a"), "no groups; fits.i. is")

    def test_bad_indices(self, rng: Any) -> None:
        fits = fit(rng, LABELS["text"])
        for key, error, match in (
            (7, IndexError, "problem 7 is not among the 7"),
            ([0, -8], IndexError, "problem -8 is not"),
            ([True], IndexError, "mask has 1 entries; it must have one for each of 7 fits"),
            (True, TypeError, "a mask, or a list"),
            (..., TypeError, "a mask, or a list"),
            (np.array([[1]]), TypeError, "the index has shape .1, 1.; pass one dimension"),
            ([[1]], TypeError, "cannot be hashed"),
            (slice("s1", "s2"), TypeError, "a list of labels"),
            ({}, TypeError, "cannot be hashed"),
            ("s11", KeyError, "no group 's11'; close to it is 's1'|are 's1' and"),
            (["s1", "t"], KeyError, "no group 't'; the labels have dtype .* such as 's0'"),
            (("s1", 2), KeyError, "no group"),
            (1.0, KeyError, r"no group 1.0; the labels have dtype <U2, such as 's0'"),
            ("weight_0", KeyError, "no group 'weight_0'"),
        ):
            refused(lambda key=key: fits[key], match, error)
        numbers = fit(rng, LABELS["whole numbers"])
        refused(lambda: numbers.get_group(35), "no group 35; close to it are 30 and 40", KeyError)
        refused(lambda: numbers.get_group(-5), "close to it is 0", KeyError)
        refused(lambda: fits[:0].get_group("s1"), "no group 's1'; there are no groups", KeyError)
        tuples = fit(rng, LABELS["tuples"])
        refused(lambda: tuples["s1", 2030], r"close to it are \('s1', 202", KeyError)


class TestCopies:
    def test_pickles_leave_the_history_out(self, rng: Any) -> None:
        fits = fit(rng, LABELS["text"])
        assert fits.history.loss.shape == (COUNT, 9)
        assert "s1" in fits  # what finds labels is not pickled
        assert "_place" not in fits.__getstate__()
        back = pickle.loads(pickle.dumps(fits))
        assert back.history.loss.shape == (COUNT, 0)
        assert back.history.epoch.shape == (0,)
        same(back, replace(fits, history=fits.history.emptied()))
        kept = fits.with_history()
        same(kept, fits)
        same(pickle.loads(pickle.dumps(kept)), fits)
        for other in (copy.copy(fits), copy.deepcopy(fits), fits[:]):
            same(other, fits)
        assert copy.copy(fits).weights is fits.weights
        assert copy.deepcopy(fits).weights is not fits.weights

    def test_pickles_are_about_as_large_as_the_arrays(self, rng: Any) -> None:
        n = 100_000
        groups = np.repeat(np.arange(n), 3)
        fits = gd.fit_groups(rng.normal(size=(3 * n, 1)), rng.normal(size=3 * n), groups)
        arrays = [fits.weights, fits.intercept, fits.loss, fits.epochs, fits.lr, fits.momentum]
        arrays += [fits.r2_lost, fits.stability_limit, fits.rows, fits.groups, fits.rank]
        arrays += [a for a in fits.state.as_dict().values()]
        size = sum(np.asarray(a).nbytes for a in arrays)
        # A status takes 2 or 3 bytes, as a reference to one before.
        assert size <= len(pickle.dumps(fits)) <= size + 3 * n + 10_000


STORES = {"store": ["b", "a", "b", "c", "a", "c"] * 5, "year": [1, 2, 1, 2, 1, 1] * 5}


def store_columns(rng: Any) -> dict[str, Any]:
    """Return columns of a table with groups: numbers in x, z and y, labels in store and year."""
    numbers = {name: rng.normal(size=30) for name in ("x", "z", "y")}
    stores = np.array(STORES["store"]), np.array(STORES["year"], np.int16)
    return numbers | dict(zip(STORES, stores, strict=True))


def frame_of(library: str, columns: dict[str, Any]) -> Any:
    """Return a data frame of a library; in pandas, with an index of its own."""
    module = pytest.importorskip(library)
    if library == "pandas":
        return module.DataFrame(columns, index=np.arange(len(columns["y"])) * 7 % 1000 + 3)
    return (module.table if library == "pyarrow" else module.DataFrame)(columns)


def read(frame: Any) -> dict[str, list[Any]]:
    """Return the columns of a data frame as lists."""
    if hasattr(frame, "to_pydict"):
        return frame.to_pydict()  # type: ignore[no-any-return]
    return {name: frame[name].to_list() for name in frame.columns}


def fit_frame(frame: Any, by: Any = "store", **options: Any) -> gd.Fits:
    return gd.fit_groups(frame, target="y", features=["x", "z"], by=by, **options)


class TestToFrame:
    @each("library", LIBRARIES)
    @each("by", ["store", "year", ["store", "year"], ["year", "store"]])
    def test_of_a_frame(self, rng: Any, tmp_path: Path, library: str, by: Any) -> None:
        frame = frame_of(library, store_columns(rng))
        fits = fit_frame(frame, by)
        table = fits.to_frame()
        assert type(table) is type(frame)
        names = [by] if isinstance(by, str) else by
        found = read(table)
        results = ["weight_x", "weight_z", "intercept", "loss", "rows", "status"]
        assert list(found) == [*names, *results]
        assert list(zip(*(found[name] for name in names), strict=True)) == sorted(
            set(zip(*(STORES[name] for name in names), strict=True))
        )
        assert "int16" in str(table.schema if library != "pandas" else table.dtypes).lower() or (
            by == "store"
        )
        assert found["weight_z"] == fits.weights[:, 1].tolist()
        assert found["intercept"] == fits.intercept.tolist()
        assert found["loss"] == fits.loss.tolist()
        assert found["rows"] == fits.rows.tolist()
        assert found["status"] == [status.name for status in fits.status]
        assert read(fits[1:].to_frame()) == {name: column[1:] for name, column in found.items()}
        fits.save(tmp_path / "fits")
        loaded: Any = gd.load(tmp_path / "fits")
        for other in LIBRARIES:
            for same_fits in (fits, loaded):
                elsewhere = same_fits.to_frame(other)  # type: ignore[arg-type]
                assert type(elsewhere).__module__.partition(".")[0] == other
                assert read(elsewhere) == found

    def test_keeps_dtypes_and_a_plain_index(self, rng: Any) -> None:
        pd = pytest.importorskip("pandas")
        frame = frame_of("pandas", store_columns(rng)).astype({"store": "category"})
        table = fit_frame(frame).to_frame()
        assert table.dtypes["store"] == frame.dtypes["store"]
        assert table.index.equals(pd.RangeIndex(3))

    @each("labels", LABELS.values())
    @each("library", LIBRARIES)
    def test_of_arrays(self, rng: Any, library: Any, labels: Any) -> None:
        pytest.importorskip(library)
        fits = fit(rng, labels)
        if labels is LABELS["tuples"] and library != "pandas":
            return
        found = read(fits.to_frame(library))
        assert list(found) == ["group", "weight_0", "weight_1", "intercept", "loss", "rows",
                               "status"]  # fmt: skip
        assert len(set(map(str, found["group"]))) == COUNT or labels is LABELS["nanoseconds"]
        assert found["weight_1"] == fits.weights[:, 1].tolist()

    def test_of_a_stack_with_several_targets(self, rng: Any) -> None:
        pytest.importorskip("pandas")
        fits: Any = gd.fit(rng.normal(size=(4, 9, 2)), rng.normal(size=(4, 9, 3)))
        found = read(fits.to_frame())
        assert list(found) == [
            "problem", *(f"weight_{i}_{j}" for i in range(2) for j in range(3)), "intercept_0",
            "intercept_1", "intercept_2", "loss", "rows", "status",
        ]  # fmt: skip
        assert found["problem"] == [0, 1, 2, 3]
        assert found["weight_1_2"] == fits.weights[:, 1, 2].tolist()
        assert found["intercept_1"] == fits.intercept[:, 1].tolist()

    def test_of_no_groups(self, rng: Any) -> None:
        for library in LIBRARIES:
            frame = frame_of(library, store_columns(rng))
            for by in ("store", ["store", "year"]):
                none = fit_frame(frame, by)[:0]
                assert read(none.to_frame())["weight_x"] == []
                assert read(replace(none, group_keys=None).to_frame(library))["rows"] == []  # type: ignore[arg-type]

    def test_refusals(self, rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        columns = store_columns(rng)
        fits = fit_frame(frame_of("pandas", columns | {"rows": columns["store"]}), "rows")
        refused(lambda: fits.to_frame(), "'rows' of by has the name of a result; rename it")
        others = fit_frame(frame_of("pandas", columns))
        refused(lambda: others.to_frame("spark"), "'spark'; it must be one of pandas, polars, py")  # type: ignore[arg-type]
        mixed = fit(rng, [1, "a", 2, "b", 3, "c", 4])
        refused(lambda: mixed.to_frame("pyarrow"), "pass library='pandas'", TypeError)
        assert len(mixed.to_frame("pandas")) == COUNT
        monkeypatch.setitem(__import__("sys").modules, "polars", None)
        refused(lambda: others.to_frame("polars"), "pip install polars, or pass", ImportError)

    def test_those_who_knew_a_frame_learn_where_it_is(self, rng: Any) -> None:
        fits = fit_frame(frame_of("pandas", store_columns(rng)))
        for name in ("weight_x", "intercept", "status", "store", "n"):
            column = "rows" if name == "n" else name
            refused(
                lambda name=name: fits[name], rf"call fits.to_frame\(\)\['{column}'\]", KeyError
            )
        refused(lambda: fits.merge, "call fits.to_frame", AttributeError)
