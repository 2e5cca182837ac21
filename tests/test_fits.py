"""Many fits as users handle them: some of them, a frame, predictions by label, pickles, files."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd
import gdcore.oracle
from fits import bits, refused
from loops import each

pytest.importorskip("narwhals")
LIBRARIES = [name for name in ("pandas", "polars", "pyarrow") if find_spec(name) is not None]
if not LIBRARIES:
    pytest.skip("no library of data frames is installed", allow_module_level=True)
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
            (["s1", "t"], KeyError, "no group 't'; the labels are of type .* such as 's0'"),
            ("S1", KeyError, "no group 'S1'; close to it is 's1'"),
            (("s1", 2), KeyError, "no group"),
            (1.0, KeyError, r"no group 1.0; the labels are of type <U2, such as 's0'"),
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
        arrays += [fits.dropped]
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


def type_of_status(frame: Any) -> str:
    column = frame["status"]
    return str(column.type if hasattr(column, "type") else column.dtype)


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

    @each("intercept", [True, False])
    def test_standard_errors(self, rng: Any, tmp_path: Path, intercept: bool) -> None:
        frame = frame_of("pandas", store_columns(rng))
        how: dict[str, Any] = {"covariance": "hc1", "fit_intercept": intercept}
        fits = fit_frame(frame, **how)
        table = fits.to_frame()
        names = ["stderr_x", "stderr_z", *(["stderr_intercept"] if intercept else [])]
        assert [name for name in table.columns if name.startswith("stderr")] == names
        assert table[names].to_numpy().tobytes() == np.ascontiguousarray(fits.stderr).tobytes()
        part = fits[["c", "a"]]
        part.save(tmp_path / "part")
        for some in (part, gd.load(tmp_path / "part")):
            assert isinstance(some, gd.Fits)
            assert some.stderr.tobytes() == fits.stderr[[2, 0]].tobytes()
            assert some["a"].stderr.tobytes() == fits["a"].stderr.tobytes()
        stack = gd.fit(rng.normal(size=(4, 9, 2)), rng.normal(size=(4, 9, 3)), **how)
        assert isinstance(stack, gd.Fits)
        assert stack.to_frame()["stderr_1_2"].tolist() == stack.stderr[:, 1, 2].tolist()

    def test_of_no_groups(self, rng: Any) -> None:
        for library in LIBRARIES:
            frame = frame_of(library, store_columns(rng))
            for by in ("store", ["store", "year"]):
                none = fit_frame(frame, by)[:0]
                assert repr(none) == "Fits(0 problems, weights of shape (0, 2), float64: none)"
                assert read(none.to_frame())["weight_x"] == []
                whole = fit_frame(frame, by)
                assert type_of_status(none.to_frame()) == type_of_status(whole.to_frame())
                assert read(replace(none, group_keys=None).to_frame(library))["rows"] == []  # type: ignore[arg-type]

    def test_refusals(self, rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        columns = store_columns(rng)
        fits = fit_frame(frame_of("pandas", columns | {"rows": columns["store"]}), "rows")
        refused(lambda: fits.to_frame(), "'rows' of by has the name of a result; rename it")
        others = fit_frame(frame_of("pandas", columns))
        refused(lambda: others.to_frame("spark"), "'spark'; it must be one of pandas, polars, py")  # type: ignore[arg-type]
        pytest.importorskip("pyarrow")
        mixed = fit(rng, [1, "a", 2, "b", 3, "c", 4])
        refused(lambda: mixed.to_frame("pyarrow"), "pass library='pandas'", TypeError)
        assert len(mixed.to_frame("pandas")) == COUNT
        large = fit_frame(frame_of("pandas", columns).assign(store=2**70))
        refused(lambda: large.to_frame("pyarrow"), "cannot hold the labels.*leave lib", TypeError)
        two = {"x": columns["x"], "intercept": columns["z"], "y": columns["y"], "by": 1}
        names: dict[str, Any] = {"target": "y", "features": ["x", "intercept"], "by": "by"}
        table = frame_of("pandas", two)
        both = gd.fit_groups(table, **names, covariance="ols")
        refused(lambda: both.to_frame(), "'stderr_intercept'; rename the feature")
        rolling = gd.fit_rolling(table[names["features"]], two["y"], 9, covariance="ols")
        refused(lambda: rolling.to_frame(), "'stderr_intercept'; rename the feature")
        monkeypatch.setitem(__import__("sys").modules, "polars", None)
        refused(lambda: others.to_frame("polars"), "pip install polars, or pass", ImportError)

    def test_those_who_knew_a_frame_learn_where_it_is(self, rng: Any) -> None:
        fits = fit_frame(frame_of("pandas", store_columns(rng)))
        for name in ("weight_x", "intercept", "status", "store", "n"):
            column = "rows" if name == "n" else name
            refused(
                lambda name=name: fits[name], rf"call fits.to_frame\(\)\['{column}'\]", KeyError
            )
        refused(lambda: fits.merge, "call fits.to_frame", AttributeError)  # type: ignore[attr-defined]


class TestPredictionsByLabel:
    @each("library", LIBRARIES)
    @each("by", ["store", "year", ["store", "year"], ["year", "store"]])
    @each("width", [np.float64, np.float32])
    def test_of_a_frame(self, rng: Any, tmp_path: Path, library: str, by: Any, width: Any) -> None:
        """Each row has the bits of its own fit, beside the rows of the frame."""
        columns = store_columns(rng)
        columns |= {name: columns[name].astype(width) for name in ("x", "z", "y")}
        fits = fit_frame(frame_of(library, columns), by)
        fits.save(tmp_path / "fits")
        order = rng.permutation(30)  # other rows, and the columns in another order
        new = {name: columns[name][order] for name in ("z", "year", "y", "store", "x")}
        frame = frame_of(library, new)
        names = [by] if isinstance(by, str) else by
        for some in (fits, gd.load(tmp_path / "fits"), pickle.loads(pickle.dumps(fits))):
            assert isinstance(some, gd.Fits)
            found, left = some.predict(frame), some.residuals(frame)
            if library == "pandas":
                assert found.index.equals(frame.index)
                assert left.index.equals(frame.index)
            module = {
                "pandas": "pandas",
                "polars": "polars.series.series",
                "pyarrow": "pyarrow.lib",
            }
            assert type(found).__module__ == type(left).__module__ == module[library]
            found, left = np.asarray(found), np.asarray(left)
            assert found.dtype == left.dtype == width
            for i in range(30):
                label = tuple(new[name][i].item() for name in names)
                one = some[label] if len(names) > 1 else some.get_group(label[0])
                x = np.stack([new["x"][i : i + 1], new["z"][i : i + 1]], 1)
                want = one.predict(x)
                assert found[i : i + 1].tobytes() == want.tobytes()
                assert left[i : i + 1].tobytes() == (new["y"][i : i + 1] - want).tobytes()
                assert one.residuals(x, new["y"][i : i + 1]).tobytes() == left[i : i + 1].tobytes()

    def test_of_frames_that_are_not_in_memory(self, rng: Any) -> None:
        pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
        columns = store_columns(rng)
        frame = frame_of("polars", columns | {"more": [None] * 30})
        fits = fit_frame(frame)
        want, left = fits.predict(frame), fits.residuals(frame)
        lazy = frame.lazy()
        assert fits.predict(lazy).equals(want)
        assert fits.residuals(lazy).equals(left)
        table = frame_of("pyarrow", columns)

        def stream() -> Any:
            return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(7))

        assert fits.predict(stream()).equals(pa.array(want.to_numpy()))
        assert fits.residuals(stream()).equals(pa.array(left.to_numpy()))
        assert isinstance(want, pl.Series)
        assert (want.name, left.name) == ("prediction", "residual")

    @each("library", LIBRARIES)
    def test_gaps_in_the_numbers_are_gaps_in_the_answer(self, rng: Any, library: str) -> None:
        columns = store_columns(rng)
        holed = columns | {name: columns[name].tolist() for name in ("x", "y")}
        holed["x"][3], holed["y"][5], holed["y"][3] = None, None, None
        fits = fit_frame(frame_of(library, holed), missing="drop")
        assert fits.dropped.tolist() == [0, 0, 2]
        assert fits[["c", "a"]].dropped.tolist() == [2, 0]
        assert fits[["c", "a"]].rows.tolist() == [8, 10]
        whole = np.asarray(fits.predict(frame_of(library, columns)))
        found = np.asarray(fits.predict(frame_of(library, holed)))
        left = np.asarray(fits.residuals(frame_of(library, holed)))
        assert np.flatnonzero(np.isnan(found)).tolist() == [3]
        assert np.delete(found, 3).tobytes() == np.delete(whole, 3).tobytes()
        assert np.flatnonzero(np.isnan(left)).tolist() == [3, 5]

    @each("library", LIBRARIES)
    def test_an_offset_is_a_column_too(self, rng: Any, library: str) -> None:
        columns = store_columns(rng) | {"base": rng.normal(size=30)}
        frame = frame_of(library, columns)
        fits = fit_frame(frame, offset="base")
        found = np.asarray(fits.predict(frame, offset="base"))
        assert found.tobytes() == np.asarray(fits.predict(frame, offset=columns["base"])).tobytes()
        left = np.asarray(fits.residuals(frame, offset="base"))
        assert left.tobytes() == (columns["y"] - found).tobytes()
        refused(lambda: fits.predict(frame, offset="bases"), "X has no column 'bases'")

    def test_equals_a_loop_over_groups_of_pandas(self, rng: Any) -> None:
        frame = frame_of("pandas", store_columns(rng))
        fits = fit_frame(frame, ["store", "year"])
        want = frame["y"] * np.nan
        for label, rows in frame.groupby(["store", "year"]):
            one = gd.fit(rows[["x", "z"]], rows["y"])
            want.loc[rows.index] = one.predict(rows)
            assert bits(fits[label]) == bits(one)
            assert (
                one.residuals(rows).tobytes()
                == (rows["y"] - one.predict(rows)).to_numpy().tobytes()
            )
        assert fits.predict(frame).equals(want.rename("prediction"))
        frame["predicted"] = fits.predict(frame)
        assert (frame["y"] - frame["predicted"]).equals(fits.residuals(frame).rename(None))

    @each("by", ["day", "store", ["day", "store"], "hour", ["hour", "store"]])
    def test_of_frames_of_other_libraries(self, rng: Any, by: Any) -> None:
        """Days are dates in one library and times in another; an hour comes twice in autumn."""
        columns = store_columns(rng)
        columns["day"] = np.datetime64("2020-01-01") + columns["year"]
        frame = frame_of("pandas", columns)
        first = pytest.importorskip("pandas").Timestamp("2020-10-25 00:00", tz="UTC")
        moments = first + (frame.year - 1).astype("timedelta64[s]") * 3600
        frame["hour"] = moments.dt.tz_convert("Europe/Berlin")  # 2:00 and 2:00
        other = {"pyarrow": lambda module: module.Table.from_pandas(frame),
                 "polars": lambda module: module.from_pandas(frame)}  # fmt: skip
        frames = [frame, *(make(pytest.importorskip(name)) for name, make in other.items())]
        answers = {
            np.asarray(fit_frame(fitted, by).predict(frame)).tobytes()
            for fitted in frames
            for frame in frames
        }
        assert len(answers) == 1

    @any_labels
    def test_of_arrays(self, rng: Any, labels: Any) -> None:
        fits = fit(rng, labels)
        codes = rng.integers(0, COUNT, 50)
        X, y = rng.normal(size=(50, D)), rng.normal(size=50)
        given = labels[codes] if isinstance(labels, np.ndarray) else [labels[i] for i in codes]
        found, left = fits.predict(X, groups=given), fits.residuals(X, y, groups=given)
        for i, code in enumerate(codes):
            assert found[i] == fits[code].predict(X[i : i + 1])[0]
        assert left.tobytes() == (y - found).tobytes()

    @each("t", [None, 3])
    @each("n", [0, 1, 8191, 8192, 20_000])
    def test_of_many_rows(self, rng: Any, n: int, t: int | None) -> None:
        """Rows are predicted in blocks."""
        fits = gd.fit_groups(
            rng.normal(size=(40, 3)), rng.normal(size=(40, t) if t else 40), np.arange(40) % 4
        )
        X, at = rng.normal(size=(n, 3)), rng.integers(0, 4, n)
        offset = rng.normal(size=n)
        found = fits.predict(X, groups=at, offset=offset[:, None] if t else offset)
        assert found.shape == ((n, t) if t else (n,))
        for i in range(4):
            own = offset[at == i]
            want = fits[i].predict(X[at == i], offset=own[:, None] if t else own)
            assert found[at == i].tobytes() == want.tobytes()

    @each("library", LIBRARIES)
    @each("by", ["store", ["store", "year"]])
    def test_unknown_and_missing_labels_in_a_frame(self, rng: Any, library: str, by: Any) -> None:
        columns = store_columns(rng)
        fits = fit_frame(frame_of(library, columns), by)
        stores = columns["store"].astype(object)
        stores[4], stores[7] = "new", "b2"
        frame = frame_of(library, columns | {"store": stores.tolist()})
        refused(lambda: fits.predict(frame), r"'new'.* was not fitted \(row 4, counted from 0\); .*"
                "unknown='nan'")  # fmt: skip
        whole = np.asarray(fits.predict(frame_of(library, columns)))
        stores[9] = None
        gaps = frame_of(library, columns | {"store": stores.tolist()})
        refused(lambda: fits.predict(gaps), "the column 'store' has 1 missing value.* in row 9.*"
                "pass unknown='nan'")  # fmt: skip
        for given, lost in ((frame, [4, 7]), (gaps, [4, 7, 9])):
            found = np.asarray(fits.predict(given, unknown="nan"))
            assert np.flatnonzero(np.isnan(found)).tolist() == lost
            assert np.delete(found, lost).tobytes() == np.delete(whole, lost).tobytes()
            left = np.asarray(fits.residuals(given, unknown="nan"))
            assert np.flatnonzero(np.isnan(left)).tolist() == lost
            assert np.isnan(np.asarray(fits[:0].predict(given, unknown="nan"))).all()

    def test_unknown_and_missing_labels_in_arrays(self, rng: Any) -> None:
        pl = pytest.importorskip("polars")
        X, advice = np.ones((4, D)), r"1 missing label, .* in row 1 .*rows, or pass unknown='nan'\."
        for labels, given, gaps in (
            ("text", np.array(["s1", "t", "s2", "s3"]),
             np.ma.array(["s1", "t", "s2", "s3"], mask=[0, 1, 0, 0])),
            ("text", ["s1", "t", "s2", "s3"], ["s1", None, "s2", "s3"]),
            ("floats", [0.5, -1.0, 1.0, 2.0], [0.5, np.nan, 1.0, 2.0]),
            ("whole numbers", pl.Series([10, 11, 20, 30]), pl.Series([10, None, 20, 30])),
            ("tuples", [("s1", 2020), ("s1", 1), ("s1", 2021), ("s1", 2022)],
             [("s1", 2020), ("s1", None), ("s1", 2021), ("s1", 2022)]),
            ("nanoseconds", np.array(["2020", "2021", "2020", "2020"], "M8[s]"),
             np.array(["2020", "NaT", "2020", "2020"], "M8[s]")),
        ):  # fmt: skip
            fits = fit(rng, LABELS[labels])
            refused(lambda fits=fits, given=given: fits.predict(X, groups=given), "was not fitted")
            refused(lambda fits=fits, gaps=gaps: fits.predict(X, groups=gaps), advice)
            for some in (given, gaps):
                found = fits.predict(X, groups=some, unknown="nan")
                assert np.isnan(found).tolist() == [False, True, False, False]

    @each("interval", ["confidence", "prediction"])
    def test_intervals(self, rng: Any, interval: Any) -> None:
        pytest.importorskip("scipy")
        frame = frame_of("pandas", store_columns(rng))
        fits = fit_frame(frame, covariance="ols")
        frame.loc[frame.index[3], "store"] = "new"
        found = fits.predict(frame, interval=interval, unknown="nan")
        assert [part.name for part in found] == ["mean", "lower", "upper"]
        assert found.mean.equals(fits.predict(frame, unknown="nan").rename("mean"))
        for part in found:
            assert part.index.equals(frame.index)
            assert np.flatnonzero(np.isnan(part)).tolist() == [3]
        for row in {*range(30)} - {3}:
            alone = fits[frame["store"].iloc[row]].predict(frame[row : row + 1], interval=interval)
            assert [part.iloc[row] for part in found] == [part[0] for part in alone]

    def test_refusals(self, rng: Any) -> None:
        columns = store_columns(rng)
        frame = frame_of("pandas", columns)
        fits, stack = fit_frame(frame), gd.fit(rng.normal(size=(2, 9, 2)), rng.normal(size=(2, 9)))
        X, y, stores = frame[["x", "z"]], columns["y"], columns["store"]
        assert isinstance(stack, gd.Fits)
        for call, match in (
            (lambda: fits.predict(X), "X has no column 'store', whose labels .* pass groups="),
            (lambda: fits.predict(frame[["store", "x"]]), "no column 'z'"),
            (lambda: fits.predict(frame, unknown="none"), "'none'; it must be 'raise' or 'nan'"),  # type: ignore[arg-type]
            (lambda: stack.predict(X, unknown="nan"), "is for rows with labels"),
            (lambda: stack.predict(X, groups=stores), "no groups; leave out groups="),
            (lambda: fits.predict(X, groups=stores[1:]), "groups has shape .29,.; it must"),
            (lambda: fits.predict(X, groups=stores[1:], unknown="nan"), "groups has shape .29,."),
            (lambda: fits.residuals(X, groups=stores), "has no column 'y'"),
            (lambda: fits.residuals(X.to_numpy(), groups=stores),
             "y is missing; pass y, or a data frame with the column 'y' for X"),
            (lambda: stack.residuals(np.ones((2, 9, 2))), "y is missing; pass y.$"),
            (lambda: fits.residuals(frame, y[1:]), "y has shape .29,.; the predictions .* .30,."),
            (lambda: fits.residuals(X, y[:, None], groups=stores), "y has shape .30, 1."),
            (lambda: fits[0].residuals(X.to_numpy()), "y is missing"),
        ):  # fmt: skip
            refused(call, match)

    def test_residuals_of_stacks_targets_and_tensors(self, rng: Any) -> None:
        X, y = rng.normal(size=(9, 2)), rng.normal(size=(9, 3))
        several = gd.fit(X, y)
        assert several.residuals(X, y).tobytes() == (y - several.predict(X)).tobytes()
        stack = gd.fit(X.reshape(3, 3, 2), y.T[:, :3], fit_intercept=False)
        want = y.T[:, :3] - stack.predict(X.reshape(3, 3, 2))
        assert stack.residuals(X.reshape(3, 3, 2), y.T[:, :3]).tobytes() == want.tobytes()
        torch = pytest.importorskip("torch")
        left = several.residuals(torch.from_numpy(X), torch.from_numpy(y))
        assert isinstance(left, torch.Tensor)
        assert left.numpy().tobytes() == several.residuals(X, y).tobytes()


class Page(HTMLParser):
    """Read the cells of a table, and see that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.notes = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in ("div", "table", "caption", "tr", "th", "td", "p"), tag
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data
        else:
            self.notes += data


class TestDisplay:
    def test_one_fit(self, rng: Any) -> None:
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame({"a<b>": [0.0, 1.0, 2.0], "y&": [1.0, 3.0, 5.0]})
        one = gd.fit(frame[["a<b>"]], frame["y&"])
        assert repr(one) == (
            f"Fit(status=CONVERGED, method='exact', epochs=0, loss={one.loss:.4g}, weights=[2], "
            "intercept=1)"
        )
        page = Page(one._repr_html_())
        assert page.rows == [["", "weight"], ["a<b>", "2"], ["intercept", "1"]]
        assert "y&" in page.notes
        assert one.message in page.notes
        wide = gd.fit(rng.normal(size=(1100, 1000)), rng.normal(size=1100))
        assert len(repr(wide)) <= 200
        assert "\n" not in repr(wide)
        assert len(Page(wide._repr_html_()).rows) == 12
        several = gd.fit(rng.normal(size=(9, 2)), rng.normal(size=(9, 30)), fit_intercept=False)
        assert "weights=array of shape (2, 30)" in repr(several)
        rows = Page(several._repr_html_()).rows
        assert rows[0][:3] == ["", "weight 0", "weight 1"]
        assert rows[0][-1] == "weight 29"
        assert {len(row) for row in rows} == {14}
        for intercept in (True, False):
            how: dict[str, Any] = {"covariance": "ols", "fit_intercept": intercept}
            with_errors = gd.fit(rng.normal(size=(9, 2)), rng.normal(size=9), **how)
            rows = Page(with_errors._repr_html_()).rows
            assert rows[0] == ["", "weight", "stderr"]
            want = [f"{error:.4g}" for error in with_errors.stderr] + ["nan"] * (not intercept)
            assert [row[2] for row in rows[1:]] == want

    @each("count", [1, 10, 11, 50])
    def test_many_fits(self, rng: Any, count: int) -> None:
        labels = [f"<{i:02}>" for i in range(count)] * 4
        fits = gd.fit_groups(rng.normal(size=(4 * count, 1)), rng.normal(size=4 * count), labels)
        assert len(repr(fits)) <= 100
        page = Page(fits._repr_html_())
        assert page.rows[0] == ["group", "weight_0", "intercept", "loss", "rows", "status"]
        shown = [row[0] for row in page.rows[1:]]
        want = fits.groups.tolist()
        assert shown == (want if count <= 10 else [*want[:5], "...", *want[-5:]])
        assert page.rows[-1][1] == f"{fits.weights[-1, 0]:.4g}"
        assert fits.message in page.notes
        stack: Any = gd.fit(rng.normal(size=(count, 30, 20)), rng.normal(size=(count, 30)))
        rows = Page(stack._repr_html_()).rows
        assert len(rows[0]) == 14
        assert rows[-1][0] == str(count - 1)
        assert len(Page(fits[:0]._repr_html_()).rows) == 1

    def test_labels_of_several_columns_and_times(self, rng: Any) -> None:
        fits = fit_frame(frame_of("pandas", store_columns(rng)), ["store", "year"])
        assert Page(fits._repr_html_()).rows[1][:2] == ["a", "1"]
        assert Page(fit(rng, LABELS["nanoseconds"])._repr_html_()).rows[2][0].endswith("000001")

    def test_short_lines(self, rng: Any) -> None:
        X, y = rng.normal(size=(300, 200)), rng.normal(size=300)
        one = gd.fit(X, y, gd.SGD(), epochs=50, tol=None)
        many = gd.fit_groups(X[:, :2], y, np.arange(300) % 9, gd.SGD(), history=1)
        state = gd.SGD().init(X)
        shown = [
            one, many, one.history, many.history, one.start, one.state, many.state, state,
            gd.SGD(lr=np.ones(50)), gd.fit_rolling(X[:, :2], y, 9), gd.Moments(3),
            gd.SelfTest(3, ("avx2",), ("a",) * 50), gd.oracle.matmul(X.T, X),
            gd.oracle.trajectory(X, y, gd.SGD(lr=1e-3), 3),
        ]  # fmt: skip
        for thing in shown:
            assert len(repr(thing)) <= 200
            assert "\n" not in repr(thing)
        assert repr(gd.SGD(momentum=0.9, lr=[1.0, 2.0])) == "SGD(lr=<array of 2>, momentum=0.9)"  # type: ignore[arg-type]
        assert repr(gd.SGD(lr=lambda epoch: 1.0)) == "SGD(lr=<schedule>)"
        assert repr(gd.SGD()) == "SGD()"
        rows = Page(gd.SGD(lr=0.5)._repr_html_()).rows
        assert rows[0] == ["lr", "0.5"]
        assert len(rows) == 7
