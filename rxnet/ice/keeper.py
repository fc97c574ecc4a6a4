"""Watches selected paths: one timer for all of them, never one a path.

A path is alive when something authentic came from the peer: a check of its own, an answer to one of ours, or, asked
only in doubt, bytes that WireGuard received. A peer that checks often (Go peers do, every 2 s) is never asked by us.
A path is lost when nothing came for `patience` seconds and several checks of ours went unanswered; never for one lost
check, which a merged packet can cost (see `filter.py`).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable

from rxnet.ice.agent import Agent
from rxnet.ice.packets import Address, parse_stun
from rxnet.model import PeerKey

ReceivedBytes = Callable[[PeerKey], Awaitable[int | None]]
"""Bytes that WireGuard has received from a peer; None when that cannot be known."""

_GRID = 0.25
"""Seconds between two possible wake-ups: paths that are due at about the same time share one."""
_AT_ONCE = 32
"""Paths visited before the loop is left to others; a visit takes about 0.1 ms when it asks."""
_DOUBT = 1.0
"""Seconds between two checks once one went unanswered."""
_UNANSWERED = 3
"""Checks that must have gone unanswered; after a stall of this process its own silence proves nothing."""
_BYTES_LIMIT = 1.0


class Watched:
    """One path under watch. `lost` is called once, with the reason, and the path is no longer watched then."""

    __slots__ = ("agent", "baseline", "last_sign", "lost", "peer", "questions", "unanswered")

    def __init__(self, peer: PeerKey, agent: Agent, now: float, lost: Callable[[str], None]) -> None:
        self.peer = peer
        self.agent = agent
        self.lost = lost
        self.last_sign = now
        """When something authentic came, by the loop's clock."""
        self.unanswered = 0
        self.questions: list[bytes] = []
        self.baseline: int | None = None
        """WireGuard's received bytes when doubt began."""

    def sign_of_life(self, now: float) -> None:
        """Something authentic came."""
        self.last_sign = now
        self.unanswered = 0
        self.baseline = None
        if self.questions:
            self.withdraw()

    def ask(self) -> None:
        """Send one check."""
        self.unanswered += 1
        question = self.agent.ask()
        if question is not None:
            self.questions.append(question)
            self.agent.port.demux.transactions[question] = self._answered

    def withdraw(self) -> None:
        """No answer is waited for any more."""
        for question in self.questions:
            self.agent.port.demux.transactions.pop(question, None)
        self.questions.clear()

    def _answered(self, data: bytes, source: Address) -> None:
        message = parse_stun(data)
        key = (self.agent.remote_password or "").encode()
        if message is None or not message.check_message_integrity(key):
            self.agent.port.counters.dropped += 1
            return
        self.sign_of_life(asyncio.get_running_loop().time())


class Keeper:
    """The watch over all kept paths.

    :param interval: seconds of silence after which the controlling side asks; the other waits half as long again,
        so that of two rxnets one asks and both know.
    :param patience: seconds of silence after which a path can be lost.
    """

    def __init__(
        self, received_bytes: ReceivedBytes | None = None, *, interval: float = 2.0, patience: float = 6.0
    ) -> None:
        self._received_bytes = received_bytes
        self._interval = interval
        self._patience = patience
        self._watched: set[Watched] = set()
        self._slots: dict[int, list[Watched]] = {}
        self._ready: deque[Watched] = deque()
        self._timer: asyncio.Handle | None = None
        self._timer_slot = 0
        self._examinations: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, watched: Watched) -> None:
        """Watch a path from now on."""
        self._watched.add(watched)
        self._plan(watched, watched.last_sign + self._ask_after(watched))

    def remove(self, watched: Watched) -> None:
        """Watch it no more. Idempotent."""
        self._watched.discard(watched)
        watched.withdraw()
        if not self._watched:
            self._slots.clear()
            self._ready.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            for task in self._examinations:
                task.cancel()

    def _ask_after(self, watched: Watched) -> float:
        return self._interval if watched.agent.ice_controlling else self._interval * 1.5

    def _plan(self, watched: Watched, when: float) -> None:
        slot = math.ceil(when / _GRID)
        self._slots.setdefault(slot, []).append(watched)
        if self._timer is None or slot < self._timer_slot:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        if self._ready:
            self._timer, self._timer_slot = loop.call_soon(self._wake), 0
        elif self._slots:
            self._timer_slot = min(self._slots)
            self._timer = loop.call_at(self._timer_slot * _GRID, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for slot in sorted(slot for slot in self._slots if slot * _GRID <= now + 0.001):
            self._ready.extend(self._slots.pop(slot))
        doubtful = []
        for _ in range(min(_AT_ONCE, len(self._ready))):
            watched = self._ready.popleft()
            if watched in self._watched and self._visit(watched, now):
                doubtful.append(watched)
        if doubtful:
            task = asyncio.get_running_loop().create_task(self._examine(doubtful))
            self._examinations.add(task)
            task.add_done_callback(self._examinations.discard)
        self._set_timer()

    def _visit(self, watched: Watched, now: float) -> bool:
        """Ask if it is time to. True: WireGuard should be asked too."""
        silence = now - watched.last_sign
        ask_after = self._ask_after(watched)
        if silence >= self._patience and watched.unanswered >= _UNANSWERED:
            return True
        if silence < ask_after - _GRID:
            self._plan(watched, watched.last_sign + ask_after)
            return False
        watched.ask()
        self._plan(watched, now + _DOUBT)
        return watched.unanswered == 2

    async def _examine(self, doubtful: list[Watched]) -> None:
        """In doubt: look what WireGuard received. At the end of patience: decide."""
        for watched in doubtful:
            received = await self._bytes(watched.peer)
            now = asyncio.get_running_loop().time()
            silence = now - watched.last_sign
            if watched not in self._watched:
                continue
            if silence < self._patience or watched.unanswered < _UNANSWERED:
                if watched.unanswered:
                    watched.baseline = received
            elif received is not None and watched.baseline is not None and received > watched.baseline:
                watched.sign_of_life(now)
                self._plan(watched, now + self._ask_after(watched))
            else:
                self.remove(watched)
                watched.lost(f"nothing authentic came from the peer for {silence:.0f} s")

    async def _bytes(self, peer: PeerKey) -> int | None:
        if self._received_bytes is None:
            return None
        try:
            async with asyncio.timeout(_BYTES_LIMIT):
                return await self._received_bytes(peer)
        except TimeoutError:
            return None
