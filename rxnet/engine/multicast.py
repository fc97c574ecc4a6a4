"""A hot observable for the one stream that every epic sees: what a `Subject` does, without its locks and wrappers.

Everything in the engine runs on one scheduler, so nobody needs to be kept out; and every event passes here once for
each epic, so what a `Subject` spends on that (about 3 µs a hop) would be most of an event's cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Listener:
    on_next: Callable[[Any], object]
    on_completed: Callable[[], object] | None
    active: bool = True
    """False once disposed: also within the value that is being handed on."""


class Multicast(Observable[T]):
    """Hands each value to the observers subscribed at that moment, in the order of their subscribing.

    It never errors, and an observer that raises is not detached: the error goes to whoever called `on_next`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listeners: tuple[_Listener, ...] = ()

    def subscribe(
        self,
        on_next: abc.ObserverBase[T] | Callable[[T], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        on_completed: Callable[[], object] | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Listen from now on. See `Observable.subscribe`."""
        if isinstance(on_next, abc.ObserverBase):
            listener = _Listener(on_next.on_next, on_next.on_completed)
        else:
            listener = _Listener(on_next or _ignore, on_completed)
        self._listeners = (*self._listeners, listener)

        def dispose() -> None:
            listener.active = False
            self._listeners = tuple(other for other in self._listeners if other is not listener)

        return Disposable(dispose)

    def on_next(self, value: T) -> None:
        """Hand a value on. An observer that raises ends it here: whoever cannot promise not to is walled off."""
        for listener in self._listeners:
            if listener.active:
                listener.on_next(value)

    def on_completed(self) -> None:
        """End the stream for all."""
        listeners, self._listeners = self._listeners, ()
        for listener in listeners:
            if listener.on_completed is not None:
                listener.on_completed()


def _ignore(_value: object) -> None:
    """What an observer without `on_next` does."""
