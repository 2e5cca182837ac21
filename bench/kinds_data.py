"""Operands of every kind: fifteen families of data, four sizes, and the options of a function."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from kinds_libraries import EPS, libraries
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import FORMATS
from gdcore.oracle.probing.families import FAMILIES, large_in

Array = NDArray[Any]
MASK, STRIDED, SUBNORMAL = "-inf mask", "strided", "subnormal"
ALL_FAMILIES = (*FAMILIES, MASK, STRIDED, SUBNORMAL)
DTYPES = ("float64", "float32", "float16", "bfloat16")
SIZES = {"normal": (6, 64), "odd": (5, 37), "one": (1, 1), "long": (2, 700),
         "small": (3, 6)}  # fmt: skip
ATTENTION = {"normal": (2, 8, 16, 8), "odd": (3, 7, 19, 5), "one": (1, 1, 1, 1),
             "long": (1, 2, 600, 4), "small": (2, 2, 3, 4)}  # fmt: skip
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "cross_entropy": (
        {"reduction": "mean"},
        {"reduction": "sum", "label_smoothing": 0.1},
        {"reduction": "none", "weighted": True},
        {"reduction": "mean", "weighted": True, "label_smoothing": 0.25},
        {"reduction": "mean", "probabilities": True},
        {"reduction": "sum", "probabilities": True, "label_smoothing": 0.1},
    ),
    "attention": ({}, {"causal": True}, {"masked": True}),
    "gelu": ({}, {"approximate": "tanh"}),
}
MASKABLE = ("softmax", "log_softmax", "logsumexp", "cross_entropy")


class Data(NamedTuple):
    """One data set: tensors by the names of operands, and the options of the function."""

    kind: str
    dtype: str
    family: str
    size: str
    tensors: dict[str, Any]
    grad_out: Any
    options: dict[str, Any]

    @property
    def label(self) -> str:
        options = ", ".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.kind} {self.dtype} {self.family} {self.size} {options}".strip()

    @property
    def accumulator(self) -> str | None:
        return "float32" if self.dtype in ("float16", "bfloat16") else None

    def arrays(self, wide: bool = False) -> dict[str, Array]:
        """Return the operands in the accumulator's dtype, or in float64."""
        return {name: self.array(x, wide) for name, x in self.tensors.items()}

    def array(self, x: Any, wide: bool = False) -> Array:
        """Return a tensor in the accumulator's dtype, or in float64."""
        if not x.is_floating_point():
            return np.asarray(x.numpy())
        return np.asarray((x.double() if wide or self.dtype == "float64" else x.float()).numpy())

    @property
    def keywords(self) -> dict[str, Any]:
        """Return the options of the reference."""
        own = ("weighted", "probabilities", "masked")
        keywords = {k: v for k, v in self.options.items() if k not in own}
        return keywords | ({"eps": EPS[self.kind]} if self.kind in EPS else {})


def draw(rng: np.random.Generator, family: str, shape: Any, dtype: str, large: float) -> Array:
    """Return numbers of a family, as float64."""
    if family == SUBNORMAL:
        store = FORMATS[dtype]
        return np.ldexp(rng.standard_normal(shape), store.least + store.bits // 2)
    x = FAMILIES.get(family, FAMILIES["random"])(rng, shape, large)
    if family == MASK:
        x[rng.random(shape) < 0.3] = -np.inf
        x[..., 0] = 0.5
    return x


def make(kind: str, dtype: str, family: str, size: str, number: int) -> Data:
    """Return a data set; its number chooses the seed and the options."""
    rng = np.random.default_rng([number, 20260])
    options = dict(OPTIONS.get(kind, ({},))[number % len(OPTIONS.get(kind, ({},)))])
    if family == MASK and kind == "cross_entropy":
        options = {"reduction": "mean"}
    own = family if family != MASK or kind in MASKABLE else "random"
    large = large_in(FORMATS[dtype])
    normal = rng.standard_normal
    if kind == "attention":
        batch, m, n, d = ATTENTION[size]
        large = 30.0
        drawn = {
            "q": draw(rng, own, (1, batch, m, d), dtype, large),
            "k": draw(rng, own, (1, batch, n, d), dtype, large),
            "v": draw(rng, own, (1, batch, n, d), dtype, large),
        }
        if options.get("masked"):
            drawn["mask"] = np.where(rng.random((m, n)) < 0.4, -np.inf, 0.0)
            drawn["mask"][:, 0] = 0.0
        g = normal((1, batch, m, d))
    elif kind == "linear":
        rows, k = SIZES[size]
        n = {"normal": 24, "odd": 11, "one": 1, "long": 3, "small": 4}[size]
        drawn = {"x": draw(rng, own, (rows, k), dtype, large), "weight": normal((n, k)),
                 "bias": normal(n)}  # fmt: skip
        g = normal((rows, n))
    elif kind == "cross_entropy":
        shape = SIZES[size]
        drawn = {"logits": draw(rng, own, shape, dtype, large)} | targets(rng, shape, own, options)
        g = normal(shape[0] if options["reduction"] == "none" else ())
    else:
        shape = SIZES[size]
        drawn = {"x": draw(rng, own, shape, dtype, large)}
        drawn |= {"weight": normal(shape[-1])} if kind in EPS else {}
        drawn |= {"bias": normal(shape[-1])} if kind == "layer_norm" else {}
        g = normal(shape[:-1] if kind in ("logsumexp", "sum", "mean", "var") else shape)
    tensors = {name: stored(x, dtype, own == STRIDED) for name, x in drawn.items()}
    return Data(kind, dtype, family, size, tensors, stored(np.asarray(g), dtype, False), options)


def targets(rng: Any, shape: Any, family: str, options: dict[str, Any]) -> dict[str, Array]:
    """Return labels or probabilities, and weights of classes."""
    rows, classes = shape
    if options.get("probabilities"):
        shares = rng.random(shape)
        found = {"target": shares / shares.sum(-1, keepdims=True)}
    else:
        labels = np.zeros(rows, np.int64) if family == MASK else rng.integers(0, classes, rows)
        if rows > 2:
            labels[1] = -100
        found = {"target": labels}
    return found | ({"weight": rng.uniform(0.5, 2, classes)} if options.get("weighted") else {})


def stored(x: Array, dtype: str, strided: bool) -> Any:
    """Return a tensor of the dtype; `strided`: with the last two axes turned in memory."""
    torch, _ = libraries()
    tensor = torch.from_numpy(np.ascontiguousarray(x)).reshape(x.shape)
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.to(getattr(torch, dtype))
    if strided and tensor.dim() > 1:
        tensor = tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    return tensor
