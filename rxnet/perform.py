"""`perform` in production: an effect becomes a task that runs its driver's async generator.

Subscribing starts the task, disposing cancels it. A task on a resource starts its work only when the one before it on
the same resource has cleaned up, so a signal stream or an agent never overlaps with its successor.

A closing gate disposes a thousand of these at once, so a subscription is one object and a task, with none of Rx's
wrappers around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Final, cast

from reactivex import Observable, abc

from rxnet.engine.direct import Direct
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
        return Direct(lambda put, completed: self.start(effect, put, completed))

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

    def start(self, effect: Effect, put: Callable[[Event], object], completed: Callable[[], object]) -> _Work:
        """Start the work of an effect."""
        resource = effect.resource
        previous = None
        if resource is not None:
            previous = self._last.get(resource)
        work = _Work(self, effect, resource, previous)
        if resource is not None:
            self._last[resource] = work
        work.task = asyncio.get_running_loop().create_task(self._run(work, put, completed))
        self._tasks.add(work.task)
        return work

    async def _run(self, work: _Work, put: Callable[[Event], object], completed: Callable[[], object]) -> None:
        work.begun = True
        effect = work.effect
        try:
            if work.previous is not None and not await work.turn():
                logger.warning("{} starts although the work before it has not cleaned up", type(effect).__name__)
            work.previous = None
            await self._report(work, self._drivers[type(effect)](effect), put)
        except Exception as error:
            if work.disposed:
                logger.error("a cancelled {} failed while cleaning up: {!r}", type(effect).__name__, error)
            else:
                logger.opt(exception=error).debug("{} failed unexpectedly", type(effect).__name__)
                put(failure(effect, error))
        finally:
            self.ended(work)
        if not work.disposed:
            completed()

    async def _report(self, work: _Work, events: AsyncIterator[Event], put: Callable[[Event], object]) -> None:
        # No `aclosing`: a generator that was cancelled within has ended, like one that raised or returned.
        async for event in events:
            if work.disposed:
                continue
            try:
                put(event)
            except BaseException:
                await cast("AsyncGenerator[Event, None]", events).aclose()
                raise

    def ended(self, work: _Work) -> None:
        """The task of this work has ended, or will never begin."""
        if work.task is not None:
            self._tasks.discard(work.task)
        work.let_pass()

    def forget(self, work: _Work) -> None:
        """Nobody needs to wait for this work any more."""
        if work.resource is not None and self._last.get(work.resource) is work:
            del self._last[work.resource]


class _Work(abc.DisposableBase):
    """One effect on its way, a subscription to it, and a link in the chain of those who want the same resource.

    It is over when its task has ended, and not before the link before it is over: one that was cancelled while it
    waited for its turn must not let the next one pass.
    """

    __slots__ = ("_followers", "_performer", "begun", "disposed", "effect", "over", "previous", "resource", "task")

    def __init__(
        self, performer: Performer, effect: Effect, resource: tuple[str, ...] | None, previous: _Work | None
    ) -> None:
        self._performer = performer
        self._followers: list[Callable[[], object]] = []
        self.effect = effect
        self.resource = resource
        self.previous = previous
        """Whom it waits for; None once it has its turn."""
        self.task: asyncio.Task[None] | None = None
        self.begun = False
        self.disposed = False
        self.over = False

    def dispose(self) -> None:
        """Cancel the work. Nothing is reported from now on; the clean-up goes on by itself."""
        task = self.task
        if self.disposed or task is None or task.done():
            return
        self.disposed = True
        if not self.begun:
            # A task that is cancelled before its first step never runs at all, not even its `finally`.
            task.add_done_callback(lambda _task: self._performer.ended(self))
        if task is not asyncio.current_task():
            task.cancel()
        self._wake()

    async def turn(self) -> bool:
        """Wait until the one before is over; False if it was cancelled and does not end in time."""
        previous = self.previous
        loop = asyncio.get_running_loop()
        while previous is not None and not previous.over:
            woken: asyncio.Future[None] = loop.create_future()
            previous._followers.append(lambda woken=woken: woken.done() or woken.set_result(None))  # type: ignore[misc]
            # What works has limits of its own; only what was told to end is given one here.
            limit = CLEAN_UP_LIMIT if previous.disposed else None
            await asyncio.wait((woken,), timeout=limit)
            if limit is not None and not woken.done():
                return False
        return True

    def let_pass(self) -> None:
        """The task has ended: let the next one pass as soon as the one before is over."""
        if self.previous is not None and not self.previous.over:
            self.previous._followers.append(self.let_pass)
            return
        self.previous = None
        self.over = True
        self._performer.forget(self)
        if self._followers:
            self._wake()

    def _wake(self) -> None:
        followers, self._followers = self._followers, []
        for wake in followers:
            wake()
