"""Seed 003: learn from some rows, test on the rest, and compare with the exact answer
===================================================================================

Ten thousand points around a random line, with normal noise of standard deviation 1/3. A random
quarter of them is kept for the test. Training on the rest begins at another random line and stops
when an epoch's loss equals that of the epoch before. Ordinary least squares has a closed form, the
normal equation (``method="exact"``), which shows how far from the best line the descent stopped.

The data is float32, which holds about seven digits: the loss stops changing in these digits while
the slope still has a few steps to go. Neither line can predict better than the noise allows, with
an error of 1/9.

Run: ``python seed_003_train_test.py [directory for the pictures, by default pictures]``
"""

import sys
from pathlib import Path

import numpy as np

import gdcore as gd
from gdcore.plot import FittedLineDisplay, LossContourDisplay, ResidualsDisplay

pictures = Path(sys.argv[1] if sys.argv[1:] else "pictures")
pictures.mkdir(parents=True, exist_ok=True)

rng = np.random.default_rng(3)
x = rng.uniform(-1.15, 1.15, 10_000)
slope, intercept, first_slope, first_intercept = rng.uniform(-14, 14, 4)
y = slope * x + intercept + rng.normal(0, 1 / 3, 10_000)

X, y = x[:, None].astype(np.float32), y.astype(np.float32)
rows = rng.permutation(10_000)
train, test = (X[rows[:7500]], y[rows[:7500]]), (X[rows[7500:]], y[rows[7500:]])

start = ([first_slope], first_intercept)
sgd = gd.fit(*train, gd.SGD(lr=0.1), init=start, tol=None, stop="loss_equal")
exact = gd.fit(*train, method="exact")

print("epoch  decrease of the loss")
for epoch, decrease in list(enumerate(-np.diff(sgd.history.loss), start=1))[4::5]:
    print(f"{epoch:5}  {decrease:20.10f}")

print(f"\n{'':15}    slope  intercept  train MSE  test MSE")
print(f"{'truth':15} {slope:8.4f}  {intercept:9.4f}")
for name, fit in {f"{sgd.epochs} steps": sgd, "normal equation": exact}.items():
    error = gd.mse(fit.predict(test[0]), test[1])
    print(f"{name:15} {fit.weights[0]:8.4f}  {fit.intercept:9.4f}  {fit.loss:9.6f}  {error:.6f}")

FittedLineDisplay.from_fit(sgd, *train, test=test).figure_.savefig(pictures / "seed_003_line.png")
residuals = ResidualsDisplay.from_fit(sgd, *train, test=test)
residuals.figure_.savefig(pictures / "seed_003_residuals.png")
contour = LossContourDisplay.from_fit(sgd, *train)
contour.figure_.savefig(pictures / "seed_003_contour.png")
