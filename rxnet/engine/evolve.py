"""`dataclasses.replace`, more than twice as fast, for the two values that nearly every event replaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, TypeVar

T = TypeVar("T")

_Plan = tuple[Callable[[Any], tuple[Any, ...]], dict[str, Callable[[Any, Any], None]]]
_PLANS: Final[dict[type, _Plan]] = {}


def evolve(value: T, **changes: Any) -> T:
    """Copy a frozen, slotted dataclass of two fields or more with some of them changed.

    `dataclasses.replace` runs `__init__`, which on a frozen class sets every field by a checked call of its own;
    this copies the slots. It refuses unknown names as strictly.

    :raises KeyError: if a change names no field.
    """
    cls = type(value)
    plan = _PLANS.get(cls)
    if plan is None:
        plan = _PLANS[cls] = _plan(cls)
    read, setters = plan
    new = object.__new__(cls)
    for put, held in zip(setters.values(), read(value), strict=True):
        put(new, held)
    for name, changed in changes.items():
        setters[name](new, changed)
    return new


def _plan(cls: type) -> _Plan:
    names = [field.name for field in fields(cls)]
    return attrgetter(*names), {name: getattr(cls, name).__set__ for name in names}
