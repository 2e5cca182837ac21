"""Whether any function gives what a golden one gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np

from gdcore.oracle.trials.arrays import copying, in_double, library_of, operand_of
from gdcore.oracle.trials.examine import Examination, examine
from gdcore.oracle.trials.findings import Ruling
from gdcore.oracle.trials.forked import ForkedRunner
from gdcore.oracle.trials.in_process import InProcess
from gdcore.oracle.trials.operand import FLOATS, Operand
from gdcore.oracle.trials.pullback import Pullback

Function = Callable[..., Any]
SHOWN = 6  # findings
RUN_LIMIT = 60.0  # seconds for a run of golden, however few there are for all


@dataclass(frozen=True)
class Likeness(Examination):
    """What `like` found; true if the function is right. Printing it shows the findings.

    Attributes
    ----------
    ruling : Ruling
        "right", "suspicious", "wrong", "cheating" or "not decided". It is never certified: other
        data may show other things.
    why : str
        The ruling in a sentence.
    findings : tuple of Finding
        The gravest first.
    worst : Finding or None
        The element furthest off, also if it is right.
    tried, not_tried : tuple of str
        Families of data at sizes; those that could not be, with the reason.
    notes : tuple of str
        What else was seen, such as results that are not repeatable.
    calls : int
        How many results were checked.
    seconds : float
    """

    def __bool__(self) -> bool:
        """Whether it is right."""
        return self.ruling is Ruling.RIGHT

    def __str__(self) -> str:
        """Return the ruling and the gravest findings, each in a line."""
        lines = [f"{self.ruling}: {self.why}"]
        for f in self.findings[:SHOWN]:
            lines.append(f"  {f.kind} [{f.family}, {f.size}, {f.dtype}, seed {f.seed}]")
            lines.append(f"    {f.sentence}")
        if len(self.findings) > SHOWN:
            lines.append(f"  and {len(self.findings) - SHOWN} more in .findings")
        lines += [f"  not tried: {what}" for what in self.not_tried]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the lines for a notebook."""
        return f"<pre>{escape(str(self))}</pre>"

    def __repr__(self) -> str:
        return f"<Likeness: {self.ruling}, {self.calls} results>"

    def as_dict(self) -> dict[str, Any]:
        """Return everything, as JSON has it."""
        return asdict(self)


def like(
    kernel: Function,
    golden: Function,
    eager: Function | None = None,
    inputs: Sequence[Any] | Callable[[], Sequence[Any]] | None = None,
    dtype: Any = None,
    grads: bool = False,
    families: str | Sequence[str] = "all",
    sizes: str | Sequence[str] | None = None,
    seed: int = 0,
    timeout: float = 60.0,
) -> Likeness:
    """Try whether a function gives what a golden one gives, up to rounding errors.

    Each element of a result has a unit of its own: how far the golden result moves there when
    every input moves by one rounding. The function's errors are compared with a few units, or
    with the errors of an eager implementation in these units. No tolerance is guessed, and
    nothing is certified: see ``gdcore.oracle`` for operations whose bounds are proven.

    Parameters
    ----------
    kernel : callable
        The function to try. It is called in this process, so it must be one you trust not to
        look around; ``gdcore.referee`` runs others.
    golden : callable
        The right function. It is called with float64 in a process of its own, forked from this
        one; with arrays of JAX in this one.
    eager : callable, optional
        The implementation that the kernel replaces, in the kernel's dtype: where its errors are
        large, the kernel's may be too. By default it is golden in that dtype.
    inputs : sequence, or callable that returns one
        Arguments of the kind that the kernel takes: arrays of NumPy or JAX, or tensors of torch,
        in whose shapes, dtypes, strides and ranges data are made; shapes, which stand for
        arrays of NumPy of float32; and anything else, such as a number, which is passed on as
        it is.
    dtype : {"float32", "float64", "float16", "bfloat16"} or dtype, optional
        Of all floating-point arguments, as a name or a dtype of NumPy, torch or JAX; by default
        their own.
    grads : bool, default False
        Whether to compare gradients too, by torch's autograd with random gradients of the
        results.
    families : "all" or sequence of str
        Such as "normal", "cancelling", "transposed views"; `FAMILIES` has them all.
    sizes : sequence of str, optional
        Of "given", "odd", "one" and "long"; by default all.
    seed : int
    timeout : float
        Seconds after which no other data are tried.

    Returns
    -------
    Likeness

    Raises
    ------
    TypeError
        If there are no inputs, an input is of a dtype that cannot be tried, or grads are wanted
        of a function that does not take tensors of torch.
    ValueError
        If a dtype, family or size has no such name.

    Examples
    --------
    >>> import numpy as np
    >>> def softmax(x):
    ...     e = np.exp(x - x.max(-1, keepdims=True))
    ...     return e / e.sum(-1, keepdims=True)
    >>> def mine(x):
    ...     e = np.exp(x)
    ...     return e / e.sum(-1, keepdims=True)
    >>> verdict = like(mine, softmax, inputs=[(8, 32)], dtype="float32", sizes=["given"])
    >>> print(verdict.ruling, verdict.findings[0].family)
    wrong large
    """
    dtype = _dtype(dtype)
    arguments = _arguments(inputs)
    arrays = [x for x in arguments if library_of(x)]
    if not arrays:
        raise TypeError("like() needs inputs with at least one array, tensor or shape to vary.")
    library = _library(arrays)
    if grads and library != "torch":
        raise TypeError("grads=True needs tensors of torch as inputs: torch's autograd makes them.")
    template = [operand_of(x) for x in arrays]
    if library == "numpy" and "bfloat16" in (dtype, *(x.dtype for x in template)):
        raise TypeError("NumPy has no bfloat16; give tensors of torch or arrays of JAX as inputs.")
    functions = [_bound(f, arguments) for f in (kernel, golden, eager or golden)]
    if grads:
        functions = [Pullback(f, len(arrays)) for f in functions]
    mine, right, usual = functions
    found = _examination(
        mine,
        copying(right),
        copying(usual) if eager is not None else None,
        template,
        library,
        dict(dtype=dtype, families=families, sizes=sizes, seed=seed, grads=grads),
        timeout,
    )
    return Likeness(**{name: getattr(found, name) for name in Examination.__dataclass_fields__})


def _examination(
    kernel: Function,
    golden: Function,
    eager: Function | None,
    template: Sequence[Operand],
    library: str,
    options: dict[str, Any],
    timeout: float,
) -> Examination:
    """Run the trials with golden and eager in processes of their own, but for JAX."""
    if library == "jax":  # its threads do not survive a fork
        right = InProcess(in_double(golden), library)
        usual = None if eager is None else InProcess(eager, library)
        return examine(
            InProcess(kernel, library), right, usual, template, seconds=timeout, **options
        )
    with ExitStack() as stack:
        runners = [
            None
            if function is None
            else stack.enter_context(
                ForkedRunner(function, timeout=max(timeout, RUN_LIMIT), arrays=library)
            )
            for function in (golden, eager)
        ]
        candidate = InProcess(kernel, library)
        stack.callback(candidate.close)
        assert runners[0] is not None
        return examine(candidate, runners[0], runners[1], template, seconds=timeout, **options)


def _dtype(dtype: Any) -> str | None:
    """Return the name of a dtype."""
    if dtype is None:
        return None
    name = dtype if isinstance(dtype, str) else str(getattr(dtype, "dtype", dtype))
    if isinstance(dtype, type):
        name = {"float": "float64"}.get(dtype.__name__, dtype.__name__)
    name = name.rpartition(".")[2]  # torch.float32
    if name not in FLOATS:
        raise ValueError(f"dtype is one of {', '.join(FLOATS)}, not {dtype!r}.")
    return name


def _arguments(inputs: Sequence[Any] | Callable[[], Sequence[Any]] | None) -> list[Any]:
    """Return the arguments, with random arrays for shapes."""
    if inputs is None:
        raise TypeError(
            "like() needs inputs: arrays, tensors or shapes of the kind that the kernel takes."
        )
    given = inputs() if callable(inputs) else inputs
    if library_of(given):  # one array, not a sequence of them
        given = [given]
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal(x).astype("f4")
        if isinstance(x, tuple) and all(type(n) is int for n in x)
        else x
        for x in given
    ]


def _library(arrays: Sequence[Any]) -> str:
    libraries = {library_of(x) for x in arrays}
    for name in ("torch", "jax"):
        if name in libraries:
            return name
    return "numpy"


def _bound(function: Function, arguments: Sequence[Any]) -> Function:
    """Return the function of the arrays alone, the other arguments being what was given."""
    places = [i for i, x in enumerate(arguments) if library_of(x)]
    if len(places) == len(arguments):
        return function

    def call(*arrays: Any) -> Any:
        whole = list(arguments)
        for place, array in zip(places, arrays, strict=True):
            whole[place] = array
        return function(*whole)

    return call
