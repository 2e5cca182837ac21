"""Bad input to the kernels: one sentence says what is wrong, and outputs stay as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gdcore
from loops import each

gd: Any = gdcore  # called here as its types forbid
ONES: Any = np.ones
LINEAR: Any = gd.linear_mse_value_and_grad

SHAPES: dict[str, tuple[Any, list[tuple[int, ...]], dict[str, tuple[int, ...]]]] = {
    "matmul": (gd.matmul, [(2, 3), (4, 5)], {}),
    "matmul-batch": (gd.matmul, [(2, 4, 3), (5, 3, 2)], {}),
    "mse": (gd.mse, [(3,), (4,)], {}),
    "mse-no-broadcast": (gd.mse, [(3, 1), (3,)], {}),
    "mse-gradient": (gd.mse_value_and_grad, [(2, 3), (3, 2)], {}),
    "linear-rows": (LINEAR, [(4, 3), (5,), (3,)], {}),
    "linear-features": (LINEAR, [(4, 3), (4,), (2,)], {}),
    "linear-targets": (LINEAR, [(4, 3), (4, 2), (3, 5)], {}),
    "linear-weights-1d": (LINEAR, [(4, 3), (4, 2), (3,)], {}),
    "linear-batch": (LINEAR, [(2, 4, 3), (5, 4), (3,)], {}),
    "linear-intercept": (LINEAR, [(4, 3), (4, 2), (3, 2), (5,)], {}),
    "linear-offset": (LINEAR, [(4, 3), (4,), (3,)], {"offset": (7,)}),
    "linear-sample-weight": (LINEAR, [(4, 3), (4,), (3,)], {"sample_weight": (7,)}),
}
# The two shapes that disagree, where they are not the first two.
NAMED: dict[str, Any] = {
    "linear-features": [(4, 3), (2,)],
    "linear-targets": [(4, 2), (3, 5)],
    "linear-weights-1d": [(4, 2), (3,)],
    "linear-intercept": [(5,)],
    "linear-offset": [(7,)],
    "linear-sample-weight": [(7,)],
}


@each("case", SHAPES)
def test_a_mismatch_names_the_shapes(case: str) -> None:
    function, shapes, keywords = SHAPES[case]
    with pytest.raises(ValueError) as error:  # noqa: PT011
        function(*map(ONES, shapes), **{k: ONES(s) for k, s in keywords.items()})
    message = str(error.value)
    assert all(str(shape) in message for shape in NAMED.get(case, shapes[:2])), message
    assert "\n" not in message


@each("shapes", [((3,), (3,), (3,)), ((), (), ()), ((4, 3), (), (3,))])
def test_the_linear_kernel_wants_a_matrix(shapes: Any) -> None:
    with pytest.raises(ValueError, match=r"\(…?,?n, ?d\)|X"):
        LINEAR(*map(ONES, shapes))


def test_as_many_dimensions_as_numpy_has() -> None:
    a = ONES((1,) * 62 + (2, 2))
    assert gd.matmul(a, a).shape == a.shape
    assert gd.matmul(ONES(2), a).shape == a.shape[:-1]
    with pytest.raises(ValueError, match="more than 64 dimensions"):
        LINEAR(ONES((2, 2)), ONES(2), ONES(2), ONES((1,) * 64))


WRONG_DTYPES: dict[str, Any] = {
    "complex": ONES(3, complex),
    "object": np.array([1, 2, None], object),
    "string": np.array(["1", "2", "3"]),
    "longdouble": ONES(3, np.longdouble),
    "datetime": np.zeros(3, "M8[s]"),
    "record": np.zeros(3, [("x", float)]),
}
CALLS: dict[str, Any] = {
    "matmul": lambda x: gd.matmul(x, ONES(3)),
    "matmul-second": lambda x: gd.matmul(ONES(3), x),
    "mse": lambda x: gd.mse(x, ONES(3)),
    "mse-second": lambda x: gd.mse(ONES(3), x),
    "mse-gradient": lambda x: gd.mse_value_and_grad(x, ONES(3)),
    "X": lambda x: LINEAR(x[:, None], ONES(3), ONES(1)),
    "y": lambda x: LINEAR(ONES((3, 1)), x, ONES(1)),
    "weights": lambda x: LINEAR(ONES((1, 3)), ONES(1), x),
    "intercept": lambda x: LINEAR(ONES((1, 3)), ONES(1), ONES(3), x[0:1].reshape(())),
    "offset": lambda x: LINEAR(ONES((3, 1)), ONES(3), ONES(1), offset=x),
    "sample_weight": lambda x: LINEAR(ONES((3, 1)), ONES(3), ONES(1), sample_weight=x),
}  # fmt: skip


@each("kind", WRONG_DTYPES)
@each("call", CALLS)
def test_wrong_dtypes(call: str, kind: str) -> None:
    array = WRONG_DTYPES[kind]
    if kind == "longdouble" and array.dtype.itemsize == 8:
        pytest.skip("longdouble is float64 here")
    with pytest.raises(TypeError) as error:
        CALLS[call](array)
    assert any(name in str(error.value) for name in (str(array.dtype), array.dtype.name, kind))


def outputs(shape: tuple[int, ...], dtype: Any) -> dict[str, tuple[Any, Any]]:
    """Return wrong `out=` arrays for a result of this shape and dtype, and the error for each."""
    other = np.float64 if dtype == np.float32 else np.float32
    frozen = ONES(shape, dtype)
    frozen.flags.writeable = False
    return {
        "shape": (ONES((*shape[:-1], shape[-1] + 1), dtype), ValueError),
        "axes": (ONES((1, *shape), dtype), ValueError),
        "dtype": (ONES(shape, other), TypeError),
        "integer": (ONES(shape, int), TypeError),
        "swapped": (ONES(shape, np.dtype(dtype).newbyteorder()), TypeError),
        "read-only": (frozen, ValueError),
        "list": ([0.0], TypeError),
    }


@each("kind", outputs((3,), np.float32))
@each("name", ["matmul", "mse"])
def test_wrong_out(dtype: Any, name: str, kind: str) -> None:
    a = ONES((3, 3), dtype)
    call: Any = {"matmul": gd.matmul, "mse": gd.mse_value_and_grad}[name]
    out, error = outputs((3, 3), dtype)[kind]
    with pytest.raises(error, match="out"):
        call(a, a, out=out)
    assert np.all(np.asarray(out) == np.asarray(out).flat[0])


@each("reduction", ["average", "", "MEAN", None, 3])
def test_an_unknown_reduction_names_the_choices(reduction: Any) -> None:
    for call in (
        gd.mse,
        gd.mse_value_and_grad,
        lambda a, b, **k: LINEAR(a[:, None], b, ONES(1), **k),
    ):
        with pytest.raises((ValueError, TypeError)) as error:
            call(ONES(3), ONES(3), reduction=reduction)
        assert all(name in str(error.value) for name in ("mean", "sum", "half_mean", "half_sum"))


def test_no_reduction_is_for_mse_alone() -> None:
    with pytest.raises(ValueError, match="half_mean"):
        gd.mse_value_and_grad(ONES(3), ONES(3), reduction="none")
    with pytest.raises(ValueError, match="half_mean"):
        LINEAR(ONES((3, 1)), ONES(3), ONES(1), reduction="none")


@each("reduction", ["mean", "half_mean"])
@each("shape", [(0,), (0, 3), (3, 0)])
def test_the_mean_over_nothing_is_an_error(reduction: Any, shape: tuple[int, ...]) -> None:
    for call in (gd.mse, gd.mse_value_and_grad):
        with pytest.raises(ValueError, match="mean"):
            call(ONES(shape), ONES(shape), reduction=reduction)


@each("reduction", ["mean", "half_mean"])
@each("shapes", [
    ((0, 2), (0,), (2,)),
    ((0, 2), (0, 3), (2, 3)),
    ((4, 2), (4, 0), (2, 0)),
    ((5, 0, 2), (5, 0), (2,)),
])  # fmt: skip
def test_the_linear_mean_over_nothing_is_an_error(reduction: Any, shapes: Any) -> None:
    with pytest.raises(ValueError, match="mean"):
        LINEAR(*map(ONES, shapes), reduction=reduction)


@each("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
def test_sums_over_nothing_are_zero(dtype: Any, shape: tuple[int, ...]) -> None:
    empty = ONES(shape, dtype)
    loss, grad = gd.mse_value_and_grad(empty, empty, reduction="sum")
    assert (loss, loss.dtype, grad.shape, grad.dtype) == (0, dtype, shape, dtype)
    assert gd.mse(empty, empty, reduction="none").shape == shape


@each("threads", [0, -1, 2.5, "two", None])
def test_thread_counts_are_positive_whole_numbers(threads: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        gd.set_num_threads(threads)


def test_an_unknown_instruction_set_names_the_choices() -> None:
    with pytest.raises(ValueError, match="baseline"):
        gd._core.set_isa("mmx")


WRONG_ARGUMENTS: dict[str, Any] = {
    "one operand": lambda: gd.matmul(ONES(3)),
    "reduction by position": lambda: gd.mse(ONES(3), ONES(3), "mean"),
    "unknown keyword": lambda: gd.mse(ONES(3), ONES(3), weight=1),
    "text": lambda: gd.matmul("ab", ONES(3)),
    "text in a list": lambda: gd.mse([1, "x"], [1, 2]),
    "no a": lambda: gd.matmul(None, ONES(3)),
    "no a, no rows": lambda: gd.matmul(None, ONES((0, 3))),
    "no pred": lambda: gd.mse(None, ONES(0), reduction="sum"),
    "no target": lambda: gd.mse(ONES(0), None, reduction="sum"),
    "no X": lambda: LINEAR(None, ONES(3), ONES(1)),
    "no y": lambda: LINEAR(ONES((0, 2)), None, ONES(2), reduction="sum"),
    "no weights": lambda: LINEAR(ONES((3, 0)), ONES(3), None),
}  # fmt: skip


@each("name", WRONG_ARGUMENTS)
def test_wrong_arguments(name: str) -> None:
    """None stands for a missing optional array, not for an empty one."""
    with pytest.raises(TypeError):
        WRONG_ARGUMENTS[name]()


@each("ragged", [[[1, 2], [3]]])
def test_ragged_lists(ragged: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        gd.matmul(ragged, ONES(2))
