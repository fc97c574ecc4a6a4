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
"""Seconds after which work on a resource starts although what was cancelled before it still cleans up."""


class Performer:
    """The engine's port to the drivers.

    :param drivers: which driver performs which effect class.
    """

    def __init__(self, drivers: Mapping[type[Effect], Driver]) -> None:
        self._drivers = drivers
        self._last: dict[tuple[str, ...], _Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, effect: Effect) -> Observable[Event]:
        """Make the cold observable of an effect. It completes when the work ends and never errors."""

        def subscribe(
            observer: abc.ObserverBase[Event], _scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            resource = effect.resource
            work = _Work(self._last.get(resource) if resource is not None else None)
            if resource is not None:
                self._last[resource] = work
            task = asyncio.get_running_loop().create_task(self._run(effect, observer, work))
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._ended(done, work, resource))
            return Disposable(lambda: work.cancel(task))

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

    async def _run(self, effect: Effect, observer: abc.ObserverBase[Event], work: _Work) -> None:
        if work.previous is not None and not await work.turn():
            logger.warning("{} starts although the work before it has not cleaned up", type(effect).__name__)
        work.previous = None
        try:
            events = self._drivers[type(effect)](effect)
            async with aclosing(cast("AsyncGenerator[Event, None]", events)):
                async for event in events:
                    observer.on_next(event)
        except Exception as error:
            logger.opt(exception=error).debug("{} failed unexpectedly", type(effect).__name__)
            observer.on_next(failure(effect, error))
        observer.on_completed()

    def _ended(self, task: asyncio.Task[None], work: _Work, resource: tuple[str, ...] | None) -> None:
        self._tasks.discard(task)
        work.ended(lambda: self._forget(work, resource))
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a cancelled effect failed while cleaning up: {!r}", error)

    def _forget(self, work: _Work, resource: tuple[str, ...] | None) -> None:
        if resource is not None and self._last.get(resource) is work:
            del self._last[resource]


class _Work:
    """One link in the chain of those who want the same resource.

    It is over when its task has ended, and not before the link before it is over: one that was cancelled while it
    waited for its turn must not let the next one pass.
    """

    __slots__ = ("_followers", "cancelled", "over", "previous")

    def __init__(self, previous: _Work | None) -> None:
        self.previous = previous
        """Whom it waits for; None once it has its turn."""
        self.cancelled = False
        self.over = False
        self._followers: list[Callable[[], object]] = []

    async def turn(self) -> bool:
        """Wait until the one before is over; False if it was cancelled and does not end in time."""
        previous = self.previous
        loop = asyncio.get_running_loop()
        while previous is not None and not previous.over:
            woken: asyncio.Future[None] = loop.create_future()
            previous._followers.append(lambda woken=woken: woken.done() or woken.set_result(None))  # type: ignore[misc]
            # What works has limits of its own; only what was told to end is given one here.
            limit = CLEAN_UP_LIMIT if previous.cancelled else None
            await asyncio.wait((woken,), timeout=limit)
            if limit is not None and not woken.done():
                return False
        return True

    def cancel(self, task: asyncio.Task[None]) -> None:
        # Completing disposes from inside the task itself: that is no reason to cancel it.
        if task.done() or task is asyncio.current_task():
            return
        self.cancelled = True
        task.cancel()
        self._wake()

    def ended(self, forget: Callable[[], object]) -> None:
        """The task has ended: let the next one pass as soon as the one before is over."""
        if self.previous is not None and not self.previous.over:
            self.previous._followers.append(lambda: self.ended(forget))
            if not self.previous.over:
                return
        self.previous = None
        self.over = True
        forget()
        self._wake()

    def _wake(self) -> None:
        followers, self._followers = self._followers, []
        for wake in followers:
            wake()
