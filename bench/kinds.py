"""Whether right results stay within the oracle's bounds: python bench/kinds.py.

Writes bench/results/kinds.json and the table of docs/oracle.md: the largest error of right
implementations over the bound, for every kind, values and vector-Jacobian products. Needs torch,
jax, scipy and mpmath.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import kinds_attention as attention
import kinds_exact
import kinds_libraries as library
import kinds_variants as v
import numpy as np
from kinds_data import ALL_FAMILIES, DTYPES, SUBNORMAL, Array, Data, make
from kinds_losses import CROSS_ENTROPY, CROSS_ENTROPY_VJP

import gdcore as gd
from gdcore import oracle

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench/results/kinds.json"
PAGE = ROOT / "docs/oracle.md"
VALUES: dict[str, dict[str, Callable[..., Any]]] = {
    "softmax": v.SOFTMAX, "log_softmax": v.LOG_SOFTMAX, "logsumexp": v.LOGSUMEXP,
    "cross_entropy": CROSS_ENTROPY, "layer_norm": v.LAYER_NORM, "rms_norm": v.RMS_NORM,
    "sum": v.SUM, "mean": v.MEAN, "var": v.VAR, "linear": v.LINEAR, "gelu": v.GELU,
    "attention": attention.ATTENTION,
}  # fmt: skip
VJPS: dict[str, dict[str, Callable[..., Any]]] = {
    "softmax": v.SOFTMAX_VJP, "log_softmax": v.LOG_SOFTMAX_VJP, "logsumexp": v.LOGSUMEXP_VJP,
    "cross_entropy": CROSS_ENTROPY_VJP, "layer_norm": v.LAYER_NORM_VJP,
    "rms_norm": v.RMS_NORM_VJP, "sum": v.SUM_VJP, "mean": v.MEAN_VJP, "var": v.VAR_VJP,
    "linear": v.LINEAR_VJP, "gelu": v.GELU_VJP, "attention": attention.ATTENTION_VJP,
}  # fmt: skip
NAMES = {
    "layer_norm": ("x", "weight", "bias"), "rms_norm": ("x", "weight"),
    "linear": ("x", "weight", "bias"), "attention": ("q", "k", "v"), "cross_entropy": ("logits",),
}  # fmt: skip
# JAX flushes subnormal numbers to zero on CPUs, and so do processors' bfloat16 instructions.
# Torch's kernel for CPUs adds up the gradients of weight and bias in the 16 bits of their dtype.
NARROW = {("layer_norm", "vjp", "torch")}
LEAST = 3200  # right cases of each kind
REPEATS = 4  # at most


@dataclass
class Found:
    """What was found of a kind, its values or its vector-Jacobian products."""

    cases: int = 0
    unbounded: int = 0  # cases with an infinite bound
    largest: float = 0.0
    worst: str = ""
    ratios: list[float] = field(default_factory=list)
    beyond: dict[str, float] = field(default_factory=dict)

    def add(self, label: str, ratio: float, unbounded: bool) -> None:
        self.cases += 1
        self.unbounded += unbounded
        self.ratios.append(ratio)
        if not ratio <= self.largest:
            self.largest, self.worst = ratio, label
        if not ratio <= 1:
            self.beyond[label] = ratio

    def summary(self) -> dict[str, Any]:
        return {
            "cases": self.cases,
            "unbounded": self.unbounded,
            "largest": self.largest,
            "median": float(np.median(self.ratios)),
            "worst": self.worst,
            "beyond": dict(list(self.beyond.items())[:20]),
        }


def over_bound(actual: Array, reference: oracle.Reference) -> float:
    """Return the largest error over the bound; infinite if what must be finite is not."""
    value, bound = reference.value, reference.bound
    if actual.shape != value.shape:
        raise ValueError(f"{reference.name}: shape {actual.shape}, not {value.shape}")
    with np.errstate(all="ignore"):
        error = np.abs((actual - value) - reference.tail)
        ratio = np.where(error == 0, 0.0, error / bound)
    same = (actual == value) | (np.isnan(actual) & np.isnan(value))
    ratio = np.where(same | (bound == np.inf), 0.0, ratio)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    return float(np.max(ratio, initial=0.0))


def reference_of(data: Data, accumulator: str | None) -> oracle.Reference:
    """Return the reference of a data set, with its gradients."""
    function = getattr(oracle, data.kind)
    result: oracle.Reference = function(
        **data.arrays(), grad_out=data.array(data.grad_out), dtype=data.dtype,
        accumulator=accumulator, **data.keywords,
    )  # fmt: skip
    return result


def gradients_of(reference: oracle.Reference, kind: str) -> list[oracle.Reference]:
    """Return the references of the gradients."""
    return [getattr(reference.grad, name) for name in NAMES.get(kind, ("x",))]


def rounded(result: Any, data: Data) -> list[Array]:
    """Return the accumulator's results, rounded to the dtype under test."""
    torch, _ = library.libraries()
    dtype = getattr(torch, data.dtype)
    results = result if isinstance(result, tuple) else (result,)
    return [
        torch.from_numpy(np.array(x)).to(dtype).double().numpy().reshape(np.shape(x))
        for x in results
    ]


def own_arguments(data: Data, wide: bool = False) -> tuple[Any, ...]:
    """Return what a NumPy variant is called with."""
    arrays = data.arrays(wide)
    if data.kind == "attention":
        return (*(arrays[n] for n in "qkv"), arrays.get("mask"), data.options.get("causal", False))
    if data.kind == "cross_entropy":
        return (arrays["logits"], arrays["target"], arrays.get("weight"), data.options)
    eps = library.EPS.get(data.kind)
    return (*arrays.values(), *(() if eps is None else (eps,)))


def vjp_arguments(data: Data) -> tuple[Any, ...]:
    """Return what a NumPy variant of a gradient is called with."""
    g = data.array(data.grad_out)
    if data.kind in ("layer_norm", "rms_norm"):
        arrays = data.arrays()
        return arrays["x"], arrays["weight"], g, library.EPS[data.kind]
    return (*own_arguments(data), g)


def variants(data: Data) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return NumPy's values and gradients by name, each to be called without arguments."""
    values, vjps = VALUES[data.kind], VJPS[data.kind]
    if data.options.get("approximate") == "tanh":
        values, vjps = v.GELU_TANH, v.GELU_TANH_VJP
    arguments, with_g = own_arguments(data), vjp_arguments(data)
    calls = {name: lambda f=f: rounded(f(*arguments), data) for name, f in values.items()}
    if data.dtype != "float64":
        first = next(iter(values.values()))
        wide = own_arguments(data, wide=True)
        calls["float64"] = lambda: rounded(first(*wide), data)
    return calls, {name: lambda f=f: rounded(f(*with_g), data) for name, f in vjps.items()}


def of_libraries(data: Data) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return torch's and JAX's values and gradients by name."""
    fn = library.torch_function(data.kind, data.options)
    everything = list(data.tensors.values())
    values = {"torch": lambda: library.as_arrays(fn(*everything))}
    vjps, named, operands = {}, {}, everything
    if data.kind in ("cross_entropy", "attention"):  # no gradients of weights or masks
        last = {"cross_entropy": "weight", "attention": "mask"}[data.kind]
        named = {k: x for k, x in data.tensors.items() if k == last}
        operands = [x for k, x in data.tensors.items() if k != last]
    key = {"cross_entropy": "w", "attention": "mask"}.get(data.kind)
    given = {str(key): x for x in named.values()}
    held = slice(0, len(NAMES.get(data.kind, ("x",))))
    vjps["torch"] = lambda: library.as_arrays(
        library.torch_vjp(fn, operands, given, data.grad_out)[held]
    )
    if data.kind in library.COMPILED and data.dtype == "float32" and not data.options:
        values["torch.compile"] = lambda: library.as_arrays(
            library.compiled(data.kind)(*data.tensors.values())
        )
    jitted = data.size in ("normal", "odd") and data.family != SUBNORMAL
    if data.kind != "cross_entropy" and jitted:
        options = (data.kind, data.options.get("causal", False), "approximate" in data.options)
        arrays = list(data.arrays().values())
        values["jax"] = lambda: rounded(library.jax_function(*options)(*arrays), data)
        if "mask" not in data.tensors:
            g = data.array(data.grad_out)
            vjps["jax"] = lambda: rounded(library.jax_vjp(*options)(tuple(arrays), g), data)
    return values, vjps


def problems(kind: str) -> Iterator[Data]:
    """Yield data sets of all sizes, families and dtypes, in an order drawn by chance."""
    all_of_them = list(product(("normal", "odd", "one", "long"), ALL_FAMILIES, DTYPES))
    rng = np.random.default_rng(20260)
    for _ in range(REPEATS):
        for number in rng.permutation(len(all_of_them)):
            size, family, dtype = all_of_them[number]
            yield make(kind, dtype, family, size, int(rng.integers(1 << 30)))


def run_kind(kind: str) -> dict[str, Found]:
    """Judge every variant on every data set, and repeat until there are enough cases."""
    found = {"value": Found(), "vjp": Found()}
    for data in problems(kind):
        if sum(each.cases for each in found.values()) >= LEAST:
            break
        reference = reference_of(data, data.accumulator)
        both = zip(variants(data), of_libraries(data), strict=True)
        references = [reference], gradients_of(reference, kind)
        for (what, counts), wanted, (own, theirs) in zip(
            found.items(), references, both, strict=True
        ):
            unbounded = any(np.isinf(each.bound).any() for each in wanted)
            for name, call in (own | theirs).items():
                if (kind, what, name) in NARROW and data.accumulator:
                    wanted = gradients_of(reference_of(data, None), kind)
                ratio = max(over_bound(x, r) for x, r in zip(call(), wanted, strict=True))
                counts.add(f"{data.label}, {what}: {name}", ratio, unbounded)
    return found


def one_pass_control() -> float:
    """Return how far the one-pass variance, which is not right, lies beyond the bound."""
    data = make("layer_norm", "float32", "offset", "normal", 1)
    arrays = data.arrays()
    result = v.layer_norm(
        arrays["x"], arrays["weight"], arrays["bias"], library.EPS["layer_norm"], v.one_pass
    )
    return over_bound(np.asarray(result, np.float64), reference_of(data, data.accumulator))


def table(result: dict[str, Any]) -> list[str]:
    """Return the lines of the table."""
    lines = [
        "| kind | right results | largest error / bound: value | gradients | median | "
        "reference's own error / bound |",
        "|---|---|---|---|---|---|",
    ]
    for kind, row in result["kinds"].items():
        value, vjp = row["value"], row["vjp"]
        median = (value["median"] * value["cases"] + vjp["median"] * vjp["cases"]) / (
            value["cases"] + vjp["cases"]
        )
        lines.append(
            f"| {kind} | {value['cases'] + vjp['cases']:,} | {value['largest']:.3f} | "
            f"{vjp['largest']:.3f} | {median:.3f} | {result['exact'][kind]['largest']:.1e} |"
        )
    control = result["one_pass_layer_norm"]
    lines.append(
        f"| layer_norm, variance as a difference of means: not right | 1 | {control:.1f} | | | |"
    )
    return lines


def write_page(result: dict[str, Any]) -> None:
    """Put the table between its marks in the page."""
    page = PAGE.read_text(encoding="utf-8")
    start, end = "<!-- kinds: bounds -->\n", "<!-- end -->"
    head, rest = page.split(start)
    body = "\n".join(table(result))
    PAGE.write_text(head + start + body + "\n" + rest[rest.index(end) :], encoding="utf-8")


def main(kinds: list[str]) -> None:
    """Run all kinds, or those named, and put what was found beside the rest."""
    warnings.filterwarnings("ignore")
    result: dict[str, Any] = {"kinds": {}, "exact": {}}
    if kinds and RESULTS.exists():
        result = json.loads(RESULTS.read_text(encoding="utf-8"))
    result["gdcore"] = gd.__version__
    with np.errstate(all="ignore"):
        for kind in kinds or VALUES:
            start = time.process_time()
            found = run_kind(kind)
            result["kinds"][kind] = {k: each.summary() for k, each in found.items()}
            result["exact"][kind] = kinds_exact.run(kind)
            result["kinds"][kind]["seconds"] = time.process_time() - start
            print(kind, json.dumps(result["kinds"][kind], indent=1), result["exact"][kind])
            if kind == "layer_norm":
                result["one_pass_layer_norm"] = one_pass_control()
            RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if all(kind in result["kinds"] for kind in VALUES):
        result["kinds"] = {kind: result["kinds"][kind] for kind in VALUES}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        write_page(result)


if __name__ == "__main__":
    main(sys.argv[1:])
