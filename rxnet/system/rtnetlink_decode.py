"""Route netlink messages of the kernel, decoded: payloads in, the values of rtnetlink.py out.

Payloads that do not follow the protocol raise `ProtocolError`; what is well-formed and not for us gives None.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from rxnet.errors import ProtocolError
from rxnet.model import IPAddress, IPNetwork
from rxnet.system.rtnetlink import (
    ADDRESS_STRUCT,
    FIB_RULE_INVERT,
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_OPTIMISTIC,
    IFA_F_TENTATIVE,
    IFF_LOOPBACK,
    IFF_RUNNING,
    IFF_UP,
    LINK_STRUCT,
    MAIN_TABLE,
    NEIGHBOUR_STRUCT,
    ROUTE_STRUCT,
    RTN_UNICAST,
    InterfaceAddress,
    Link,
    Neighbour,
    NextHop,
    Route,
    Rule,
    attributes,
)

_NEXT_HOP: Final = struct.Struct("=HBBi")
_U32: Final = struct.Struct("=I")


def decode_link(payload: memoryview) -> Link | None:
    """RTM_NEWLINK, RTM_DELLINK: struct ifinfomsg and attributes.

    None for messages that only look like news of an interface: a bridge tells about its ports with the family
    AF_BRIDGE (RTM_DELLINK then means "left the bridge"), a wireless driver about scans with IFLA_WIRELESS.
    """
    family, _type, index, flags, _change = _fixed(LINK_STRUCT, payload)
    if family != socket.AF_UNSPEC:
        return None
    name = kind = alias = ""
    mtu = 0
    for type_, value in attributes(payload[LINK_STRUCT.size :]):
        if type_ == 3:  # IFLA_IFNAME
            name = _text(value)
        elif type_ == 4:  # IFLA_MTU
            mtu = _u32(value)
        elif type_ == 11:  # IFLA_WIRELESS
            return None
        elif type_ == 18:  # IFLA_LINKINFO
            kind = _link_kind(value)
        elif type_ == 20:  # IFLA_IFALIAS
            alias = _text(value)
    if not name:
        raise ProtocolError(f"netlink link {index} has no name")
    up, carrier, loopback = bool(flags & IFF_UP), bool(flags & IFF_RUNNING), bool(flags & IFF_LOOPBACK)
    return Link(index, name, kind, up, carrier, loopback, mtu, alias)


def _link_kind(view: memoryview) -> str:
    kind, tap = "", False
    for type_, value in attributes(view):
        if type_ == 1:  # IFLA_INFO_KIND
            kind = _text(value)
        elif type_ == 2 and kind == "tun":  # IFLA_INFO_DATA; IFLA_TUN_TYPE is 1 for TUN, 2 for TAP
            tap = any(inner == 3 and bytes(data[:1]) == b"\2" for inner, data in attributes(value))
    return "tap" if tap else kind


def decode_address(payload: memoryview) -> InterfaceAddress | None:
    """RTM_NEWADDR, RTM_DELADDR: struct ifaddrmsg and attributes; None for a family that is not IP."""
    family, prefix_length, flags, _scope, index = _fixed(ADDRESS_STRUCT, payload)
    local = peer = None
    for type_, value in attributes(payload[ADDRESS_STRUCT.size :]):
        if type_ == 1:  # IFA_ADDRESS: of the other end, if the link is point-to-point
            peer = value
        elif type_ == 2:  # IFA_LOCAL
            local = value
        elif type_ == 8:  # IFA_FLAGS: all 32 bits
            flags = _u32(value)
    own = local if local is not None else peer
    if own is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    bad = flags & (IFA_F_DADFAILED | IFA_F_DEPRECATED)
    checking = flags & IFA_F_TENTATIVE and not flags & IFA_F_OPTIMISTIC  # an optimistic one may be used (RFC 4429)
    return InterfaceAddress(index, _ip(family, own), prefix_length, not (bad or checking))


def is_main_default(payload: memoryview) -> bool:
    """Tell, without decoding it, whether a route message is about a default route of the main table."""
    return len(payload) >= ROUTE_STRUCT.size and payload[1] == 0 and payload[4] == MAIN_TABLE


def decode_route(payload: memoryview) -> Route | None:
    """RTM_NEWROUTE, RTM_DELROUTE: struct rtmsg and attributes; None for what is not a unicast IP route."""
    family, length, _src, _tos, table, protocol, _scope, type_, _flags = _fixed(ROUTE_STRUCT, payload)
    if type_ != RTN_UNICAST or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    destination = b""
    metric = 0
    hops: list[NextHop] = []
    for kind, value in attributes(payload[ROUTE_STRUCT.size :]):
        if kind == 1:  # RTA_DST
            destination = bytes(value)
        elif kind == 6:  # RTA_PRIORITY
            metric = _u32(value)
        elif kind == 9:  # RTA_MULTIPATH
            hops += _multipath(family, value)
        elif kind == 15:  # RTA_TABLE
            table = _u32(value)
    first = _hop(family, 0, payload[ROUTE_STRUCT.size :])
    if first.index:
        hops.insert(0, first)
    return Route(_network(family, destination, length), table, protocol, metric, tuple(hops))


def _hop(family: int, index: int, view: memoryview) -> NextHop:
    """The next hop that RTA_OIF, RTA_GATEWAY and RTA_VIA of an attribute list describe."""
    gateway: IPAddress | None = None
    for kind, value in attributes(view):
        if kind == 4:  # RTA_OIF
            index = _u32(value)
        elif kind == 5:  # RTA_GATEWAY
            gateway = _ip(family, value)
        elif kind == 18 and len(value) > 2:  # RTA_VIA: a gateway of the other family, with its family before it
            gateway = _ip(int.from_bytes(value[:2], sys.byteorder), value[2:])
    return NextHop(index, gateway)


def _multipath(family: int, view: memoryview) -> Iterator[NextHop]:
    at, end = 0, len(view)
    while at + _NEXT_HOP.size <= end:
        length, _flags, _hops, index = _NEXT_HOP.unpack_from(view, at)
        if not _NEXT_HOP.size <= length <= end - at:
            raise ProtocolError(f"netlink next hop says {length} bytes where {end - at} are left")
        yield _hop(family, index, view[at + _NEXT_HOP.size : at + length])
        at += length + 3 & ~3


def decode_neighbour(payload: memoryview) -> Neighbour | None:
    """RTM_NEWNEIGH: struct ndmsg and attributes; None for an entry that is not IP (a bridge's)."""
    family, index, state, _flags, _type = _fixed(NEIGHBOUR_STRUCT, payload)
    for kind, value in attributes(payload[NEIGHBOUR_STRUCT.size :]):
        if kind == 1 and family in (socket.AF_INET, socket.AF_INET6):  # NDA_DST
            return Neighbour(index, state, _ip(family, value))
    return None


# FRA_*: name and form. Ranges are pairs in the machine's order.
_RULE_ATTRIBUTES: Final = {
    3: ("iif", "text"),
    4: ("goto", "u32"),
    10: ("fwmark", "hex"),
    11: ("realms", "hex"),
    12: ("tun_id", "bytes"),
    13: ("suppress_ifgroup", "u32"),
    14: ("suppress_prefixlength", "u32"),
    15: ("lookup", "u32"),
    16: ("fwmask", "hex"),
    17: ("oif", "text"),
    19: ("l3mdev", "bytes"),
    20: ("uidrange", "u32 u32"),
    22: ("ipproto", "bytes"),
    23: ("sport", "u16 u16"),
    24: ("dport", "u16 u16"),
}
_RULE_ACTIONS: Final = {1: "", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}


def decode_rule(payload: memoryview) -> Rule | None:
    """RTM_NEWRULE, RTM_DELRULE: struct fib_rule_hdr and attributes; None for a family that is not IP (multicast)."""
    family, dst_length, src_length, tos, table, _res1, _res2, action, flags = _fixed(ROUTE_STRUCT, payload)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    priority = protocol = 0
    source = target = b""
    incoming = ""
    words: list[tuple[int, str]] = []
    for kind, value in attributes(payload[ROUTE_STRUCT.size :]):
        if kind == 1:  # FRA_DST
            target = bytes(value)
        elif kind == 2:  # FRA_SRC
            source = bytes(value)
        elif kind == 6:  # FRA_PRIORITY
            priority = _u32(value)
        elif kind == 15:  # FRA_TABLE
            table = _u32(value)
        elif kind == 21:  # FRA_PROTOCOL
            protocol = value[0] if len(value) else 0
        elif kind != 18 and bytes(value) != b"\xff\xff\xff\xff":  # FRA_PAD; all ones: nothing is suppressed
            words.append((kind, _rule_word(kind, value)))
            incoming = _text(value) if kind == 3 else incoming
    origin = _network(family, source, src_length) if src_length else None
    parts = ["inet" if family == socket.AF_INET else "inet6", f"{priority}:"]
    parts += ["not"] if flags & FIB_RULE_INVERT else []
    parts.append(f"from {origin or 'all'}")
    parts += [f"to {_network(family, target, dst_length)}"] if dst_length else []
    parts += [f"tos {tos}"] if tos else []
    parts += [word for _, word in sorted(words)]
    parts += [f"lookup {table}"] if table else []
    parts += [_RULE_ACTIONS.get(action, f"action {action}")]
    text = " ".join(part for part in parts if part)
    return Rule(family, priority, text, protocol, origin, incoming, bool(flags & FIB_RULE_INVERT))


def _rule_word(kind: int, value: memoryview) -> str:
    name, form = _RULE_ATTRIBUTES.get(kind, (f"attribute {kind}", "bytes"))
    raw = bytes(value)
    if form == "text":
        return f"{name} {_text(value)}"
    if form == "u32":
        return f"{name} {_u32(value)}"
    if form == "hex":
        return f"{name} {_u32(value):#x}"
    if form == "u32 u32" and len(raw) == 8:
        return "{} {}-{}".format(name, *struct.unpack("=II", raw))
    if form == "u16 u16" and len(raw) == 4:
        return "{} {}-{}".format(name, *struct.unpack("=HH", raw))
    return f"{name} {raw.hex()}"


def _fixed(form: struct.Struct, payload: memoryview) -> tuple[int, ...]:
    if len(payload) < form.size:
        raise ProtocolError(f"netlink message has {len(payload)} bytes, fewer than {form.size}")
    return form.unpack_from(payload)


def _u32(value: memoryview) -> int:
    if len(value) != 4:
        raise ProtocolError(f"netlink attribute has {len(value)} bytes instead of 4")
    number: int = _U32.unpack(value)[0]
    return number


def _text(value: memoryview) -> str:
    return bytes(value).split(b"\0", 1)[0].decode(errors="replace")


def _ip(family: int, value: memoryview | bytes) -> IPAddress:
    raw = bytes(value)
    if family == socket.AF_INET and len(raw) == 4:
        return IPv4Address(raw)
    if family == socket.AF_INET6 and len(raw) == 16:
        return IPv6Address(raw)
    raise ProtocolError(f"netlink address of family {family} has {len(raw)} bytes")


def _network(family: int, address: bytes, length: int) -> IPNetwork:
    size = 4 if family == socket.AF_INET else 16
    if length > 8 * size or len(address) not in (0, size):
        raise ProtocolError(f"netlink prefix of family {family} has {len(address)} bytes and length {length}")
    padded = address or bytes(size)
    if family == socket.AF_INET:
        return IPv4Network((padded, length), strict=False)
    return IPv6Network((padded, length), strict=False)
