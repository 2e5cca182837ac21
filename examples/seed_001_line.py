"""Seed 001: learn y = 2 x from four points
========================================

The model is a line through the origin, f(x) = w x: one weight and no bias (a bias would be
``fit_intercept=True``, the default of `fit`). The loss is the mean of (w x - y)**2. The chain rule
gives its derivative, the mean of 2 x (w x - y), which for these points is 15 (w - 2). One step of
learning rate 0.01 therefore multiplies the distance of w from 2 by 1 - 0.01 * 15 = 0.85, and twenty
steps leave 4 percent of it.

The data is float32, and so is everything computed from it: the ten decimals show its rounding.

Run: ``python seed_001_line.py [directory for the pictures, by default pictures]``
"""

import sys
from pathlib import Path

import numpy as np

import gdcore as gd
from gdcore.plot import FittedLineDisplay, LossCurveDisplay

pictures = Path(sys.argv[1] if sys.argv[1:] else "pictures")
pictures.mkdir(parents=True, exist_ok=True)

X = np.array([[1], [2], [3], [4]], np.float32)
y = np.array([2, 4, 6, 8], np.float32)


def train(epochs):
    """Take this many steps from w = 0."""
    return gd.fit(X, y, gd.SGD(lr=0.01), epochs=epochs, tol=None, fit_intercept=False)


untrained, trained = train(epochs=0), train(epochs=20)
_, gradient = gd.linear_mse_value_and_grad(X, y, untrained.weights)

print(f"before: w = {untrained.weights[0]:.3f}, f(5) = {untrained.predict([[5]])[0]:.3f}")
print(f"gradient there: {gradient.weights[0]:.3f}\n")

# %%
# The table has every second epoch: w after the step, and the loss before it.

print("epoch      w           loss")
record = trained.history
for epoch, w, loss in list(zip(record.epoch, record.weights[:, 0], record.loss, strict=True))[::2]:
    print(f"{epoch:5}  {w:.3f}  {loss:13.10f}")

print(f"\nafter: w = {trained.weights[0]:.3f}, f(5) = {trained.predict([[5]])[0]:.3f}")

LossCurveDisplay.from_fit(trained).figure_.savefig(pictures / "seed_001_loss.png")
FittedLineDisplay.from_fit(trained, X, y).figure_.savefig(pictures / "seed_001_line.png")
