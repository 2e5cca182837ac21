"""A model for each of very many groups in one call, and where their slopes ended.

A million sensors have a slope and an offset each, and a few noisy readings.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import gdcore as gd

count = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
pictures = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
pictures.mkdir(parents=True, exist_ok=True)

rng = np.random.default_rng(0)
readings = 8
sensor = rng.permutation(np.repeat(np.arange(count), readings))
slope = rng.normal(1.0, 0.2, count).astype(np.float32)
X = rng.standard_normal((count * readings, 1), np.float32)
y = slope[sensor] * X[:, 0] + 0.1 * rng.standard_normal(count * readings, np.float32)

start = time.perf_counter()
fits = gd.fit_groups(X, y, sensor)
seconds = time.perf_counter() - start
error = fits.weights[:, 0] - slope
print(f"{count:,} models of {readings} rows: {seconds:.1f} s")
print(fits.message)
print(f"slopes off by {np.sqrt(np.mean(error**2)):.3f} (root of the mean square)")

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
axes.hist(fits.weights[:, 0], 200, range=(0, 2), histtype="step", label="fitted")
axes.hist(slope, 200, range=(0, 2), histtype="step", label="true")
axes.set(xlabel="slope", ylabel="sensors", title=f"{count:,} regressions in one call")
axes.legend()
figure.savefig(pictures / "million_regressions.png")
