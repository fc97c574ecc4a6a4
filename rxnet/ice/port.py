"""The UDP port that WireGuard and ICE share.

Two ways in, one interface: `raw.py` (CAP_NET_RAW, any WireGuard; loses nothing even when packets are merged) and
`reuseport.py` (no privilege, userspace WireGuard only). A third, rewriting ports by nft, may come beside them.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from rxnet.errors import DeviceError
from rxnet.ice.demux import Counters, Demux
from rxnet.ice.packets import Address
from rxnet.log import logger

STUN_TTL = 63
"""Differs from WireGuard's 64: datagrams that differ in it are never merged, so no STUN gets lost in between."""

_BURST = 64
"""Datagrams read in one go, so that a flood leaves the loop to others in between."""


class StunPort(ABC):
    """Sends and receives STUN on WireGuard's port. `demux` says who gets what."""

    method: ClassVar[str]
    """How it shares the port: `raw` or `reuseport`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.demux = Demux()
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[int, socket.socket] = {}
        self._buffer = bytearray(65536)

    @property
    def counters(self) -> Counters:
        """What passed so far."""
        return self.demux.counters

    @property
    def is_open(self) -> bool:
        """False after `close`."""
        return bool(self._sockets)

    def can_send_from(self, local: str) -> bool:
        """Whether the family of this address is served."""
        return (socket.AF_INET6 if ":" in local else socket.AF_INET) in self._sockets

    def send(self, data: bytes, local: str, target: Address) -> None:
        """Send one message from the address `local`. An error is a lost packet: ICE sends again."""
        if not self.can_send_from(local):
            return
        self.counters.stun_sent += 1
        try:
            self._send(data, local, target)
        except OSError as error:
            logger.debug("STUN from {} to {} was not sent: {}", local, target, error.strerror or error)

    def close(self) -> None:
        """Let go of the port. Idempotent."""
        for sock in self._sockets.values():
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _add(self, sock: socket.socket) -> None:
        self._sockets[sock.family] = sock
        self._loop.add_reader(sock, self._readable, sock)

    def _readable(self, sock: socket.socket) -> None:
        for _ in range(_BURST):
            if sock.fileno() < 0:
                return  # closed by what it received
            try:
                self._receive(sock)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # An ICMP error that was queued (port unreachable): reading it cleared it.
                logger.debug("STUN port {}: {}", self.port, error.strerror or error)

    @abstractmethod
    def _receive(self, sock: socket.socket) -> None: ...

    @abstractmethod
    def _send(self, data: bytes, local: str, target: Address) -> None: ...


def set_ttl(sock: socket.socket) -> None:
    """Give what this socket sends the TTL (hop limit) of STUN."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, STUN_TTL)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, STUN_TTL)


def open_port(port: int, wireguard_pid: int | None, method: str = "") -> StunPort:
    """Join WireGuard on its UDP port, by the best way there is or the one named.

    :param wireguard_pid: of a userspace WireGuard; None for the kernel's.
    :raises DeviceError: names what is missing and the mend.
    """
    from rxnet.ice.raw import RawPort, may_use_raw
    from rxnet.ice.reuseport import ReusePort

    if not method:
        method = "raw" if may_use_raw() else "reuseport"
    try:
        opened: StunPort
        if method == "raw":
            opened = RawPort(port)
        elif method != "reuseport":
            raise DeviceError(f"unknown way {method!r} to share the UDP port: raw or reuseport")
        elif wireguard_pid is None:
            raise DeviceError("sharing the UDP port with the kernel's WireGuard needs CAP_NET_RAW: grant it")
        else:
            opened = ReusePort(port, wireguard_pid)
    except OSError as error:
        raise DeviceError(f"ICE cannot share UDP port {port} by {method}: {error.strerror or error}") from None
    logger.debug("ICE shares UDP port {} by {}", port, opened.method)
    return opened


class HasPort(Protocol):
    """What must be known of a WireGuard device."""

    @property
    def listen_port(self) -> int: ...

    @property
    def pid(self) -> int | None: ...


class PortHolder:
    """Opens the shared port with the device and lets go of it before the device goes. Called, it gives the port."""

    def __init__(self, method: str = "") -> None:
        self._method = method
        self._device: HasPort | None = None
        self._port: StunPort | None = None
        self._next_try = 0.0

    def device_opened(self, device: HasPort) -> None:
        """The device listens: share its port."""
        self.device_closing(device)
        self._device = device
        self._open()

    def device_closing(self, device: HasPort) -> None:
        """The device goes: a new one could not bind the port while we hold it."""
        self._device = None
        self._next_try = 0.0
        if self._port is not None:
            self._port.close()
            self._port = None

    def __call__(self) -> StunPort | None:
        """The open port, or None: no device, or it cannot be shared (tried again at most once a second)."""
        if self._port is None and self._device is not None:
            self._open()
        return self._port

    def _open(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._device is None or now < self._next_try:
            return
        self._next_try = now + 1.0
        try:
            self._port = open_port(self._device.listen_port, self._device.pid, self._method)
        except DeviceError as error:
            logger.warning("{}", error)
