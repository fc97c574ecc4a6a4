"""STUN messages as bytes: finding them in a datagram, and reading them without trust (RFC 8489 section 5)."""

from __future__ import annotations

import struct

from aioice import stun

COOKIE = 0x2112A442
MAGIC = COOKIE.to_bytes(4, "big")
HEADER = 20
"""Bytes of a STUN header: type, length, cookie, transaction id."""
LONGEST = 1400
"""Bytes of the longest message read. ICE's are 64 to 200; nothing that a tunnel's MTU lets pass is longer."""

REQUEST, INDICATION, RESPONSE, ERROR = 0x0000, 0x0010, 0x0100, 0x0110
_CLASS_MASK = 0x0110
_USERNAME = 0x0006

Address = tuple[str, int]
"""A UDP address as the socket module gives it: literal IP without zone, and port."""


def split_stun(payload: bytes) -> tuple[list[bytes], int]:
    """The STUN messages in what one receive gave, and how many bytes were something else.

    The kernel merges datagrams of one sender (GRO): several of one length, a shorter one at the end. So there are
    STUN messages at the head, or one at the end behind WireGuard's datagrams.
    """
    found = []
    while len(payload) >= HEADER and payload[4:8] == MAGIC:
        size = HEADER + (payload[2] << 8 | payload[3])
        if size > len(payload):
            break
        found.append(payload[:size])
        payload = payload[size:]
    at = payload.rfind(MAGIC, max(0, len(payload) - 300)) - 4
    if at >= 0 and len(payload) - at == HEADER + (payload[at + 2] << 8 | payload[at + 3]):
        found.append(payload[at:])
        payload = payload[:at]
    return found, len(payload)


def message_class(message: bytes) -> int:
    """REQUEST, INDICATION, RESPONSE or ERROR of a message of at least 20 bytes."""
    return (message[0] << 8 | message[1]) & _CLASS_MASK


def transaction_id(message: bytes) -> bytes:
    """The 12 bytes by which an answer finds its request."""
    return message[8:HEADER]


def username(message: bytes) -> str:
    """The USERNAME of a request, `receiver:sender`; empty if it has none."""
    at, end = HEADER, len(message)
    while at + 4 <= end:
        kind, size = struct.unpack_from("!HH", message, at)
        if kind == _USERNAME:
            return message[at + 4 : at + 4 + size].decode("utf-8", "replace")
        at += 4 + size + (-size & 3)
    return ""


def parse_stun(message: bytes) -> stun.Message | None:
    """Read a message; None for bytes that are none.

    Attributes behind MESSAGE-INTEGRITY are not read (Go peers put 0x8100 there, behind FINGERPRINT even).
    """
    if len(message) > LONGEST:
        return None
    try:
        return stun.parse_message(message)
    except (ValueError, struct.error):  # struct.error: a number attribute that is too short for its number
        return None
