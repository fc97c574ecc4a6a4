"""Sharing WireGuard's port by raw sockets: with CAP_NET_RAW, beside any WireGuard, kernel or userspace.

A raw socket gets a copy of each datagram that its filter lets pass; WireGuard gets the datagram too and ignores STUN.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import ClassVar

from rxnet.ice import filter
from rxnet.ice.packets import Address, split_stun
from rxnet.ice.port import StunPort, set_ttl
from rxnet.log import logger

_CAP_NET_RAW = 13
_IP_PKTINFO = 8
_IPV6_CHECKSUM = 7
_UDP_HEADER = struct.Struct("!HHHH")


def may_use_raw() -> bool:
    """Whether this process has CAP_NET_RAW."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_NET_RAW & 1)
    return False


class RawPort(StunPort):
    """:raises OSError: no raw sockets for us."""

    method: ClassVar[str] = "raw"

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._add(_open(socket.AF_INET, port))
        try:
            self._add(_open(socket.AF_INET6, port))
        except OSError as error:
            logger.debug("no STUN over IPv6: {}", error.strerror or error)

    def _receive(self, sock: socket.socket) -> None:
        size, ancillary, _, source = sock.recvmsg_into([self._buffer], 64)
        packet = bytes(memoryview(self._buffer)[:size])
        if sock.family == socket.AF_INET:
            local = socket.inet_ntoa(packet[16:20])
            udp = packet[(packet[0] & 15) * 4 :]
        else:
            local = _v6_destination(ancillary)
            udp = packet
        messages, _ = split_stun(udp[8:])
        for message in messages:
            self.demux.dispatch(message, (source[0].partition("%")[0], udp[0] << 8 | udp[1]), local)

    def _send(self, data: bytes, local: str, target: Address) -> None:
        length = 8 + len(data)
        if ":" in local:
            header = _UDP_HEADER.pack(self.port, target[1], length, 0)  # the kernel fills in the checksum
            info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, socket.inet_pton(socket.AF_INET6, local) + bytes(4))
            # A port in the address of a raw IPv6 socket is an error.
            self._sockets[socket.AF_INET6].sendmsg([header, data], [info], 0, (target[0], 0))
            return
        source, destination = socket.inet_aton(local), socket.inet_aton(target[0])
        header = _UDP_HEADER.pack(self.port, target[1], length, 0)
        checksum = udp_checksum(source, destination, header + data)
        header = _UDP_HEADER.pack(self.port, target[1], length, checksum)
        info = (socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, source, bytes(4)))
        self._sockets[socket.AF_INET].sendmsg([header, data], [info], 0, (target[0], 0))


def _open(family: int, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)
    try:
        filter.attach(sock, filter.raw_v4(port) if family == socket.AF_INET else filter.raw_v6(port))
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, 6)
        set_ttl(sock)
        _drain(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _drain(sock: socket.socket) -> None:
    """Throw away what was queued before the filter was there."""
    for _ in range(10_000):
        try:
            sock.recv(1)
        except OSError:
            return


def _v6_destination(ancillary: list[tuple[int, int, bytes]]) -> str:
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    return ""


def udp_checksum(source: bytes, destination: bytes, segment: bytes) -> int:
    """The checksum of a UDP segment whose checksum field is 0 (RFC 768), with the addresses as packed bytes."""
    data = source + destination + struct.pack("!HH", socket.IPPROTO_UDP, len(segment)) + segment
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return (~total & 0xFFFF) or 0xFFFF
