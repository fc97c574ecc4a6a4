"""What this host is, as management wants to hear it (management document, 3.4). Reads files and asks the kernel."""

from __future__ import annotations

import os
import platform
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Final

from rxnet.management.codec import NetworkAddress, SystemMeta

_IFF_UP: Final = 0x1
_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_NLM_F_DUMP: Final = 0x301  # request, root, match
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_MOST_ADDRESSES: Final = 256
_MOST_TEXT: Final = 128
_NO_MAC: Final = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look; other places are for tests."""

    root: Path = Path("/")

    @property
    def os_release(self) -> tuple[Path, Path]:
        return self.root / "etc/os-release", self.root / "usr/lib/os-release"

    @property
    def interfaces(self) -> Path:
        return self.root / "sys/class/net"

    @property
    def dmi(self) -> Path:
        return self.root / "sys/class/dmi/id"


Address = IPv4Interface | IPv6Interface


def system_meta(
    hostname: str,
    *,
    ipv6: bool = True,
    disable_dns: bool = False,
    ignored_interfaces: Iterable[str] = (),
    places: Places | None = None,
) -> SystemMeta:
    """Describe this host. `ignored_interfaces` are our own: overlay addresses are not reported. Takes milliseconds."""
    places = places or Places()
    release = os_release(places)
    uname = platform.uname()
    return SystemMeta(
        hostname=hostname,
        os=release.get("NAME") or uname.system,
        os_version=release.get("VERSION_ID", ""),
        kernel=uname.system,
        kernel_version=uname.release,
        platform=uname.machine,
        network_addresses=network_addresses(frozenset(ignored_interfaces), places),
        serial_number=_dmi(places, "product_serial"),
        product_name=_dmi(places, "product_name"),
        manufacturer=_dmi(places, "sys_vendor"),
        environment=_environment(places),
        ipv6=ipv6,
        disable_dns=disable_dns,
    )


def os_release(places: Places) -> dict[str, str]:
    """The assignments of os-release(5), or nothing if there is no such file."""
    for path in places.os_release:
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        found = {}
        for line in lines:
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                found[name] = value.strip("\"'")[:_MOST_TEXT]
        return found
    return {}


def network_addresses(
    ignored: frozenset[str], places: Places, dump: Callable[[], Iterable[tuple[int, Address]]] | None = None
) -> tuple[NetworkAddress, ...]:
    """Each address of each interface that is up and has a MAC, but those that mean nothing to others."""
    macs = _macs(ignored, places)
    found: dict[NetworkAddress, None] = {}
    for index, address in dump() if dump is not None else kernel_addresses():
        mac = macs.get(index)
        useless = address.ip.is_loopback or address.ip.is_link_local or address.ip.is_multicast
        if mac is not None and not useless:
            found[NetworkAddress(str(address), mac)] = None
    return tuple(found)[:_MOST_ADDRESSES]


def _macs(ignored: frozenset[str], places: Places) -> dict[int, str]:
    """The MAC of each interface that is up and has one, by the kernel's index."""
    found = {}
    try:
        paths = [path for path in places.interfaces.iterdir() if path.name not in ignored]
    except OSError:
        return {}
    for path in paths:
        mac = _read(path / "address")
        try:
            up = int(_read(path / "flags"), 16) & _IFF_UP
            index = int(_read(path / "ifindex"))
        except ValueError:  # gone in between, or no interface (bonding_masters)
            continue
        if up and mac and mac != _NO_MAC:
            found[index] = mac
    return found


def kernel_addresses() -> list[tuple[int, Address]]:
    """All addresses with the index of their interface: one rtnetlink dump (rtnetlink(7)); empty if it fails."""
    request = struct.pack("=IHHII8x", 24, _RTM_GETADDR, _NLM_F_DUMP, 1, 0)
    found: list[tuple[int, Address]] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as netlink:
            netlink.settimeout(1.0)
            netlink.sendto(request, (0, 0))
            while len(found) < _MOST_ADDRESSES:
                for kind, body in _messages(netlink.recv(1 << 16)):
                    if kind != _RTM_NEWADDR:
                        return found  # the end, or an error
                    found += _address(body)
    except OSError:
        pass
    return found


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            return
        yield kind, data[at + 16 : at + length]
        at += (length + 3) & ~3


def _address(body: bytes) -> list[tuple[int, Address]]:
    family, prefix_length, _, _, index = struct.unpack_from("=BBBBI", body)
    attributes = {}
    at = 8
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if length < 4:
            break
        attributes[kind] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")  # they differ on point-to-point links
    if family == socket.AF_INET and len(raw) == 4:
        return [(index, IPv4Interface((raw, prefix_length)))]
    if family == socket.AF_INET6 and len(raw) == 16:
        return [(index, IPv6Interface((raw, prefix_length)))]
    return []


def _dmi(places: Places, name: str) -> str:
    """A DMI text, ASCII only; empty if there is none or only root may read it."""
    text = _read(places.dmi / name)
    return "".join(c for c in text if c.isascii() and c.isprintable())[:_MOST_TEXT]


def _environment(places: Places) -> str:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    if (places.root / ".dockerenv").exists():
        return "Docker"
    if (places.root / "run/.containerenv").exists():
        return "Podman"
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
