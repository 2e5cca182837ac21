"""A model for each of 3 000 stores, from a data frame with gaps
=============================================================

Sales follow price and promotion. Some entries are missing, one store never changes its price, and
one has two rows: each gets a status, and no other store notices.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import gdcore as gd

pictures = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
pictures.mkdir(parents=True, exist_ok=True)

rng = np.random.default_rng(0)
number = np.sort(rng.integers(2, 3000, 50_000))
number[:42] = np.repeat([0, 1], [2, 40])  # two rows; a constant price
price, promotion = rng.normal(10, 1, 50_000), rng.random(50_000)
price[number == 1] = 10.0
sales = 90 - (2 + number % 5) * price + 8 * promotion + rng.normal(0, 2, 50_000)
sales[::97] = np.nan
table = pd.DataFrame({"store": number, "price": price, "promotion": promotion, "sales": sales})
table["store"] = table["store"].map("s{:05d}".format)

fits = gd.fit_groups(
    table, target="sales", features=["price", "promotion"], by="store",
    missing="drop", covariance="ols",
)  # fmt: skip
print(fits.counts())
print(fits["s00042"].summary())
print(fits["s00001"].message)

table["expected"] = fits.predict(table)  # by the names of columns and the label of each row
models = fits.to_frame().set_index("store")
ten = models.iloc[100:110]
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.errorbar(ten.index, ten["weight_price"], 2 * ten["stderr_price"], fmt="o", capsize=3)
axes.set(ylabel="sales for a price of 1 more", title="Ten of 3 000 stores, two standard errors")
axes.tick_params(axis="x", rotation=45)
figure.savefig(pictures / "store_sales.png")

fits.save(pictures / "stores.npz")
code = f"import gdcore; print(gdcore.load({str(pictures / 'stores.npz')!r}))"
subprocess.run([sys.executable, "-c", code], check=True)
