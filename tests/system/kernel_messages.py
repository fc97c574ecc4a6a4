"""Netlink messages as the kernel builds them, for tests: written from the kernel's headers, not from our codec."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address


def attr(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


def message(kind: int, payload: bytes, flags: int = 0, sequence: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload


def link(
    index: int,
    name: str,
    *,
    kind: str = "",
    up: bool = True,
    running: bool = True,
    loopback: bool = False,
    tap: bool = False,
    mtu: int = 1500,
    gone: bool = False,
    family: int = 0,
    extra: bytes = b"",
) -> bytes:
    """RTM_NEWLINK or RTM_DELLINK."""
    flags = up * 0x1 | running * 0x40 | loopback * 0x8 | 0x1000
    payload = struct.pack("=BxHiII", family, 1, index, flags, 0)
    payload += attr(3, name.encode() + b"\0") + attr(13, u32(1000)) + attr(16, b"\6") + attr(4, u32(mtu))
    payload += attr(23, bytes(192))  # IFLA_STATS64
    if kind:
        data = attr(1, kind.encode() + b"\0")
        if kind == "tun":
            data += attr(2, attr(1, u32(0)) + attr(3, b"\2" if tap else b"\1"))
        payload += attr(18, data)
    return message(17 if gone else 16, payload + extra)


def address(index: int, text: str, *, flags: int = 0x80, lifetime: int = 0xFFFFFFFF, gone: bool = False) -> bytes:
    """RTM_NEWADDR or RTM_DELADDR for `10.0.0.7/24`."""
    host, _, length = text.partition("/")
    ip = ip_address(host)
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    payload = struct.pack("=BBBBI", family, int(length or ip.max_prefixlen), flags & 0xFF, 0, index)
    payload += attr(1, ip.packed)
    if ip.version == 4:
        payload += attr(2, ip.packed) + attr(3, b"e0\0")
    payload += attr(8, u32(flags)) + attr(6, struct.pack("=IIII", lifetime, lifetime, 5, 5))
    return message(21 if gone else 20, payload)


def route(
    hops: list[tuple[int, str]],
    destination: str = "",
    *,
    family: int = socket.AF_INET,
    metric: int = 0,
    table: int = 254,
    kind: int = 1,
    gone: bool = False,
    flags: int = 0x600,
) -> bytes:
    """RTM_NEWROUTE or RTM_DELROUTE; `hops` are pairs of interface index and gateway (empty: on link)."""
    host, _, length = destination.partition("/")
    payload = struct.pack(
        "=BBBBBBBBI", family, int(length or 0), 0, 0, min(table, 252 if table > 255 else 255), 3, 0, kind, 0
    )
    payload += attr(15, u32(table))
    if destination:
        payload += attr(1, ip_address(host).packed)
    if metric:
        payload += attr(6, u32(metric))
    if len(hops) == 1:
        payload += _hop(family, hops[0][1]) + attr(4, u32(hops[0][0]))
    else:
        parts = b""
        for index, gateway in hops:
            inner = _hop(family, gateway)
            parts += struct.pack("=HBBi", 8 + len(inner), 0, 0, index) + inner
        payload += attr(9, parts)
    return message(25 if gone else 24, payload, flags)


def _hop(family: int, gateway: str) -> bytes:
    if not gateway:
        return b""
    ip = ip_address(gateway)
    own = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    return attr(5, ip.packed) if own == family else attr(18, struct.pack("=H", own) + ip.packed)


def rule(
    priority: int,
    *,
    family: int = socket.AF_INET,
    source: str = "",
    table: int = 100,
    mark: int = 0,
    incoming: str = "",
    protocol: int = 3,
    inverted: bool = False,
    gone: bool = False,
) -> bytes:
    """RTM_NEWRULE or RTM_DELRULE."""
    host, _, length = source.partition("/")
    payload = struct.pack("=BBBBBBBBI", family, 0, int(length or 0), 0, min(table, 252), 0, 0, 1, inverted * 2)
    payload += attr(15, u32(table)) + attr(14, u32(0xFFFFFFFF)) + attr(6, u32(priority)) + attr(21, bytes([protocol]))
    if source:
        payload += attr(2, ip_address(host).packed)
    if mark:
        payload += attr(10, u32(mark))
    if incoming:
        payload += attr(3, incoming.encode() + b"\0")
    return message(33 if gone else 32, payload)
