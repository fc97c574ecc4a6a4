"""The inbox: every input is queued here, stamped, reduced, and only then shown to anybody.

Rx subjects call their observers synchronously, so a feedback loop closed through one would nest: an observer that
emits inside an emission makes later observers see the second event first. Here inputs only ever join a queue, and a
single drain on the scheduler works it off, each event run to completion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from reactivex import Observable, abc
from reactivex.scheduler import CurrentThreadScheduler

from rxnet.engine.multicast import Multicast
from rxnet.engine.state import State
from rxnet.events import EpicFailed, Event

Clock = Callable[[], float]
"""Seconds on a monotonic clock: `loop.time` in production, virtual time in tests."""

Entropy = Callable[[], int]
"""64 random bits a call, from a seeded generator: all the randomness that `reduce` sees."""

DRAIN_BUDGET: Final = 0.005
"""Seconds after which a drain lets the scheduler's other work in. Virtual time never spends it."""


@dataclass(frozen=True, slots=True)
class Input:
    """An event on its way into the inbox, with the `seq` of the event that led to it (0: it came from outside)."""

    event: Event
    cause: int = 0


@dataclass(frozen=True, slots=True)
class Stamped:
    """An event as the engine took it in. What subscribers get, and what a recorded trace consists of."""

    seq: int
    """1, 2, 3 ... without gaps: the order of everything."""
    at: float
    """Seconds on the engine's clock."""
    cause: int
    """The `seq` of the event that led here; 0 when the world did."""
    entropy: int
    """64 random bits for `reduce`."""
    event: Event


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the engine. Whoever sees it sees the state that already contains the event."""

    stamped: Stamped
    before: State
    after: State


Reduce = Callable[[State, Stamped], State]


class Inbox:
    """Queue, stamp, reduce, publish. The only place where the state changes."""

    def __init__(
        self, reduce: Reduce, state: State, *, scheduler: abc.SchedulerBase, clock: Clock, entropy: Entropy
    ) -> None:
        self.state = state
        self._reduce = reduce
        self._scheduler = scheduler
        self._clock = clock
        self._entropy = entropy
        self._queue: deque[Input] = deque()
        self._seq = 0
        self._scheduled = False
        self.closed = False
        """Whether it takes nothing more in."""
        self._steps: Multicast[Step] = Multicast()

    @property
    def steps(self) -> Observable[Step]:
        """Every step, in order, from the moment of subscribing."""
        return self._steps

    @property
    def depth(self) -> int:
        """How many inputs wait."""
        return len(self._queue)

    def put(self, event: Event, cause: int = 0) -> None:
        """Queue an event. Returns at once, whoever calls and whenever: nothing is reduced inside this call."""
        self.put_input(Input(event, cause))

    def put_input(self, item: Input) -> None:
        """Queue an input as epics make it."""
        if self.closed:
            return
        self._queue.append(item)
        if not self._scheduled:
            self._schedule()

    def close(self) -> None:
        """Take nothing more in and end `steps`."""
        self.closed = True
        self._queue.clear()
        self._steps.on_completed()

    def _schedule(self) -> None:
        self._scheduled = True
        self._scheduler.schedule(self._drain)

    def _drain(self, _scheduler: abc.SchedulerBase, _state: object = None) -> None:
        # Inside Rx's own trampoline every subscription made on the way is direct instead of a queue of its own.
        CurrentThreadScheduler.singleton().schedule(self._work_off)

    def _work_off(self, _scheduler: abc.SchedulerBase, _state: object = None) -> None:
        started = self._clock()
        queue = self._queue
        try:
            while queue:
                self._turn(queue.popleft())
                if self._clock() - started > DRAIN_BUDGET:
                    return
        finally:
            # Also when an observer raised, which it must not: what waits is worked off all the same.
            self._scheduled = False
            if queue:
                self._schedule()

    def _turn(self, item: Input) -> None:
        self._seq = seq = self._seq + 1
        stamped = Stamped(seq, self._clock(), item.cause, self._entropy(), item.event)
        before = self.state
        try:
            after = self._reduce(before, stamped)
        except Exception as error:
            # A defect of ours must not stop the stream: the event is published with the state unchanged.
            after = before
            if not isinstance(item.event, EpicFailed):
                self.put(EpicFailed("reduce", f"{type(item.event).__name__}: {error!r}"), seq)
        self.state = after
        self._steps.on_next(Step(stamped, before, after))
