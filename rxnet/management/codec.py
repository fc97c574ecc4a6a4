"""What we say to management, and what it says besides network maps: bytes in, values out, no I/O.

Sections of the management document are named where a rule comes from. Whatever bytes come, the result is a value or a
`ProtocolError`; its text repeats at most a short, printable piece of them.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from rxnet._version import __version__
from rxnet.errors import ProtocolError
from rxnet.model import LocalPeer, PeerKey, ServerAddress
from rxnet.wire import management_pb2 as pb
from rxnet.wire.box import parse_key

AGENT_VERSION: Final = f"0.77.0+rxnet.{__version__}"
"""The NetBird release whose behaviour we have, ours as build metadata (3.6).

At this level Go peers may hold the connection to us lazily, idle until there is traffic or an offer. That is meant:
our offers wake them, and a lower number would switch off port ranges and the common DNS port for whole accounts. A
pre-release suffix (`-rxnet`) would sort below the plain release.
"""

DEFAULT_MTU: Final = 1280
_MTUS: Final = range(576, 8193)
_DEFAULT_STUN_PORT: Final = 3478
_MAX_FQDN: Final = 253
_MAX_STUNS: Final = 16
_MAX_CHECKS: Final = 1_000
_MAX_SHOWN: Final = 80

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True)
class NetworkAddress:
    """An address of an interface that is up: CIDR text and MAC text (3.4)."""

    address: str
    mac: str


@dataclass(frozen=True, slots=True)
class FileState:
    """The answer about one path of the posture checks."""

    path: str
    exists: bool
    running: bool
    """A process has exactly this executable."""


@dataclass(frozen=True, slots=True)
class SystemMeta:
    """What we tell management about this host (3.4). It should stay the same while we run: servers count changes."""

    hostname: str
    os: str = "Linux"
    """`NAME` of /etc/os-release."""
    os_version: str = ""
    kernel: str = "Linux"
    kernel_version: str = ""
    platform: str = ""
    """Machine as uname says it, `x86_64`."""
    agent_version: str = AGENT_VERSION
    network_addresses: tuple[NetworkAddress, ...] = ()
    serial_number: str = ""
    product_name: str = ""
    manufacturer: str = ""
    cloud: str = ""
    environment: str = ""
    """`Docker`, `Kubernetes` ... or empty."""
    ipv6: bool = True
    """False: we want no IPv6 address in the overlay."""
    disable_dns: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """What an accepted Login says."""

    local: LocalPeer
    signal: ServerAddress
    stuns: tuple[ServerAddress, ...]
    checks: tuple[str, ...]
    complaints: tuple[str, ...] = ()
    """Parts that were left out, each with the reason."""


# -- what we send --------------------------------------------------------------------------------------------------


def usable_hostname(name: str) -> str:
    """The name to register with. The server makes a DNS label of its first part and would accept an empty one (3.4)."""
    first = name.partition(".")[0]
    if first.isascii() and any(c.isalnum() for c in first):
        return name[:_MAX_FQDN]
    if any(c.isalnum() for c in first):
        return name[:_MAX_FQDN]  # becomes punycode over there
    return "rxnet"


def encode_meta(meta: SystemMeta, files: Sequence[FileState] = ()) -> pb.PeerSystemMeta:
    """The message for Login, Sync and SyncMeta; capabilities must agree in all three (3.4)."""
    capabilities = [pb.PeerCapabilitySourcePrefixes]
    if meta.ipv6:
        capabilities.append(pb.PeerCapabilityIPv6Overlay)
    return pb.PeerSystemMeta(
        hostname=usable_hostname(meta.hostname),
        goOS="linux",
        kernel=meta.kernel,
        core=meta.os_version,
        platform=meta.platform,
        OS=meta.os,
        netbirdVersion=meta.agent_version,
        kernelVersion=meta.kernel_version,
        OSVersion=meta.os_version,
        networkAddresses=[pb.NetworkAddress(netIP=one.address, mac=one.mac) for one in meta.network_addresses],
        sysSerialNumber=meta.serial_number,
        sysProductName=meta.product_name,
        sysManufacturer=meta.manufacturer,
        environment=pb.Environment(cloud=meta.cloud, platform=meta.environment),
        files=[pb.File(path=one.path, exist=one.exists, processIsRunning=one.running) for one in files],
        flags=pb.Flags(disableDNS=meta.disable_dns, disableIPv6=not meta.ipv6),
        capabilities=capabilities,
    )


def encode_login(
    meta: SystemMeta, own_key: PeerKey, *, setup_key: str | None = None, dns_labels: Sequence[str] = ()
) -> bytes:
    """A LoginRequest. Without a setup key it only logs in a known peer."""
    return pb.LoginRequest(
        setupKey=setup_key or "",
        meta=encode_meta(meta),
        peerKeys=pb.PeerKeys(wgPubKey=own_key.encode("ascii")),
        dnsLabels=dns_labels,
    ).SerializeToString()


def encode_sync(meta: SystemMeta, files: Sequence[FileState] = ()) -> bytes:
    """A SyncRequest with complete meta."""
    return pb.SyncRequest(meta=encode_meta(meta, files)).SerializeToString()


def encode_sync_meta(meta: SystemMeta, files: Sequence[FileState]) -> bytes:
    """A SyncMetaRequest, the answer to changed checks."""
    return pb.SyncMetaRequest(meta=encode_meta(meta, files)).SerializeToString()


# -- what we receive -----------------------------------------------------------------------------------------------


def decode(kind: type[_M], data: bytes) -> _M:
    """Decode a message; ProtocolError if the bytes are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise ProtocolError(f"management sent {len(data)} bytes that are no {kind.DESCRIPTOR.name}") from None


def decode_server_key(data: bytes) -> PeerKey:
    """The key in a ServerKeyResponse."""
    response = decode(pb.ServerKeyResponse, data)
    try:
        return parse_key(response.key)
    except ProtocolError as error:
        raise ProtocolError(f"management's own key is unusable: {error}") from None


def decode_login(data: bytes) -> Login:
    """A LoginResponse; ProtocolError without a usable own address or signal server."""
    response = decode(pb.LoginResponse, data)
    complaints: list[str] = []
    local = local_peer(response.peerConfig, complaints)
    config = response.netbirdConfig
    if not config.HasField("signal") or not config.signal.uri:
        raise ProtocolError("management named no signal server: it is a setting of the server (Signal.URI)")
    return Login(
        local=local,
        signal=signal_address(config.signal),
        stuns=stun_addresses(config.stuns, complaints),
        checks=check_paths(response.Checks),
        complaints=tuple(complaints),
    )


def local_peer(config: pb.PeerConfig, complaints: list[str]) -> LocalPeer:
    """What a PeerConfig says about ourselves (6.2).

    Without a usable IPv4 address there is nothing to be had: ProtocolError. Other bad parts are left out, with a line
    added to `complaints`.
    """
    address = _own_address(config.address)
    address_v6: IPv6Interface | None = None
    if config.address_v6:
        try:
            prefix = compact_prefix(config.address_v6)
            if isinstance(prefix, IPv4Interface):
                raise ProtocolError("it is an IPv4 address")
            if not prefix.network.prefixlen or _no_host(prefix.ip):
                raise ProtocolError(f"{prefix} cannot be the address of a host")
            address_v6 = prefix
        except ProtocolError as error:
            complaints.append(f"own IPv6 address: {error}")
    mtu = config.mtu or DEFAULT_MTU
    if mtu not in _MTUS:
        complaints.append(f"own MTU {mtu} is outside {_MTUS.start} to {_MTUS.stop - 1}")
        mtu = DEFAULT_MTU
    return LocalPeer(address, address_v6, printable(config.fqdn, _MAX_FQDN), mtu)


def _own_address(text: str) -> IPv4Interface:
    host, slash, length = text.partition("/")
    try:
        if not slash or not (length.isascii() and length.isdigit()):
            raise ValueError
        address = IPv4Interface((socket.inet_pton(socket.AF_INET, host), int(length)))
    except (ValueError, OSError):
        raise ProtocolError(f"own address {shown(text)} is not an IPv4 address with a prefix length") from None
    if not address.network.prefixlen or _no_host(address.ip):
        raise ProtocolError(f"own address {address} cannot be the address of a host")
    return address


def _no_host(address: IPv4Address | IPv6Address) -> bool:
    return address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local


def compact_prefix(data: bytes) -> IPv4Interface | IPv6Interface:
    """Decode address bytes followed by one byte of prefix length (6.2); IPv4-mapped addresses become IPv4.

    :raises ProtocolError: for another length of `data` or a prefix length beyond the address.
    """
    raw, length = data[:-1], data[-1] if data else 0
    if len(raw) == 16 and raw[:12] == b"\0" * 10 + b"\xff\xff":
        raw = raw[12:]
    if len(raw) == 4 and length <= 32:
        return IPv4Interface((raw, length))
    if len(raw) == 16 and length <= 128:
        return IPv6Interface((raw, length))
    raise ProtocolError(f"{data[:20].hex()} ({len(data)} bytes) is not a compact prefix")


def signal_address(config: pb.HostConfig) -> ServerAddress:
    """Where signal listens (3.8): `host:port` without a scheme, TLS exactly if the protocol says HTTPS."""
    host, port = split_host_port(config.uri, None)
    return ServerAddress(host, port, config.protocol == pb.HostConfig.HTTPS)


def stun_addresses(configs: Sequence[pb.HostConfig], complaints: list[str]) -> tuple[ServerAddress, ...]:
    """The usable STUN servers in order (8.4). What cannot be used is left out, with a line added to `complaints`."""
    found: dict[ServerAddress, None] = {}
    for config in configs[:_MAX_STUNS]:
        try:
            scheme, colon, rest = config.uri.partition(":")
            if not colon or scheme.lower() != "stun":
                raise ProtocolError(f"STUN server {shown(config.uri)}: only stun:HOST:PORT (UDP) is supported")
            found[ServerAddress(*split_host_port(rest, _DEFAULT_STUN_PORT))] = None
        except ProtocolError as error:
            complaints.append(str(error))
    if len(configs) > _MAX_STUNS:
        complaints.append(f"{len(configs)} STUN servers are listed, only the first {_MAX_STUNS} are used")
    return tuple(found)


def split_host_port(text: str, default_port: int | None) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`; ProtocolError if it is neither, or has no port and there is no default."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        good = bool(bracket) and _is_v6(host)
    else:
        host, colon, port_text = text.partition(":")
        rest = colon + port_text
        good = all(c.isascii() and (c.isalnum() or c in "-._") for c in host)
    port: int | None = default_port if not rest else None
    digits = rest[1:]
    if rest.startswith(":") and digits.isascii() and digits.isdigit() and len(digits) <= 5:
        port = int(digits)
    if not good or not host or len(host) > _MAX_FQDN or port is None or not 0 < port < 65536:
        raise ProtocolError(f"server address {shown(text)} is not HOST:PORT")
    return host, port


def _is_v6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True


def check_paths(checks: Sequence[pb.Checks]) -> tuple[str, ...]:
    """All paths of the posture checks, each once and in order, for whatever operating system they are."""
    found = dict.fromkeys(path for check in checks for path in check.Files)
    return tuple(found)[:_MAX_CHECKS]


# -- text ------------------------------------------------------------------------------------------------------------


def printable(text: str, most: int) -> str:
    """Cut to `most` characters and without those that could play tricks on a terminal."""
    text = text[:most]
    return text if text.isprintable() else "".join(c for c in text if c.isprintable())


def shown(text: str) -> str:
    """A piece of what somebody sent, quoted for an error message."""
    return repr(text) if len(text) <= _MAX_SHOWN else repr(text[:_MAX_SHOWN]) + "..."
