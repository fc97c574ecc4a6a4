"""The Sync streams: who is connected, and what each is still to be told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

from rxnet.model import PeerKey
from rxnet.server.debounce import Debounce


class Ending(Enum):
    """Why the server ends a stream."""

    REPLACED = "replaced"
    """The same peer opened a newer one."""
    DELETED = "deleted"
    """The peer was removed from the network."""
    CLOSING = "closing"
    """The server stops."""


class Session:
    """One Sync stream. The service calls `changed` and `end`; the stream's handler waits in `next`."""

    def __init__(self, key: PeerKey, *, ipv6: bool, clock: Callable[[], float]) -> None:
        self.key = key
        self.ipv6 = ipv6
        self.ending: Ending | None = None
        self.is_clear = True
        """No write is stuck: another message can be sent."""
        self._clock = clock
        self._debounce = Debounce()
        self._wake = asyncio.Event()

    def changed(self) -> None:
        """Maps differ from what was sent."""
        self._debounce.changed(self._clock())
        self._wake.set()

    def end(self, why: Ending) -> None:
        """Let the stream end; the first reason stays."""
        self.ending = self.ending or why
        self._wake.set()

    async def ended(self) -> Ending:
        """Wait until the stream is to end, whatever changes meanwhile."""
        while self.ending is None:
            self._wake.clear()
            await self._wake.wait()
        return self.ending

    async def next(self) -> Ending | None:
        """Wait until a map is due (None) or the stream is to end (why)."""
        while self.ending is None:
            now, due = self._clock(), self._debounce.due()
            if due is not None and due <= now:
                self._debounce.pushed(now)
                return None
            self._wake.clear()
            try:
                async with asyncio.timeout(None if due is None else due - now):
                    await self._wake.wait()
            except TimeoutError:
                pass
        return self.ending


class Sessions:
    """The open Sync streams by key: one for each peer, the newest."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[PeerKey, Session] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._open

    def __len__(self) -> int:
        return len(self._open)

    def open(self, key: PeerKey, *, ipv6: bool) -> Session:
        """Begin a stream; an older one of the same peer ends."""
        self.end(key, Ending.REPLACED)
        session = self._open[key] = Session(key, ipv6=ipv6, clock=self._clock)
        return session

    def close(self, session: Session) -> None:
        """Forget a stream that is over, unless a newer one took its place (where NetBird's server errs, 4.1)."""
        if self._open.get(session.key) is session:
            del self._open[session.key]

    def changed(self) -> None:
        """Maps changed: tell all streams."""
        for session in self._open.values():
            session.changed()

    def end(self, key: PeerKey, why: Ending) -> None:
        """End the stream of one peer, if it has one."""
        session = self._open.get(key)
        if session is not None:
            session.end(why)

    def end_all(self, why: Ending) -> None:
        """End all streams."""
        for session in list(self._open.values()):
            session.end(why)
