"""`Client`: one engine wired to real drivers. What embedders, the daemon and the command line hold."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Final, TypeVar

from reactivex import Observable
from reactivex.scheduler.eventloop import AsyncIOScheduler

from rxnet.config import ClientConfig
from rxnet.drivers import Drivers, PeerStats
from rxnet.engine.engine import Engine
from rxnet.engine.feed import QUEUE_LENGTH, Feed, Gap
from rxnet.engine.inbox import Stamped, Step
from rxnet.engine.state import ConnectionStatus, DeviceStatus, State
from rxnet.errors import ControlPlaneError, DeviceError, LoginError, RxnetError
from rxnet.events import CommandTaken, DownRequested, Event, UpRequested
from rxnet.log import logger
from rxnet.model import PeerKey
from rxnet.perform import Performer
from rxnet.streams import entries

E = TypeVar("E", bound=Event)

COMMAND_LIMIT: Final = 5.0
"""Seconds within which the engine answers a command; it needs far less than one."""


class Client:
    """A peer of a NetBird network, for as long as the context lasts.

    ::

        async with rxnet.Client(config) as client:
            async for entry in client.watch_events(PeerConnected):
                print(entry)

    Everything that happens is in `events`; everything that is, in `state` and `states`. Leaving the context takes the
    tunnels down and leaves the host as it was. One client needs one running event loop; several may share it.

    :param config: keys, addresses and names; see `ClientConfig`.
    :param drivers: other drivers, for tests.
    """

    def __init__(self, config: ClientConfig, *, drivers: Callable[[ClientConfig], Drivers] = Drivers) -> None:
        self.config = config
        self._make_drivers = drivers
        self._engine: Engine | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start engine and drivers, and request `up`. Returns before the first event: who subscribes at once sees all.

        :raises ConfigError: if the state directory is another client's, or cannot be used.
        :raises RxnetError: if the client was started before.
        """
        if self._engine is not None:
            raise RxnetError("a Client is started once: make another one")
        loop = asyncio.get_running_loop()
        self._drivers = self._make_drivers(self.config)
        await self._drivers.start()
        self._performer = Performer(self._drivers.table())
        scheduler = AsyncIOScheduler(loop)
        generator = random.Random(secrets.randbits(64))
        self._engine = Engine(
            self._drivers.own_key,
            self._performer,
            scheduler=scheduler,
            clock=loop.time,
            entropy=lambda: generator.getrandbits(64),
        )
        self._commands: dict[str, asyncio.Future[None]] = {}
        self._events: Feed[Stamped] = Feed(scheduler, on_failure=_subscriber_failed)
        self._states: Feed[State] = Feed(scheduler, on_failure=_subscriber_failed, first=lambda: self.state)
        self._engine.steps.subscribe(self._publish)
        self._engine.put(UpRequested("start"))

    async def stop(self) -> None:
        """Take everything down and wait until the host is as it was. Safe to call twice, and to be cancelled."""
        engine = self._engine
        if engine is None or engine.closed:
            return
        try:
            await self.request_down()
            if not await self._performer.idle():
                logger.warning("some clean-up did not end in time; `rxnet cleanup` removes what is left")
        finally:
            engine.close()
            self._events.close()
            self._states.close()
            await self._drivers.stop()

    # -- what is and what happens ----------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The present state: an immutable value, free to keep."""
        return self._running().state

    @property
    def events(self) -> Observable[Stamped | Gap]:
        """Every event from the moment of subscribing, in order, as the engine stamped it.

        Each subscription has a bounded queue; one that does not keep up sees a `Gap` where it lost entries. Observers
        run on the event loop, outside the engine.
        """
        self._running()
        return self._events.observable()

    @property
    def states(self) -> Observable[State | Gap]:
        """The present state at once, then each one that differs."""
        self._running()
        return self._states.observable()

    def watch_events(self, *kinds: type[Event], queue: int = QUEUE_LENGTH) -> AsyncGenerator[Stamped | Gap]:
        """Iterate over the events of the given classes (none given: all) from this call on, until the client stops.

        A `Gap` stands where entries were lost because the loop body took too long.
        """
        self._running()
        everything = entries(self._events, queue)
        return _of_kinds(everything, kinds)

    def watch_states(self, queue: int = QUEUE_LENGTH) -> AsyncGenerator[State | Gap]:
        """Iterate over the states, beginning with the present one, until the client stops."""
        self._running()
        return entries(self._states, queue)

    async def wait_for(self, condition: Callable[[State], bool], *, limit: float | None = None) -> State:
        """Wait until a state fulfils the condition and return it.

        :param limit: seconds; None waits as long as it takes.
        :raises TimeoutError: if the limit ran out.
        :raises LoginError: if management refused us for good, so that waiting is pointless.
        :raises ControlPlaneError: if trying management again cannot help (a proxy that cannot work, say).
        :raises DeviceError: if the WireGuard interface could not be made.
        :raises RxnetError: if the client stopped.
        """
        async with asyncio.timeout(limit), aclosing(self.watch_states()) as states:
            async for state in states:
                if isinstance(state, Gap):
                    continue
                if condition(state):
                    return state
                error = _end_of(state)
                if error is not None:
                    raise error
        raise RxnetError("the client stopped before the condition came true")

    # -- commands --------------------------------------------------------------------------------------------------

    async def request_up(self) -> None:
        """Ask the engine to be connected. Also how to try again after a refusal."""
        await self._command(UpRequested)

    async def request_down(self) -> None:
        """Ask the engine to disconnect and to leave the host as it was; the client stays usable."""
        await self._command(DownRequested)

    async def finished(self) -> RxnetError:
        """Wait until nothing more can happen before the user acts, and say why: with the error that `wait_for` raises.

        A later `request_up` makes another attempt, which may finish in its turn.

        :raises RxnetError: if the client stopped.
        """
        async with aclosing(self.watch_states()) as states:
            async for state in states:
                error = None if isinstance(state, Gap) else _end_of(state)
                if error is not None:
                    return error
        raise RxnetError("the client stopped")

    async def log_out(self) -> None:
        """Delete this peer on the management server.

        :raises ControlPlaneError: if the server cannot be reached or does not know us.
        """
        self._running()
        await self._drivers.log_out()

    async def statistics(self) -> Mapping[PeerKey, PeerStats]:
        """Read WireGuard's counters of each peer now; empty while there is no interface."""
        self._running()
        return await self._drivers.statistics()

    @property
    def ice_method(self) -> str:
        """How ICE shares WireGuard's UDP port (`raw`, `reuseport`); empty while it does not."""
        self._running()
        return self._drivers.ice_method

    @property
    def packets_through_python(self) -> int:
        """WireGuard datagrams that this process had to handle on the present port; direct paths need none."""
        self._running()
        return self._drivers.packets_through_python

    def host_changes(self) -> tuple[str, ...]:
        """What this client has changed on the host and would take back, one line each."""
        self._running()
        return self._drivers.host_changes()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _running(self) -> Engine:
        if self._engine is None:
            raise RxnetError("the client is not started: use `async with Client(config) as client`")
        return self._engine

    async def _command(self, make: type[UpRequested | DownRequested]) -> None:
        if self._running().closed:
            raise RxnetError("the client has stopped: make another one")
        name = secrets.token_hex(8)
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commands[name] = taken
        self._running().put(make(name))
        try:
            await asyncio.wait_for(taken, COMMAND_LIMIT)
        finally:
            self._commands.pop(name, None)

    def _publish(self, step: Step) -> None:
        """Called inside the drain: hands on, calls nobody."""
        event = step.stamped.event
        self._drivers.observe(step)
        self._events.publish(step.stamped)
        if step.after is not step.before:
            self._states.publish(step.after)
        if isinstance(event, CommandTaken):
            taken = self._commands.get(event.id)
            if taken is not None and not taken.done():
                taken.set_result(None)


async def _of_kinds(
    source: AsyncGenerator[Stamped | Gap], kinds: tuple[type[Event], ...]
) -> AsyncGenerator[Stamped | Gap]:
    async with aclosing(source):
        async for entry in source:
            if isinstance(entry, Gap) or not kinds or isinstance(entry.event, kinds):
                yield entry


def _end_of(state: State) -> RxnetError | None:
    """Why nothing more can happen in this state before the user acts; None if something can."""
    management, device = state.management, state.device
    if not state.wanted:
        return None
    if management.status is ConnectionStatus.REFUSED:
        return LoginError(management.reason)
    if management.status is ConnectionStatus.ENDED:
        return ControlPlaneError(management.reason)
    return DeviceError(device.reason) if device.status is DeviceStatus.FAILED else None


def _subscriber_failed(error: Exception) -> None:
    logger.opt(exception=error).warning("a subscriber raised and was dropped: {!r}", error)
