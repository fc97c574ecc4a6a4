"""Two peers with an `IceDriver` each, on a wire in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from ice_wire import Wire, WirePort

from rxnet.credentials import CredentialStore
from rxnet.engine.effects import GiveCandidates, KeepPath, Negotiate
from rxnet.events import CandidatesGathered, Event
from rxnet.ice.driver import IceDriver
from rxnet.model import Candidate, PeerKey, ServerAddress, SessionId

PORT = 51820
OVERLAY = [ip_network("100.64.0.0/10")]


@dataclass
class Side:
    """A peer: its driver, what its running effects said, and the tasks that iterate them."""

    key: PeerKey
    driver: IceDriver
    port: WirePort
    credentials: CredentialStore
    locals: list[str]
    events: list[Event] = field(default_factory=list)
    received: dict[PeerKey, int] = field(default_factory=dict)
    asked_bytes: int = 0
    kept: asyncio.Task[None] = field(init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(c for event in self.events if isinstance(event, CandidatesGathered) for c in event.candidates)

    def take(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    def run(self, effect: AsyncIterator[Event]) -> asyncio.Task[None]:
        async def iterate() -> None:
            async for event in effect:
                self.take(event)

        task = asyncio.get_running_loop().create_task(iterate())
        task.add_done_callback(self._tasks.discard)
        self._tasks.add(task)  # the loop holds a waiting task only weakly: the collector could take it
        return task

    def negotiate(
        self, other: Side, controlling: bool, generation: int = 1, stuns: tuple[ServerAddress, ...] = ()
    ) -> asyncio.Task[None]:
        self.credentials.remember(other.key, SessionId("r"), other.credentials.ours(self.key))
        effect = Negotiate(other.key, generation, SessionId("s"), SessionId("r"), controlling, stuns)
        return self.run(self.driver.negotiate(effect))

    def keep(self, other: Side, generation: int = 1) -> asyncio.Task[None]:
        return self.run(self.driver.keep_path(KeepPath(other.key, generation)))

    async def give(self, other: Side, candidates: tuple[Candidate, ...], generation: int = 1) -> None:
        async for _ in self.driver.give_candidates(GiveCandidates(other.key, generation, candidates)):
            pass

    async def hear(self, kind: type[Event], limit: float = 60.0) -> Event:
        """The first event of a kind that was not heard yet."""
        async with asyncio.timeout(limit):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        self.events.remove(event)
                        return event
                self._news.clear()
                await self._news.wait()


def side(wire: Wire, name: str, *locals: str) -> Side:
    port = WirePort(wire, PORT, *locals)
    credentials = CredentialStore()
    made: Side

    async def received(peer: PeerKey) -> int | None:
        made.asked_bytes += 1
        return made.received.get(peer)

    driver = IceDriver(
        credentials,
        lambda: port if port.is_open else None,
        lambda: [ip_address(local) for local in made.locals],
        overlay=lambda: OVERLAY,
        received_bytes=received,
    )
    made = Side(PeerKey(name), driver, port, credentials, list(locals))
    return made


def pair(wire: Wire) -> tuple[Side, Side]:
    return side(wire, "a", "10.0.0.1"), side(wire, "b", "10.0.0.2")


async def exchange(one: Side, other: Side, generation: int = 1) -> None:
    """Play signal: wait for both sides' host candidates, give them to each other, and say that they were sent."""
    for giver, taker in ((one, other), (other, one)):
        event = await giver.hear(CandidatesGathered)
        assert isinstance(event, CandidatesGathered)
        await taker.give(giver, event.candidates, generation)
    one.driver.candidates_signalled(other.key)
    other.driver.candidates_signalled(one.key)
