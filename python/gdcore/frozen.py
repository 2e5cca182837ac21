"""Frozen dataclasses that are made quickly."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def at_once(cls: type[T]) -> type[T]:
    """Have the instances of a frozen dataclass write their fields at once.

    The `__init__` that `dataclass` writes calls `object.__setattr__` for each field, which takes a
    third of a small fit. This one has the same signature; fields have no default factories.
    """
    own: Any = cls.__init__
    code = own.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    names = list(code.co_varnames[1:count])
    entries = ", ".join(f'"{name}": {name}' for name in names)
    if code.co_kwonlyargcount:
        names.insert(code.co_argcount - 1, "*")
    after = "; self.__post_init__()" if hasattr(cls, "__post_init__") else ""
    body = f'put(self, "__dict__", {{{entries}}}){after}'
    source = f"def made(put):\n def __init__(self, {', '.join(names)}): {body}\n return __init__"
    local: dict[str, Any] = {}
    exec(source, own.__globals__, local)  # where the names of its annotations are known
    init = local["made"](object.__setattr__)
    init.__defaults__, init.__kwdefaults__ = own.__defaults__, own.__kwdefaults__
    init.__annotations__, init.__qualname__ = own.__annotations__, own.__qualname__
    init.__module__ = own.__module__
    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def changed(instance: T, **fields: Any) -> T:
    """Return a copy with other values in some fields, as `dataclasses.replace` does, unchecked."""
    copy = object.__new__(type(instance))
    object.__setattr__(copy, "__dict__", instance.__dict__ | fields)
    return copy
