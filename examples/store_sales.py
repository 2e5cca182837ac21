"""A model for each of 3 000 stores, from a data frame with gaps
=============================================================

Sales follow price and promotion. Some entries are missing, one store has two rows, and one never
changes its price: those two stores are SINGULAR, which a status says, and no other one changes.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import gdcore as gd

pictures = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
pictures.mkdir(parents=True, exist_ok=True)

rng = np.random.default_rng(0)
rows = [2, 40, *(5 + rng.multinomial(34_968, rng.dirichlet(np.ones(2998))))]
number = np.repeat(np.arange(3000), rows)
price, promotion = rng.normal(10, 1, 50_000), rng.random(50_000)
price[number == 1] = 10.0
sales = 90 - (2 + number % 5) * price + 8 * promotion + rng.normal(0, 2, 50_000)
sales[50::97] = np.nan
table = pd.DataFrame({"store": number, "price": price, "promotion": promotion, "sales": sales})
table["store"] = table["store"].map("s{:04d}".format)

warnings.simplefilter("ignore", gd.FitWarning)  # its text is printed below
fits = gd.fit_groups(
    table, target="sales", features=["price", "promotion"], by="store",
    missing="drop", covariance="ols",
)  # fmt: skip
print(fits.message)
print(fits["s0042"].summary())

table["expected"] = fits.predict(table)  # by the names of columns and the label of each row
print(table.iloc[50:53])

ten = fits.to_frame().set_index("store").iloc[100:110]
figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.subplots()
axes.errorbar(
    ten.index, ten["weight_price"], 2 * ten["stderr_price"],
    fmt="o", capsize=3, label="fitted, with two standard errors",
)  # fmt: skip
axes.plot(ten.index, [-(2 + n % 5) for n in range(100, 110)], "kx", label="true")
axes.set(title="Ten of 3 000 stores", ylabel="change of sales when the price rises by 1")
axes.legend()
figure.savefig(pictures / "store_sales.png")

fits.save(pictures / "stores.npz")
code = "import gdcore, sys; print(gdcore.load(sys.argv[1])['s0042'])"
subprocess.run([sys.executable, "-c", code, str(pictures / "stores.npz")], check=True)
