"""Kernel functions on a GPU: the CPU's bits, on the caller's device and stream, without waiting."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cuda_arrays
import gdcore as gd
from cuda_arrays import asarray, asnumpy

pytestmark = pytest.mark.cuda
needs_emulation = pytest.mark.skipif(
    cuda_arrays.driver() is None, reason="only the emulated driver tells what it was asked for"
)

Array = Any
DeviceArray = gd._core.DeviceArray
RNG = np.random.default_rng(0)
X = RNG.standard_normal((530, 4))
Y = RNG.standard_normal(530)
W = RNG.standard_normal(4)
V = RNG.uniform(0.5, 2, 530)
STACK = RNG.standard_normal((3, 30, 4))

CALLS: dict[str, Callable[..., Any]] = {
    "matmul": lambda m: gd.matmul(m(X), m(STACK[0]).T),
    "matmul of a stack": lambda m: gd.matmul(m(STACK), m(X[:7]).T),
    "matmul of every other row": lambda m: gd.matmul(m(X)[::2], m(W)),
    "matmul of vectors": lambda m: gd.matmul(m(W), m(W)),
    "mse": lambda m: gd.mse(m(X), m(2 * X)),
    "squares": lambda m: gd.mse(m(X), m(2 * X), reduction="none"),
    "mse and gradient": lambda m: gd.mse_value_and_grad(m(X).T, m(3 * X).T, reduction="half_sum"),
    "linear": lambda m: gd.linear_mse_value_and_grad(m(X), m(Y), m(W), 0.5),
    "linear, weighted": lambda m: gd.linear_mse_value_and_grad(
        m(X), m(Y), m(W), m(0.5), offset=m(V), sample_weight=m(V)
    ),
    "linear, targets": lambda m: gd.linear_mse_value_and_grad(
        m(STACK), m(STACK)[..., :2], m(STACK[0, :4, :2]), m(W[:2])
    ),
    "huber": lambda m: gd.linear_value_and_grad(m(X), m(Y), m(W), m(1.0), delta=0.5),
}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Assert that a test leaves no memory of the device behind."""
    yield
    if cuda_arrays.driver() is not None:
        gc.collect()
        assert cuda_arrays.bytes_in_use() == 0


def parts(result: Any) -> list[Any]:
    """Return the arrays of a result."""
    if isinstance(result, tuple):
        return [part for entry in result for part in parts(entry)]
    return [] if result is None else [result]


def same(ours: Any, cpus: Any) -> None:
    assert len(parts(ours)) == len(parts(cpus))
    for a, b in zip(parts(ours), parts(cpus), strict=True):
        np.testing.assert_array_equal(asnumpy(a), np.asarray(b), strict=True)


class Interface:
    """An array that has __cuda_array_interface__ alone, as Numba's."""

    def __init__(self, inner: Any, **changes: Any) -> None:
        self.inner = inner
        self.__cuda_array_interface__ = inner.__cuda_array_interface__ | changes

    def __getitem__(self, index: Any) -> Interface:
        return Interface(self.inner[index])

    @property
    def T(self) -> Interface:
        return Interface(self.inner.T)


MAKERS: dict[str, tuple[Callable[[Any], Any], type]] = {
    "namespace": (asarray, cuda_arrays.Array),
    "core": (lambda a: DeviceArray.from_host(np.asarray(a)), DeviceArray),
    "interface": (lambda a: Interface(DeviceArray.from_host(np.asarray(a))), DeviceArray),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("name", CALLS)
def test_bits(name: str, maker: str, dtype: Any) -> None:
    """Results have the CPU's bits and are the caller's kind of arrays, losses too."""
    make, kind = MAKERS[maker]
    ours = CALLS[name](lambda a: make(np.asarray(a, dtype)))
    assert all(isinstance(part, kind) for part in parts(ours))
    same(ours, CALLS[name](lambda a: np.asarray(a, dtype)))


def test_broadcast_operands_are_not_copied(dtype: Any) -> None:
    row = DeviceArray.from_host(W.astype(dtype)).broadcast_to((3, 4))
    stack = DeviceArray.from_host(STACK.astype(dtype))
    numpys = np.broadcast_to(W.astype(dtype), (3, 4))
    same(gd.matmul(row, stack[0].T), gd.matmul(numpys, STACK[0].T.astype(dtype)))


class TestOut:
    def test_results_are_written_into_out(self, dtype: Any) -> None:
        a, b = X[:6].astype(dtype), X[6:10].astype(dtype)
        for out in (
            DeviceArray.from_host(np.zeros((6, 4), dtype)),
            DeviceArray.from_host(np.zeros((4, 6), dtype)).T,
            DeviceArray.from_host(np.zeros((6, 9), dtype))[:, ::-2][:, 1:],
            DeviceArray.from_host(np.zeros((6, 4, 2), dtype))[..., 0],
        ):
            assert gd.matmul(asarray(a), asarray(b), out=out) is out
            same(out, gd.matmul(a, b))

    def test_out_may_overlap_the_inputs(self, dtype: Any) -> None:
        a = X[:4].astype(dtype)
        there = DeviceArray.from_host(a)
        assert gd.matmul(there, there, out=there) is there
        same(there, gd.matmul(a, a))
        both = DeviceArray.from_host(X[:6].astype(dtype))
        loss, grad = gd.mse_value_and_grad(both[:5], both[1:], out=both[1:])
        same((loss, grad), gd.mse_value_and_grad(X[:5].astype(dtype), X[1:6].astype(dtype)))

    def test_strided_gradients(self, dtype: Any) -> None:
        a, b = X[:6].astype(dtype), X[6:12].astype(dtype)
        whole = DeviceArray.from_host(np.full((6, 8), 7, dtype))
        ours = gd.mse_value_and_grad(asarray(a), asarray(b), out=whole[:, ::2])
        same(ours, gd.mse_value_and_grad(a, b))
        same(whole[:, 1::2], np.full((6, 4), 7, dtype))

    def test_out_elsewhere(self) -> None:
        there = DeviceArray.from_host(X[:4])
        with pytest.raises(TypeError, match="out must be an array of the inputs' library, where"):
            gd.matmul(there, there, out=np.empty((4, 4)))
        with pytest.raises(TypeError, match="out must be a NumPy array"):
            gd.matmul(X[:4], X[:4], out=there)
        read_only = Interface(there, data=(there.__cuda_array_interface__["data"][0], True))
        with pytest.raises(ValueError, match="out is read-only"):
            gd.matmul(there, there, out=read_only)


class TestSteps:
    @pytest.mark.parametrize("maker", MAKERS)
    def test_parameters_are_stepped_in_place(self, maker: str, dtype: Any) -> None:
        make = MAKERS[maker][0]
        for sgd in (gd.SGD(lr=0.1), gd.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)):
            numpys = [X[:9].astype(dtype), W.astype(dtype)]
            ours = [make(numpys[0]).T, make(np.repeat(numpys[1], 2))[::2]]
            numpys = [numpys[0].copy().T, numpys[1].copy()]
            states = sgd.init(numpys), sgd.init(ours)
            for step in range(3):
                grads = [np.full_like(p, step + 1) * np.sign(p) for p in numpys]
                sgd.step(numpys, grads, states[0])
                sgd.step(ours, [make(np.ascontiguousarray(g)) for g in grads], states[1])
            for a, b in zip(ours, numpys, strict=True):
                same(a.inner if isinstance(a, Interface) else a, b)
            if sgd.momentum:
                same(tuple(states[1].velocity), tuple(states[0].velocity))

    def test_refusals(self) -> None:
        sgd, p = gd.SGD(lr=0.5), asarray(W)
        for grad, sentence in (
            (W, "gradient 0 is in the host's memory and its parameter on device 0"),
            (asarray(W.astype("f")), "gradient 0 is float32 and its parameter float64"),
        ):
            with pytest.raises(TypeError, match=sentence):
                sgd.step(p, grad, sgd.init(p))
        whole = DeviceArray.from_host(X)
        with pytest.raises(ValueError, match="parameters 0 and 1 share memory"):
            sgd.step([whole[:3], whole[2:]], [whole[:3], whole[2:]], sgd.init([p, p]))
        same(p, W)


class TestRefusals:
    def test_the_hosts_memory(self) -> None:
        for other in (X.T, X.T.tolist()):
            with pytest.raises(TypeError, match="a is on CUDA device 0 and b is in the host's"):
                gd.matmul(asarray(X), other)

    def test_two_dtypes(self) -> None:
        with pytest.raises(TypeError, match="a is float64 and b float32, on a CUDA device; conv"):
            gd.matmul(asarray(X), asarray(X.T.astype("f")))

    @pytest.mark.parametrize("typestr", ["<i4", "<f2", ">f8", "|b1"])
    def test_other_dtypes(self, typestr: str) -> None:
        other = Interface(DeviceArray.from_host(X), typestr=typestr)
        with pytest.raises(TypeError, match=r"a is on CUDA device 0 and has dtype .*: convert it"):
            gd.matmul(other, other)

    def test_masks(self) -> None:
        masked = Interface(DeviceArray.from_host(X), mask=1)
        with pytest.raises(TypeError, match="a has a mask"):
            gd.matmul(masked, masked)

    def test_addresses_in_the_middle_of_numbers(self) -> None:
        there = DeviceArray.from_host(X)
        at = there.__cuda_array_interface__["data"][0] + 4
        other = Interface(there, data=(at, False), shape=(3, 3), strides=None)
        with pytest.raises(ValueError, match="a begins in the middle of a number"):
            gd.matmul(other, other)

    @needs_emulation
    def test_two_devices(self) -> None:
        with cuda_arrays.emulating(devices=2):
            a, b = asarray(X), asarray(X.T, device=1)
            with pytest.raises(ValueError, match="a is on CUDA device 0 and b on CUDA device 1;"):
                gd.matmul(a, b)
            same(gd.matmul(b, b.T), gd.matmul(X.T, X))
            assert gd.matmul(b, b.T).device == 1


class TestNumbers:
    def test_weights_that_sum_to_0(self) -> None:
        """The mean is NaN: nobody waits for the device to tell."""
        zeros = asarray(np.zeros_like(Y))
        loss, _ = gd.linear_mse_value_and_grad(
            asarray(X), asarray(Y), asarray(W), sample_weight=zeros
        )
        assert np.isnan(asnumpy(loss))

    def test_no_rows(self) -> None:
        with pytest.raises(ValueError, match="the mean over 0"):
            gd.linear_mse_value_and_grad(asarray(X[:0]), asarray(Y[:0]), asarray(W))

    @pytest.mark.parametrize("shape", [(2, 5, 0), (0, 5, 2), (2, 0, 0)], ids=str)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_nothing_to_sum(self, shape: tuple[int, int, int], weighted: bool) -> None:
        """Without rows or targets the sum is 0 and the mean an error, as on the CPU."""
        n, d, t = shape

        def call(m: Callable[[Any], Any], stack: tuple[int, ...], reduction: Any) -> Any:
            given = np.ones((*stack, n, d)), np.ones((*stack, n, t)), np.ones((d, t)), np.ones(t)
            weight = m(np.ones(n)) if weighted else None
            return gd.linear_mse_value_and_grad(
                *map(m, given), sample_weight=weight, reduction=reduction
            )

        for stack in (), (3, 1):
            same(call(asarray, stack, "sum"), call(np.asarray, stack, "sum"))
            with pytest.raises(ValueError, match="the mean over 0"):
                call(asarray, stack, "mean")


@needs_emulation
@pytest.mark.parametrize("name", CALLS)
def test_every_allocation_may_fail(name: str) -> None:
    """It is a MemoryError with the size, and the next call is right."""
    cpus = CALLS[name](np.asarray)
    sentences: list[str] = []
    for k in count(1):
        with cuda_arrays.emulating(fail_allocation=k):
            try:
                ours = CALLS[name](asarray)
            except MemoryError as error:
                sentences.append(str(error))
            else:
                break
    assert len(sentences) > 1
    assert all("bytes" in sentence for sentence in sentences)
    same(ours, cpus)


class Stream:
    """A stream of a library that keeps track of the current one."""

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A library of this name, whose current stream a test sets."""
    module = ModuleType("cupy")
    module.cuda = SimpleNamespace(get_current_stream=lambda: module.current)  # type: ignore[attr-defined]
    module.current, module.kept = Stream(0), []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", module)

    class ndarray:
        __module__ = "cupy"

        def __init__(self, inner: Any) -> None:
            self.inner = inner
            module.kept.append(inner)  # a stream may still need it

        def __getitem__(self, index: Any) -> Any:
            return ndarray(self.inner[index])

        @property
        def T(self) -> Any:
            return ndarray(self.inner.T)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.inner.__dlpack_device__()

        def __dlpack__(self, **how: Any) -> Any:
            module.asked = how
            return self.inner.__dlpack__(**how)

    module.ndarray = ndarray  # type: ignore[attr-defined]
    module.from_dlpack = ndarray  # type: ignore[attr-defined]
    return module


@needs_emulation
class TestStreams:
    """The emulated driver runs what is on a stream late: work on a wrong one would be seen."""

    @pytest.fixture
    def stream(self) -> Iterator[int]:
        """A stream of the first device, while that device is current."""
        library, context, made = cuda_arrays.driver(), ctypes.c_void_p(), ctypes.c_void_p()
        DeviceArray.from_host(W)  # opens the driver
        assert library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
        assert library.cuCtxPushCurrent_v2(context) == 0
        assert library.cuStreamCreate(ctypes.byref(made), 1) == 0
        yield made.value or 0
        gc.collect()  # arrays are freed on their stream
        assert library.cuStreamDestroy_v2(made) == 0
        assert library.cuCtxPopCurrent_v2(ctypes.byref(context)) == 0

    @pytest.mark.parametrize("name", CALLS)
    def test_the_callers_current_stream(
        self, cupy: Any, stream: int, name: str, monkeypatch: Any
    ) -> None:
        """All work is on it, nothing waits, and the producer is told which stream it is."""
        given = CALLS[name](lambda a: cupy.ndarray(DeviceArray.from_host(np.asarray(a))))
        assert cupy.asked["stream"] == 1
        cupy.current = Stream(stream)
        given = CALLS[name](lambda a: cupy.ndarray(DeviceArray.from_host(np.asarray(a))))
        assert cupy.asked == {"stream": stream, "max_version": (1, 3)}
        assert all(isinstance(part, cupy.ndarray) for part in parts(given))
        for a, b in zip(parts(given), parts(CALLS[name](np.asarray)), strict=True):
            assert a.inner.__cuda_array_interface__["stream"] == stream
            np.testing.assert_array_equal(a.inner.numpy(), np.asarray(b), strict=True)
        cupy.kept.clear()

    @staticmethod
    def replayed(stream: int, call: Callable[[], Any]) -> Any:
        """Capture a call and launch its graph twice; return the call's results."""
        library, handle = cuda_arrays.driver(), ctypes.c_void_p(stream)
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        assert library.cuStreamBeginCapture_v2(handle, 0) == 0
        try:
            results = call()
        finally:
            error = library.cuStreamEndCapture(handle, ctypes.byref(graph))
        assert error == 0
        assert library.cuGraphInstantiateWithFlags(ctypes.byref(ready), graph, 0) == 0
        for _ in range(2):
            assert library.cuGraphLaunch(ready, handle) == 0
        numpys = [part.inner.numpy() for part in parts(results)]
        assert library.cuGraphExecDestroy(ready) == library.cuGraphDestroy(graph) == 0
        return numpys

    @pytest.mark.parametrize("name", ["problems that lie unevenly", "a first product"])
    def test_captures_need_no_copy(self, cupy: Any, stream: int, name: str) -> None:
        """Tables of addresses travel with launches, and the test of tensor cores apart."""
        stacks = np.stack([STACK, 2 * STACK])[:, :, None]
        targets, weights = stacks[..., 0], np.stack([W] * 5)[::2]
        wide = RNG.standard_normal((64, 64))
        calls: dict[str, Callable[..., Any]] = {
            "problems that lie unevenly": lambda m: gd.linear_mse_value_and_grad(
                m(stacks), m(targets), m(weights)
            ),
            "a first product": lambda m: gd.matmul(*[m(wide)] * 2),
        }
        cupy.current = Stream(stream)
        one = cupy.ndarray(DeviceArray.from_host(np.ones((1, 1))))
        there = {  # ordered by the stream
            id(a): gd.matmul(cupy.ndarray(DeviceArray.from_host(a))[..., None], one)[..., 0]
            for a in (stacks, targets, weights, wide)
        }
        results = self.replayed(stream, lambda: calls[name](lambda a: there[id(a)]))
        for a, b in zip(results, parts(calls[name](np.asarray)), strict=True):
            np.testing.assert_array_equal(a, np.asarray(b), strict=True)
        cupy.kept.clear()

    def test_capture(self, cupy: Any, stream: int) -> None:
        """Calls do not wait and do not allocate but in the stream's order: a graph replays them."""
        library, handle = cuda_arrays.driver(), ctypes.c_void_p(stream)
        cupy.current = Stream(stream)
        eye = cupy.ndarray(DeviceArray.from_host(np.eye(4)))
        weights = gd.matmul(eye, cupy.ndarray(DeviceArray.from_host(W)))  # ordered by the stream
        rows = gd.matmul(cupy.ndarray(DeviceArray.from_host(X)), eye)
        targets = gd.matmul(rows, weights)
        param, sgd = gd.matmul(eye, weights), gd.SGD(lr=0.5)
        assert library.cuStreamBeginCapture_v2(handle, 0) == 0
        results = (
            gd.matmul(rows, weights),
            gd.mse_value_and_grad(rows, rows),
            gd.linear_mse_value_and_grad(rows, targets, weights, 0.5),
        )
        sgd.step(param, param, sgd.init(param))
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        assert library.cuStreamEndCapture(handle, ctypes.byref(graph)) == 0
        assert library.cuGraphInstantiateWithFlags(ctypes.byref(ready), graph, 0) == 0
        for _ in range(2):
            assert library.cuGraphLaunch(ready, handle) == 0
            for a, b in zip(
                parts(results),
                parts(
                    (
                        gd.matmul(X, W),
                        gd.mse_value_and_grad(X, X),
                        gd.linear_mse_value_and_grad(X, gd.matmul(X, W), W, 0.5),
                    )
                ),
                strict=True,
            ):
                np.testing.assert_array_equal(a.inner.numpy(), np.asarray(b), strict=True)
        np.testing.assert_array_equal(param.inner.numpy(), W / 4)
        assert library.cuGraphExecDestroy(ready) == library.cuGraphDestroy(graph) == 0
        cupy.kept.clear()
