"""Virtual time: a scheduler that a test turns by hand, its clock, and seeded randomness.

Time passes only in `advance_to`; between two instants nothing happens and nothing is waited for. Reactivex's own
virtual schedulers round waits to microseconds and move the clock on after a hundred actions in one instant; this one
keeps floats as they are and treats an instant without end as the defect it is.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from reactivex import abc, typing
from reactivex.disposable import Disposable
from reactivex.scheduler.periodicscheduler import PeriodicScheduler

_TState = TypeVar("_TState")

ACTIONS_AN_INSTANT: Final = 1_000_000
"""More than these without time passing is a loop."""


class _Item:
    """A scheduled action. Its action is dropped when it runs or is cancelled, so that the heap keeps nothing alive."""

    __slots__ = ("action", "due", "number", "state")

    def __init__(self, due: float, number: int, action: Callable[..., object], state: object) -> None:
        self.due = due
        self.number = number
        self.action: Callable[..., object] | None = action
        self.state = state

    def __lt__(self, other: _Item) -> bool:
        return (self.due, self.number) < (other.due, other.number)


class VirtualScheduler(PeriodicScheduler):
    """A scheduler whose time is a number of seconds that only `advance_to` moves. Its `clock` is the engine's."""

    def __init__(self, at: float = 0.0) -> None:
        super().__init__()
        self._at = at
        self._heap: list[_Item] = []
        self._number = 0
        self._live = 0
        self.fired = 0
        """Actions run so far: what a machine would have been woken for."""

    def clock(self) -> float:
        """Seconds, virtual."""
        return self._at

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self._at, tz=UTC)

    @property
    def waiting(self) -> int:
        """Actions that are scheduled and not cancelled: nought means that nothing will ever happen by itself."""
        return self._live

    def schedule(self, action: abc.ScheduledAction[_TState], state: _TState | None = None) -> abc.DisposableBase:
        return self._put(self._at, action, state)

    def schedule_relative(
        self, duetime: typing.RelativeTime, action: abc.ScheduledAction[_TState], state: _TState | None = None
    ) -> abc.DisposableBase:
        seconds = duetime.total_seconds() if isinstance(duetime, timedelta) else duetime
        return self._put(self._at + max(0.0, seconds), action, state)

    def schedule_absolute(
        self, duetime: typing.AbsoluteTime, action: abc.ScheduledAction[_TState], state: _TState | None = None
    ) -> abc.DisposableBase:
        return self._put(max(self._at, self.to_seconds(duetime)), action, state)

    def at(self, when: float, call: Callable[[], object]) -> abc.DisposableBase:
        """Call something at a time of this clock."""

        def action(_scheduler: abc.SchedulerBase, _state: object = None) -> None:
            call()

        return self._put(max(self._at, when), action, None)

    def after(self, seconds: float, call: Callable[[], object]) -> abc.DisposableBase:
        """Call something `seconds` from now."""
        return self.at(self._at + seconds, call)

    def _put(self, due: float, action: Callable[..., object], state: object) -> abc.DisposableBase:
        self._number += 1
        item = _Item(due, self._number, action, state)
        heapq.heappush(self._heap, item)
        self._live += 1
        return Disposable(lambda: self._cancel(item))

    def _cancel(self, item: _Item) -> None:
        if item.action is not None:
            item.action = None
            self._live -= 1

    def advance_to(self, until: float) -> None:
        """Run everything that is due up to and including `until`, in order of time, then of scheduling.

        :raises RuntimeError: if an instant does not come to an end.
        """
        heap, actions = self._heap, 0
        while heap and heap[0].due <= until:
            item = heapq.heappop(heap)
            action = item.action
            if action is None:
                continue
            item.action = None
            self._live -= 1
            if item.due > self._at:
                self._at, actions = item.due, 0
            actions += 1
            if actions > ACTIONS_AN_INSTANT:
                raise RuntimeError(f"virtual time stands still at {self._at} s: something schedules itself for ever")
            self.fired += 1
            self.invoke_action(action, item.state)  # type: ignore[arg-type]
        self._at = max(self._at, until)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.advance_to(self._at + seconds)

    def settle(self) -> None:
        """Run what is due now; no time passes."""
        self.advance_to(self._at)


def seeded_entropy(seed: int) -> Callable[[], int]:
    """Make the engine's entropy from a seed: 64 bits a call, the same sequence in every process."""
    generator = random.Random(seed)
    return lambda: generator.getrandbits(64)


def even_entropy(seed: int, fraction: float) -> Callable[[], int]:
    """Make entropy whose upper half is fixed, so that every back-off waits `fraction` of its interval.

    What is drawn from it by hashing (session ids, the jitter of offers) stays as different as ever.
    """
    generator = random.Random(seed)
    upper = min(int(fraction * (1 << 32)), (1 << 32) - 1) << 32
    return lambda: upper | generator.getrandbits(32)
