"""Feeds: how the public sees the stream without being able to hold it up.

Each subscriber has a bounded buffer of its own. Observers are called by the scheduler, outside the engine's drain;
iterators take from their buffer when they want to. Who is too slow loses the oldest entries and is told so by a `Gap`;
who raises is dropped, alone.
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
"""Entries handed to one observer before others have their turn."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Stands in a subscriber's stream where entries were lost because it did not keep up."""

    lost: int


class Tap(Generic[T]):
    """One subscriber's bounded buffer, to be emptied with `take`. `wake` is called when there is something to take."""

    __slots__ = ("_close", "_entries", "_length", "_lost", "completed", "wake")

    def __init__(self, length: int, close: Callable[[Tap[T]], None]) -> None:
        self.wake: Callable[[], object] = _nobody
        """Must only note that there is something: it is called inside the engine's drain."""
        self.completed = False
        """Nothing will follow what is still in the buffer."""
        self._entries: deque[T] = deque()
        self._length = max(1, length)
        self._lost = 0
        self._close = close

    def append(self, entry: T) -> None:
        entries = self._entries
        if not entries:
            entries.append(entry)
            self.wake()  # once: whoever was woken empties the buffer before it rests
            return
        if len(entries) >= self._length:
            entries.popleft()
            self._lost += 1
        entries.append(entry)

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return bool(self._entries)

    def complete(self) -> None:
        self.completed = True
        self.wake()

    def take(self) -> T | Gap | None:
        """The next entry, a `Gap` if entries before it were lost, or None if there is none."""
        taken = self.take_some(1)
        return taken[0] if taken else None

    def take_some(self, most: int) -> list[T | Gap]:
        """The next entries, at most so many; a `Gap` counts as one."""
        entries = self._entries
        taken: list[T | Gap] = []
        if self._lost:
            taken.append(Gap(self._lost))
            self._lost = 0
            most -= 1
        if len(entries) <= most:
            taken.extend(entries)
            entries.clear()
        else:
            taken.extend([entries.popleft() for _ in range(most)])
        return taken

    def close(self) -> None:
        """Leave the feed."""
        self._entries.clear()
        self._lost = 0
        self.wake = _nobody
        self._close(self)


class Feed(Generic[T]):
    """Hands entries on to any number of subscribers.

    :param on_failure: told the error of an observer that raised and was dropped.
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
        self._taps: list[Tap[T]] = []
        self._closed = False

    @property
    def subscribers(self) -> int:
        return len(self._taps)

    def publish(self, entry: T) -> None:
        """Put an entry into every subscriber's buffer. Calls no observer."""
        for tap in self._taps:
            tap.append(entry)

    def close(self) -> None:
        """Complete every subscriber after what it still has in its buffer."""
        self._closed = True
        for tap in self._taps:
            tap.complete()

    def tap(self, length: int = QUEUE_LENGTH) -> Tap[T]:
        """Subscribe for taking."""
        tap: Tap[T] = Tap(length, self._remove)
        self._taps.append(tap)
        if self._first is not None:
            tap.append(self._first())
        if self._closed:
            tap.complete()
        return tap

    def observable(self, length: int = QUEUE_LENGTH) -> Observable[T | Gap]:
        """A hot observable of the entries; each subscription has a buffer of `length`."""

        def subscribe(
            observer: abc.ObserverBase[T | Gap], _scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            delivery = _Delivery(self.tap(length), observer, self._scheduler, self._on_failure)
            return Disposable(delivery.dispose)

        return Observable(subscribe)

    def _remove(self, tap: Tap[T]) -> None:
        # A new list: `publish` may be iterating over this one.
        self._taps = [held for held in self._taps if held is not tap]


class _Delivery(Generic[T]):
    """Calls one observer with what its tap holds. Scheduled, never direct, and at most `BATCH` entries at a time."""

    __slots__ = ("_disposed", "_observer", "_on_failure", "_scheduled", "_scheduler", "_tap")

    def __init__(
        self,
        tap: Tap[T],
        observer: abc.ObserverBase[T | Gap],
        scheduler: abc.SchedulerBase,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._tap = tap
        self._observer = observer
        self._scheduler = scheduler
        self._on_failure = on_failure
        self._disposed = False
        self._scheduled = True
        tap.wake = self._wake
        scheduler.schedule(self._deliver)

    def dispose(self) -> None:
        self._disposed = True
        self._tap.close()

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._scheduler.schedule(self._deliver)

    def _deliver(self, _scheduler: abc.SchedulerBase, _state: object = None) -> None:
        try:
            self._hand_over()
        except Exception as error:
            self.dispose()
            self._on_failure(error)

    def _hand_over(self) -> None:
        taken = self._tap.take_some(BATCH)
        on_next = self._observer.on_next
        for entry in taken:
            if self._disposed:
                return
            on_next(entry)
        self._scheduled = False
        if self._tap.waiting:
            self._wake()
        elif self._tap.completed and not self._disposed:
            self._observer.on_completed()


def _nobody() -> None:
    """Nobody is to be woken."""
