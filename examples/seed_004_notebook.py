"""Seed 004: seed 001 as a notebook that continues where it stopped
================================================================

An editor that knows ``# %%`` cells runs this file cell by cell and shows the picture below its
cell; as a script it prints the tables and saves the pictures.

Run: ``python seed_004_notebook.py [directory for the pictures, by default pictures]``
"""

import sys
from pathlib import Path

import numpy as np

import gdcore as gd
from gdcore.plot import LossCurveDisplay, animate_line, save_animation

X = np.array([[1], [2], [3], [4]], np.float32)
y = np.array([2, 4, 6, 8], np.float32)
line = {"fit_intercept": False, "tol": None}  # f(x) = w x, and every epoch is run


def show(fit):
    """Print w after each epoch's step, the loss before it, and how the fit ended."""
    print("epoch      w    loss")
    record = zip(fit.history.weights[:, 0], fit.history.loss, strict=True)
    for epoch, (w, loss) in enumerate(record, start=1):
        print(f"{epoch:5}  {w:.3f}  {loss:6.3f}")
    w, five = fit.weights[0], fit.predict([[5]])[0]
    print(f"after {fit.epochs} epochs: w = {w:.3f}, f(5) = {five:.3f}, {fit.status}\n")


# %%
# Without training, w is 0 and so is every prediction.
untrained = gd.fit(X, y, gd.SGD(), epochs=0, **line)
show(untrained)

# %%
# Twenty epochs take w most of the way to 2.
first = gd.fit(X, y, gd.SGD(lr=0.01), epochs=20, **line)
show(first)

# %%
# A hundred more epochs, from where those stopped, give the bits of 120 epochs in one fit.
second = gd.fit(X, y, gd.SGD(lr=0.01), epochs=100, init=first, **line)
show(second)

# %%
# Each epoch multiplies the loss by 0.85**2, a straight line on a log axis, until w is at 2.
curve = LossCurveDisplay.from_fit(first, name="first fit")
LossCurveDisplay.from_fit(second, name="continued", ax=curve.ax_)
curve  # noqa: B018

# A script has no place to show pictures: it saves them.
if not hasattr(sys, "ps1"):
    pictures = Path(sys.argv[1] if sys.argv[1:] else "pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    curve.figure_.savefig(pictures / "seed_004_loss.png")
    save_animation(animate_line(first, X, y, interval=100), pictures / "seed_004_line.gif")
