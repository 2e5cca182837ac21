"""Seed 000: solve X + 1 = 3 without algebra
=========================================

The unknown X is the weight of a linear model with one row, Y = 1 * X + 1. The added 1 is fixed
(`offset`). The loss (3 - Y)**2 / 2 has the derivative Y - 3. A step of learning rate lr therefore
multiplies the distance of X from 2 by 1 - lr.

Run: ``python seed_000_algebra.py [directory for the picture, by default pictures]``
"""

import sys
import warnings
from pathlib import Path

import numpy as np

import gdcore as gd
from gdcore.plot import LossCurveDisplay

warnings.simplefilter("ignore", gd.FitWarning)  # the table says how each fit ended
pictures = Path(sys.argv[1] if sys.argv[1:] else "pictures")
pictures.mkdir(parents=True, exist_ok=True)

start = np.random.default_rng(1).random(1)  # somewhere in [0, 1)
equation = {"offset": 1.0, "reduction": "half_sum"}  # Y = X + 1 and (3 - Y)**2 / 2

loss, gradient = gd.linear_mse_value_and_grad([[1.0]], [3.0], start, **equation)
print(f"start: X = {start[0]:.7f}, loss = {loss:.7f}, gradient = {gradient.weights[0]:.7f}\n")

# %%
# Ten thousand small steps come close. More steps help only until a step is smaller than half the
# gap between X and the next number: X minus the step then rounds back to X, and the fit is STALLED.
# In float32 that happens at 1.99994. In float64 X is as near to 2 as rounding errors can tell long
# before a step is that small, which is CONVERGED. Another learning rate does help: "auto" is 1 over
# the curvature of the loss, here 1, and arrives in one step.


def solve(dtype, lr, steps):
    """Take at most this many steps, and print where they end."""
    one, three = np.ones((1, 1), dtype), np.full(1, 3, dtype)
    options = {"init": start, "epochs": steps, "fit_intercept": False}
    fit = gd.fit(one, three, gd.SGD(lr=lr), **options, **equation)
    print(f"{dtype.__name__}  {lr:>5}  {fit.epochs:6}  {fit.weights[0]:.7f}  {fit.status}")
    return fit


print("dtype       lr   steps          X  status")
solve(np.float32, 0.001, 10_000)
single = solve(np.float32, 0.001, 40_000)
double = solve(np.float64, 0.001, 40_000)
solve(np.float32, "auto", 1)

curve = LossCurveDisplay.from_fit(double, name="float64")
LossCurveDisplay.from_fit(single, name="float32", ax=curve.ax_)
curve.figure_.savefig(pictures / "seed_000_loss.png")
