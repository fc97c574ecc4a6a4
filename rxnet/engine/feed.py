"""Feeds: how the public sees the stream without being able to hold it up.

Each subscriber has a bounded queue of its own, worked off by the scheduler outside the engine's drain. One that is too
slow loses the oldest entries and is told so by a `Gap`; one that raises is dropped, alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable

T = TypeVar("T")

QUEUE_LENGTH: Final = 4096
"""Entries that wait for a subscriber unless it asks for another bound."""

BATCH: Final = 64
"""Entries handed to one subscriber before others have their turn."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Stands in a subscriber's stream where entries were lost because it did not keep up."""

    lost: int


class Feed(Generic[T]):
    """Hands entries on to any number of subscribers.

    :param on_failure: told the error of a subscriber that raised and was dropped.
    :param first: makes the entry that a new subscriber starts with, if there is one.
    """

    def __init__(
        self,
        scheduler: abc.SchedulerBase,
        *,
        on_failure: Callable[[Exception], None],
        first: Callable[[], T] | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._on_failure = on_failure
        self._first = first
        self._queues: list[_Queue[T]] = []
        self._closed = False

    def publish(self, entry: T) -> None:
        """Queue an entry for every subscriber. Calls none of them."""
        for queue in self._queues:
            queue.append(entry)

    def close(self) -> None:
        """Complete every subscriber after what it still has queued."""
        self._closed = True
        for queue in self._queues:
            queue.complete()

    @property
    def subscribers(self) -> int:
        return len(self._queues)

    def observable(self, length: int = QUEUE_LENGTH) -> Observable[T | Gap]:
        """A hot observable of the entries; each subscription has a queue of `length`."""

        def subscribe(
            observer: abc.ObserverBase[T | Gap], _scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            queue: _Queue[T] = _Queue(observer, length, self._scheduler, self._on_failure, self._drop)
            self._queues.append(queue)
            if self._first is not None:
                queue.append(self._first())
            if self._closed:
                queue.complete()
            return Disposable(lambda: self._drop(queue))

        return Observable(subscribe)

    def _drop(self, queue: _Queue[T]) -> None:
        queue.dispose()
        if queue in self._queues:
            self._queues.remove(queue)


class _Queue(Generic[T]):
    """One subscriber's entries. Delivery is scheduled, never direct, and at most `BATCH` at a time."""

    __slots__ = ("_completing", "_disposed", "_drop", "_entries", "_length", "_lost", "_observer", "_on_failure",
                 "_scheduled", "_scheduler")  # fmt: skip

    def __init__(
        self,
        observer: abc.ObserverBase[T | Gap],
        length: int,
        scheduler: abc.SchedulerBase,
        on_failure: Callable[[Exception], None],
        drop: Callable[[_Queue[T]], None],
    ) -> None:
        self._observer = observer
        self._length = max(1, length)
        self._scheduler = scheduler
        self._on_failure = on_failure
        self._drop = drop
        self._entries: deque[T] = deque()
        self._lost = 0
        self._scheduled = self._completing = self._disposed = False

    def append(self, entry: T) -> None:
        if len(self._entries) >= self._length:
            self._entries.popleft()
            self._lost += 1
        self._entries.append(entry)
        self._schedule()

    def complete(self) -> None:
        self._completing = True
        self._schedule()

    def dispose(self) -> None:
        self._disposed = True
        self._entries.clear()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._scheduler.schedule(self._deliver)

    def _deliver(self, _scheduler: abc.SchedulerBase, _state: object = None) -> None:
        self._scheduled = False
        try:
            self._hand_over()
        except Exception as error:
            self._drop(self)
            self._on_failure(error)

    def _hand_over(self) -> None:
        if self._lost and not self._disposed:
            lost, self._lost = self._lost, 0
            self._observer.on_next(Gap(lost))
        for _ in range(BATCH):
            if self._disposed:
                return
            if not self._entries:
                if self._completing:
                    self._observer.on_completed()
                return
            self._observer.on_next(self._entries.popleft())
        self._schedule()
