"""A whole run of full-batch gradient descent on the squared error, in closed form.

The loss is a quadratic, so a step is affine, and falls apart into one recurrence of two numbers
(parameter and velocity) for each eigenvector of the Hessian H. Its t-th power by repeated squaring
gives the parameters after t steps without the t - 1 before them::

    w_t = w* + (I - lr H)^t (w_0 - w*)             without momentum

Everything is computed in the long double of the platform, and the result certified afterwards: one
exact step from each w_t misses the next one by a defect d_t, so that the error obeys
``e <- M e + d`` and is at most the sum of ``|M^j| |d|``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gdcore.data.problem import RowProblem, make_problem
from gdcore.results.fit import Fit
from gdcore.scalars import is_finite, is_whole
from gdcore.sgd import SGD
from gdcore.solvers.start import initial_state
from gdcore.typing import Reduction

Long = npt.NDArray[np.longdouble]
Vector = npt.NDArray[np.float64]

_SPARE = 1.01  # norms of powers are known to a hundredth, and far better


@dataclass(frozen=True)
class Trajectory:
    """Parameters and loss of exact gradient descent, before the first step and after each.

    Attributes
    ----------
    weights : ndarray, shape (epochs + 1, d) or (epochs + 1, d, t)
    intercept : ndarray, shape (epochs + 1,) or (epochs + 1, t)
        Zeros without an intercept.
    loss : ndarray, shape (epochs + 1,)
        At those parameters, without weight decay.
    bound : ndarray, shape (epochs + 1,)
        Of the Euclidean norm of the error in all parameters of an epoch, and so of each.
    loss_bound : ndarray, shape (epochs + 1,)
        Of the error of the loss.
    """

    weights: Vector
    intercept: Vector
    loss: Vector
    bound: Vector
    loss_bound: Vector
    _descent: _Descent

    def __repr__(self) -> str:
        weights = self.weights.shape[1:]
        return f"<Trajectory: {len(self.loss) - 1} epochs, weights of shape {weights}>"

    def rounding(self, dtype: Any) -> Vector:
        """Bound how far a run in floating point may be from the exact one, to first order.

        Each gradient may be summed in any order, with or without fma, in `dtype`.

        Parameters
        ----------
        dtype : {"float32", "float64"}

        Returns
        -------
        ndarray, shape (epochs + 1,)
            Of the norm of the difference in all parameters of an epoch; add `bound` for the
            error of the closed form itself.
        """
        return self._descent.rounding(self.weights, self.intercept, np.dtype(dtype))


def trajectory(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    sgd: SGD,
    epochs: int,
    init: Any = None,
    *,
    fit_intercept: bool = True,
    offset: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> Trajectory:
    """Return what `epochs` steps of full-batch gradient descent do, in exact arithmetic.

    The meaning of every option is that of `gdcore.fit` and torch.optim.SGD.

    Parameters
    ----------
    X : array_like, shape (n, d)
    y : array_like, shape (n,) or (n, t)
    sgd : SGD
        With a number for lr.
    epochs : int
        Steps, 0 or more.
    init : array_like or (weights, intercept), optional
        Start; zeros by default.
    fit_intercept : bool
    offset : array_like, optional
        Fixed term of the prediction, broadcast to y's shape.
    sample_weight : array_like, shape (n,), optional
    reduction : {"mean", "sum", "half_mean", "half_sum"}

    Returns
    -------
    Trajectory

    Raises
    ------
    ValueError
        If shapes do not fit, the data holds NaN or infinity, there are no rows, or lr is not a
        number.
    TypeError
        If a dtype is not real, or sgd no SGD.

    Examples
    --------
    >>> import gdcore as gd
    >>> from gdcore import oracle
    >>> x, y = [[1.0], [2.0], [3.0], [4.0]], [2.0, 4.0, 6.0, 8.0]
    >>> run = oracle.trajectory(x, y, gd.SGD(lr=0.01), 3, fit_intercept=False)
    >>> run.weights[:, 0].round(6)
    array([0.     , 0.3    , 0.555  , 0.77175])
    >>> fit = gd.fit(x, y, gd.SGD(lr=0.01), epochs=3, tol=None, fit_intercept=False)
    >>> bool(abs(fit.weights[0] - run.weights[3, 0]) <= (run.bound + run.rounding("float64"))[3])
    True
    """
    if not isinstance(sgd, SGD):
        raise TypeError(f"sgd is {type(sgd).__name__}; pass gdcore.SGD(lr=..., momentum=...).")
    sgd.check_for_one()
    if not is_finite(sgd.lr):
        raise ValueError(
            f"lr is {sgd.lr!r}; the closed form needs one number for all steps, such as the `lr` "
            "of a Fit."
        )
    if not is_whole(epochs) or epochs < 0:
        raise ValueError(f"epochs is {epochs!r}; it must be a whole number, 0 or larger.")
    if isinstance(init, Fit):
        raise TypeError("init is a Fit and has a velocity; pass (fit.weights, fit.intercept).")
    problem = make_problem(X, y, offset, sample_weight, fit_intercept, reduction)
    if problem.is_weightless:
        raise ValueError("there are no rows to descend on; pass at least one, of positive weight.")
    for name, array in zip(("X", "y", "offset"), problem.rows[:3], strict=True):
        if array is not None and not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity; drop or fill such rows.")
    start = initial_state(init, problem.shape, None).params.astype(np.longdouble)
    with np.errstate(all="ignore"):
        return _Descent(problem, sgd).run(start.reshape(-1, problem.shape.t), int(epochs))


class _Descent:
    """Descent of p parameters for each of t targets.

    The velocity is scaled by lr. Shapes: X (n, p), y (n, t), H (p, p), B (p, t).
    """

    def __init__(self, problem: RowProblem, sgd: SGD) -> None:
        self.shape, self.rows, self.sgd = problem.shape, problem.rows, sgd
        shape, rows = self.shape, self.rows
        self.X = rows.X.astype(np.longdouble)
        if shape.fit_intercept:
            self.X = np.hstack([self.X, np.ones((shape.n, 1), np.longdouble)])
        self.y = rows.y.astype(np.longdouble)
        if rows.offset is not None:
            self.y = self.y - rows.offset
        weight = rows.sample_weight
        self.s: Long = np.ones((shape.n, 1), np.longdouble)
        if weight is not None:
            self.s = weight.astype(np.longdouble)[:, None]
        half = 0.5 if shape.reduction.startswith("half") else 1.0
        count = np.longdouble(1) if shape.is_sum else self.s.sum() * shape.t
        self.scale = 2 * half / count
        self.H: Long = self.scale * (self.X.T @ (self.s * self.X))
        self.B: Long = self.scale * (self.X.T @ (self.s * self.y))
        self.sign = -1 if sgd.maximize else 1
        self.lr, self.m = np.longdouble(float(np.asarray(sgd.lr))), np.longdouble(sgd.momentum)
        self.decay = np.longdouble(float(np.asarray(sgd.weight_decay)))
        self.share = 1 - np.longdouble(sgd.dampening) if sgd.momentum else np.longdouble(1)

    def step(self, w: Long, u: Long, slope: Any, first: bool) -> tuple[Long, Long]:
        """Take one step, where ``slope(w)`` is the gradient with weight decay."""
        g = self.lr * slope(w)
        if self.m == 0:
            return w - g, 0 * u
        u = g if first else self.m * u + self.share * g
        return w - (g + self.m * u if self.sgd.nesterov else u), u

    def run(self, start: Long, epochs: int) -> Trajectory:
        """Return the path from `start`, shape (p, t)."""
        values, Q = _eigen(self.H)
        slopes, target = self.sign * values + self.decay, self.sign * (Q.T @ self.B)
        z, u = self._modes(Q.T @ start, slopes, target, epochs)
        w, u = Q @ z, Q @ u  # (epochs + 1, p, t)
        w[0] = start
        powers = self._powers(slopes, epochs)
        bound = _SPARE * powers * np.maximum.accumulate(self._defects(w, u))
        loss, loss_bound = self._loss(w, bound, values, Q)
        result = w.astype(np.float64)
        bound = bound + _norm(w - result)
        d, shape = self.shape.d, self.shape.weights_shape
        intercept = result[:, d] if self.shape.fit_intercept else 0 * result[:, 0]
        if not self.shape.has_target_axis:
            intercept = intercept[:, 0]
        return Trajectory(
            result[:, :d].reshape(len(result), *shape),
            intercept,
            loss,
            _up(bound),
            _up(loss_bound),
            self,
        )

    def _modes(self, z: Long, slopes: Long, target: Long, epochs: int) -> tuple[Long, Long]:
        """Return parameter and velocity (epochs + 1, p, t) of each mode, by doubling."""

        def slope(w: Long) -> Long:
            return slopes[:, None] * w - target

        states = np.stack([np.stack(self.step(z, 0 * z, slope, True))])  # after the first step
        power = self._mode_matrix(slopes)
        still = 0 * z
        shift = np.stack(self.step(still, still, slope, False))  # what a step makes of zero
        while len(states) < epochs:
            states = np.concatenate([states, _apply(power, states) + shift])
            shift = shift + _apply(power, shift)
            power = np.einsum("ijp,jkp->ikp", power, power)
        states = np.concatenate([np.stack([z, still])[None], states[:epochs]])
        return states[:, 0], states[:, 1]

    def _mode_matrix(self, slopes: Long) -> Long:
        """Return what one step does to (parameter, velocity) of each mode, shape (2, 2, p)."""
        one, none = np.ones((len(slopes), 1), np.longdouble), np.zeros((len(slopes), 1))
        columns = [
            self.step(w, u, lambda w: slopes[:, None] * w, False)
            for w, u in ((one, 0 * one), (none + 0 * one, one))
        ]
        return np.array(columns).transpose(1, 0, 2, 3)[..., 0]

    def _powers(self, slopes: Long, epochs: int) -> Vector:
        """Return the sum of the norms of the powers below each t, shape (epochs + 1,)."""
        power = self._mode_matrix(slopes).astype(np.float64)
        all_powers = np.eye(2)[None, :, :, None] * np.ones(len(slopes))
        while len(all_powers) < epochs:
            more = np.einsum("ijp,tjkp->tikp", power, all_powers)
            all_powers = np.concatenate([all_powers, more])
            power = np.einsum("ijp,jkp->ikp", power, power)
        norms = np.sqrt((all_powers[:epochs] ** 2).sum(axis=(1, 2))).max(axis=-1)
        return np.concatenate([[0.0], np.cumsum(norms)])

    def _defects(self, w: Long, u: Long) -> Vector:
        """Bound what each step adds to the error, shape (epochs + 1,); nothing before the first.

        The defect as computed, its rounding errors, and those of H and B.
        """

        def slope(w: Long) -> Long:
            return self.sign * (self.H @ w - self.B) + self.decay * w

        first = self.step(w[:1], 0 * u[:1], slope, True)
        later = self.step(w[1:-1], u[1:-1], slope, False)
        defects = [np.concatenate(pair) for pair in zip(first, later, strict=True)]
        off = [d[: len(w) - 1] - after[1:] for d, after in zip(defects, (w, u), strict=True)]
        found = np.hypot(_norm(off[0]), _norm(off[1]))
        n, p = self.X.shape
        eps = float(np.finfo(np.longdouble).eps) * (n + p + 20)
        sizes = np.abs(self.X).T @ (self.s * np.abs(self.X)) * self.scale
        against = np.abs(self.X).T @ (self.s * np.abs(self.y)) * self.scale
        reach = float(self.lr * (1 + self.m) * (1 + abs(self.share)))
        steepness = float(np.linalg.norm(sizes.astype(float))) + float(self.decay)
        grown = steepness * _norm(w[:-1]) + float(np.sqrt((against**2).sum()))
        lost = eps * (reach * grown + _norm(w[:-1]) + (1 + float(self.m)) * _norm(u[:-1]))
        return np.concatenate([[0.0], found + lost])

    def _loss(self, w: Long, bound: Vector, values: Long, Q: Long) -> tuple[Vector, Vector]:
        """Return the losses (epochs + 1,) and their bounds, from the least loss and the way to it.

        ``L(w) = L(v) + g(v)^T (w - v) + (w - v)^T H (w - v) / 2`` for any v.
        """
        kept = values > values.max(initial=0) * len(values) * 2.0**-50
        inverse = np.where(kept, 1 / np.where(kept, values, 1), 0)[:, None]
        v = Q @ (inverse * (Q.T @ self.B))
        r = self.X @ v - self.y
        least = (self.scale / 2) * (self.s * r * r).sum()
        g = self.scale * (self.X.T @ (self.s * r))
        way = w - v
        curve = self.H @ way
        loss = least + (g * way).sum((1, 2)) + (way * curve).sum((1, 2)) / 2
        n, p = self.X.shape
        eps = float(np.finfo(np.longdouble).eps) * (n + p + 20)
        delta = eps * (np.abs(self.X) @ np.abs(v) + np.abs(self.y))
        terms = (self.s * (2 * np.abs(r) * delta + delta**2 + eps * r**2)).sum() * self.scale / 2
        wrong = self.scale * (np.abs(self.X).T @ (self.s * (delta + eps * np.abs(r))))
        steep = float(np.linalg.norm(self.H.astype(float)))
        off = float(terms) + _norm(wrong[None]) * _norm(way) + eps * steep * _norm(way) ** 2
        rounded = loss.astype(np.float64)
        reach = _norm(g + curve) * bound + steep * bound**2
        return rounded, off + reach + np.abs((loss - rounded).astype(np.float64))

    def rounding(self, weights: Vector, intercept: Vector, dtype: np.dtype[Any]) -> Vector:
        """See `Trajectory.rounding`."""
        p, t = self.X.shape[1], self.shape.t
        w = weights.reshape(len(weights), -1, t)
        if self.shape.fit_intercept:
            w = np.concatenate([w, intercept.reshape(-1, 1, t)], axis=1)
        unit = float(np.finfo(dtype).eps) / 2
        X, s, y = (np.abs(a).astype(np.float64) for a in (self.X, self.s, self.y))
        if self.rows.offset is not None:
            y = np.abs(self.rows.y) + np.abs(self.rows.offset).astype(np.float64)
        n = len(X)
        many = (n + 3) * (1 if self.rows.sample_weight is None else 2)
        inner, outer = _gamma(p + 3, unit), _gamma(many, unit)
        signed, aim = self.X.astype(np.float64), self.y.astype(np.float64)
        gradient, error = np.empty_like(w), np.empty_like(w)
        for k, each in enumerate(w):
            delta = inner * (X @ np.abs(each) + y)
            r = signed @ each - aim
            error[k] = X.T @ (s * ((1 + outer) * delta + outer * np.abs(r)))
            gradient[k] = signed.T @ (s * r)
        scale, lr, m = float(self.scale), float(self.lr), float(self.m)
        share = abs(float(self.share))
        gradient = scale * np.abs(gradient) + float(self.decay) * np.abs(w)
        velocity = np.empty_like(gradient)
        now = 0 * gradient[0]
        for k, each in enumerate(gradient):
            now = m * now + max(share, 1 if k == 0 else 0) * each
            velocity[k] = now
        step = gradient + m * velocity if self.sgd.nesterov else velocity
        added = lr * (1 + m) * (1 + share) * scale * error
        added += _gamma(13, unit) * (np.abs(w) + 2 * lr * (1 + m) * (step + velocity))
        values, _ = _eigen(self.H)
        powers = self._powers(self.sign * values + self.decay, len(w) - 1)
        each_step = np.concatenate([[0.0], _norm(added[:-1])])
        return _up(_SPARE * powers * np.maximum.accumulate(each_step))


def _eigen(H: Long) -> tuple[Long, Long]:
    """Return eigenvalues and orthonormal eigenvectors, refined once in the long double.

    Ogita and Aishima 2018, "Iterative refinement for symmetric eigenvalue decomposition", algorithm
    1; eigenvalues too close to tell apart keep their vectors.
    """
    _, vectors = np.linalg.eigh(H.astype(np.float64))
    Q = vectors.astype(np.longdouble)
    R = np.eye(len(H)) - Q.T @ Q
    S = Q.T @ (H @ Q)
    values = np.diag(S) / (1 - np.diag(R))
    gap = values[None, :] - values[:, None]
    off = S - np.diag(values)
    close = np.abs(gap) <= 2 * (np.sqrt((off**2).sum()) + np.abs(values).max(initial=0) * 1e-15)
    change = np.where(close, R / 2, (S + values[None, :] * R) / np.where(close, 1, gap))
    return values, Q + Q @ change


def _apply(power: Long, states: Long) -> Long:
    """Apply (2, 2, p) to states (..., 2, p, t)."""
    return np.asarray(np.einsum("ijp,...jpt->...ipt", power, states))


def _norm(x: Any) -> Vector:
    """Return the Euclidean norm of each of the first axis."""
    flat = np.asarray(x)
    flat = flat.reshape(len(flat), int(np.prod(flat.shape[1:])))
    return np.asarray(np.sqrt((flat * flat).sum(axis=1)), np.float64)


def _gamma(k: int, unit: float) -> float:
    return k * unit / (1 - k * unit)


def _up(bound: Vector) -> Vector:
    """Round up what some hundred roundings in float64 gave."""
    return np.asarray(bound * (1 + 2.0**-40), np.float64)
