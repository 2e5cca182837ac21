"""Scaled dot-product attention and its vector-Jacobian products."""

from __future__ import annotations

from typing import Any

import numpy as np

from gdcore.oracle.numbers.double_double import exact
from gdcore.oracle.numbers.elementary import where
from gdcore.oracle.numbers.intake import to_numpy
from gdcore.oracle.references.attention_bounds import Bounds
from gdcore.oracle.references.attention_grad import AttentionGrad, roundings, without_verdict
from gdcore.oracle.references.attention_mistakes import of_result
from gdcore.oracle.references.attention_problem import Attention, attention_of
from gdcore.oracle.references.attention_usual import Usual
from gdcore.oracle.references.reference import Reference, make_reference


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    grad_out: Any = None,
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of ``softmax(q @ k.T * scale + mask) @ v``.

    The arguments mean what they mean to ``torch.nn.functional.scaled_dot_product_attention``. The
    bound holds for any order of all sums; for the scale applied to q, to k, to both or to the
    scores; for keys in blocks of any size whose sums are rescaled, as flash attention has them
    (Dao and others 2022, "FlashAttention"; Milakov and Gimelshein 2018, "Online normalizer
    calculation for softmax"); for powers of 2 in place of e; for ``exp(scores - logsumexp)``; for
    a division before the product with v or after it; for scores and probabilities stored in the
    dtype. It takes exponentials and logarithms to be off by at most 8 half ulps;
    docs/numerics.md derives it.

    Parameters
    ----------
    q : array_like, shape (..., L, E)
    k : array_like, shape (..., S, E)
    v : array_like, shape (..., S, C)
        Batch dimensions broadcast.
    mask : array_like of bool or floats, optional
        Broadcasts to (..., L, S): True where a key takes part, or what is added to the scores.
    causal : bool
        Whether query i sees keys 0 to i alone, along with the mask's.
    scale : float, optional
        None: ``1 / sqrt(E)``.
    grad_out : array_like, shape of the result, optional
        What the vector-Jacobian products are taken with.
    dtype : {"float32", "float64", "float16", "bfloat16", "tf32"}, optional
        The dtype under test; by default the operands'.
    accumulator : {"float32", "float64"}, optional
        Where sums are kept, if in more precision than the dtype's.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.q``, ``grad.k`` and ``grad.v`` are those of the derivatives of
        ``(grad_out * attention(q, k, v)).sum()``. A query that no key takes part for gets no
        verdict: its result is NaN or 0, which libraries, and versions of one, do not agree on.

    Raises
    ------
    ValueError
        If shapes do not fit, the scale is not finite, or the dtype is unknown.
    TypeError
        If an operand cannot be read as real numbers, or the mask holds integers.

    Examples
    --------
    >>> from gdcore import oracle
    >>> q, k, v = [[1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]], [[2.0], [4.0]]
    >>> ref = oracle.attention(q, k, v, dtype="float32")
    >>> print(ref.value, ref.check([[3.0]]).worst_status, ref.check([[2.9]]).worst_status)
    [[3.]] OK WRONG
    """
    problem = attention_of(q, k, v, mask, causal, scale, dtype, accumulator)
    with np.errstate(all="ignore"):
        bounds = Bounds(problem)
        grad = None
        if grad_out is not None:
            given = to_numpy("grad_out", grad_out)
            if given.shape != problem.shape:
                raise ValueError(
                    f"grad_out has shape {given.shape}; the result has shape {problem.shape}."
                )
            grad = AttentionGrad(bounds, Usual(problem), given)
        return _result(problem, bounds, grad)


def _result(problem: Attention, bounds: Bounds, grad: Any) -> Reference:
    special, open_ = problem.special
    odd = ~np.isfinite(special)
    value = where(odd, exact(special), where(problem.alive, problem.result, exact(0.0)))
    bound = np.where(odd, 0.0, bounds.result)
    reference = make_reference(
        "attention",
        value.map(lambda part: part.reshape(problem.shape)),
        bound.reshape(problem.shape),
        roundings(problem),
        problem.arithmetic,
        of_result(problem),
        size=bounds.size.reshape(problem.shape),
        stored=False,
        finite_inputs=not problem.odd,
        typical=lambda: Usual(problem).result.reshape(problem.shape),
        grad=grad,
    )
    open_ = open_ | ~(odd | np.isfinite(bounds.result))
    return without_verdict(reference, open_.reshape(problem.shape))
