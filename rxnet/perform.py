"""`perform` in production: an effect becomes a task that runs its driver's async generator.

Subscribing starts the task, disposing cancels it. A task on a resource starts its work only when the one before it on
the same resource has cleaned up, so a signal stream or an agent never overlaps with its successor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, cast

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxnet.engine.effects import Effect, failure
from rxnet.events import Event
from rxnet.log import logger

Driver = Callable[[Any], AsyncIterator[Event]]
"""Performs one kind of effect: an async generator function of the effect that yields what it reports."""

CLEAN_UP_LIMIT: Final = 20.0
"""Seconds after which work on a resource starts although the clean-up before it still hangs."""


class Performer:
    """The engine's port to the drivers.

    :param drivers: which driver performs which effect class.
    """

    def __init__(self, drivers: Mapping[type[Effect], Driver]) -> None:
        self._drivers = drivers
        self._last: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, effect: Effect) -> Observable[Event]:
        """Make the cold observable of an effect. It completes when the work ends and never errors."""

        def subscribe(
            observer: abc.ObserverBase[Event], _scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            resource = effect.resource
            previous = self._last.get(resource) if resource is not None else None
            task = asyncio.get_running_loop().create_task(self._run(effect, observer, previous))
            self._tasks.add(task)
            if resource is not None:
                self._last[resource] = task
            task.add_done_callback(lambda done: self._forget(done, resource))
            return Disposable(lambda: _cancel(task))

        return Observable(subscribe)

    @property
    def running(self) -> int:
        """How many effects are going on or cleaning up."""
        return len(self._tasks)

    async def idle(self, limit: float = CLEAN_UP_LIMIT) -> bool:
        """Wait until nothing is going on any more; False when that took longer than `limit` seconds."""
        deadline = asyncio.get_running_loop().time() + limit
        while self._tasks:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await asyncio.wait(self._tasks, timeout=left)
        return True

    async def _run(
        self, effect: Effect, observer: abc.ObserverBase[Event], previous: asyncio.Task[None] | None
    ) -> None:
        if previous is not None and not previous.done():
            await asyncio.wait((previous,), timeout=CLEAN_UP_LIMIT)
            if not previous.done():
                logger.warning("{} starts although the work before it has not cleaned up", type(effect).__name__)
        try:
            events = self._drivers[type(effect)](effect)
            async with aclosing(cast("AsyncGenerator[Event, None]", events)):
                async for event in events:
                    observer.on_next(event)
        except Exception as error:
            logger.opt(exception=error).debug("{} failed unexpectedly", type(effect).__name__)
            observer.on_next(failure(effect, error))
        observer.on_completed()

    def _forget(self, task: asyncio.Task[None], resource: tuple[str, ...] | None) -> None:
        self._tasks.discard(task)
        if resource is not None and self._last.get(resource) is task:
            del self._last[resource]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a cancelled effect failed while cleaning up: {!r}", error)


def _cancel(task: asyncio.Task[None]) -> None:
    # Completing disposes from inside the task itself: that is no reason to cancel it.
    if not task.done() and task is not asyncio.current_task():
        task.cancel()
