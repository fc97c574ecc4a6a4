"""One entry of the network map: a RemotePeerConfig, from bytes to a value or to the reason why it is refused.

The verdict depends on the bytes alone, so it may be kept as long as the bytes stay the same. What depends on other
entries (an address that two peers claim) is judged by the map reader.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from google.protobuf.message import DecodeError

from rxnet.errors import ProtocolError
from rxnet.management.codec import printable, shown
from rxnet.model import IPNetwork, RemotePeer
from rxnet.wire import management_pb2 as pb
from rxnet.wire.box import parse_key

_MAX_FQDN: Final = 253
_MAX_AGENT_VERSION: Final = 64
_MAX_ADDRESSES: Final = 16
_V4_MAPPED: Final = b"\0" * 10 + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class PeerEntry:
    """A good entry. `addresses` are the packed overlay addresses (4 or 16 bytes), parallel to the allowed IPs."""

    peer: RemotePeer
    addresses: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """For people."""
        return self.peer.fqdn or self.peer.key

    def only_v4(self) -> PeerEntry | None:
        """The entry as it is for a receiver without IPv6 (6.3); None if nothing is left."""
        networks = tuple(one for one in self.peer.allowed_ips if one.version == 4)
        if len(networks) == len(self.addresses):
            return self
        if not networks:
            return None
        peer = RemotePeer(self.peer.key, networks, self.peer.fqdn, self.peer.agent_version)
        return PeerEntry(peer, tuple(raw for raw in self.addresses if len(raw) == 4))


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that cannot be used, and why: one line that names it."""

    reason: str


def read_entry(data: bytes) -> PeerEntry | Refused:
    """Decode and judge one serialized RemotePeerConfig."""
    try:
        config = pb.RemotePeerConfig.FromString(data)
    except DecodeError:
        return Refused(f"an entry of {len(data)} bytes is no RemotePeerConfig")
    try:
        key = parse_key(config.wgPubKey)
    except ProtocolError as error:
        return Refused(f"peer {_name(config)}: {error}")
    texts = config.allowedIps
    if not texts:
        return Refused(f"peer {_name(config)} has no address")
    if len(texts) > _MAX_ADDRESSES:
        return Refused(f"peer {_name(config)} has {len(texts)} addresses, more than {_MAX_ADDRESSES}")
    addresses: list[bytes] = []
    networks: list[IPNetwork] = []
    for text in texts:
        try:
            raw, network = host_prefix(text)
        except ProtocolError as error:
            return Refused(f"peer {_name(config)}: {error}")
        if raw not in addresses:
            addresses.append(raw)
            networks.append(network)
    peer = RemotePeer(
        key,
        tuple(networks),
        printable(config.fqdn, _MAX_FQDN),
        printable(config.agentVersion, _MAX_AGENT_VERSION),
    )
    return PeerEntry(peer, tuple(addresses))


def _name(config: pb.RemotePeerConfig) -> str:
    return printable(config.fqdn, 80) or shown(config.wgPubKey[:44])


def host_prefix(text: str) -> tuple[bytes, IPNetwork]:
    """Read `address/32` or `address/128`; returns the packed address, too.

    `ipaddress` takes five times as long to read text as the C library does, and a map has thousands of addresses.

    :raises ProtocolError: if it is no CIDR text, wider than one host, or an address that no host in an overlay has.
    """
    host, slash, length = text.partition("/")
    v6 = ":" in host
    try:
        if not slash or not (length.isascii() and length.isdigit()) or len(length) > 3:
            raise ValueError
        raw = socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, host)
    except (OSError, ValueError):
        raise ProtocolError(f"{shown(text)} is not an address with a prefix length") from None
    if int(length) != len(raw) * 8:
        raise ProtocolError(f"{shown(text)} is wider than one address")
    if _no_host(raw):
        raise ProtocolError(f"{shown(text)} cannot be the address of a peer")
    return raw, IPv6Network((raw, 128)) if v6 else IPv4Network((raw, 32))


def _no_host(raw: bytes) -> bool:
    """Unspecified, loopback, link-local, multicast, broadcast or IPv4-mapped."""
    if len(raw) == 4:
        return raw[0] in (0, 127) or raw[0] >= 224 or raw[:2] == b"\xa9\xfe"
    return (
        raw[0] == 0xFF
        or raw[:12] == _V4_MAPPED
        or (raw[:15] == bytes(15) and raw[15] < 2)
        or (raw[0] == 0xFE and raw[1] & 0xC0 == 0x80)
    )
