"""The host's network as events: read once, then again whenever the kernel says something that matters.

    kernel ──► socket ──► Notifications: does it put what we know in doubt? ──no──► nothing
                                        │ yes
                                        ▼
                         read links, addresses, routes, rules ──► normalise ──► differs? ──► event

The leading edge acts, there is no debounce; messages that are queued already are taken together. A flood is bounded by
the number of readings a second, and the last reading always comes after the last message. Nothing is polled: a quiet
network costs no wake-up.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Collection, Iterator

from rxnet.engine.effects import WatchNetwork
from rxnet.errors import RxnetError
from rxnet.events import Event, NetlinkOverran, NetworkCameUp, NetworkChanged, NetworkWentDown
from rxnet.files import problem
from rxnet.log import logger
from rxnet.model import HostNetwork
from rxnet.system.neighbours import forget_unresolved
from rxnet.system.netlink import Netlink, open_notifications
from rxnet.system.network_state import IgnoredInterfaces, differences
from rxnet.system.notifications import Notifications

_BURST = 10
"""Readings that may follow each other at once: a link that goes, comes back and gets its addresses needs about six."""
_DATAGRAMS = 64
"""Taken in one turn of the event loop."""
_TRIES = 3


class NetworkMonitor:
    """Driver of `WatchNetwork`.

    :param own_names: gives the names of our own interfaces, at any time.
    :param ignored: which others do not count.
    :param forget_neighbours: when a link is back or its address changed, forget neighbours that do not answer.
    :param receive_buffer: bytes of messages that may wait for us in the kernel.
    :param readings_per_second: upper limit under a flood, after a burst of ten.
    """

    def __init__(
        self,
        own_names: Callable[[], Collection[str]] = frozenset,
        *,
        ignored: IgnoredInterfaces | None = None,
        forget_neighbours: bool = True,
        receive_buffer: int = 1 << 20,
        readings_per_second: float = 20.0,
    ) -> None:
        self._own_names = own_names
        self._ignored = ignored if ignored is not None else IgnoredInterfaces()
        self._forget_neighbours = forget_neighbours
        self._receive_buffer = receive_buffer
        self._rate = readings_per_second

    async def watch_network(self, effect: WatchNetwork) -> AsyncIterator[Event]:
        """Report `NetworkCameUp` or `NetworkWentDown` at once, then every real change, until cancelled.

        While down, nothing but coming up is reported. `NetlinkOverran` precedes what differs after messages were lost.

        :raises RxnetError: netlink cannot be used (sandbox), or the kernel refuses to answer again and again.
        """
        known = Notifications(self._ignored, self._own_names)
        limit = _Limit(self._rate, asyncio.get_running_loop().time)
        before: HostNetwork | None = None
        with Netlink() as kernel, _Ear(known, self._receive_buffer) as ear:
            while True:
                await limit.wait()
                after = await self._read(kernel, known)
                if times := ear.take_overruns():
                    yield NetlinkOverran(times)
                if self._forget_neighbours:
                    await _forget(kernel, known, before, after)
                for event in changes(before, after):
                    yield event
                before = after
                await ear.wait()

    async def _read(self, kernel: Netlink, known: Notifications) -> HostNetwork:
        for attempt in range(_TRIES):
            try:
                await _read_stale(kernel, known)
                break
            except RxnetError as error:
                known.lose_track()
                if attempt == _TRIES - 1:
                    raise
                logger.debug("reading the network failed, again: {}", error)
                await asyncio.sleep(0.1)
        return known.network()


async def _read_stale(kernel: Netlink, known: Notifications) -> None:
    tables, rules = known.stale, known.stale_rules
    known.stale = known.stale_rules = False
    known.reading = True
    kernel.interrupted = False
    try:
        if tables:
            # Links first: the kernel answers when nobody is changing them, so a change is seen whole.
            links = await kernel.links()
            known.read(links, await kernel.addresses(), await kernel.default_routes())
        if rules:
            known.read_rules(await kernel.rules())
    finally:
        known.reading = False
    known.stale = known.stale or (tables and kernel.interrupted)
    known.stale_rules = known.stale_rules or (rules and kernel.interrupted)


async def _forget(kernel: Netlink, known: Notifications, before: HostNetwork | None, after: HostNetwork) -> None:
    """Forget neighbours where the carrier is back or an address is new or gone."""
    moved = {name for name, _ in set(before.addresses) ^ set(after.addresses)} if before is not None else set()
    for index in sorted(known.returned | {index for name in moved for index in known.indices(name)}):
        await forget_unresolved(kernel, index)
    known.returned.clear()


def changes(before: HostNetwork | None, after: HostNetwork) -> Iterator[Event]:
    """The event, if any, that leads from one network to the other; `before` is None at the start."""
    if before is None or before.up != after.up:
        yield NetworkCameUp(after) if after.up else NetworkWentDown(after)
    elif after.up and before != after:
        yield NetworkChanged(after, differences(before, after))


class _Limit:
    """A token bucket: `_BURST` readings at once, then `rate` a second."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = float(_BURST)
        self._at = clock()

    async def wait(self) -> None:
        now = self._clock()
        self._tokens = min(_BURST, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)


class _Ear:
    """The socket on which the kernel announces changes, read as long as the context lasts."""

    def __init__(self, known: Notifications, receive_buffer: int) -> None:
        self._known = known
        self._receive_buffer = receive_buffer
        self._buffer = bytearray(1 << 16)
        self._view = memoryview(self._buffer)
        self._heard = asyncio.Event()
        self._overruns = 0
        self._congested = False
        self._broken: OSError | None = None

    def __enter__(self) -> _Ear:
        self._socket = open_notifications(self._receive_buffer)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def take_overruns(self) -> int:
        """How often the kernel dropped messages since the last call."""
        if self._congested:  # a reading of now may still miss something: told with the next one
            return 0
        taken, self._overruns = self._overruns, 0
        return taken

    async def wait(self) -> None:
        """Wait until something is to be read again.

        :raises RxnetError: the socket is of no use any more.
        """
        while not (self._known.stale or self._known.stale_rules):
            if self._broken is not None:
                raise RxnetError(f"cannot listen for network changes any more: {problem(self._broken)}")
            self._heard.clear()
            await self._heard.wait()

    def _listen(self) -> None:
        for _ in range(_DATAGRAMS):
            try:
                size, sender = self._socket.recvfrom_into(self._buffer)
            except BlockingIOError:
                self._drained()
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self._overruns += 1
                    self._congested = True
                    continue
                # An error that stays would make the loop spin.
                self._broken = error
                self._loop.remove_reader(self._socket)
                self._heard.set()
                return
            if sender[0] == 0:  # the kernel's port
                self._known.hear(self._view[:size])
        if self._known.stale or self._known.stale_rules:
            self._heard.set()

    def _drained(self) -> None:
        """After an overrun the kernel drops everything, without telling again, until the queue is empty: only now
        can a reading be trusted to be followed by messages."""
        if self._congested:
            self._congested = False
            self._known.lose_track()
