"""Seed 002: watch a line close in on a hundred points
===================================================

The points lie around y = 3 x + 2, each lifted by noise between 0 and 1. The mean of the noise, one
half, becomes part of the intercept: the best line is near 3 x + 2.5. The rest of the noise has
variance 1/12, and no line has a loss far below that.

Here every step uses all the points. With many points, a step on a few of them is far cheaper and
nearly as good: ``batch_size=10`` takes ten steps in each epoch. Where y is a class instead of a
number, the cross-entropy replaces the squared error; the descent stays the same.

Run: ``python seed_002_animation.py [directory for the pictures, by default pictures]``
"""

import sys
from pathlib import Path

import numpy as np

import gdcore as gd
from gdcore.plot import FittedLineDisplay, LossContourDisplay, animate_line, save_animation

pictures = Path(sys.argv[1] if sys.argv[1:] else "pictures")
pictures.mkdir(parents=True, exist_ok=True)

rng = np.random.default_rng(2)
X = rng.uniform(-1, 1, (100, 1))
y = 3 * X[:, 0] + 2 + rng.random(100)

start = ([0.5], 0.75)  # slope and intercept
loss, _ = gd.linear_mse_value_and_grad(X, y, *start)
print(f"start: y = 0.500 x + 0.750, loss = {loss:.3f}\n")

fit = gd.fit(X, y, gd.SGD(lr=0.1), epochs=100, init=start, tol=None)

print("epoch   loss")
for epoch, loss in zip(fit.history.epoch[::10], fit.history.loss[::10], strict=True):
    print(f"{epoch:5}  {loss:.3f}")

print(f"\nend: y = {fit.weights[0]:.3f} x + {fit.intercept:.3f}, loss = {fit.loss:.3f}")

# %%
# The line, the path of its two parameters down the loss, and the line after each epoch.

FittedLineDisplay.from_fit(fit, X, y).figure_.savefig(pictures / "seed_002_line.png")
contour = LossContourDisplay.from_fit(fit, X, y)
contour.figure_.savefig(pictures / "seed_002_contour.png")

animation = animate_line(fit, X, y, max_frames=101, interval=20)
save_animation(animation, pictures / "seed_002_line.gif")
