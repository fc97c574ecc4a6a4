"""Drivers of a client that touch nothing: a network that is up, and a management server that says what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from ipaddress import IPv4Interface, ip_address
from pathlib import Path
from typing import Any

from rxnet.config import ClientConfig
from rxnet.engine import effects
from rxnet.engine.inbox import Step
from rxnet.events import (
    DeviceOpened,
    Event,
    LoggedIn,
    LoginRefused,
    ManagementConnected,
    ManagementDisconnected,
    NetworkCameUp,
    SignalConnected,
)
from rxnet.model import HostNetwork, LocalPeer, PeerKey, Retry, ServerAddress
from rxnet.wire.box import generate_private_key, public_key

LOCAL = LocalPeer(IPv4Interface("100.64.0.1/16"), fqdn="me.example")
NETWORK = HostNetwork(True, (("e0", ip_address("10.0.0.2")),))


def config(directory: Path) -> ClientConfig:
    return ClientConfig(
        management=ServerAddress("management.example", 443, True),
        private_key=generate_private_key(),
        state_directory=directory,
        hostname="me",
    )


class FakeDrivers:
    """What `Client` needs of `Drivers`. `trail` tells what was started and what was cleaned up, in order."""

    def __init__(self, config: ClientConfig, refuse: str = "", end: str = "") -> None:
        self.own_key: PeerKey = public_key(config.private_key)
        self.refuse = refuse
        self.end = end
        self.trail: list[str] = []
        self.states = 0

    async def start(self) -> None:
        self.trail.append("start")

    async def stop(self) -> None:
        self.trail.append("stop")

    def observe(self, step: Step) -> None:
        self.states += 1

    async def statistics(self) -> Mapping[PeerKey, Any]:
        return {}

    def table(self) -> Mapping[type[effects.Effect], Any]:
        return {
            effects.WatchNetwork: self._network,
            effects.OpenManagement: self._management,
            effects.OpenSignal: self._signal,
            effects.OpenDevice: self._device,
            effects.AssignAddresses: self._nothing,
            effects.SetPeers: self._nothing,
        }

    async def _hold(self, name: str) -> None:
        self.trail.append(f"+{name}")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # cleaning up takes a moment
            self.trail.append(f"-{name}")

    async def _network(self, effect: effects.WatchNetwork) -> AsyncIterator[Event]:
        yield NetworkCameUp(NETWORK)
        await self._hold("network")

    async def _management(self, effect: effects.OpenManagement) -> AsyncIterator[Event]:
        if self.refuse:
            yield LoginRefused(effect.generation, self.refuse)
            return
        if self.end:
            yield ManagementDisconnected(effect.generation, self.end, Retry.NEVER)
            return
        yield LoggedIn(effect.generation, LOCAL, ServerAddress("signal.example", 443, True))
        yield ManagementConnected(effect.generation)
        await self._hold("management")

    async def _signal(self, effect: effects.OpenSignal) -> AsyncIterator[Event]:
        yield SignalConnected(effect.generation)
        await self._hold("signal")

    async def _device(self, effect: effects.OpenDevice) -> AsyncIterator[Event]:
        yield DeviceOpened(effect.generation, "wt0", 51820)
        await self._hold("device")

    async def _nothing(self, effect: effects.Effect) -> AsyncIterator[Event]:
        return
        yield
