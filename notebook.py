# notebook.py
from typing import Any

import numpy as np

from gdcore import oracle


def mean(x: Any) -> Any:
    return np.add.reduce(x, -1) / x.dtype.type(x.shape[-1])


found = oracle.like(mean, lambda x: np.mean(x, -1), inputs=[(64, 128)])
print(found.ruling, bool(found))
