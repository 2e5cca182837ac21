"""Compare gdcore's results on a second stream of torch's, and in a captured graph, with the CPU's.

    python bench/cuda/streams.py [--few]

Prints JSON; exits with 1 if a bit differs. --few: small sizes, for compute-sanitizer.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch

import gdcore as gd

FEW = "--few" in sys.argv[1:]
ROWS = 1100 if FEW else 70_000


def operations(dtype: type) -> dict[str, tuple[Any, list[Any]]]:
    """Return functions that kernels compute without waiting, with their NumPy arguments."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.normal(size=shape).astype(dtype)

    return {
        "matmul": (gd.matmul, [draw(130, 600), draw(600, 70)]),
        "matmul, batched": (gd.matmul, [draw(50, 7, 5), draw(50, 5, 9)]),
        "matmul, one column": (gd.matmul, [draw(70, 1030), draw(1030)]),
        "matmul, transposed": (lambda a, b: gd.matmul(a.T, b), [draw(90, 65), draw(90, 33)]),
        "mse": (gd.mse_value_and_grad, [draw(ROWS), draw(ROWS)]),
        "linear, 3 features": (
            gd.linear_mse_value_and_grad,
            [draw(ROWS, 3), draw(ROWS), draw(3), draw(1)[0]],
        ),
        "linear, 65 features": (
            gd.linear_mse_value_and_grad,
            [draw(ROWS // 8, 65), draw(ROWS // 8), draw(65), draw(1)[0]],
        ),
    }


def fits(dtype: type) -> dict[str, tuple[Any, list[Any]]]:
    """Return whole fits, which wait for their results."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(40, 64, 4)).astype(dtype), rng.normal(size=(40, 64)).astype(dtype)
    sgd = gd.SGD(lr=0.05, momentum=0.5)
    return {
        "one fit": (lambda X, y: gd.fit(X, y, sgd, epochs=5).weights, [X[0], y[0]]),
        "many fits": (lambda X, y: gd.fit(X, y, sgd, epochs=5).weights, [X, y]),
        "mini-batches": (
            lambda X, y: gd.fit(X, y, sgd, epochs=2, batch_size=16).weights,
            [X[0], y[0]],
        ),
    }


def flat(result: Any) -> list[Any]:
    """Return every array of a result, as NumPy's."""
    if isinstance(result, tuple):
        return [array for part in result for array in flat(part)]
    return [result.cpu().numpy() if isinstance(result, torch.Tensor) else np.asarray(result)]


def tensors(arguments: list[Any]) -> list[Any]:
    """Copy NumPy's arrays to the GPU."""
    return [torch.as_tensor(argument).cuda() for argument in arguments]


def same(ours: Any, wanted: Any) -> bool:
    """Compare bits."""
    pairs = zip(flat(ours), flat(wanted), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def captured(function: Any, given: list[Any]) -> Any:
    """Run a function in a graph that is captured with other numbers and replayed with these."""
    static = [torch.zeros_like(each) for each in given]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        function(*static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(*static)
    for each, numbers in zip(static, given, strict=True):
        each.copy_(numbers)
    graph.replay()
    return result


def main() -> int:
    """Compare all; print what differed."""
    differ, cases = [], 0
    stream = torch.cuda.Stream()
    for dtype in (np.float32, np.float64):
        for name, (function, arguments) in {**operations(dtype), **fits(dtype)}.items():
            wanted, given = function(*arguments), tensors(arguments)
            torch.cuda.synchronize()
            ways = {"on a second stream": lambda f=function, g=given: f(*g)}
            if not FEW and name in operations(dtype):
                ways["in a graph"] = lambda f=function, g=given: captured(f, g)
            for how, way in ways.items():
                cases += 1
                try:
                    if how == "in a graph":
                        ours = way()
                    else:
                        with torch.cuda.stream(stream):
                            ours = way()
                    torch.cuda.synchronize()
                    if not same(ours, wanted):
                        differ.append(f"{name} {dtype.__name__} {how}: bits differ")
                except Exception as error:
                    differ.append(f"{name} {dtype.__name__} {how}: {type(error).__name__}: {error}")
    print(json.dumps({"cases": cases, "differ": differ}))
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
