"""The one effect that the engine performs itself: waiting. On the scheduler, so virtual time drives it too."""

from __future__ import annotations

from reactivex import Observable, abc

from rxnet.engine.effects import WaitUntil
from rxnet.engine.inbox import Clock
from rxnet.events import DeadlineReached, Event


def wait_until(effect: WaitUntil, *, scheduler: abc.SchedulerBase, clock: Clock) -> Observable[Event]:
    """Report `DeadlineReached` at `effect.at`; disposing before that leaves no timer behind.

    The wait is relative to `clock`: a scheduler's own `now` and absolute times are wall clock on asyncio.
    """

    def subscribe(observer: abc.ObserverBase[Event], _scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        def due(_s: abc.SchedulerBase, _state: object = None) -> None:
            observer.on_next(DeadlineReached(effect.name, effect.at, effect.peer))
            observer.on_completed()

        return scheduler.schedule_relative(max(0.0, effect.at - clock()), due)

    return Observable(subscribe)
