"""ICE candidates as signal carries them: text <-> `rxnet.model.Candidate`, and the values a candidate is made of.

The text is the candidate attribute of SDP (RFC 8839 section 5.1) with the limits and habits of Go peers (signal
document, 2.4), tokens separated by exactly one space:

    <foundation> <component> <transport> <priority> <address> <port> typ <type>
        [ raddr <addr> rport <port>][ <key> <value>]...

Pure functions; text that does not follow the form raises `ProtocolError`.
"""

from __future__ import annotations

import base64
import re
import secrets
import zlib
from ipaddress import IPv4Address, IPv6Address, ip_address

from rxnet.errors import ProtocolError
from rxnet.model import Candidate, IPAddress

MAX_TEXT = 1024
"""Characters of a candidate text. Go peers send about 130; the bound keeps a hostile peer's extensions small."""

TYPES = ("host", "srflx", "prflx", "relay")

_PREFIX = "candidate:"
_FOUNDATION = re.compile(r"[A-Za-z0-9+/]{0,32}")
_TYPE_PREFERENCES = {"host": 126, "prflx": 110, "srflx": 100, "relay": 0}
_TCP_TYPES = ("active", "passive", "so")
_CID_BYTES = 24  # 32 characters of base64


# -- text --------------------------------------------------------------------------------------------------------


def parse_candidate(text: str) -> Candidate:
    """Parse a candidate text, with or without the prefix `candidate:`.

    The address comes out canonical: no zone, IPv4-mapped IPv6 as IPv4 (packet sources are compared with it). Names,
    `.local` ones included, and addresses that nobody can send to are refused.

    :raises ProtocolError: names the part that is wrong.
    """
    if len(text) > MAX_TEXT:
        raise ProtocolError(f"candidate text has {len(text)} characters, more than {MAX_TEXT}")
    if not text.isprintable():
        raise ProtocolError("candidate text contains unprintable characters")
    tokens = text.removeprefix(_PREFIX).split(" ")
    if len(tokens) < 8:
        raise ProtocolError(f"candidate text has {len(tokens)} parts, fewer than 8")
    foundation, component, transport, priority, address, port, typ, type_ = tokens[:8]
    if not _FOUNDATION.fullmatch(foundation):
        raise ProtocolError("candidate foundation is not at most 32 characters of A-Z a-z 0-9 + /")
    if transport.lower() not in ("udp", "tcp"):
        raise ProtocolError(f"candidate transport {_short(transport)} is neither udp nor tcp")
    if typ != "typ":
        raise ProtocolError(f"candidate has {_short(typ)} where `typ` belongs")
    if type_ not in TYPES:
        raise ProtocolError(f"candidate type {_short(type_)} is not one of {', '.join(TYPES)}")
    related_address, related_port, rest = _related(tokens[8:])
    return Candidate(
        foundation=foundation,
        component=_number("component", component, 5, 0xFFFF),
        transport=transport.lower(),
        priority=_number("priority", priority, 10, 0xFFFFFFFF),
        address=str(_sendable(address)),
        port=_number("port", port, 5, 0xFFFF, least=1),
        type=type_,
        related_address=related_address,
        related_port=related_port,
        extensions=_extensions(rest),
    )


def format_candidate(candidate: Candidate) -> str:
    """Write a candidate the way Go peers do: canonical addresses, `raddr` only with address and port, no prefix.

    :raises ProtocolError: a value would not survive the way: a space within, a number out of range, an unknown type.
    """
    parts = [
        candidate.foundation,
        str(candidate.component),
        candidate.transport,
        str(candidate.priority),
        str(_sendable(candidate.address)),
        str(candidate.port),
        "typ",
        candidate.type,
    ]
    if candidate.related_address and candidate.related_port:
        parts += ["raddr", _canonical(candidate.related_address), "rport", str(candidate.related_port)]
    for index, (key, value) in enumerate(candidate.extensions):
        last = index == len(candidate.extensions) - 1
        parts += [key] if last and not value else [key, value]
    text = " ".join(parts)
    # Whoever formats nonsense shall hear of it here, not through the silence of the other side.
    if parse_candidate(text).extensions != candidate.extensions:
        raise ProtocolError("candidate extensions cannot be written: a space within, or `raddr` among them")
    return text


def _related(tokens: list[str]) -> tuple[str, int, list[str]]:
    """Take `raddr ADDRESS rport PORT` from the head of `tokens`: address, port and the tokens left."""
    if not tokens or tokens[0] != "raddr":
        return "", 0, tokens
    if len(tokens) < 4 or not tokens[1] or tokens[2] != "rport":
        raise ProtocolError("candidate has `raddr` without an address and `rport` after it")
    return _canonical(tokens[1]), _number("rport", tokens[3], 5, 0xFFFF), tokens[4:]


def _extensions(tokens: list[str]) -> tuple[tuple[str, str], ...]:
    """Pair up the rest. The last key may lack its value; `tcptype` is checked because Go peers refuse others."""
    if len(tokens) % 2:
        tokens = [*tokens, ""]
    pairs = tuple(zip(tokens[::2], tokens[1::2], strict=True))
    for index, (key, value) in enumerate(pairs):
        if not key or (not value and index < len(pairs) - 1):
            raise ProtocolError("candidate has two spaces in a row among its extensions")
        if key == "tcptype" and value not in _TCP_TYPES:
            raise ProtocolError(f"candidate tcptype {_short(value)} is not one of {', '.join(_TCP_TYPES)}")
    return pairs


def _number(name: str, text: str, digits: int, limit: int, least: int = 0) -> int:
    # isdigit() alone would let other scripts' digits through, and int() signs, spaces and underscores.
    if not (text.isascii() and text.isdigit()) or len(text) > digits or not least <= int(text) <= limit:
        raise ProtocolError(f"candidate {name} {_short(text)} is not a number from {least} to {limit}")
    return int(text)


def _sendable(text: str) -> IPAddress:
    """The address of a candidate: literal, and one that a datagram can be sent to."""
    if text.lower().endswith(".local"):
        raise ProtocolError("candidate address is a .local name: multicast DNS is not used")
    address = _literal(text)
    if address is None:
        raise ProtocolError(f"candidate address {_short(text)} is not a literal IP address")
    if address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise ProtocolError(f"candidate address {address} is not one that can be sent to")
    return address


def _literal(text: str) -> IPAddress | None:
    host, _, _zone = text.partition("%")
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _canonical(text: str) -> str:
    """A related address is only told, never sent to: what is no literal (a browser's hidden one) stays as it is."""
    address = _literal(text)
    return text if address is None else str(address)


def _short(text: str) -> str:
    return repr(text if len(text) <= 48 else text[:45] + "...")


# -- values ------------------------------------------------------------------------------------------------------


def candidate_foundation(type: str, address: str) -> str:
    """The foundation as Go peers compute it: decimal CRC-32 of type, canonical address and `udp4` or `udp6`.

    :raises ProtocolError: the address is not a literal IP address.
    """
    literal = _literal(address)
    if literal is None:
        raise ProtocolError(f"candidate address {_short(address)} is not a literal IP address")
    return str(zlib.crc32(f"{type}{literal}udp{literal.version}".encode()))


def candidate_priority(type: str, component: int = 1, local_preference: int = 65535) -> int:
    """The recommended formula (RFC 8445 section 5.1.2.1): 2130706431 for a host candidate of component 1.

    :raises ProtocolError: the type is unknown.
    """
    preference = _TYPE_PREFERENCES.get(type)
    if preference is None:
        raise ProtocolError(f"candidate type {_short(type)} is not one of {', '.join(TYPES)}")
    return (preference << 24) + (local_preference << 8) + (256 - component)


def new_candidate_id() -> str:
    """Make a `cid`: 32 random characters, by which Go peers tell candidates apart."""
    return base64.b64encode(secrets.token_bytes(_CID_BYTES)).decode()


def new_candidate(
    type: str, address: str, port: int, *, ufrag: str, related_address: str = "", related_port: int = 0
) -> Candidate:
    """Make a UDP candidate of ours with the extensions that Go peers expect, `ufrag` and a new `cid`.

    `related_address` and `related_port` are the base of an srflx candidate; Go peers put `0.0.0.0` and the shared
    port there.

    :raises ProtocolError: the address is not a literal one that can be sent to, the type unknown or the port 0.
    """
    candidate = Candidate(
        foundation=candidate_foundation(type, address),
        priority=candidate_priority(type),
        address=str(_sendable(address)),
        port=port,
        type=type,
        related_address=related_address,
        related_port=related_port,
        extensions=(("ufrag", ufrag), ("cid", new_candidate_id())),
    )
    format_candidate(candidate)
    return candidate


def host_candidate(address: str, port: int, *, ufrag: str) -> Candidate:
    """Make a host candidate of ours: an address of this machine and the port that WireGuard and ICE share."""
    return new_candidate("host", address, port, ufrag=ufrag)
