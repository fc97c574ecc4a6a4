"""Whether the STUN servers answer: asked when somebody wants to see the status, never by a timer of our own."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Sequence
from typing import Final

from rxnet.model import ServerAddress
from rxnet.wire import daemon_pb2 as wire

LIMIT: Final = 1.0
"""Seconds for name lookup and answer."""
FRESH: Final = 5.0
"""Seconds for which an answer is good enough."""
_RETRANSMIT: Final = 0.25
_MOST: Final = 8
"""Servers that are asked; a map with more is told about the rest, unchecked."""
_COOKIE: Final = 0x2112A442


def binding_request(transaction: bytes) -> bytes:
    """A STUN binding request without attributes (RFC 8489, section 5)."""
    return struct.pack("!HHI", 0x0001, 0, _COOKIE) + transaction


def is_answer(data: bytes, transaction: bytes) -> bool:
    """Whether a datagram is a success or error response to that request."""
    if len(data) < 20:
        return False
    kind, _length, cookie = struct.unpack_from("!HHI", data)
    return kind in (0x0101, 0x0111) and cookie == _COOKIE and data[8:20] == transaction


class _Caller(asyncio.DatagramProtocol):
    def __init__(self, transaction: bytes) -> None:
        self._transaction = transaction
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if is_answer(data, self._transaction) and not self.answered.done():
            self.answered.set_result(None)

    def error_received(self, exc: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(exc)


async def ask(server: ServerAddress) -> str:
    """Ask one STUN server; returns the error text, empty if it answered."""
    transport: asyncio.DatagramTransport | None = None
    try:
        async with asyncio.timeout(LIMIT):
            loop = asyncio.get_running_loop()
            transaction = secrets.token_bytes(12)
            found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)
            address = found[0][4]
            transport, caller = await loop.create_datagram_endpoint(
                lambda: _Caller(transaction), remote_addr=(str(address[0]), int(address[1]))
            )
            while True:
                transport.sendto(binding_request(transaction))
                done, _ = await asyncio.wait([caller.answered], timeout=_RETRANSMIT)
                if done:
                    caller.answered.result()
                    return ""
    except TimeoutError:
        return f"no answer within {LIMIT:g} s"
    except OSError as error:
        return error.strerror or str(error)
    finally:
        if transport is not None:
            transport.close()


class StunCheck:
    """The STUN servers' states, at most `FRESH` seconds old."""

    def __init__(self) -> None:
        self._asked: tuple[float, tuple[ServerAddress, ...], list[wire.RelayState]] | None = None
        self._lock = asyncio.Lock()

    async def states(self, servers: Sequence[ServerAddress]) -> list[wire.RelayState]:
        """Ask the servers, unless a fresh answer is at hand; takes up to `LIMIT` seconds."""
        loop = asyncio.get_running_loop()
        wanted = tuple(servers)
        async with self._lock:
            if self._asked and self._asked[1] == wanted and loop.time() - self._asked[0] < FRESH:
                return self._asked[2]
            errors = await asyncio.gather(*(ask(server) for server in wanted[:_MOST]))
            errors += ["not checked"] * (len(wanted) - len(errors))
            states = [
                wire.RelayState(URI=_uri(server), available=not error, error=error)
                for server, error in zip(wanted, errors, strict=True)
            ]
            self._asked = loop.time(), wanted, states
            return states


def _uri(server: ServerAddress) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"stun:{host}:{server.port}"
