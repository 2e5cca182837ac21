"""Check gradients: your own, of any function, in any library.

`gradcheck` and `assert_gradcheck` hold a gradient against derivatives found by differences that
know their own error, and answer RIGHT, WRONG or UNDECIDED. `trajectory` is a whole run of gradient
descent in closed form. `compat` has the calling conventions of torch and SciPy.
"""

from gdcore.oracle import compat
from gdcore.oracle.gradcheck import GradCheck, GradVerdict, assert_gradcheck, gradcheck

__all__ = [
    "GradCheck",
    "GradVerdict",
    "assert_gradcheck",
    "compat",
    "gradcheck",
]
