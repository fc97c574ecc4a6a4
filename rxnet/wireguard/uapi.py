"""WireGuard's userspace configuration protocol, sans I/O: bytes in, values out.

Source: "Cross-platform userspace implementation", WireGuard project, section Configuration Protocol. A request is
lines `key=value` that begin with `set=1` or `get=1` and end with an empty line; an answer ends with `errno=N` and an
empty line. Keys are hex here, everywhere else in rxnet base64.

A private key is only ever written; in answers its line is skipped, so that it never becomes a value.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

from rxnet.errors import ProtocolError
from rxnet.model import Endpoint, PeerKey
from rxnet.wireguard.device import PeerStats
from rxnet.wireguard.peers import PeerChange

GET = b"get=1\n\n"

MAX_LINE = 4096
"""Bytes of one line of an answer; real ones stay under 150."""


# -- requests ----------------------------------------------------------------------------------------------------


def encode_interface(*, private_key: bytes | None = None, listen_port: int | None = None) -> bytes:
    """Write a `set` request for the interface itself.

    Give `listen_port` once in a device's life and never again: even the same number makes the program bind anew,
    which fails while ICE shares its port, and leaves it deaf.
    """
    lines = ["set=1"]
    if private_key is not None:
        if len(private_key) != 32:
            raise ValueError("a WireGuard private key has 32 bytes")
        lines += [f"private_key={private_key.hex()}", "replace_peers=true"]
    if listen_port is not None:
        lines.append(f"listen_port={listen_port}")
    return ("\n".join(lines) + "\n\n").encode()


def encode_peers(changes: Iterable[PeerChange]) -> bytes:
    """Write one `set` request for these peers, in this order.

    :raises ProtocolError: a key is not base64 of 32 bytes.
    """
    lines = ["set=1"]
    for change in changes:
        _peer(lines, change)
    return ("\n".join(lines) + "\n\n").encode()


def _peer(lines: list[str], change: PeerChange) -> None:
    head = f"public_key={key_to_hex(change.key)}"
    lines.append(head)
    if change.remove:
        lines.append("remove=true")
        if change.wanted is None:
            return
        lines.append(head)
    if change.update_only:
        lines.append("update_only=true")
    if change.allowed_ips is not None:
        lines.append("replace_allowed_ips=true")
        lines.extend(f"allowed_ip={network}" for network in change.allowed_ips)
    if change.endpoint is not None:
        lines.append(f"endpoint={change.endpoint}")
    if change.keepalive is not None:
        if change.endpoint is not None and change.keepalive:
            # The program sends a packet at once only when the keepalive goes from off to on.
            lines.append("persistent_keepalive_interval=0")
        lines.append(f"persistent_keepalive_interval={change.keepalive}")


def key_to_hex(key: str) -> str:
    """Base64 text of 32 bytes as 64 hex digits.

    :raises ProtocolError: the text is something else.
    """
    try:
        raw = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise ProtocolError(f"{key[:44]!r} is not a WireGuard key: base64 of 32 bytes is needed")
    return raw.hex()


def key_from_hex(text: str) -> PeerKey:
    """The reverse of `key_to_hex`.

    :raises ProtocolError: the text is not 64 hex digits.
    """
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32 or len(text) != 64:
        raise ProtocolError("WireGuard's answer names a peer by something that is no key of 64 hex digits")
    return PeerKey(base64.b64encode(raw).decode())


# -- answers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What the program said. `listen_port` and `peers` only after `get=1`."""

    errno: int
    """0 is success; programs give it negative, here it is positive."""
    listen_port: int = 0
    peers: dict[PeerKey, PeerStats] = field(default_factory=dict)

    @property
    def error(self) -> str:
        """The error in words, empty for none."""
        if not self.errno:
            return ""
        return f"{os.strerror(self.errno)} ({errno.errorcode.get(self.errno, self.errno)})"


class AnswerParser:
    """Reads one answer piece by piece: `feed` bytes until it returns the `Answer`."""

    def __init__(self) -> None:
        self._rest = b""
        self._errno: int | None = None
        self._listen_port = 0
        self._peers: dict[PeerKey, PeerStats] = {}
        self._key: PeerKey | None = None
        self._values: dict[str, str] = {}

    def feed(self, data: bytes) -> Answer | None:
        """Take the next bytes; gives the answer when it is complete. What comes after it is ignored.

        :raises ProtocolError: the bytes are no answer.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            raise ProtocolError(f"WireGuard's answer has a line of more than {MAX_LINE} bytes")
        for line in lines:
            if not line:
                return self._finish()
            self._line(line)
        return None

    def _line(self, line: bytes) -> None:
        key, equals, value = line.decode("ascii", "replace").partition("=")
        if not equals:
            raise ProtocolError("WireGuard's answer has a line without '='")
        if key == "public_key":
            self._end_peer()
            self._key = key_from_hex(value)
        elif key == "errno":
            self._errno = _number(key, value.removeprefix("-"), 4096)
        elif self._key is not None:
            if key in _PEER_KEYS:
                self._values[key] = value
        elif key == "listen_port":
            self._listen_port = _number(key, value, 65535)

    def _end_peer(self) -> None:
        if self._key is None:
            return
        values = self._values
        seconds = _number("last_handshake_time_sec", values.get("last_handshake_time_sec", "0"))
        nanoseconds = _number("last_handshake_time_nsec", values.get("last_handshake_time_nsec", "0"))
        self._peers[self._key] = PeerStats(
            rx_bytes=_number("rx_bytes", values.get("rx_bytes", "0")),
            tx_bytes=_number("tx_bytes", values.get("tx_bytes", "0")),
            last_handshake=seconds + nanoseconds / 1e9 if seconds or nanoseconds else None,
            endpoint=_endpoint(values["endpoint"]) if "endpoint" in values else None,
        )
        self._key = None
        self._values = {}

    def _finish(self) -> Answer:
        self._end_peer()
        if self._errno is None:
            raise ProtocolError("WireGuard's answer ended without errno")
        return Answer(self._errno, self._listen_port, self._peers)


_PEER_KEYS = frozenset(("endpoint", "rx_bytes", "tx_bytes", "last_handshake_time_sec", "last_handshake_time_nsec"))


def _number(key: str, text: str, limit: int = 2**64 - 1) -> int:
    # isdigit() alone would let other scripts' digits through, and int() signs, spaces and underscores.
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > limit:
        raise ProtocolError(f"WireGuard's answer has a {key} that is no number from 0 to {limit}")
    return int(text)


def _endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        return Endpoint(str(ip_address(host)), _number("endpoint port", port, 65535))
    except ValueError:
        raise ProtocolError("WireGuard's answer has an endpoint that is no address and port") from None
