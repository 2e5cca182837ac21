"""gdcore.torch: operators with autograd, against torch's own and against finite differences."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gdcore as gd
import gdcore.torch as gt

pytestmark = pytest.mark.torch

Tensor = Any
REDUCTIONS = ("mean", "sum", "half_mean", "half_sum")
# X, y, weights, intercept, offset, sample_weight; None: absent
LINEAR: dict[str, tuple[Any, ...]] = {
    "one problem": ((6, 2), (6,), (2,), None, None, None),
    "intercept": ((6, 2), (6,), (2,), (), None, None),
    "all": ((6, 2), (6,), (2,), (), (6,), (6,)),
    "scalars": ((6, 2), (6,), (2,), (), (), ()),
    "targets": ((6, 2), (6, 3), (2, 3), (3,), (6, 1), (6,)),
    "targets, one intercept": ((6, 2), (6, 3), (2, 3), (), (3,), (1,)),
    "batch": ((4, 6, 2), (4, 6), (4, 2), (4,), (4, 6), (4, 6)),
    "broadcast weights": ((4, 6, 2), (4, 6), (2,), (), None, (6,)),
    "broadcast rows": ((6, 2), (6,), (4, 2), (4,), None, None),
    "batch, targets": ((2, 4, 6, 2), (1, 4, 6, 3), (2, 1, 2, 3), (3,), (6, 3), (4, 6)),
}  # fmt: skip
MATMUL = {
    "matrices": ((3, 4), (4, 2)),
    "stack": ((2, 3, 4), (2, 4, 2)),
    "broadcast": ((5, 1, 3, 4), (2, 4, 2)),
    "row": ((4,), (4, 2)),
    "column": ((3, 4), (4,)),
    "stacked column": ((2, 3, 4), (4,)),
    "row of stacks": ((4,), (2, 4, 3)),
    "vectors": ((4,), (4,)),
}


@pytest.fixture
def make(torch: Any) -> Callable[..., Tensor]:
    """Make leaves of standard normal numbers; weights of rows are above 0."""
    generator = torch.Generator().manual_seed(0)

    def made(shape: Any, dtype: Any = None, positive: bool = False) -> Tensor:
        if shape is None:
            return None
        x = torch.randn(shape, generator=generator, dtype=dtype or torch.float64)
        return (x.abs() + 0.5 if positive else x).requires_grad_()

    return made


def linear_operands(make: Callable[..., Tensor], shapes: Any, dtype: Any = None) -> list[Tensor]:
    return [make(shape, dtype, i == 5) for i, shape in enumerate(shapes)]


def plain_linear(torch: Any, X: Any, y: Any, w: Any, b: Any, o: Any, s: Any, red: str) -> Tensor:
    """Write the loss out in torch."""
    several = y.dim() >= X.dim()
    up = (lambda a: a) if several else (lambda a: a.unsqueeze(-1))
    out = X @ up(w) - up(y)
    if b is not None:
        out = out + (up(b).unsqueeze(-2) if up(b).dim() else b)
    if o is not None:
        out = out + up(o)
    s = out.new_ones(out.shape[-2]) if s is None else s
    s = torch.broadcast_to(s, (*s.shape[:-1], out.shape[-2]))
    loss = (s.unsqueeze(-1) * out**2).sum((-2, -1))
    if red.endswith("mean"):
        loss = loss / (s.sum(-1) * out.shape[-1])
    return loss / 2 if red.startswith("half") else loss


def assert_close(torch: Any, ours: Any, theirs: Any) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def leaves(operands: Any) -> list[Tensor]:
    return [a for a in operands if a is not None]


class TestLinear:
    @pytest.mark.parametrize("reduction", REDUCTIONS)
    @pytest.mark.parametrize("name", LINEAR)
    def test_loss_and_gradients(self, torch: Any, make: Any, name: str, reduction: str) -> None:
        operands = linear_operands(make, LINEAR[name])
        X, y, w, b, o, s = operands
        ours = gt.linear_mse_loss(X, y, w, b, offset=o, sample_weight=s, reduction=reduction)
        theirs = plain_linear(torch, *operands, reduction)
        assert_close(torch, [ours], [theirs])
        ups = torch.rand_like(theirs)
        inputs = leaves(operands)
        ours = torch.autograd.grad((ours * ups).sum(), inputs)
        assert_close(torch, ours, torch.autograd.grad((theirs * ups).sum(), inputs))

    @pytest.mark.parametrize("name", LINEAR)
    def test_second_derivatives(self, torch: Any, make: Any, name: str) -> None:
        operands = linear_operands(make, LINEAR[name])
        X, y, w, b, o, s = operands
        inputs, found = leaves(operands), []
        for loss in (
            gt.linear_mse_loss(X, y, w, b, offset=o, sample_weight=s),
            plain_linear(torch, *operands, "mean"),
        ):
            first = torch.autograd.grad(loss.sum(), inputs, create_graph=True)
            found.append(torch.autograd.grad(sum((g**2).sum() for g in first), inputs))
        assert_close(torch, *found)

    @pytest.mark.parametrize("name", ["all", "targets", "batch, targets"])
    def test_finite_differences(self, torch: Any, make: Any, name: str) -> None:
        operands = linear_operands(make, LINEAR[name])

        def loss(*inputs: Any) -> Tensor:
            left = iter(inputs)
            X, y, w, b, o, s = (None if a is None else next(left) for a in operands)
            return gt.linear_mse_loss(X, y, w, b, offset=o, sample_weight=s)

        assert torch.autograd.gradcheck(loss, leaves(operands))
        assert torch.autograd.gradgradcheck(loss, leaves(operands))

    def test_the_gradient_of_the_gradient(self, torch: Any, make: Any) -> None:
        """The operator's second and third output can be differentiated too."""
        gt.matmul(torch.eye(2), torch.eye(2))
        operands = linear_operands(make, LINEAR["targets"])

        def gradient(*inputs: Any) -> Any:
            return torch.ops.gdcore.linear_mse_value_and_grad(*inputs, "mean")

        assert torch.autograd.gradcheck(gradient, operands)

    def test_bits_and_one_pass(self, torch: Any, make: Any, monkeypatch: Any) -> None:
        """The gradients are those of gd.linear_mse_value_and_grad; backward reads no rows."""
        X, y, w, b, _, s = (a.detach() for a in linear_operands(make, LINEAR["all"], torch.float32))
        w.requires_grad_(), b.requires_grad_()
        calls = []
        whole = gd.linear_mse_value_and_grad
        monkeypatch.setattr(
            "gdcore.kernels.linear_mse_value_and_grad",
            lambda *a, **how: calls.append(0) or whole(*a, **how),
        )
        loss = gt.linear_mse_loss(X, y, w, b, sample_weight=s)
        monkeypatch.setattr("gdcore.torch._pull_back", None)
        loss.backward()
        value, grad = whole(*(a.detach() for a in (X, y, w, b)), sample_weight=s)
        assert torch.equal(loss.detach(), value)
        assert torch.equal(w.grad, grad.weights)
        assert torch.equal(b.grad, grad.intercept)
        assert len(calls) == 1


class TestMse:
    @pytest.mark.parametrize("reduction", REDUCTIONS)
    def test_against_torch(self, torch: Any, make: Any, reduction: str) -> None:
        pred, target = make((5, 3)), make((5, 3))
        ours = gt.mse_loss(pred, target, reduction=reduction)
        theirs = torch.nn.functional.mse_loss(pred, target, reduction=reduction.split("_")[-1])
        theirs = theirs / 2 if "half" in reduction else theirs
        assert_close(torch, [ours], [theirs])
        inputs = pred, target
        assert_close(torch, torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs))

    def test_finite_differences(self, torch: Any, make: Any) -> None:
        inputs = make((2, 3)), make((2, 3))
        assert torch.autograd.gradcheck(gt.mse_loss, inputs)
        assert torch.autograd.gradgradcheck(gt.mse_loss, inputs)
        operator = torch.ops.gdcore.mse_value_and_grad
        assert torch.autograd.gradcheck(lambda *a: operator(*a, "half_mean"), inputs)

    def test_in_a_model(self, torch: Any, make: Any) -> None:
        """What comes before the loss gets its gradients."""
        w, x, y = make((3,)), make((5, 3)), make((5,)).detach()
        gt.mse_loss(gt.matmul(x, w), y).backward()
        ours = w.grad.clone()
        w.grad = None
        torch.nn.functional.mse_loss(x @ w, y).backward()
        assert_close(torch, [ours], [w.grad])


class TestMatmul:
    @pytest.mark.parametrize("name", MATMUL)
    def test_against_torch(self, torch: Any, make: Any, name: str) -> None:
        a, b = map(make, MATMUL[name])
        ours, theirs = gt.matmul(a, b), torch.matmul(a, b)
        assert_close(torch, [ours], [theirs])
        ups = torch.rand_like(theirs)
        ours = torch.autograd.grad((ours * ups).sum(), (a, b))
        assert_close(torch, ours, torch.autograd.grad((theirs * ups).sum(), (a, b)))
        assert torch.autograd.gradcheck(gt.matmul, (a, b))
        assert torch.autograd.gradgradcheck(gt.matmul, (a, b))

    def test_bits(self, torch: Any, make: Any) -> None:
        a, b = make((20, 700), torch.float32), make((700, 3), torch.float32)
        product = gt.matmul(a, b)
        ours = product.detach().numpy()
        np.testing.assert_array_equal(ours, gd.matmul(a.detach().numpy(), b.detach().numpy()))
        product.sum().backward()
        np.testing.assert_array_equal(
            b.grad.numpy(), gd.matmul(a.detach().numpy().T, np.ones((20, 3), np.float32))
        )


def samples(torch: Any, make: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the operators and operands of every kind."""
    gt.matmul(torch.eye(2), torch.eye(2))
    for a, b in MATMUL.values():
        yield torch.ops.gdcore.matmul, (make(a), make(b))
    yield torch.ops.gdcore.matmul, (make((3, 4)), make((3, 4)).detach().mT.requires_grad_())
    for dtype in (torch.float32, torch.float64):
        pred, target = make((3, 4), dtype), make((3, 4), dtype)
        yield torch.ops.gdcore.mse_value_and_grad, (pred, target.detach(), "half_mean")
        yield torch.ops.gdcore.mse_value_and_grad, (pred, target, "sum")
    for shapes in LINEAR.values():
        operands = linear_operands(make, shapes)
        yield torch.ops.gdcore.linear_mse_value_and_grad, (*operands, "mean")
        X, y, *rest = operands
        operands = [X.detach(), y.detach(), *rest]
        yield torch.ops.gdcore.linear_mse_value_and_grad, (*operands, "half_sum")


def test_opcheck(torch: Any, make: Any) -> None:
    """Schemas, fake kernels, autograd and tracing are as torch demands."""
    for operator, operands in samples(torch, make):
        torch.library.opcheck(operator, operands)


def test_compile(torch: Any, make: Any) -> None:
    """Without a graph break, with the bits of eager calls; operators are registered on the way."""
    script = (
        "import gdcore.torch as gt, torch\n"
        "X, y = torch.randn(6, 2), torch.randn(6)\n"
        "def model(w): return gt.linear_mse_loss(X, y, w) + gt.mse_loss(gt.matmul(X, w), y)\n"
        "w = torch.zeros(2, requires_grad=True)\n"
        "whole = torch.compile(model, backend='aot_eager', fullgraph=True)(w)\n"
        "(ours,) = torch.autograd.grad(whole, w)\n"
        "(theirs,) = torch.autograd.grad(model(w), w)\n"
        "assert torch.equal(whole, model(w)) and torch.equal(ours, theirs)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_refusals(torch: Any) -> None:
    eye = torch.eye(2)
    for call, sentence in (
        (lambda: gt.matmul(eye, np.eye(2)), "matmul: b is ndarray; pass a tensor"),
        (lambda: gt.matmul(eye.half(), eye), r"a is torch.float16; .* with a.float\(\)"),
        (lambda: gt.mse_loss(eye, eye.double()), "pred is torch.float32 and target torch.float64"),
    ):
        with pytest.raises(TypeError, match=sentence):
            call()
    for call, sentence in (
        (lambda: gt.matmul(eye, torch.ones(3)), "must equal the rows of b"),
        (lambda: gt.mse_loss(eye, torch.ones(2)), "they must be equal"),
        (lambda: gt.linear_mse_loss(eye, torch.ones(3), torch.ones(2)), "which must end in"),
        (lambda: gt.mse_loss(eye, eye, reduction="none"), "reduction is 'none'; choose"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # which torch.func uses itself
def test_forward_mode_is_refused(torch: Any) -> None:
    """torch would give derivatives of 0 without a word, and an error of its own in torch.func."""
    w, ad, func = torch.ones(2), torch.autograd.forward_ad, torch.func
    X, y = torch.eye(2), torch.zeros(2)

    def dual(loss: Any) -> None:
        with ad.dual_level():
            loss(ad.make_dual(w, w))

    for loss in (
        lambda w: gt.linear_mse_loss(X, y, w),
        lambda w: gt.mse_loss(y, w),
        lambda w: gt.matmul(w, y),
    ):
        for call in (
            dual,
            lambda loss: func.jvp(loss, (w,), (w,)),
            lambda loss: func.grad(loss)(w),
            lambda loss: func.hessian(loss)(w),
        ):
            with pytest.raises(NotImplementedError, match="not in forward mode, and not in torch"):
                call(loss)


def test_torch_is_imported_on_first_use() -> None:
    script = (
        "import sys, gdcore, gdcore.torch\n"
        "assert 'torch' not in sys.modules\n"
        "sys.modules['torch'] = None\n"
        "try: gdcore.torch.matmul(1, 2)\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "gdcore.torch needs the package torch: pip install torch.\n"
