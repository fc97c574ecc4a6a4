"""Watches selected paths: one timer for all of them, never one a path.

A path is alive when something authentic came from the peer: a check of its own, an answer to one of ours, or, asked
only in doubt, bytes that WireGuard received. A path is lost when nothing came for `patience` seconds and several
checks of ours went unanswered; never for one lost check, which a merged packet can cost (see `filter.py`).

Why we ask every 2 s, the one periodic thing there is: nothing else tells that a path has died, neither the kernel nor
WireGuard, which may be idle for hours. Go peers give a path up after 6 s without STUN and check every 2 s for that
reason (signal document, 4.1), so a peer that checks is never asked by us. Between two rxnets nobody checks by himself,
so one side asks and the other hears it: a third of the same 6 s, that both ends come to the same verdict at about the
same time and two lost checks are not the end. The checks also hold the NAT mappings on the way (30 s and more), which
the side without WireGuard's keepalive would lose. Signal being down changes nothing of this: a path outlives signal,
and then the checks are all that still tells of the peer.

While this host has no address that could ask, nobody is asked: what is sent then proves nothing. Each path has its
deadline, the end of patience, and is lost there: what has not been heard of for so long is not called connected. When
the network changes, all paths are asked at once, and judged only by what they were asked since there is an address.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from rxnet.ice.agent import Agent
from rxnet.ice.packets import Address, parse_stun
from rxnet.log import logger
from rxnet.model import PeerKey

ReceivedBytes = Callable[[PeerKey], Awaitable[int | None]]
"""Bytes that WireGuard has received from a peer; None when that cannot be known. Called for all doubtful paths of a
turn before any answer is awaited, so that one question to the device can answer all."""

_GRID = 0.25
"""Seconds between two possible wake-ups: paths that are due at about the same time share one."""
_EARLY = 0.001
"""Seconds by which a timer may fire before its time."""
_AT_ONCE = 32
"""Paths visited before the loop is left to others; a visit takes about 0.1 ms when it asks."""
_DOUBT = 1.0
"""Seconds between two checks once one went unanswered."""
_UNANSWERED = 3
"""Checks that must have gone unanswered; after a stall of this process its own silence proves nothing."""
_BYTES_LIMIT = 1.0


class Watched:
    """One path under watch. `lost` is called once, with the reason, and the path is no longer watched then."""

    __slots__ = ("agent", "baseline", "due", "last_sign", "lost", "peer", "questions", "unanswered")

    def __init__(self, peer: PeerKey, agent: Agent, now: float, lost: Callable[[str], None]) -> None:
        self.peer = peer
        self.agent = agent
        self.lost = lost
        self.last_sign = now
        """When something authentic came, by the loop's clock."""
        self.due = False
        """To be asked at the next visit, however short the silence."""
        self.unanswered = 0
        self.questions: list[bytes] = []
        self.baseline: int | None = None
        """WireGuard's received bytes when doubt began."""

    def sign_of_life(self, now: float) -> None:
        """Something authentic came."""
        self.last_sign = now
        self.due = False
        self.trust()
        if self.questions:
            self.withdraw()

    def trust(self) -> None:
        """Doubt begins anew: what went unanswered so far does not count."""
        self.unanswered = 0
        self.baseline = None

    def ask(self) -> None:
        """Send one check."""
        self.due = False
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


_Then = Callable[[Watched, int | None], None]
_Question = tuple[Watched, _Then]
"""A path, and what to do with the bytes that WireGuard received from its peer."""


class Keeper:
    """The watch over all kept paths. Each has exactly one visit ahead of it, in a slot of the timetable or ready now.

    :param can_ask: whether this host has an address to ask from.
    :param interval: seconds of silence after which the controlling side asks; the other waits half as long again,
        so that of two rxnets one asks and both know.
    :param patience: seconds of silence after which a path can be lost.
    """

    def __init__(
        self,
        received_bytes: ReceivedBytes | None = None,
        can_ask: Callable[[], bool] = lambda: True,
        *,
        interval: float = 2.0,
        patience: float = 6.0,
    ) -> None:
        self._received_bytes = received_bytes
        self._can_ask = can_ask
        self._interval = interval
        self._patience = patience
        self._watched: dict[Watched, None] = {}
        self._slots: dict[int, list[Watched]] = {}
        self._ready: deque[Watched] = deque()
        self._timer: asyncio.Handle | None = None
        self._timer_slot = 0
        self._examinations: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, watched: Watched) -> None:
        """Watch a path from now on."""
        self._watched[watched] = None
        slot = self._plan(watched, watched.last_sign + self._ask_after(watched))
        if self._timer is None or slot < self._timer_slot:
            self._set_timer()

    def remove(self, watched: Watched) -> None:
        """Watch it no more. Idempotent."""
        self._watched.pop(watched, None)
        watched.withdraw()
        if not self._watched:
            self._slots.clear()
            self._ready.clear()
            self._set_timer()
            for task in self._examinations:
                task.cancel()

    def network_changed(self) -> None:
        """The host's addresses may be others now: visit all paths, in turns that begin at once."""
        for watched in self._watched:
            watched.due = True
        self._slots.clear()
        self._ready = deque(self._watched)
        self._set_timer()

    # -- the timetable -----------------------------------------------------------------------------------------

    def _ask_after(self, watched: Watched) -> float:
        return self._interval if watched.agent.ice_controlling else self._interval * 1.5

    def _plan(self, watched: Watched, when: float) -> int:
        slot = math.ceil(when / _GRID)
        self._slots.setdefault(slot, []).append(watched)
        return slot

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
        for slot in sorted(slot for slot in self._slots if slot * _GRID <= now + _EARLY):
            self._ready.extend(self._slots.pop(slot))
        try:
            questions = self._visit_some(now)
        finally:
            self._set_timer()  # whatever a visit came to, the others have theirs
        if questions:
            task = asyncio.get_running_loop().create_task(self._examine(questions))
            self._examinations.add(task)
            task.add_done_callback(self._examinations.discard)

    def _visit_some(self, now: float) -> list[_Question]:
        """Visit the first of those that are ready; gives what WireGuard should be asked."""
        visit = self._visit if self._can_ask() else self._wait
        questions = []
        for _ in range(_AT_ONCE):
            if not self._ready:
                break
            watched = self._ready.popleft()
            then = visit(watched, now) if watched in self._watched else None
            if then is not None:
                questions.append((watched, then))
        return questions

    # -- one path ----------------------------------------------------------------------------------------------

    def _visit(self, watched: Watched, now: float) -> _Then | None:
        """Ask if it is time to. Whatever follows, the next visit is planned.

        Gives what to do with WireGuard's count if that should be asked for too.
        """
        if self._is_over(watched, now):
            self._plan(watched, now + _DOUBT)
            return self._decide
        ask_after = self._ask_after(watched)
        if not watched.due and now - watched.last_sign < ask_after - _GRID:
            self._plan(watched, watched.last_sign + ask_after)
            return None
        self._plan(watched, now + _DOUBT)
        watched.ask()
        return self._note if watched.unanswered >= 2 and watched.baseline is None else None

    def _wait(self, watched: Watched, now: float) -> None:
        """There is no address to ask from: all that can come is the end of patience."""
        watched.trust()
        if self._is_silent(watched, now):
            self._lose(watched, now, "; this host has no address to ask it from")
        else:
            self._plan(watched, watched.last_sign + self._patience)

    def _is_silent(self, watched: Watched, now: float) -> bool:
        return now - watched.last_sign >= self._patience - _EARLY

    def _is_over(self, watched: Watched, now: float) -> bool:
        """Only WireGuard can still speak for it."""
        return watched.unanswered >= _UNANSWERED and self._is_silent(watched, now)

    def _lose(self, watched: Watched, now: float, why: str = "") -> None:
        self.remove(watched)
        watched.lost(f"nothing authentic came from the peer for {now - watched.last_sign:.0f} s{why}")

    # -- WireGuard's word --------------------------------------------------------------------------------------

    async def _examine(self, questions: Sequence[_Question]) -> None:
        counted = await self._count([watched.peer for watched, _ in questions])
        for (watched, then), received in zip(questions, counted, strict=True):
            # Not if it is gone, or was heard of in the meantime.
            if watched in self._watched and watched.unanswered:
                then(watched, received)

    def _note(self, watched: Watched, received: int | None) -> None:
        """In doubt: what comes from here on is a sign of life."""
        watched.baseline = received

    def _decide(self, watched: Watched, received: int | None) -> None:
        """At the end of patience."""
        now = asyncio.get_running_loop().time()
        if received is not None and watched.baseline is not None and received > watched.baseline:
            watched.sign_of_life(now)
        elif self._is_over(watched, now):
            self._lose(watched, now)

    async def _count(self, peers: Sequence[PeerKey]) -> list[int | None]:
        """Bytes received from each; None where that cannot be known, or not soon enough."""
        if self._received_bytes is None:
            return [None] * len(peers)
        questions = [asyncio.ensure_future(self._received_bytes(peer)) for peer in peers]
        try:
            await asyncio.wait(questions, timeout=_BYTES_LIMIT)
            return [_known(question) for question in questions]
        finally:
            for question in questions:
                question.cancel()


def _known(question: asyncio.Future[int | None]) -> int | None:
    if not question.done() or question.cancelled():
        return None
    error = question.exception()
    if error is not None:
        logger.debug("WireGuard's counters are unknown: {!r}", error)
        return None
    return question.result()
