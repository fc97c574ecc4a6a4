"""A client without drivers: a state that the test sets and events that it publishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path

from immutables import Map

from rxnet.config import ClientConfig
from rxnet.engine.feed import Gap
from rxnet.engine.inbox import Stamped
from rxnet.engine.state import (
    Connection,
    ConnectionStatus,
    Device,
    DeviceStatus,
    Gate,
    Link,
    Peer,
    State,
)
from rxnet.errors import ControlPlaneError
from rxnet.events import DownRequested, Event
from rxnet.model import Endpoint, HostNetwork, LocalPeer, PeerKey, RemotePeer, ServerAddress
from rxnet.model import Path as IcePath

OWN = PeerKey("A" * 43 + "=")
NEAR = PeerKey("B" * 43 + "=")
FAR = PeerKey("C" * 43 + "=")
SERVER = ServerAddress("m.example", 8080)
PATH = IcePath(Endpoint("10.0.0.1", 51820), Endpoint("fd00::9", 51821), "host", "prflx", 0.001175303)


@dataclass(frozen=True)
class Counters:
    rx_bytes: int = 212
    tx_bytes: int = 156
    last_handshake: float | None = 1_700_000_000.5


def connected_state(stuns: tuple[ServerAddress, ...] = ()) -> State:
    """Two peers, one of them connected; the engine's clock says 100 s for all changes."""
    up = Connection(ConnectionStatus.CONNECTED, 1, since=100.0)
    near = RemotePeer(NEAR, (IPv4Network("100.64.0.2/32"), IPv6Network("fd00:64::2/128")), "near.test")
    far = RemotePeer(FAR, (IPv4Network("100.64.0.1/32"),), "far.test")
    return State(
        OWN,
        wanted=True,
        link=Link(True, HostNetwork(True, (("e0", IPv4Address("10.0.0.1")),)), 90.0),
        management=up,
        signal=replace(up, server=ServerAddress("s.example", 443, True)),
        device=Device(DeviceStatus.OPEN, 1, name="wt0", port=51820),
        gate=Gate(True, 1, 100.0, 7, ""),
        local=LocalPeer(IPv4Interface("100.64.0.9/16"), IPv6Interface("fd00:64::9/64"), "me.test"),
        stuns=stuns,
        peers=Map({NEAR: Peer(near, 100.0, "", 1, path=PATH), FAR: Peer(far, 60.0, "no answer", 1, offers=3)}),
        connected=1,
    )


class FakeSubject:
    """What `rxnet.daemon.subject.Subject` asks for."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state or connected_state()
        self.sequence = 0
        self.watchers: list[asyncio.Queue[Stamped | Gap]] = []
        self.log_out_error: Exception | None = None
        self.logged_out = False
        self.counters: Mapping[PeerKey, Counters] = {NEAR: Counters()}
        self.statistics_hang = False
        self.down_hangs = False
        self._watched = asyncio.Event()

    async def watch_events(self) -> AsyncGenerator[Stamped | Gap]:
        queue: asyncio.Queue[Stamped | Gap] = asyncio.Queue()
        self.watchers.append(queue)
        self._watched.set()
        try:
            while True:
                yield await queue.get()
        finally:
            self.watchers.remove(queue)

    async def until_watched_by(self, count: int) -> None:
        while len(self.watchers) < count:
            self._watched.clear()
            await self._watched.wait()

    def publish(self, event: Event, at: float = 100.0, cause: int = 0) -> None:
        self.sequence += 1
        self.put(Stamped(self.sequence, at, cause, 0, event))

    def put(self, item: Stamped | Gap) -> None:
        for queue in self.watchers:
            queue.put_nowait(item)

    async def statistics(self) -> Mapping[PeerKey, Counters]:
        if self.statistics_hang:
            await asyncio.Event().wait()
        return self.counters

    async def request_down(self) -> None:
        if self.down_hangs:
            await asyncio.Event().wait()
        self.state = replace(self.state, wanted=False)
        self.publish(DownRequested("x"))
        asyncio.get_running_loop().call_soon(self._closed)

    def _closed(self) -> None:
        self.state = replace(self.state, device=Device(), peers=Map(), connected=0)
        self.publish(DownRequested("y"))

    async def log_out(self) -> None:
        if self.log_out_error is not None:
            raise self.log_out_error
        self.logged_out = True


def config(directory: Path) -> ClientConfig:
    return ClientConfig(
        management=SERVER, private_key=bytes(range(32)), state_directory=directory, hostname="me", setup_key=SETUP_KEY
    )


SETUP_KEY = "3f1c9a52-7d6b-4e0f-8a21-5b9c0d7e6f43"
UNREACHABLE = ControlPlaneError("management at m.example:8080 cannot be reached: connection refused")
