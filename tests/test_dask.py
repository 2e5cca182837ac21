"""gdcore.dask: the same bits on any partitions and workers, and no rows between workers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd
import problems
from fits import bits, refused
from loops import each

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")
xarray: Any = pytest.importorskip("xarray")

import gdcore.dask as gk  # noqa: E402

NAMES = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def _in_this_thread() -> Iterator[None]:
    """Run what no other scheduler is asked for in this thread: small graphs start no pools."""
    with on("sync"):
        yield


def on(scheduler: str | None) -> Any:
    return dask.config.set(scheduler=scheduler)


def rows(rng: Any, n: int = 1000, dtype: Any = float, t: int | None = None) -> Any:
    return problems.linear(rng, n, 3, t, parts="bos", dtype=dtype)


def of_arrays(p: Any, chunks: Any, **options: Any) -> gd.Fit:
    """Fit a problem as Dask arrays; its other arrays have chunks of their own."""
    X = da.from_array(p.X, chunks=chunks)
    others = [da.from_array(a, chunks=77) for a in (p.y, p.offset, p.sample_weight)]
    return gk.fit(X, others[0], offset=others[1], sample_weight=others[2], **options)


def table(p: Any) -> Any:
    return pd.DataFrame(p.X, columns=NAMES).assign(y=p.y, o=p.offset, w=p.sample_weight)


def of_frame(frame: Any, **options: Any) -> gd.Fit:
    return gk.fit(frame, target="y", offset="o", sample_weight="w", **options)


# One model of all rows.


@each("t, sgd, how", [
    (None, None, {}),
    (2, None, {"fit_intercept": False}),
    (None, gd.SGD(momentum=0.5), {"standardize": True, "reduction": "half_sum"}),
    (2, gd.SGD(weight_decay=0.1), {"method": "exact"}),
])  # fmt: skip
def test_no_bit_depends_on_the_chunks(
    rng: Any, dtype: Any, t: Any, sgd: gd.SGD | None, how: dict[str, Any]
) -> None:
    p = rows(rng, dtype=dtype, t=t)
    whole = of_arrays(p, (1000, 3), sgd=sgd, **how)
    for chunks in ((500, 2), (60, 3), ((0, 3, 0, 997), 1)):
        assert bits(of_arrays(p, chunks, sgd=sgd, **how)) == bits(whole)
    near = gd.fit(p.X, p.y, sgd, offset=p.offset, sample_weight=p.sample_weight, **how)
    places = 1e-4 if dtype == np.float32 else 1e-7
    np.testing.assert_allclose(whole.weights, near.weights, rtol=places, atol=places)
    assert whole.weights.dtype == dtype
    assert whole.status == near.status


def test_no_bit_depends_on_the_partitions_of_a_frame_or_their_order(rng: Any) -> None:
    """Neither on what is hard for sums: columns that almost cancel, no noise."""
    frame = table(rows(rng))
    frame["b"] = frame.a * (1 + 1e-5 * frame.b)
    frame["y"] = 3 * frame.a - frame.b
    whole = of_frame(dd.from_pandas(frame, npartitions=1))
    assert whole.feature_names == ("a", "b", "c")
    assert whole.target_name == "y"
    for count in (2, 7, 40):
        parts = dd.from_pandas(frame, npartitions=count, sort=False)
        order = [int(i) for i in rng.permutation(parts.npartitions)]
        mixed = dd.concat([parts.partitions[i] for i in order])
        shuffled = dd.from_pandas(frame.sample(frac=1, random_state=count), npartitions=count)
        for other in (parts, mixed, shuffled, parts[parts.a > 9].repartition(npartitions=1)):
            found = of_frame(other) if len(other) else whole
            assert bits(found) == bits(whole)


def test_series_names_and_unknown_sizes(rng: Any) -> None:
    frame = table(rows(rng))
    parts = dd.from_pandas(frame, npartitions=5)
    whole = of_frame(parts)
    apart = gk.fit(parts[NAMES], parts.y, offset=parts.o, sample_weight=parts["w"])
    assert bits(apart) == bits(whole)
    assert apart.feature_names == tuple(NAMES)
    two = gk.fit(parts, target="y", features="b")
    assert two.feature_names == ("b",)
    both = gk.fit(parts[NAMES], parts[["y", "o"]])
    assert both.weights.shape == (3, 2)
    kept = parts[parts.a > 0]  # of unknown sizes, some of them 0
    arrays = gk.fit(
        kept[NAMES].to_dask_array(), kept.y, offset=kept.o.to_dask_array(), sample_weight=kept.w
    )
    part = frame[frame.a > 0]
    assert bits(arrays) == bits(of_frame(dd.from_pandas(part, npartitions=1)))
    empty = parts[parts.a > np.inf]
    with pytest.warns(gd.FitWarning, match="No rows"):
        assert of_frame(empty).status is gd.Status.EMPTY


def test_rows_with_gaps_may_be_left_out(rng: Any) -> None:
    frame = table(rows(rng))
    for column in (*NAMES, "y", "o", "w"):
        frame.loc[rng.random(len(frame)) < 0.05, column] = np.nan
    kept = of_frame(dd.from_pandas(frame.dropna(), npartitions=1))
    for count in (1, 9):
        parts = dd.from_pandas(frame, npartitions=count)
        assert bits(of_frame(parts, missing="drop")) == bits(kept)
    X, y = da.from_array(frame[NAMES].to_numpy(), chunks=99), frame[["y", "o"]].to_numpy()
    refused(lambda: gk.fit(X, y, missing="drop"), "fit each target, y.*by itself")
    refused(lambda: of_frame(parts), "missing values.*missing='drop'")
    refused(lambda: of_frame(parts, missing="skip"), "missing is 'skip'; choose one of")


def test_standard_errors(rng: Any) -> None:
    p = rows(rng, 300)
    frame = table(p)
    found = [of_arrays(p, (60, 2), covariance="ols")]
    parts = [dd.from_pandas(frame, npartitions=count) for count in (1, 7)]
    found += [of_frame(part, covariance="ols") for part in parts]
    near = gd.fit(p.X, p.y, offset=p.offset, sample_weight=p.sample_weight, covariance="ols")
    for fit in found:
        assert fit.df_resid == near.df_resid
        for name in ("stderr", "r2", "sigma2", "covariance"):
            value = getattr(fit, name)
            assert np.array_equal(value, getattr(found[0], name)), name
            np.testing.assert_allclose(value, getattr(near, name), rtol=1e-10, err_msg=name)
    refused(lambda: of_frame(parts[0], covariance="hc1"), "use 'ols', or gdcore.fit on the rows")


def test_two_processes() -> None:
    """A cluster gets a process of its own, whatever other tests have left in this one."""
    pytest.importorskip("distributed")
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", "--tb=short"]
    file = Path(__file__).with_name("dask_on_workers.py")
    done = subprocess.run(
        [*command, "-o", "timeout=60", str(file)], capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# One model a group.


def grouped(rng: Any, n: int = 2000, labels: int = 40) -> Any:
    frame = table(rows(rng, n)).assign(k=rng.integers(0, labels, n).astype(str))
    return frame.assign(
        day=pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 2, n), "D")
    )


GROUPS: dict[str, Any] = {"target": "y", "features": ["b", "a"], "by": ["k", "day"]}


def in_memory(frame: Any, *, target: str, features: Any, by: Any, **options: Any) -> Any:
    """Return the answer of `gdcore.fit_groups` as `gdcore.dask.fit_groups` gives it."""
    codes = frame.groupby(by, observed=True).ngroup().to_numpy()
    found = gd.fit_groups(frame[features], frame[target], codes, **options)
    answer = frame[by].iloc[np.unique(codes, return_index=True)[1]].reset_index(drop=True)
    for name, weights in zip(features, found.weights.T, strict=True):
        answer[f"weight_{name}"] = weights
    answer["intercept"], answer["loss"], answer["rows"] = found.intercept, found.loss, found.rows
    return answer.assign(status=[str(status) for status in found.status])


def sorted_by(answer: Any, by: list[str]) -> Any:
    return answer.sort_values(by).reset_index(drop=True)


@each("options", [{}, {"sgd": gd.SGD(momentum=0.9), "batch_size": 5, "epochs": 3, "tol": None}])
def test_groups_have_the_bits_of_one_call(rng: Any, options: dict[str, Any]) -> None:
    """Also of a descent in mini-batches, which depends on the order of a group's rows."""
    frame = grouped(rng)
    wanted = in_memory(frame, **GROUPS, **options)
    for count in (1, 5):
        parts = dd.from_pandas(frame, npartitions=count, sort=False)
        answer = gk.fit_groups(parts, **GROUPS, **options)
        found = sorted_by(answer.compute(), GROUPS["by"])
        pd.testing.assert_frame_equal(found, wanted, check_exact=True, check_dtype=False)
        assert answer.dtypes.to_dict() == found.dtypes.to_dict() == answer._meta.dtypes.to_dict()


def test_groups_with_weights_offsets_and_other_labels(rng: Any) -> None:
    frame = grouped(rng, 300, 8)
    frame["level"] = pd.Categorical(frame.k, [*"76543210", "none"])
    frame["half"] = frame.k.astype(float) / 2 * np.where(rng.random(300) < 0.5, 1, -1)
    frame["flag"] = frame.a > 0
    for by in ("level", "half", "flag", "k"):
        how = {"target": "y", "features": ["a"], "by": by}
        wanted = in_memory(frame, **how | {"by": [by]}, offset=frame.o, sample_weight=frame.w)
        parts = dd.from_pandas(frame, npartitions=4, sort=False)
        found = gk.fit_groups(parts, **how, offset="o", sample_weight="w").compute()
        pd.testing.assert_frame_equal(
            sorted_by(found, [by]), wanted, check_exact=True, check_dtype=False
        )


@each("kind", ["text", "category", "number"])
def test_groups_with_gaps_and_standard_errors(rng: Any, kind: str) -> None:
    frame = grouped(rng, 400, 5)[["a", "b", "y", "k"]]
    for column in frame.columns:
        frame.loc[rng.random(len(frame)) < 0.05, column] = None
    frame["k"] = frame.k.astype({"text": object, "category": "category", "number": float}[kind])
    how: dict[str, Any] = {"target": "y", "features": ["a", "b"], "by": ["k"]}
    wanted = gd.fit_groups(frame.dropna(), **how, covariance="hc3").to_frame("pandas")
    assert list(wanted.columns[-3:]) == ["stderr_a", "stderr_b", "stderr_intercept"]
    for count in (1, 6):
        parts = dd.from_pandas(frame, npartitions=count, sort=False)
        found = gk.fit_groups(parts, **how, missing="drop", covariance="hc3").compute()
        pd.testing.assert_frame_equal(
            sorted_by(found, ["k"]), wanted, check_exact=True, check_dtype=False
        )
    with pytest.raises(ValueError, match=r"missing values.*or pass missing='drop'"):
        gk.fit_groups(parts, **how).compute()


def test_a_bad_group_has_a_status_and_warns_nowhere(rng: Any) -> None:
    frame = grouped(rng, 200, 4)[["a", "b", "y", "k"]]
    frame.loc[frame.k == "1", "a"] = np.inf
    frame.loc[frame.k == "2", "a"] = 2 * frame.b
    how: dict[str, Any] = {"target": "y", "features": ["a", "b"], "by": "k"}
    found = gk.fit_groups(dd.from_pandas(frame, npartitions=3), **how).compute()
    assert sorted_by(found, ["k"]).status.tolist() == [
        "CONVERGED", "INVALID", "SINGULAR", "CONVERGED",
    ]  # fmt: skip


# One model a pixel.


def cube(rng: Any, dtype: Any = float) -> Any:
    y, x = rng.standard_normal((2, 20, 4, 5)).astype(dtype)
    coords = {"time": np.arange(20), "lat": [1.0, 2.0, 3.0, 4.0], "height": ("lat", np.ones(4))}
    dims = ("time", "lat", "lon")
    rows = xarray.Dataset({"y": (dims, y), "x": (dims, x)}, coords)
    rows["band"] = ("lat", "time"), rng.standard_normal((4, 20)).astype(dtype)
    rows["trend"] = "time", np.arange(20, dtype=dtype) / 10
    rows["w"] = "time", rng.random(20).astype(dtype)
    return rows.assign(o=rows.x * 2)


@each("features", [["x", "trend"], ["trend"], ["band", "trend"], ["trend", "x", "band"]])
@each("more", [{}, {"sample_weight": "w", "offset": "o"}])
def test_a_map_has_the_bits_of_each_point(
    rng: Any, dtype: Any, features: list[str], more: dict[str, str]
) -> None:
    rows = cube(rng, dtype)
    found = gk.fit_map(rows, target="y", features=features, **more)
    assert dict(found.sizes) == {"lat": 4, "lon": 5, "feature": len(features)}
    assert found.feature.values.tolist() == features
    assert found.weights.dtype == found.loss.dtype == dtype
    for lat, lon in ((0, 0), (3, 2)):
        point, answer = rows.isel(lat=lat, lon=lon), found.isel(lat=lat, lon=lon)
        X = np.stack([point[name].values for name in features], 1)
        given = {name: point[column].values for name, column in more.items()}
        alone = gd.fit(X, point.y.values, **given)
        assert answer.weights.values.tobytes() == alone.weights.tobytes()
        assert float(answer.intercept) == alone.intercept
        assert float(answer.loss) == alone.loss
        assert int(answer["rank"]) == alone.rank
    for chunks in ({"lat": 3}, {"time": 7, "lat": 2, "lon": 3}, {"lon": 1}):
        lazy = gk.fit_map(rows.chunk(chunks), target="y", features=features, **more)
        assert lazy.chunks
        assert lazy.compute().identical(found)


BY_DESCENT: dict[str, Any] = {
    "target": "y",
    "features": "trend",
    "dim": "month",
    "sgd": gd.SGD(0.1),
    "epochs": 9,
    "tol": None,
}


def test_a_map_by_descent_has_no_rank(rng: Any) -> None:
    rows = cube(rng).rename(time="month")
    found = gk.fit_map(rows, **BY_DESCENT)
    assert (found["rank"] == -1).all()
    assert gk.fit_map(rows.chunk(lat=2), **BY_DESCENT).compute().identical(found)


def test_a_point_with_nan_spoils_no_other(rng: Any) -> None:
    rows, how = cube(rng), {"target": "y", "features": ["trend", "x"]}
    clean = gk.fit_map(rows, **how)
    rows.y[3, 1, 2], rows.x[0, 0, 0] = np.nan, np.inf
    with pytest.warns(gd.FitWarning, match="20 problems: 18 CONVERGED, 2 INVALID"):
        found = gk.fit_map(rows, **how)
    named = dict(zip(found.status.flag_values, found.status.flag_meanings.split(), strict=True))
    bad = found.status != 0
    assert [named[code] for code in found.status.values[bad]] == ["INVALID"] * 2
    assert (found.weights.isnull().any("feature") == bad).all()
    assert found.where(~bad).drop_vars("status").equals(clean.where(~bad).drop_vars("status"))
    assert gk.fit_map(rows.chunk(lat=1), **how).compute().identical(found)
    kept = gk.fit_map(rows.chunk(lat=1), **how, missing="drop").compute()
    assert [named[code] for code in kept.status.values[kept.status != 0]] == ["INVALID"]


# Bad input.

X, Y = np.arange(12.0).reshape(6, 2) ** 1.5, np.arange(6.0)
XD, YD = da.from_array(X, chunks=(4, 1)), da.from_array(Y, chunks=3)
FRAME = pd.DataFrame(X, columns=["a", "b"]).assign(y=Y, k=[*"ppqqq", None])
PARTS = dd.from_pandas(FRAME, npartitions=2)
ROWS = {"target": "y", "features": ["a"], "by": "k"}
UNKNOWN = PARTS[["a", "b"]].to_dask_array()
CUBE = xarray.Dataset({"y": (("time", "x"), X), "z": ("x", [1.0, 2.0])})


@each("call, match, error", [
    (lambda: gk.fit(X, YD), "X is ndarray and y Array; pass Dask arrays X and y", TypeError),
    (lambda: gk.fit(FRAME, target="y"), "X is DataFrame and y NoneType; pass Dask", TypeError),
    (lambda: gk.fit(XD), "or a Dask data frame X with either", TypeError),
    (lambda: gk.fit(XD, YD, target="y"), "or a Dask data frame X with either", TypeError),
    (lambda: gk.fit(XD[:, 0], YD), r"X has shape \(6,\); it must have two", ValueError),
    (lambda: gk.fit(XD, YD[:5]), "y has 5 rows in 2 chunks and X 6 in 2; give them", ValueError),
    (lambda: gk.fit(XD, YD, offset=Y[:2]), "offset has 2 rows in 1 chunks and X 6", ValueError),
    (lambda: gk.fit(XD, YD, offset=1.0), r"offset has shape \(\); it must have one", ValueError),
    (lambda: gk.fit(UNKNOWN, YD.rechunk(2)),
     r"y has 6 rows in 3 chunks and X nan in 2;.*compute_chunk_sizes", ValueError),
    (lambda: gk.fit(UNKNOWN, YD.rechunk(5)), r"y has shape \(5,\) and X \(3, 2\)", ValueError),
    (lambda: gk.fit(PARTS), "or a Dask data frame X with either", TypeError),
    (lambda: gk.fit(PARTS, PARTS.y, target="y"), "or a Dask data frame X with either", TypeError),
    (lambda: gk.fit(PARTS, target="z"), "no column 'z'; there are 'a', 'b', 'y', 'k'", ValueError),
    (lambda: gk.fit(PARTS, target="y", features=["a", "c"]), "no column 'c'", ValueError),
    (lambda: gk.fit(PARTS, target="y", features={"a", "b"}), "which has no order", TypeError),
    (lambda: gk.fit(PARTS, target="y", sample_weight="w"), "no column 'w'", ValueError),
    (lambda: gk.fit(PARTS, FRAME.y), "y is not a Series in X's partitions; make it", ValueError),
    (lambda: gk.fit(PARTS, PARTS.repartition(npartitions=1).y), "not a Series in X's", ValueError),
    (lambda: gk.fit(PARTS, target="y"), "'k' holds String|'k' holds Object", ValueError),
    (lambda: gk.fit(XD, YD * np.nan), "y holds nan at row 0", ValueError),
    (lambda: gk.fit(XD, YD, sample_weight=-YD), r"sample_weight\[1\] is -1", ValueError),
    (lambda: gk.fit(XD * 1e200, YD), "squares of the data overflow", ValueError),
    (lambda: gk.fit_groups(FRAME, **ROWS), "frame is DataFrame; pass a Dask", TypeError),
    (lambda: gk.fit_groups(PARTS, **ROWS | {"by": ["k", "m"]}), "no column 'm'", ValueError),
    (lambda: gk.fit_groups(PARTS, **ROWS | {"by": []}),
     "by names no column; .* and this one has 'y', 'a'", ValueError),
    (lambda: gk.fit_groups(PARTS, **ROWS | {"by": "a"}),
     "by names the column 'a' and so does features", ValueError),
    (lambda: gk.fit_groups(PARTS, **ROWS).compute(), "'k' of by has 1 missing", ValueError),
    (lambda: gk.fit_groups(PARTS, **ROWS, lr=1), r"takes no lr=.*SGD\(lr", TypeError),
    (lambda: gk.fit_groups(PARTS, **ROWS, epochs=-1), "epochs is -1", ValueError),
    (lambda: gk.fit_map(CUBE.y, target="y", features="y"), "dataset is DataArray", TypeError),
    (lambda: gk.fit_map(CUBE, target="y", features="w"), "no column 'w'; there are",
     ValueError),
    (lambda: gk.fit_map(CUBE, target="y", features="z"),
     "'z' has no dimension 'time'; pass dim=", ValueError),
    (lambda: gk.fit_map(CUBE.chunk(x=1).assign(t=CUBE.time + 1), target="y", features="t", tol=-1),
     "tol is -1", ValueError),
    (lambda: gk.fit_map(CUBE, target="y", features=[]), "needs a name in features", ValueError),
])  # fmt: skip
def test_bad_input(call: Any, match: str, error: type[Exception]) -> None:
    refused(call, match, error)


@each("options, match, error", [
    ({"lr": 1}, r"takes no lr=.*SGD\(lr", TypeError),
    ({"epochs": -1}, "epochs is -1", ValueError),
    ({"sgd": 1.0}, "sgd is float", TypeError),
    ({"init": [1.0], "sgd": gd.SGD()}, r"init.*\(1,\)", ValueError),
    ({"method": "stream"}, "moments keep no rows", ValueError),
])  # fmt: skip
def test_wrong_options_are_refused_before_rows_are_read(
    options: dict[str, Any], match: str, error: type[Exception]
) -> None:
    def read(_: Any) -> Any:
        pytest.fail("rows were read")

    X = da.map_blocks(read, chunks=((3, 3), (2,)), dtype=float, meta=np.empty((0, 0)))
    refused(lambda: gk.fit(X, YD, **options), match, error)


# Imports.


def test_dask_is_imported_by_those_who_ask_for_it() -> None:
    code = (
        "import sys, gdcore\n"
        "print([m for m in ('dask', 'distributed', 'pandas', 'xarray') if m in sys.modules])\n"
        "sys.modules['dask'] = None\n"
        "try: import gdcore.dask\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ("[]\ngdcore.dask needs Dask and xarray: pip install 'gdcore[dask]'.\n")
