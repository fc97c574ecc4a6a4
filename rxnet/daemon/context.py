"""What both services of the control socket share: the client, its latest news, and the way to stop it."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from rxnet._version import __version__
from rxnet.config import ClientConfig
from rxnet.daemon.relays import StunCheck
from rxnet.daemon.report import describe
from rxnet.daemon.status import timestamp
from rxnet.daemon.subject import Moment, PeerStatistics, Subject, following
from rxnet.engine.inbox import Stamped
from rxnet.engine.state import DeviceStatus
from rxnet.errors import RxnetError
from rxnet.log import logger
from rxnet.model import PeerKey
from rxnet.wire import daemon_pb2 as wire

DOWN_LIMIT: Final = 15.0
"""Seconds for going down; NetBird's command line waits 20."""
STATISTICS_LIMIT: Final = 2.0
SLICE: Final = 200
"""Peers that are turned into messages before other work has its turn."""
KEPT_EVENTS: Final = 10
_CLOCK_SET: Final = 0.1
"""Seconds by which the wall clock has to have moved against ours."""

_CATEGORIES: Final = {
    "signal": wire.SystemEvent.CONNECTIVITY,
    "management": wire.SystemEvent.CONNECTIVITY,
    "network": wire.SystemEvent.NETWORK,
    "peer": wire.SystemEvent.CONNECTIVITY,
    "own": wire.SystemEvent.SYSTEM,
}
_SEVERITIES: Final = {
    "info": wire.SystemEvent.INFO,
    "warning": wire.SystemEvent.WARNING,
    "error": wire.SystemEvent.ERROR,
}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class HostChanges:
    """What the run has changed on the host, for `ListHostChanges`."""

    listed: Callable[[], Sequence[str]] = tuple
    journal: Path | None = None


@dataclass(slots=True)
class Context:
    """The shared part. `follow` has to run beside the services."""

    subject: Subject
    config: ClientConfig
    stop: Callable[[], None]
    """Ends the process in its own time; called once what was asked is done and answered."""
    changes: HostChanges = field(default_factory=HostChanges)
    packets_through_python: Callable[[], int] | None = None
    version: str = __version__
    process_id: int = field(default_factory=os.getpid)
    sequence: int = 0
    """Of the last event that was seen: every state read from now on contains it."""
    recent: deque[wire.SystemEvent] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    stuns: StunCheck = field(default_factory=StunCheck)
    _moment: Moment | None = None

    def moment(self) -> Moment:
        """The present on both clocks. The same engine time gives the same wall-clock time in every answer, unless
        the wall clock was set: two readings of two clocks are always microseconds apart, which would look like news.
        """
        now, last = Moment.now(), self._moment
        if last is not None and abs((now.wall - now.engine) - (last.wall - last.engine)) < _CLOCK_SET:
            return Moment(now.engine, last.wall + (now.engine - last.engine))
        self._moment = now
        return now

    async def follow(self) -> None:
        """Watch the events for as long as the client runs."""
        async with following(self.subject) as entries:
            async for item in entries:
                if isinstance(item, Stamped):
                    self.record(item)

    def record(self, stamped: Stamped) -> None:
        """Take note of an event."""
        self.sequence = stamped.seq
        line = describe(stamped.event, self.subject.state)
        if line is None or line.level == "debug":
            return
        metadata = {"event": type(stamped.event).__name__, "seq": str(stamped.seq)}
        if stamped.event.peer:
            metadata["peer"] = stamped.event.peer
        self.recent.append(
            wire.SystemEvent(
                id=str(uuid.uuid4()),
                severity=_SEVERITIES[line.level],
                category=_CATEGORIES[stamped.event.kind],
                message=line.text,
                timestamp=timestamp(self.moment().wall_time(stamped.at)),
                metadata=metadata,
            )
        )

    async def statistics(self) -> Mapping[PeerKey, PeerStatistics]:
        """The counters; none without an interface, or if it does not answer in time."""
        if self.subject.state.device.status is not DeviceStatus.OPEN:
            return {}
        try:
            async with asyncio.timeout(STATISTICS_LIMIT):
                return await self.subject.statistics()
        except (RxnetError, OSError, TimeoutError) as error:
            logger.debug("no WireGuard statistics for the status: {}", error)
            return {}

    async def go_down(self) -> bool:
        """Disconnect and wait until the interface is gone; False if that takes too long."""
        try:
            async with asyncio.timeout(DOWN_LIMIT):
                await self.subject.request_down()
                await self.until(self._is_down)
        except TimeoutError:
            return False
        return True

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something about the state is true."""
        async with following(self.subject) as entries:
            if condition():
                return
            async for _ in entries:
                if condition():
                    return

    def _is_down(self) -> bool:
        state = self.subject.state
        return not state.wanted and state.device.status in (DeviceStatus.CLOSED, DeviceStatus.FAILED)


async def in_slices(items: Iterable[_T]) -> AsyncIterator[list[_T]]:
    """Hand on what an iterator makes in lists of `SLICE`, letting the loop do other work between them."""
    held: list[_T] = []
    for item in items:
        held.append(item)
        if len(held) >= SLICE:
            yield held
            held = []
            await asyncio.sleep(0)
    if held:
        yield held
