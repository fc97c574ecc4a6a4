"""What the daemon needs of the client it speaks for: a protocol, so that the API can be tested without drivers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from rxnet.engine.feed import Gap
from rxnet.engine.inbox import Stamped
from rxnet.engine.state import State
from rxnet.model import PeerKey

NOTICES = (
    "access rules of the network map are not enforced yet: every peer of the network can reach every port of this "
    "host through the tunnel",
)
"""What a user must know about this version; said at start and in every status."""


class PeerStatistics(Protocol):
    """Counters of one WireGuard peer."""

    @property
    def rx_bytes(self) -> int: ...
    @property
    def tx_bytes(self) -> int: ...
    @property
    def last_handshake(self) -> float | None:
        """Seconds since 1970, None if there was none."""
        ...


class Subject(Protocol):
    """A running client, as `rxnet.Client` is one."""

    @property
    def state(self) -> State: ...

    def watch_events(self) -> AsyncGenerator[Stamped | Gap]:
        """The events from this call on; a generator that is never started is never cleaned up."""
        ...

    async def statistics(self) -> Mapping[PeerKey, PeerStatistics]: ...
    async def request_down(self) -> object: ...
    async def log_out(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks: the engine's, in which states speak, and the wall clock, in which people do."""

    engine: float
    wall: float
    """Seconds since 1970."""

    @classmethod
    def now(cls) -> Moment:
        """Read both clocks; needs a running loop."""
        return cls(asyncio.get_running_loop().time(), time.time())

    def wall_time(self, engine_time: float) -> float:
        """When something of the engine's clock happened on the wall clock."""
        return self.wall - (self.engine - engine_time)


@asynccontextmanager
async def following(subject: Subject) -> AsyncIterator[AsyncIterator[Stamped | Gap]]:
    """The events of a client, for certain from the moment of entering; the subscription ends with the context."""
    watch = subject.watch_events()
    # Only a generator that has begun cleans up when it is closed, so let this one run as far as it comes.
    first = asyncio.ensure_future(anext(watch, None))
    await asyncio.sleep(0)

    async def entries() -> AsyncIterator[Stamped | Gap]:
        entry = await first
        if entry is not None:
            yield entry
            async for later in watch:
                yield later

    try:
        yield entries()
    finally:
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        await watch.aclose()
