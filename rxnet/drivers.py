"""The drivers of one client: made from its configuration, wired to each other here and nowhere else.

Drivers do not know each other. What one needs of another (the WireGuard port, local addresses, counters) it is given
as a callable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rxnet.config import ClientConfig
from rxnet.credentials import CredentialStore
from rxnet.engine import effects
from rxnet.engine.effects import Effect
from rxnet.engine.inbox import Step
from rxnet.engine.state import DeviceStatus, State
from rxnet.errors import ConfigError, DeviceError
from rxnet.events import (
    MessagesNotSent,
    MessagesSent,
    NetworkCameUp,
    NetworkChanged,
    NetworkWentDown,
    PeerRemoved,
)
from rxnet.ice.driver import IceDriver
from rxnet.ice.port import PortHolder
from rxnet.log import logger
from rxnet.management.client import ManagementDriver
from rxnet.management.codec import AGENT_VERSION, SystemMeta
from rxnet.management.sysinfo import system_meta
from rxnet.model import Candidates, IPAddress, IPNetwork, PeerKey
from rxnet.perform import Driver
from rxnet.signal.client import SignalDriver
from rxnet.system.addresses import HostAddresses
from rxnet.system.monitor import NetworkMonitor
from rxnet.system.undo import open_journal
from rxnet.wire.box import public_key
from rxnet.wire.trust import system_root_certificates
from rxnet.wireguard.device import Device, PeerStats
from rxnet.wireguard.driver import DeviceDriver
from rxnet.wireguard.userspace import UserspaceDevice

if TYPE_CHECKING:
    from rxnet.system.journal import Journal

__all__ = ["Drivers", "PeerStats"]


class Drivers:
    """All I/O of one client.

    :param config: of the client.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._state: State | None = None
        self.own_key: PeerKey = public_key(config.private_key)
        self._journal: Journal | None = None

    async def start(self) -> None:
        """Take the state directory, undo what a killed run left behind, and make the drivers.

        :raises ConfigError: if the directory is another client's, or the certificates cannot be read.
        """
        config = self._config
        certificates = await asyncio.to_thread(_read_certificates, config.root_certificates)
        self._journal = open_journal(config.state_directory)
        for outcome in await self._journal.undo_all():
            logger.info("left by an earlier run: {}", outcome.text)
        credentials = self._credentials = CredentialStore(self._is_listed)
        self._port = PortHolder()
        self._device = DeviceDriver(
            self._make_device, opened=self._port.device_opened, closing=self._port.device_closing
        )
        self._ice = IceDriver(
            credentials,
            self._port,
            self._local_addresses,
            overlay=self._overlay,
            received_bytes=self._device.received_bytes,
        )
        self._management = ManagementDriver(
            config.management,
            config.private_key,
            self._meta,
            lambda: config.setup_key,
            root_certificates=certificates,
            proxy=config.proxy,
        )
        self._signal = SignalDriver(
            config.private_key, credentials, AGENT_VERSION, root_certificates=certificates, proxy=config.proxy
        )
        self._addresses = HostAddresses(self._journal, self._interface)
        self._monitor = NetworkMonitor(self._own_names)

    async def stop(self) -> None:
        """Let go of everything that outlives its effects."""
        self._ice.close()
        if self._journal is not None:
            # What the effects took back themselves is not in it any more; on a foreign interface something may be.
            for outcome in await self._journal.undo_all():
                logger.info("taken back: {}", outcome.text)
            self._journal.close()

    def table(self) -> Mapping[type[Effect], Driver]:
        """Who performs which effect."""
        return {
            effects.WatchNetwork: self._monitor.watch_network,
            effects.OpenManagement: self._management.open_management,
            effects.OpenSignal: self._signal.open_signal,
            effects.SendMessages: self._signal.send_messages,
            effects.OpenDevice: self._device.open_device,
            effects.AssignAddresses: self._addresses.assign_addresses,
            effects.SetPeers: self._device.set_peers,
            effects.Negotiate: self._ice.negotiate,
            effects.GiveCandidates: self._ice.give_candidates,
            effects.KeepPath: self._ice.keep_path,
        }

    def observe(self, step: Step) -> None:
        """Keep the state for those drivers that ask about it, and pass on what one does not hear of by itself."""
        self._state = step.after
        event = step.stamped.event
        if type(event) is PeerRemoved and event.peer not in step.after.peers:  # it may be back already
            self._credentials.forget(event.peer)
        elif isinstance(event, MessagesSent | MessagesNotSent):
            peer = step.before.peers.get(event.peer)
            if peer is not None and any(isinstance(message, Candidates) for message in peer.outbox.sending):
                self._ice.candidates_signalled(event.peer)
        elif isinstance(event, NetworkCameUp | NetworkChanged | NetworkWentDown):
            self._ice.network_changed()

    # -- for the client ------------------------------------------------------------------------------------------

    async def statistics(self) -> Mapping[PeerKey, PeerStats]:
        """WireGuard's counters; empty while there is no interface or it does not answer."""
        try:
            return await self._device.stats()
        except DeviceError as error:
            logger.debug("no counters: {}", error)
            return {}

    async def log_out(self) -> None:
        """Delete this peer on the management server."""
        await self._management.logout()

    def host_changes(self) -> tuple[str, ...]:
        """The entries of the journal that are not taken back yet."""
        return tuple(map(str, self._journal.pending())) if self._journal is not None else ()

    @property
    def ice_method(self) -> str:
        """How ICE shares WireGuard's port; empty while it does not."""
        port = self._port()
        return port.method if port is not None else ""

    @property
    def packets_through_python(self) -> int:
        """WireGuard datagrams that ended in this process instead of going straight to WireGuard."""
        port = self._port()
        return port.counters.wireguard_taken if port is not None else 0

    # -- what drivers ask ----------------------------------------------------------------------------------------

    def _make_device(self) -> Device:
        config = self._config
        return UserspaceDevice(
            config.private_key,
            name=config.interface,
            port=config.wireguard_port,
            program=config.wireguard_program,
            journal=self._journal,
        )

    def _meta(self) -> SystemMeta:
        config = self._config
        return system_meta(
            config.hostname,
            ipv6=not config.disable_ipv6,
            disable_dns=config.disable_dns,
            ignored_interfaces=self._own_names(),
        )

    def _is_listed(self, key: PeerKey) -> bool:
        return self._state is not None and key in self._state.peers

    def _interface(self) -> str:
        device = self._device.device
        return device.name if device is not None else ""

    def _own_names(self) -> set[str]:
        name = self._interface()
        return {name} if name else set()

    def _local_addresses(self) -> list[IPAddress]:
        if self._state is None:
            return []
        return [address for _name, address in self._state.link.network.addresses]

    def _overlay(self) -> list[IPNetwork]:
        local = self._state.local if self._state is not None else None
        if local is None or self._state is None or self._state.device.status is not DeviceStatus.OPEN:
            return []
        networks: list[IPNetwork] = [local.address.network]
        if local.address_v6 is not None:
            networks.append(local.address_v6.network)
        return networks


def _read_certificates(path: Path | None) -> bytes | None:
    if path is None:
        return system_root_certificates()
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the root certificates {path}: {error.strerror}") from None
