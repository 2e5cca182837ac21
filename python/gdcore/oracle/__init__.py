"""Whether a matmul, a loss or a linear layer of yours is right: certified, and with the cause.

References know the right result and how far rounding may take any other::

    from gdcore import oracle

    ref = oracle.linear_mse(X, y, weights)
    oracle.assert_matches(gradient, ref.grad.weights)

Probes call a function with the data that find mistakes::

    oracle.assert_grad(my_gradient, kind="linear_mse")

References: `matmul`, `mse`, `linear_mse`, each a `Reference`; `Verdict` and `Status`. Assertions:
`assert_matches`, `assert_grad`. Arrays of any library will do; nothing but NumPy is imported. See
docs/oracle.md.
"""

from gdcore.oracle.linear import linear_mse
from gdcore.oracle.losses import mse
from gdcore.oracle.match import OracleWarning, assert_matches
from gdcore.oracle.probing import ProbeReport, assert_grad
from gdcore.oracle.products import matmul
from gdcore.oracle.reference import Reference
from gdcore.oracle.verdict import Status, Verdict

__all__ = [
    "OracleWarning",
    "ProbeReport",
    "Reference",
    "Status",
    "Verdict",
    "assert_grad",
    "assert_matches",
    "linear_mse",
    "matmul",
    "mse",
]
