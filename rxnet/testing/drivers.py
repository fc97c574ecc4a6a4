"""Virtual drivers: they perform every effect by writing down that it was asked for, and report what a test tells them.

::

    engine   --OpenSignal(1)------------------(disposed)--
    record     started 0.0                     cancelled 5.0
    test     ---------report(SignalConnected)-------------
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxnet.engine.effects import Effect, SendMessages, WaitUntil
from rxnet.engine.operators import Epic, Perform
from rxnet.events import (
    DeadlineReached,
    DeviceFailed,
    EffectFailed,
    Event,
    LoginRefused,
    ManagementDisconnected,
    MessagesNotSent,
    MessagesSent,
    NegotiationFailed,
    PathLost,
    SignalDisconnected,
)
from rxnet.model import PeerKey

ENDINGS: Final = (
    ManagementDisconnected,
    LoginRefused,
    SignalDisconnected,
    DeviceFailed,
    NegotiationFailed,
    PathLost,
    MessagesSent,
    MessagesNotSent,
    EffectFailed,
    DeadlineReached,
)
"""Reports after which the work is over by itself."""


class Ending(Enum):
    """How a piece of work ended."""

    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(eq=False, slots=True)
class Work:
    """One effect on its way: when it started, and how and when it ended."""

    effect: Effect
    started: float
    observer: abc.ObserverBase[Event] = field(repr=False)
    ended: float | None = None
    ending: Ending | None = None

    @property
    def running(self) -> bool:
        return self.ending is None

    @property
    def peer(self) -> PeerKey | None:
        return getattr(self.effect, "peer", None)

    def report(self, event: Event) -> None:
        """Report an event, as the driver would; one that ends the work completes it."""
        self.observer.on_next(event)
        if isinstance(event, ENDINGS):
            self.observer.on_completed()


Started = Callable[[Work], None]
"""Called when an effect starts; may report at once, later (by the scheduler) or never."""

Watcher = Callable[[Work], None]


def sent_at_once(work: Work) -> None:
    """Take messages as signal does: at once. Reported through the inbox like everything else."""
    effect = work.effect
    assert isinstance(effect, SendMessages)
    work.report(MessagesSent(effect.peer, tuple(message.id for message in effect.messages)))


class VirtualDrivers:
    """The engine's port to a world that only a test moves. Give it to `Engine` as `perform`.

    :param clock: the engine's clock, to note times with.
    :param on_start: what to do when an effect of a class starts; nothing for classes that are not named.
    :param watchers: told of every start and every end, in order.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        on_start: Mapping[type[Effect], Started] | None = None,
        *watchers: Watcher,
        keep: int | None = None,
    ) -> None:
        self._clock = clock
        self._on_start: dict[type[Effect], Started] = dict(on_start or {SendMessages: sent_at_once})
        self._watchers = watchers
        self._keep = keep
        self.works: list[Work] = []
        """Everything that was ever started, oldest first (only the last `keep`, if a bound was given)."""
        self._running: dict[int, Work] = {}

    def __call__(self, effect: Effect) -> Observable[Event]:
        """Perform: cold, started by subscribing, cancelled by disposing."""

        def subscribe(
            observer: abc.ObserverBase[Event], _scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            work = self._start(effect, observer)
            act = self._on_start.get(type(effect))
            if act is not None:
                act(work)
            return Disposable(lambda: self._end(work, Ending.CANCELLED))

        return Observable(subscribe)

    @property
    def running(self) -> list[Work]:
        """What is going on, in order of starting."""
        return list(self._running.values())

    def find(self, effect: type[Effect], peer: PeerKey | None = None) -> Work | None:
        """The latest work of a class (and peer) that is going on, or None."""
        for work in reversed(self._running.values()):
            if type(work.effect) is effect and work.peer == peer:
                return work
        return None

    def recording(self, epics: Mapping[str, Epic]) -> dict[str, Epic]:
        """Wrap epics so that the waits, which the engine performs itself, are recorded too."""
        return {name: self._recording(epic) for name, epic in epics.items()}

    def _recording(self, epic: Epic) -> Epic:
        return lambda steps, perform: epic(steps, self._recorded(perform))

    def _recorded(self, perform: Perform) -> Perform:
        # Our own `__call__` records what reaches it; only what the engine keeps to itself is recorded here.
        def performed(effect: Effect) -> Observable[Event]:
            if type(effect) is not WaitUntil:
                return perform(effect)

            def subscribe(
                observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
            ) -> abc.DisposableBase:
                work = self._start(effect, observer)
                wait = perform(effect).subscribe(work.report)

                def dispose() -> None:
                    wait.dispose()
                    self._end(work, Ending.CANCELLED)

                return Disposable(dispose)

            return Observable(subscribe)

        return performed

    def _start(self, effect: Effect, observer: abc.ObserverBase[Event]) -> Work:
        work = Work(effect, self._clock(), observer)
        self.works.append(work)
        if self._keep is not None and len(self.works) > 2 * self._keep:
            del self.works[: self._keep]
        self._running[id(work)] = work
        work.observer = _Ending(observer, lambda: self._end(work, Ending.FINISHED))
        self._tell(work)
        return work

    def _end(self, work: Work, ending: Ending) -> None:
        if work.ending is None:
            work.ending, work.ended = ending, self._clock()
            del self._running[id(work)]
            self._tell(work)

    def _tell(self, work: Work) -> None:
        for watcher in self._watchers:
            watcher(work)


class _Ending(abc.ObserverBase[Event]):
    """Notes the end of a work before anybody disposes of it, so that what ended by itself does not count as cancelled.

    A report of work that is over still goes through: that is what a cancelled driver's late report is.
    """

    def __init__(self, observer: abc.ObserverBase[Event], ended: Callable[[], None]) -> None:
        self._observer = observer
        self._ended = ended

    def on_next(self, value: Event) -> None:
        if isinstance(value, ENDINGS):
            self._ended()
        self._observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        self._ended()
        self._observer.on_error(error)

    def on_completed(self) -> None:
        self._ended()
        self._observer.on_completed()
