"""The receive watchdog on a clock of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from rxnet.signal.watchdog import ReceiveWatchdog


class Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """Time that moves when told; counts how often it woke somebody."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wakes = 0
        self.timers: list[tuple[float, int, Timer]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> Any:
        timer = Timer(callback)
        heapq.heappush(self.timers, (when, self.wakes * 1000 + len(self.timers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and self.timers[0][0] <= end:
            when, _, timer = heapq.heappop(self.timers)
            self.now = max(self.now, when)
            if timer.callback is not None:
                self.wakes += 1
                timer.callback()
        self.now = end

    def stand_still(self, seconds: float) -> None:
        """The process does not run; what is due fires late."""
        self.now += seconds

    @property
    def pending(self) -> int:
        return sum(timer.callback is not None for _, _, timer in self.timers)


class Watched:
    """A watchdog with 30 s and 10 s, and what it did: `p` for a probe, `!` for giving up, each with its time."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.log: list[tuple[str, float]] = []
        self.dog = ReceiveWatchdog(
            self.clock,
            silence=30.0,
            answer=10.0,
            probe=lambda: self.log.append(("p", self.clock.now - 1000)),
            give_up=lambda: self.log.append(("!", self.clock.now - 1000)),
        )
        self.dog.start()
        self.dog.waiting()

    def message(self) -> None:
        self.dog.heard()
        self.dog.waiting()


def test_silence_is_probed_and_then_given_up() -> None:
    it = Watched()
    it.clock.advance(300)
    assert it.log == [("p", 30), ("!", 40)]
    assert it.clock.pending == 0


def test_an_answered_probe_starts_over() -> None:
    it = Watched()
    for _ in range(10):
        it.clock.advance(30)
        it.message()
    assert it.log == [("p", 30.0 * i) for i in range(1, 11)]
    assert it.clock.wakes == 10, "one wake-up for each 30 s of idleness"
    assert it.clock.pending == 1


def test_any_message_answers_a_probe() -> None:
    it = Watched()
    it.clock.advance(35)
    it.message()
    it.clock.advance(29)
    assert it.log == [("p", 30)]
    it.clock.advance(1)
    assert it.log == [("p", 30), ("p", 65)]


def test_traffic_touches_no_timer() -> None:
    it = Watched()
    before = len(it.clock.timers)
    for _ in range(1000):
        it.message()
    assert len(it.clock.timers) == before
    for _ in range(100):
        it.clock.advance(1)
        it.message()
    assert it.log == []
    assert it.clock.wakes <= 4


def test_silence_counts_from_the_last_message() -> None:
    it = Watched()
    it.clock.advance(20)
    it.message()
    it.clock.advance(100)
    assert it.log == [("p", 50), ("!", 60)]


def test_a_slow_consumer_condemns_nobody() -> None:
    it = Watched()
    it.dog.heard()  # and the consumer does not come back for the next
    it.clock.advance(500)
    assert it.log == []
    it.dog.waiting()
    it.clock.advance(100)
    assert [what for what, _ in it.log] == ["p", "!"]
    assert it.log[0][1] >= 530


def test_a_process_that_stood_still_asks_again() -> None:
    it = Watched()
    it.clock.advance(35)
    it.clock.stand_still(60)
    it.clock.advance(0)
    assert it.log == [("p", 30), ("p", 95)]
    it.message()
    it.clock.advance(20)
    assert len(it.log) == 2


def test_stop_at_any_time() -> None:
    it = Watched()
    it.clock.advance(31)
    it.dog.stop()
    it.dog.stop()
    it.clock.advance(100)
    assert it.log == [("p", 30)]
    assert it.clock.pending == 0
