"""The receive watchdog: finds streams that TCP and HTTP/2 believe in and that carry nothing (signal document, 1.6).

    receiving ──silence──► probe ──answer time──► give up
        ▲                    │
        └───── a message ────┘

One timer, for the earliest moment at which something may have to be done. A message does not touch it: when it fires
it compares times and goes to sleep again. Only time spent waiting for the server counts, so a slow consumer on our
side never condemns the server.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """The part of an event loop that the watchdog needs."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> TimerHandle: ...


class ReceiveWatchdog:
    """Calls `probe` after `silence` seconds of waiting in vain, and `give_up` once, `answer` seconds after that."""

    def __init__(
        self,
        clock: Clock,
        *,
        silence: float,
        answer: float,
        probe: Callable[[], object],
        give_up: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._silence = silence
        self._answer = answer
        self._probe = probe
        self._give_up = give_up
        self._waiting_since: float | None = None
        self._probing = False
        self._due = 0.0
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._arm(self._clock.time() + self._silence)

    def stop(self) -> None:
        """Stop for good; may be called at any time, and again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def waiting(self) -> None:
        """We wait for a message from now on."""
        self._waiting_since = self._clock.time()

    def heard(self) -> None:
        """A message came."""
        self._waiting_since = None
        if self._probing:
            self._probing = False
            self.stop()
            self.start()

    def _arm(self, due: float) -> None:
        self._due = due
        self._timer = self._clock.call_at(due, self._fire)

    def _fire(self) -> None:
        now = self._clock.time()
        since = self._waiting_since
        if since is None:
            self._arm(now + self._silence)
        elif self._probing:
            self._judge(now)
        elif now - since < self._silence:
            self._arm(since + self._silence)
        else:
            self._ask(now)

    def _judge(self, now: float) -> None:
        # Far too late, it was this process that stood still, and the answer may lie in the socket unread: ask again.
        if now - self._due > self._answer:
            self._ask(now)
        else:
            self._timer = None
            self._give_up()

    def _ask(self, now: float) -> None:
        self._probing = True
        self._arm(now + self._answer)
        self._probe()
