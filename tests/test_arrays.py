"""Kernels on arrays of other libraries: NumPy's bits, in the caller's library, without a copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from dlpack_arrays import (
    BFLOAT,
    CUDA_HOST,
    INT,
    LIBRARY,
    MANAGED,
    METAL,
    READ_ONLY,
    Made,
    Producer,
)

Array = Any
RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 4))
Y = RNG.standard_normal(30)
W = RNG.standard_normal(4)
V = RNG.uniform(0.5, 2, 30)
STACK = RNG.standard_normal((3, 30, 4))

CALLS: dict[str, Callable[..., Any]] = {
    "matmul": lambda m: gd.matmul(m(X), m(X.T)),
    "matmul of a stack": lambda m: gd.matmul(m(STACK), m(X.T)),
    "matmul of a column": lambda m: gd.matmul(m(X), m(W)),
    "matmul of vectors": lambda m: gd.matmul(m(W), m(W)),
    "mse": lambda m: gd.mse(m(X), m(2 * X)),
    "squares": lambda m: gd.mse(m(X), m(2 * X), reduction="none"),
    "mse and gradient": lambda m: gd.mse_value_and_grad(m(X.T), m(3 * X.T), reduction="half_sum"),
    "linear": lambda m: gd.linear_mse_value_and_grad(m(X), m(Y), m(W), 0.5),
    "linear, weighted": lambda m: gd.linear_mse_value_and_grad(
        m(X), m(Y), m(W), m(np.float64(0.5)), offset=m(V), sample_weight=m(V)
    ),
    "linear, targets": lambda m: gd.linear_mse_value_and_grad(
        m(STACK), m(STACK[..., :2]), m(STACK[0, :4, :2]), None
    ),
    "huber": lambda m: gd.linear_value_and_grad(m(X), m(Y), m(W), m(np.float64(1)), delta=0.5),
}


def parts(result: Any) -> list[Any]:
    """Return the arrays of a result."""
    if isinstance(result, tuple):
        return [part for entry in result for part in parts(entry)]
    return [] if result is None else [result]


def same(ours: Any, numpys: Any) -> None:
    assert len(parts(ours)) == len(parts(numpys))
    for a, b in zip(parts(ours), parts(numpys), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True)


def reads(kind: Any) -> Callable[[Any], Any]:
    return lambda array: kind(np.asarray(array))


class TestTorch:
    @pytest.mark.parametrize("name", CALLS)
    def test_results_are_tensors_with_numpys_bits(self, torch: Any, name: str, dtype: Any) -> None:
        numpys = CALLS[name](lambda a: np.asarray(a, dtype))
        ours = CALLS[name](lambda a: torch.from_numpy(np.array(a, dtype)))
        assert all(isinstance(part, torch.Tensor) for part in parts(ours))
        same(ours, numpys)

    def test_strides_are_read_as_they_are(self, torch: Any) -> None:
        every_other = torch.from_numpy(STACK)[:, ::2].transpose(1, 2)
        wide = torch.from_numpy(W).expand(5, 4)
        numpys = np.broadcast_to(W, (5, 4)), STACK[:, ::2].transpose(0, 2, 1)
        same(gd.matmul(wide, every_other), gd.matmul(*numpys))
        (view,) = gd._core.prepare(("a", every_other))
        assert view.ctypes.data == every_other.data_ptr()
        assert view.strides == tuple(8 * s for s in every_other.stride())
        (broad,) = gd._core.prepare(("a", wide))
        assert broad.strides == (0, 8)

    def test_parameters_that_need_gradients(self, torch: Any) -> None:
        weights = torch.nn.Parameter(torch.from_numpy(W.copy()))
        loss, grad = gd.linear_mse_value_and_grad(torch.from_numpy(X), Y, weights)
        assert not loss.requires_grad
        same((loss, grad), gd.linear_mse_value_and_grad(X, Y, W))

    def test_the_sign_of_a_lazy_view(self, torch: Any) -> None:
        lazy = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
        assert lazy.is_neg()
        same(gd.mse(lazy, torch.zeros(2), reduction="none"), np.array([4, 16], np.float32))
        assert gd.matmul(lazy, torch.ones(2)).item() == 2

    def test_dtypes_follow_numpys_rules(self, torch: Any) -> None:
        whole, small = torch.arange(3), torch.ones(3)
        assert gd.matmul(whole, whole).dtype == torch.float64
        assert gd.matmul(small, small.half()).dtype == torch.float32
        assert gd.matmul(small, small.double()).dtype == torch.float64
        assert gd.mse(small.bool(), small).dtype == torch.float64
        for bad, advice in (
            (small.bfloat16(), "b.float()"),
            (small.to_sparse(), "b.to_dense()"),
            (torch.ones(3, device="meta"), "b is a tensor on meta, which has no numbers"),
            (small + 1j, "b.real"),
        ):
            with pytest.raises(TypeError, match=advice.replace("(", r"\(").replace(")", r"\)")):
                gd.matmul(small, bad)

    def test_numpy_and_tensors_give_tensors(self, torch: Any) -> None:
        product = gd.matmul(X, torch.from_numpy(X.T))
        assert isinstance(product, torch.Tensor)
        same(product, gd.matmul(X, X.T))
        assert isinstance(gd.mse(Y, torch.from_numpy(Y)), torch.Tensor)
        assert isinstance(gd.matmul(torch.from_numpy(X), W.tolist()), torch.Tensor)

    def test_out(self, torch: Any) -> None:
        a, b = torch.from_numpy(X), torch.from_numpy(X.T)
        for out in (
            torch.empty(30, 30, dtype=a.dtype),
            torch.empty(30, 60, dtype=a.dtype)[:, ::2],
            torch.empty(30, 30, dtype=a.dtype).T,
            torch.empty(30, 60, 2, dtype=a.dtype)[:, ::2, 0],
        ):
            assert gd.matmul(a, b, out=out) is out
            same(out, gd.matmul(X, X.T))
        square = torch.from_numpy(X[:4].copy())
        assert gd.matmul(square, square, out=square) is square  # read before it is written
        same(square, gd.matmul(X[:4], X[:4]))
        grad = torch.empty(4, 30, dtype=a.dtype).T
        loss, ours = gd.mse_value_and_grad(a, 2 * a, out=grad)
        assert ours is grad
        same((loss, ours), gd.mse_value_and_grad(X, 2 * X))

    def test_out_that_does_not_fit(self, torch: Any) -> None:
        a = torch.from_numpy(X[:4])
        with pytest.raises(TypeError, match="out has dtype float32, but the result is float64"):
            gd.matmul(a, a, out=torch.empty(4, 4))
        with pytest.raises(ValueError, match=r"out has shape \(4,\), but the result has shape"):
            gd.matmul(a, a, out=torch.empty(4, dtype=a.dtype))
        with pytest.raises(TypeError, match="out must be an array of the inputs' library"):
            gd.matmul(a, a, out=np.empty((4, 4)))
        with pytest.raises(TypeError, match="out must be a NumPy array"):
            gd.matmul(X[:4], X[:4], out=a)

    def test_errors_name_the_operand(self, torch: Any) -> None:
        with pytest.raises(ValueError, match=r"a has shape \(30, 4\) and b has shape \(30, 4\)"):
            gd.matmul(torch.from_numpy(X), torch.from_numpy(X))
        with pytest.raises(ValueError, match="mean over 0 elements"):
            gd.mse(torch.empty(0), torch.empty(0))

    def test_empty_and_scalar_arrays(self, torch: Any) -> None:
        empty = gd.matmul(torch.empty(0, 3), torch.empty(3, 2))
        assert empty.shape == (0, 2)
        assert gd.matmul(torch.empty(2, 0), torch.empty(0, 2)).tolist() == [[0, 0], [0, 0]]
        assert gd.mse(torch.tensor(3.0), torch.tensor(1.0)).item() == 4


class TestJax:
    def test_results_are_jaxs(self) -> None:
        jnp = pytest.importorskip("jax.numpy")
        for call in CALLS.values():
            ours = call(lambda a: jnp.asarray(a, jnp.float32))
            assert all(isinstance(part, jnp.ndarray) for part in parts(ours))
            same(ours, call(lambda a: np.asarray(a, np.float32)))

    def test_out_is_read_only(self) -> None:
        jnp = pytest.importorskip("jax.numpy")
        a = jnp.ones((3, 3))
        with pytest.raises(ValueError, match="out is read-only"):
            gd.matmul(a, a, out=jnp.zeros((3, 3)))


class TestDLPack:
    @pytest.mark.parametrize("version", [None, 1])
    @pytest.mark.parametrize("name", CALLS)
    def test_results_are_in_the_namespace(self, name: str, version: int | None) -> None:
        given: list[Producer] = []

        def make(array: Any) -> Producer:
            given.append(Producer(np.asarray(array), version=version, library=LIBRARY))
            return given[-1]

        ours = CALLS[name](make)
        for part, numpys in zip(parts(ours), parts(CALLS[name](np.asarray)), strict=True):
            assert isinstance(part, Made)
            np.testing.assert_array_equal(part.numbers, np.asarray(numpys), strict=True)
        assert [array.deleted for array in given] == [1] * len(given)

    def test_no_namespace_gives_numpys_arrays(self) -> None:
        assert isinstance(gd.matmul(Producer(X), Producer(W)), np.ndarray)
        assert isinstance(gd.mse(Producer(X), X), np.float64)

    def test_calls(self) -> None:
        """The newest version is asked for, and a producer that knows none is asked again."""
        new, old = Producer(X), Producer(X, version=None)
        gd.mse(new, old)
        assert new.how == [{"max_version": (1, 3)}]
        assert old.how == [{"max_version": (1, 3)}, {}]

    def test_no_strides_and_an_offset(self) -> None:
        rows = Producer(X, strides=None, byte_offset=0)
        same(gd.matmul(rows, W), gd.matmul(X, W))
        tail = Producer(X[:20], strides=None, byte_offset=10 * 4 * 8)
        same(gd.matmul(tail, W), gd.matmul(X[10:], W))

    def test_pinned_memory_is_the_hosts(self) -> None:
        same(gd.mse(Producer(X, device_type=CUDA_HOST), 0 * X), gd.mse(X, 0 * X))

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"device_type": MANAGED}, "a is in managed memory, .* copy it to plain device memory"),
            ({"device_type": METAL}, r"a is on a device .* \(DLPack device type 8\); copy it to"),
        ],
    )
    def test_memory_that_cannot_be_used(self, fields: dict[str, int], sentence: str) -> None:
        with pytest.raises(TypeError, match=sentence):
            gd.matmul(Producer(X, **fields), W)

    @pytest.mark.parametrize(
        "fields", [{"code": INT}, {"code": BFLOAT, "bits": 16}, {"lanes": 2}, {"version": 2}]
    )
    def test_numpy_is_asked_for_what_kernels_cannot_read(self, fields: dict[str, int]) -> None:
        """It fails here, and the error says why."""
        with pytest.raises(TypeError, match=r"a (is not an array of numbers|has dtype)"):
            gd.matmul(Producer(X, **fields), W)

    def test_a_producer_that_refuses(self) -> None:
        class Refusing(Producer):
            def __dlpack__(self, **how: Any) -> Any:
                raise BufferError("not today")

            def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
                return self.array

        same(gd.matmul(Refusing(X), W), gd.matmul(X, W))

    def test_read_only_arrays(self) -> None:
        fixed = Producer(np.zeros((4, 4)), flags=READ_ONLY)
        (view,) = gd._core.prepare(("a", fixed))
        assert not view.flags.writeable
        with pytest.raises(ValueError, match="out is read-only"):
            gd.matmul(Producer(X[:4]), X[:4], out=fixed)

    def test_a_view_keeps_its_producer(self) -> None:
        given = Producer(X.copy())
        (view,) = gd._core.prepare(("a", given))
        assert given.deleted == 0
        np.testing.assert_array_equal(view[3:], X[3:])
        del view
        assert given.deleted == 1

    def test_misaligned_numbers_are_copied(self) -> None:
        buffer = np.zeros(1 + X.nbytes, np.uint8)
        odd = buffer[1:].view(np.float64).reshape(X.shape)
        odd[:] = X

        class Odd(Producer):
            def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
                return self.array

        same(gd.matmul(Odd(odd), W), gd.matmul(X, W))


class TestSteps:
    OPTIONS = (
        gd.SGD(lr=0.1),
        gd.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        gd.SGD(lr=0.1, momentum=0.9, dampening=0.5, maximize=True),
    )

    def test_tensors_are_stepped_in_place(self, torch: Any, dtype: Any) -> None:
        for sgd in self.OPTIONS:
            numpys = [X.astype(dtype), W.astype(dtype)]
            first = torch.nn.Parameter(torch.from_numpy(numpys[0].copy()))
            tensors = [first, torch.from_numpy(np.repeat(numpys[1], 2))[::2]]
            states = sgd.init(numpys), sgd.init(tensors)
            for step in range(3):
                grads = [np.full_like(p, step + 1) * np.sign(p) for p in numpys]
                sgd.step(numpys, grads, states[0])
                sgd.step(tensors, [torch.from_numpy(grads[0]), grads[1]], states[1])
            for ours, theirs in zip(tensors, numpys, strict=True):
                same(ours.detach(), theirs)
            if sgd.momentum:
                assert all(isinstance(v, torch.Tensor) for v in states[1].velocity)
                same(tuple(states[1].velocity), tuple(states[0].velocity))

    def test_one_tensor_alone(self, torch: Any) -> None:
        sgd, p = gd.SGD(lr=0.5), torch.ones(2, 2)
        sgd.step(p, torch.ones(2, 2), sgd.init(p))
        assert p.tolist() == [[0.5, 0.5], [0.5, 0.5]]

    def test_refusals(self, torch: Any) -> None:
        sgd = gd.SGD(lr=0.5)

        def refused(error: type[Exception], sentence: str, params: Any, grads: Any) -> None:
            with pytest.raises(error, match=sentence):
                sgd.step(params, grads, sgd.init(params))

        p = torch.ones(4)
        refused(TypeError, "parameter 0 is Tensor that is not a float32", torch.arange(4), p)
        refused(ValueError, r"gradient 0 has shape \(3,\), its parameter \(4,\)", p, p[:3])
        refused(ValueError, "parameters 0 and 1 share memory", [p, p[1:]], [p, p[1:]])
        sgd.step([p[::2], p[1::2]], [p[::2], p[1::2]], sgd.init([p, p]))  # interleaved: apart
        state = sgd.init(p)
        state.velocity = [torch.ones(4, dtype=torch.float64)]
        with pytest.raises(ValueError, match="the state of parameter 0 is another's"):
            gd.SGD(lr=0.5, momentum=0.5).step(p, p, state)

    def test_jaxs_arrays_are_read_only(self) -> None:
        jnp = pytest.importorskip("jax.numpy")
        sgd, p = gd.SGD(lr=0.5), jnp.ones(3)
        with pytest.raises(ValueError, match="parameter 0 is read-only"):
            sgd.step(p, p, sgd.init(p))


class TestTraced:
    """Arrays in name only, while a library traces what is done with them."""

    def test_torch(self, torch: Any) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            fakes = torch.ones(3, 3), torch.ones(3, 3, dtype=torch.int64)
        gone = torch.ones(3, 3)
        gone.untyped_storage().resize_(0)
        for array in (*fakes, gone):
            with pytest.raises(TypeError, match="a has a shape and no numbers, as while torch tra"):
                gd.matmul(array, array)
            with pytest.raises(TypeError, match="X has a shape and no numbers, as while torch tra"):
                gd.fit(array, np.zeros(3))
        with pytest.raises(TypeError, match=r"a is a tensor without numbers of its own, as inside"):
            torch.vmap(gd.matmul)(torch.ones(2, 3, 3), torch.ones(2, 3, 3))

    def test_jax(self) -> None:
        jax = pytest.importorskip("jax")
        for call in (jax.jit(gd.mse), jax.grad(gd.mse)):
            with pytest.raises(
                TypeError, match=r"pred is traced by JAX \(.*Tracer\), and gdcore r"
            ):
                call(jax.numpy.ones(3), jax.numpy.ones(3))


class TestWrites:
    """What is written: `out` and parameters of steps."""

    def test_broadcast_views_are_refused(self, torch: Any) -> None:
        sgd, a = gd.SGD(lr=0.5), np.ones((3, 3))
        repeated = np.lib.stride_tricks.as_strided(np.zeros(3), (3, 3), (0, 8))
        for out in (torch.zeros(3).double().expand(3, 3), repeated):
            inputs = a if isinstance(out, np.ndarray) else torch.from_numpy(a)
            with pytest.raises(
                ValueError, match=r"matmul: out of shape \(3, 3\) is a broadcast vi"
            ):
                gd.matmul(inputs, inputs, out=out)
            with pytest.raises(ValueError, match=r"parameter 0 of shape .* is a broadcast view"):
                sgd.step(out, inputs, sgd.init(out))
            assert not np.asarray(out).any()
        single = torch.zeros(1, 3).double().expand(1, 3)
        assert gd.matmul(torch.from_numpy(a)[:1], torch.from_numpy(a), out=single).tolist() == [
            [3] * 3
        ]

    def test_lazy_views_are_refused(self, torch: Any) -> None:
        sgd, a = gd.SGD(lr=0.5), torch.ones(2, 2)
        lazy = torch.zeros(2, 2, dtype=torch.complex64).conj().imag
        assert lazy.is_neg()
        with pytest.raises(ValueError, match="out is read-only"):
            gd.matmul(a, a, out=lazy)
        with pytest.raises(ValueError, match="parameter 0 is read-only"):
            sgd.step(lazy, a, sgd.init(lazy))

    def test_autograd_knows_of_them(self, torch: Any) -> None:
        sgd = gd.SGD(lr=0.5)
        for write in (
            lambda w: sgd.step(w, torch.ones(3), sgd.init(w)),
            lambda w: gd.matmul(torch.eye(3), torch.ones(3), out=w),
        ):
            w = torch.ones(3, requires_grad=True)
            loss = (w * w).sum()
            write(w)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
        with torch.inference_mode():
            w = torch.ones(3)
        sgd.step(w, w, sgd.init(w))
        assert w.tolist() == [0.5] * 3

    def test_a_gradient_that_is_missing(self, torch: Any) -> None:
        sgd, w = gd.SGD(lr=0.5), torch.ones(3, requires_grad=True)
        with pytest.raises(TypeError, match="gradient 0 is None: its parameter took no part"):
            sgd.step([w], [w.grad], sgd.init([w]))
