"""Whether a matmul, a loss or a linear layer of yours is right: certified, and with the cause.

References know the right result and how far rounding may take any other::

    from gdcore import oracle

    ref = oracle.linear_mse(X, y, weights)
    oracle.assert_matches(gradient, ref.grad.weights)

Probes call a function with the data that find mistakes::

    oracle.assert_grad(my_gradient, kind="linear_mse")

Derivatives check the gradient of any function, and closed forms whole runs of gradient descent::

    oracle.assert_gradcheck(f, my_gradient, x)
    oracle.trajectory(X, y, gd.SGD(lr=0.1, momentum=0.9), epochs=100)

For any other function there is a comparison with a golden one, which is not certified::

    oracle.like(my_kernel, golden, inputs=[(64, 128)])

References: `matmul`, `mse`, `linear_mse`, `linear`, `sum`, `mean`, `var`, `softmax`,
`log_softmax`, `logsumexp`, `cross_entropy`, `layer_norm`, `rms_norm`, `gelu`, `attention`, each a
`Reference`; `Verdict` and `Status`. Assertions: `assert_matches`, `assert_grad`. Derivatives:
`gradcheck`, `assert_gradcheck`; `compat` has the calling conventions of torch and SciPy. Runs:
`trajectory`. Any function: `like`, which returns a `Likeness`. Arrays of any library will do;
nothing but NumPy is imported. See docs/oracle.md.
"""

from gdcore.oracle import compat
from gdcore.oracle.derivatives.gradcheck import GradCheck, GradVerdict, assert_gradcheck, gradcheck
from gdcore.oracle.diagnosis.match import OracleWarning, assert_matches
from gdcore.oracle.probing.probing import assert_grad
from gdcore.oracle.probing.report import ProbeReport
from gdcore.oracle.references.affine import linear
from gdcore.oracle.references.attention import attention
from gdcore.oracle.references.cross_entropy import cross_entropy
from gdcore.oracle.references.gelu import gelu
from gdcore.oracle.references.linear import linear_mse
from gdcore.oracle.references.losses import mse
from gdcore.oracle.references.norms import layer_norm, rms_norm
from gdcore.oracle.references.products import matmul
from gdcore.oracle.references.reductions import mean, var
from gdcore.oracle.references.reductions import total as sum
from gdcore.oracle.references.reference import Reference
from gdcore.oracle.references.softmax import log_softmax, logsumexp, softmax
from gdcore.oracle.references.verdict import Status, Verdict
from gdcore.oracle.trajectory import Trajectory, trajectory
from gdcore.oracle.trials.like import Likeness, like

__all__ = [
    "GradCheck",
    "GradVerdict",
    "Likeness",
    "OracleWarning",
    "ProbeReport",
    "Reference",
    "Status",
    "Trajectory",
    "Verdict",
    "assert_grad",
    "assert_gradcheck",
    "assert_matches",
    "attention",
    "compat",
    "cross_entropy",
    "gelu",
    "gradcheck",
    "layer_norm",
    "like",
    "linear",
    "linear_mse",
    "log_softmax",
    "logsumexp",
    "matmul",
    "mean",
    "mse",
    "rms_norm",
    "softmax",
    "sum",
    "trajectory",
    "var",
]
