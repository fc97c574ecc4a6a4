"""A STUN server for binding requests (RFC 8489), so that peers learn their address outside a NAT.

`respond` is sans-I/O. `StunServer` puts it on UDP sockets, one for each address that the host name stands for. It
answers from the very address that was asked (IP_PKTINFO): on a host with several addresses the answer would
otherwise leave from another one, and a NAT or a client drops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import zlib
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from rxnet.errors import ConfigError
from rxnet.log import logger

_HEADER = struct.Struct("!HHI12s")
_COOKIE = 0x2112A442
_BINDING_REQUEST = 0x0001
_BINDING_SUCCESS = 0x0101
_BINDING_ERROR = 0x0111
_ERROR_CODE = 0x0009
_UNKNOWN_ATTRIBUTES = 0x000A
_XOR_MAPPED_ADDRESS = 0x0020
_FINGERPRINT = 0x8028
_FINGERPRINT_XOR = 0x5354554E
# Comprehension-required attributes that a binding request may carry and this server may pass over: USERNAME,
# MESSAGE-INTEGRITY, REALM, NONCE, MESSAGE-INTEGRITY-SHA256, PASSWORD-ALGORITHM, USERHASH; ICE's PRIORITY and
# USE-CANDIDATE; RFC 5780's CHANGE-REQUEST is not among them, because we do not do what it asks.
_UNDERSTOOD = frozenset((0x0006, 0x0008, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E, 0x0024, 0x0025))

_LARGEST = 2048
_BATCH = 64
_LOG_INTERVAL = 60.0


def respond(datagram: bytes, source: tuple[str, int]) -> bytes | None:
    """Answer one datagram from `source` (literal IP without zone, port), or None if there is nothing to answer.

    Success with XOR-MAPPED-ADDRESS, or error 420 when the request demands something unknown. Anything but a
    well-formed binding request, indications included, gives None: an answer to garbage would serve reflection.
    """
    if len(datagram) < _HEADER.size or len(datagram) % 4:
        return None
    kind, length, cookie, transaction = _HEADER.unpack_from(datagram)
    if kind != _BINDING_REQUEST or cookie != _COOKIE or length != len(datagram) - _HEADER.size:
        return None
    attributes = _attributes(datagram)
    if attributes is None:
        return None
    types = [number for number, _ in attributes]
    if _FINGERPRINT in types and not _fingerprint_holds(datagram, attributes):
        return None
    unknown = sorted({number for number in types if number < 0x8000 and number not in _UNDERSTOOD})
    if unknown:
        reason = b"Unknown Attribute"
        error = struct.pack("!HBB", 0, 4, 20) + reason
        body = _attribute(_ERROR_CODE, error)
        body += _attribute(_UNKNOWN_ATTRIBUTES, struct.pack(f"!{len(unknown[:16])}H", *unknown[:16]))
        return _message(_BINDING_ERROR, transaction, body, fingerprint=_FINGERPRINT in types)
    body = _attribute(_XOR_MAPPED_ADDRESS, _xor_address(source, transaction))
    return _message(_BINDING_SUCCESS, transaction, body, fingerprint=_FINGERPRINT in types)


def _attributes(datagram: bytes) -> list[tuple[int, int]] | None:
    """Type and offset of every attribute, or None if one runs over the end."""
    found, offset = [], _HEADER.size
    while offset < len(datagram):
        kind, length = struct.unpack_from("!HH", datagram, offset)
        found.append((kind, offset))
        offset += 4 + (length + 3) // 4 * 4
    return found if offset == len(datagram) else None


def _fingerprint_holds(datagram: bytes, attributes: list[tuple[int, int]]) -> bool:
    kind, offset = attributes[-1]
    if kind != _FINGERPRINT or len(datagram) != offset + 8:
        return False
    (value,) = struct.unpack_from("!I", datagram, offset + 4)
    return bool(value == zlib.crc32(datagram[:offset]) ^ _FINGERPRINT_XOR)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _xor_address(source: tuple[str, int], transaction: bytes) -> bytes:
    address = ip_address(source[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    mask = struct.pack("!I", _COOKIE) + transaction
    mixed = bytes(a ^ b for a, b in zip(address.packed, mask, strict=False))
    family = 1 if isinstance(address, IPv4Address) else 2
    return struct.pack("!BBH", 0, family, source[1] ^ (_COOKIE >> 16)) + mixed


def _message(kind: int, transaction: bytes, body: bytes, *, fingerprint: bool) -> bytes:
    # The length in the header counts the fingerprint before it is computed (RFC 8489 section 14.7).
    length = len(body) + (8 if fingerprint else 0)
    message = _HEADER.pack(kind, length, _COOKIE, transaction) + body
    if fingerprint:
        message += _attribute(_FINGERPRINT, struct.pack("!I", zlib.crc32(message) ^ _FINGERPRINT_XOR))
    return message


class StunServer:
    """`respond` on UDP. `port` 0 takes a free one, the same for both address families."""

    def __init__(self, host: str, port: int, *, clock: Callable[[], float] | None = None) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._sockets: list[socket.socket] = []
        self._ignored = 0
        self._logged_at = -_LOG_INTERVAL

    @property
    def port(self) -> int:
        """The port that is served, once started."""
        return self._port

    @property
    def ignored(self) -> int:
        """How many datagrams were not answered."""
        return self._ignored

    async def start(self) -> None:
        """Open the sockets. Raises `ConfigError` naming address and port if that cannot be."""
        loop = asyncio.get_running_loop()
        if self._host == "::" and not socket.has_dualstack_ipv6():
            self._host = "0.0.0.0"  # a kernel without IPv6
        try:
            found = await loop.getaddrinfo(
                self._host or None, self._port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise ConfigError(f"the STUN server cannot resolve {self._host!r}: {error.strerror or error}") from error
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                self._open(family, (address[0], self._port, *address[2:]))
        except OSError as error:
            await self.stop()
            mend = "choose another port" if error.errno == errno.EADDRINUSE else "check the address to listen on"
            raise ConfigError(
                f"the STUN server cannot listen on {self._host or 'any address'} port {self._port}/udp: "
                f"{error.strerror or error}; {mend}"
            ) from error
        for sock in self._sockets:
            loop.add_reader(sock.fileno(), self._readable, sock)

    async def stop(self) -> None:
        """Close the sockets."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    def _open(self, family: int, address: tuple[object, ...]) -> None:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._sockets.append(sock)
        if family == socket.AF_INET6:
            # The wildcard is served for both families by one socket; v4 sources then come as mapped addresses.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind(address)
        self._port = sock.getsockname()[1]

    def _readable(self, sock: socket.socket) -> None:
        for _ in range(_BATCH):  # a flood must not keep the loop from everything else
            try:
                datagram, ancillary, _, source = sock.recvmsg(_LARGEST, 256)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error about an earlier answer: nobody's business
            try:
                answer = respond(datagram, (source[0].partition("%")[0], source[1]))
            except ValueError:
                answer = None
            if answer is None:
                self._ignore()
                continue
            with contextlib.suppress(
                OSError
            ):  # a full buffer or a vanished route: UDP may lose it, the client asks again
                sock.sendmsg([answer], [_from_where(item) for item in ancillary if _tells_where(item)], 0, source)

    def _ignore(self) -> None:
        self._ignored += 1
        now = (self._clock or asyncio.get_running_loop().time)()
        if now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            logger.debug("STUN: {} datagrams so far were not binding requests", self._ignored)


_IP_PKTINFO = 8  # <linux/in.h>; the socket module learnt the name only in Python 3.14


def _tells_where(item: tuple[int, int, bytes]) -> bool:
    return item[:2] in ((socket.IPPROTO_IP, _IP_PKTINFO), (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO))


def _from_where(item: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """Turn "came to this address on this interface" into "send from this address"."""
    level, kind, data = item
    if level == socket.IPPROTO_IP:  # struct in_pktinfo: ifindex, local address, destination of the header
        _, local, _ = struct.unpack("@i4s4s", data)
        return level, kind, struct.pack("@i4s4s", 0, local, bytes(4))
    return level, kind, data
