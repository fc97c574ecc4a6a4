"""The one effect that the engine performs itself: waiting. On the scheduler, so virtual time drives it too."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from rxnet.engine.direct import Direct
from rxnet.engine.effects import WaitUntil
from rxnet.engine.inbox import Clock
from rxnet.events import DeadlineReached, Event


def wait_until(effect: WaitUntil, *, scheduler: abc.SchedulerBase, clock: Clock) -> Observable[Event]:
    """Report `DeadlineReached` at `effect.at`; disposing before that leaves no timer behind.

    The wait is relative to `clock`: a scheduler's own `now` and absolute times are wall clock on asyncio.
    """

    def start(put: Callable[[Event], object], completed: Callable[[], object]) -> abc.DisposableBase:
        def due(_scheduler: abc.SchedulerBase, _state: object = None) -> None:
            put(DeadlineReached(effect.name, effect.at, effect.peer))
            completed()

        return scheduler.schedule_relative(max(0.0, effect.at - clock()), due)

    return Direct(start)
