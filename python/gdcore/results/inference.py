"""What a fit says about the uncertainty of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gdcore.data.home import on_host
from gdcore.errors import NoCovarianceError
from gdcore.results.student import half_width, two_sided
from gdcore.typing import Covariance, Floats

if TYPE_CHECKING:
    from gdcore.results.summary import Summary


@dataclass(frozen=True, eq=False)
class Inference:
    """The estimated covariance of the weights, all in float64.

    The last two axes are the parameters of one target: the features in their order, then the
    intercept if there is one. Before them come the problems of many, then the targets of several.
    Targets that were fitted in different rows have a `df_resid` and a `reason` each, which have the
    shape of `sigma2`.

    Attributes
    ----------
    kind : {"ols", "hc0", "hc1", "hc2", "hc3"}
    covariance : ndarray, shape (p, p), (t, p, p), (count, p, p) or (count, t, p, p)
    sigma2 : scalar or ndarray, shape (t,), (count,) or (count, t)
        Variance of the errors.
    r2 : scalar or ndarray, the same shape
    df_resid : scalar or ndarray, shape (count,)
        Rows that count, less parameters.
    reason : str, or ndarray of str, shape (count,)
        Why the covariance is NaN; "" if it is not.
    """

    kind: Covariance
    covariance: Floats
    sigma2: Any
    r2: Any
    df_resid: Any
    reason: Any = ""

    def at(self, index: Any) -> Inference:
        """Return that of one of many problems, or of several by a slice, mask or array.

        A copy: it keeps no memory of the other problems.
        """
        fields = (self.covariance, self.sigma2, self.r2, self.df_resid, self.reason)
        parts = (np.asarray(value)[index] for value in fields)
        return Inference(self.kind, *(p.copy() if np.ndim(p) else p for p in parts))

    def as_dict(self) -> dict[str, Any]:
        """Return arrays that files hold; of reasons each text once, and one number a problem."""
        texts, codes = np.unique(np.asarray(self.reason, str), return_inverse=True)
        return {
            "kind": np.array(self.kind),
            "covariance": self.covariance,
            "sigma2": self.sigma2,
            "r2": self.r2,
            "df_resid": self.df_resid,
            "reasons": texts,
            "reason": codes.astype(np.int32).reshape(np.shape(self.reason)),
        }

    @classmethod
    def from_file(cls, arrays: dict[str, Any]) -> Inference:
        """Return what `as_dict` wrote; KeyError if something is missing."""
        kind: Any = str(arrays["kind"])
        sigma2, r2, df = (arrays[name][()] for name in ("sigma2", "r2", "df_resid"))
        reason = arrays["reasons"].astype(object)[arrays["reason"]]
        return cls(kind, arrays["covariance"], sigma2, r2, df, reason)


def standard_errors(covariance: Floats) -> Floats:
    """Return the roots of the diagonals, (..., p); NaN where rounding made a variance negative."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1)), np.float64)


class Inferring:
    """What `Fit`, `Fits` and `RollingFit` say of the uncertainty of their weights.

    It is computed when it is read.

    Arrays of parameters have the features in the order of `weights`, along the same axis, and the
    intercept last if one was fitted: p = d + fit_intercept of them.
    """

    weights: Any
    intercept: Any
    status: Any
    fit_intercept: bool
    inference: Inference | None

    @property
    def parameters(self) -> Floats:
        """The weights, and after them the intercept if one was fitted, as float64.

        The order of `stderr`, and its shape; in NumPy's arrays, whatever library X was of.
        """
        model = on_host(self)
        weights = np.asarray(model.weights, np.float64)
        if not self.fit_intercept:
            return weights
        axis = np.ndim(self.status)
        intercept = np.expand_dims(np.asarray(model.intercept, np.float64), axis)
        return np.concatenate([weights, intercept], axis)

    @property
    def covariance(self) -> Floats:
        """Estimated covariance of the parameters of each target, by the kind in ``inference.kind``.

        An array of float64, of shape (p, p), or (t, p, p) for several targets; of many problems
        (count, p, p) or (count, t, p, p). The intercept comes last.
        """
        return self._inference("covariance").covariance

    @property
    def stderr(self) -> Floats:
        """Standard errors of the parameters: float64, shape (p,) or (p, t), the intercept last.

        For many problems, (count, p) or (count, p, t).

        Examples
        --------
        >>> import gdcore as gd
        >>> fit = gd.fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 4.0], covariance="ols")
        >>> fit.stderr.round(4)
        array([0.2887, 0.3727])
        """
        errors = standard_errors(self._inference("stderr").covariance)
        return np.swapaxes(errors, -1, -2) if self._has_several_targets else errors

    @property
    def tvalues(self) -> Floats:
        """Parameters divided by their standard errors, of the same shape as `stderr`."""
        self._inference("tvalues")
        with np.errstate(divide="ignore", invalid="ignore"):  # an exact fit has errors of 0
            return np.asarray(self.parameters / self.stderr, np.float64)

    @property
    def pvalues(self) -> Floats:
        """Probability of a t value at least as far from 0 if the parameter is 0 (extra "stats").

        By Student's t with `df_resid` degrees of freedom, whatever the kind of covariance, as
        Stata and R's lmtest do; statsmodels does so for kinds "hc0" to "hc3" with ``use_t=True``.
        The shape is that of `stderr`.
        """
        df = self._inference("pvalues").df_resid
        return two_sided(self.tvalues, self._spread(df, 1))

    def conf_int(self, level: float = 0.95) -> Floats:
        """Return confidence intervals of the parameters (extra "stats").

        Parameters
        ----------
        level : float
            Between 0 and 1: the share of such intervals that hold the true parameter.

        Returns
        -------
        ndarray of float64, the shape of `stderr` and (2,)
            Lower and upper ends, by Student's t as for `pvalues`.

        Raises
        ------
        ValueError
            If level is not between 0 and 1; `NoCovarianceError` if the fit has no covariance.
        ImportError
            If scipy is not installed.
        """
        df = self._inference("conf_int()").df_resid
        reach = self._spread(half_width(level, df), 1) * self.stderr
        middle = self.parameters
        return np.stack([middle - reach, middle + reach], axis=-1)

    @property
    def r2(self) -> Any:
        """Share of y's variance that the fit explains: R^2, about the mean with an intercept.

        A scalar, or (t,); for many problems (count,) or (count, t). Without an intercept it is the
        share of the mean square, as in statsmodels and R.
        """
        return self._inference("r2").r2

    @property
    def adj_r2(self) -> Any:
        """R^2 adjusted for the number of features: ``1 - (1 - r2) (df_resid + d) / df_resid``."""
        r2, df = self._inference("adj_r2").r2, self._spread(self.df_resid, 0)
        d = self.covariance.shape[-1] - self.fit_intercept
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 - (1 - r2) * (df + d) / df

    @property
    def sigma2(self) -> Any:
        """Estimated variance of the errors of rows of weight 1: of the shape of `r2`."""
        return self._inference("sigma2").sigma2

    @property
    def df_resid(self) -> Any:
        """Rows that count, less parameters; for many problems, of shape (count,).

        One for each target, (t,) or (count, t), if they were fitted in different rows.
        """
        return self._inference("df_resid").df_resid

    def summary(self, *, level: float = 0.95) -> Summary:
        """Return a table of the parameters, their standard errors and how well the fit explains y.

        Parameters
        ----------
        level : float
            Of the confidence intervals, between 0 and 1.

        Returns
        -------
        Summary
            ``print`` shows it as text, a notebook as HTML. Without ``covariance=`` in the call
            that fitted, it has the parameters alone; without scipy (extra "stats"), neither
            p-values nor intervals. Of many problems it shows the first few, and counts.
        """
        from gdcore.results.summary import summarize

        return summarize(self, level)

    def _inference(self, wanted: str) -> Inference:
        if self.inference is None:
            raise NoCovarianceError(wanted)
        return self.inference

    @property
    def _has_several_targets(self) -> bool:
        return bool(np.ndim(on_host(self).weights) - np.ndim(self.status) == 2)

    def _spread(self, df: Any, axes: int) -> Any:
        """Return one number a problem, or a target, with more axes of length 1 to broadcast."""
        df, lead = np.asarray(df), np.ndim(self.status)
        targets = df.shape[lead:] or (1,) * self._has_several_targets
        return df.reshape((*df.shape[:lead], *(1,) * axes, *targets))
