"""Whether the oracle can be trusted: python bench/oracle.py writes bench/results/oracle.json.

The tables of docs/oracle.md are made of it. Needs torch, jax, scipy and python-flint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracle_exact
import oracle_misses
import oracle_peers
import oracle_variants

import gdcore as gd
from gdcore import oracle

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench/results/oracle.json"
PAGE = ROOT / "docs/oracle.md"


def best(call: Callable[[], Any], rounds: int = 7) -> float:
    """Return the least time of some calls, in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def fails(product: Any, a: Any, b: Any) -> None:
    """Check a product whose last terms are dropped."""
    try:
        oracle.assert_matches(product, oracle.matmul(a, b))
    except AssertionError as error:
        if "the last block of 40 of the k = 1000 products is dropped" in str(error):
            return
        raise
    raise RuntimeError("a wrong product passes")


def speed() -> dict[str, float]:
    """Return times in milliseconds: of references and probes, and torch's of the products."""
    import torch

    torch.set_num_threads(gd.get_num_threads())
    rng = np.random.default_rng(0)
    found = {}
    for dtype in (np.float32, np.float64):
        name = np.dtype(dtype).name
        a, b = (rng.standard_normal((1000, 1000)).astype(dtype) for _ in range(2))
        left, right = torch.from_numpy(a), torch.from_numpy(b)
        product = left @ right
        found[f"torch matmul 1000, {name}"] = best(lambda: left @ right)  # noqa: B023
        found[f"matmul 1000 checked, {name}"] = best(lambda: oracle.matmul(a, b).check(product))  # noqa: B023
        short = a[:, :-40] @ b[:-40]
        found[f"matmul 1000 failed and explained, {name}"] = best(lambda: fails(short, a, b))  # noqa: B023
        X = rng.standard_normal((125_000, 8)).astype(dtype)
        y, w = rng.standard_normal(125_000).astype(dtype), np.ones(8, dtype)
        found[f"linear_mse 125000 x 8, {name}"] = best(
            lambda: oracle.linear_mse(X, y, w).grad.weights  # noqa: B023
        )
        p = rng.standard_normal(10**6).astype(dtype)
        found[f"mse 1000000, {name}"] = best(lambda: oracle.mse(p, p[::-1]))  # noqa: B023
    found["assert_grad linear_mse"] = best(
        lambda: oracle.assert_grad(gd.linear_mse_value_and_grad, quiet=True)
    )
    return found


def tables(result: dict[str, Any]) -> dict[str, list[str]]:
    """Return the lines of each table of the page."""
    variants, misses, exact = result["variants"], result["mutants"], result["exact"]
    proof = [
        "| question | answer |",
        "|---|---|",
        f"| right variants called WRONG | {variants['wrong']} of {variants['variants']:,} |",
        f"| right variants called SUSPECT | {variants['suspect']} "
        f"({variants['suspect_rate']:.3%}) |",
        f"| mutants caught by `assert_grad` | {misses['caught']} of {misses['mutants']} |",
        f"| their mistake named rightly | {misses['named']} of {misses['mutants']} |",
        f"| elements compared with exact rational arithmetic | {exact['cases']:,} |",
        f"| largest error of a right result, over the bound | "
        f"{exact['largest_error_over_bound']:.3f} |",
        f"| largest error of a reference, over the bound | "
        f"{exact['largest_reference_error_over_bound']:.1e} |",
    ]
    peers = ["| check | false alarms | misses | ms a check |", "|---|---|---|---|"]
    for row in result["peers"]:
        peers.append(
            f"| {row['check']} | {row['alarms']} of {row['right']} | "
            f"{row['misses']} of {row['mutants']} | {1e3 * row['seconds']:.0f} |"
        )
    times = ["| what | ms |", "|---|---|"]
    times += [f"| {name} | {value:.1f} |" for name, value in result["milliseconds"].items()]
    return {"proof": proof, "peers": peers, "times": times}


def write_page(result: dict[str, Any]) -> None:
    """Put the tables between their marks in the page."""
    page = PAGE.read_text()
    for name, lines in tables(result).items():
        start, end = f"<!-- oracle: {name} -->\n", "<!-- end -->"
        head, rest = page.split(start)
        page = head + start + "\n".join(lines) + "\n" + rest[rest.index(end) :]
    PAGE.write_text(page)


def main() -> None:
    """Run everything, which takes several minutes; write the results and the tables."""
    result = {
        "gdcore": gd.__version__,
        "milliseconds": speed(),
        "variants": oracle_variants.run(30),
        "mutants": oracle_misses.run(),
        "exact": oracle_exact.run(),
        "peers": oracle_peers.run(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    write_page(result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
