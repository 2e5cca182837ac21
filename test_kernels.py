# test_kernels.py
from typing import Any

import numpy as np

from gdcore import referee


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@referee.kernel_test(reference=softmax, inputs=[(64, 128)])
def test_by_powers_of_two(x: Any) -> Any:
    e = np.exp2((x - x.max(-1, keepdims=True)) * x.dtype.type(1.4426950408889634))
    return e / e.sum(-1, keepdims=True)


@referee.kernel_test(reference="reference.py")
def test_in_a_process_of_its_own() -> str:
    return "shifted.py"


def test_with_the_fixture(referee: Any) -> None:
    referee("shifted.py", "reference.py", families=["normal", "large"])
