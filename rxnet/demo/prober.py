"""ICMP echo (what `ping` sends) from inside any of the demo's namespaces, with the kernel's time of arrival.

A socket belongs for good to the namespace of the thread that made it. So one event loop here holds sockets of all
hosts, without a process for each pair of them. The answers come from the kernel at the tunnel's other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

_CLONE_NEWNET: Final = 0x40000000
_SO_TIMESTAMPNS: Final = 35
_ICMP6_FILTER: Final = 1
_ECHO, _ECHO_REPLY = 8, 0
_ECHO6, _ECHO6_REPLY = 128, 129
_IDENTS = itertools.count(os.getpid())


@dataclass(slots=True)
class Ping:
    """One request. Times are wall-clock seconds, so that they compare with those of events."""

    sent: float
    answered: float | None = None

    @property
    def seconds(self) -> float | None:
        """The round trip."""
        return self.answered - self.sent if self.answered is not None else None


class Echo:
    """Requests from one namespace to one address. Use it as a context; it needs the running event loop."""

    def __init__(self, namespace: str, target: str) -> None:
        self.target = target
        self.pings: list[Ping] = []
        self._family = socket.AF_INET6 if ":" in target else socket.AF_INET
        self._ident = next(_IDENTS) & 0xFFFF
        self._socket = socket_in(namespace, lambda: _open(self._family))
        self._loop = asyncio.get_running_loop()
        self._answered = asyncio.Event()

    def __enter__(self) -> Echo:
        self._loop.add_reader(self._socket, self._readable)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def send(self) -> Ping:
        """Send one request. If there is no route at the moment, it counts as sent and unanswered."""
        ping = Ping(time.time())
        self.pings.append(ping)
        packet = request(self._family, self._ident, (len(self.pings) - 1) & 0xFFFF)
        with contextlib.suppress(OSError):
            self._socket.sendto(packet, (self.target, 0))
        return ping

    async def first_answer(self, limit: float, interval: float = 0.05) -> bool:
        """Send until a request is answered; False if none is within `limit` seconds."""
        deadline = self._loop.time() + limit
        start = len(self.pings)
        while self._loop.time() < deadline:
            self.send()
            await asyncio.sleep(interval)
            if any(ping.answered is not None for ping in self.pings[start:]):
                return True
        return False

    async def several(self, count: int, interval: float, patience: float) -> list[Ping]:
        """Send `count` requests and wait for their answers, `patience` seconds for the last ones."""
        sent = []
        for _ in range(count):
            sent.append(self.send())
            await asyncio.sleep(interval)
        deadline = self._loop.time() + patience
        while any(ping.answered is None for ping in sent):
            self._answered.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._answered.wait()
            except TimeoutError:
                break
        return sent

    def _readable(self) -> None:
        for _ in range(64):
            try:
                data, ancillary, _, source = self._socket.recvmsg(2048, 128)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error; reading it cleared it
            number = reply(self._family, data, self._ident) if source[0] == self.target else None
            if number is not None:
                self._answer(number, _arrival(ancillary))

    def _answer(self, number: int, at: float) -> None:
        # Numbers have 16 bits: the latest request with this number is meant.
        index = len(self.pings) - 1 - ((len(self.pings) - 1 - number) & 0xFFFF)
        if index >= 0 and self.pings[index].answered is None:
            self.pings[index].answered = at
            self._answered.set()


def request(family: int, ident: int, number: int) -> bytes:
    """An echo request (RFC 792; RFC 4443 section 4.1, whose checksum the kernel fills in)."""
    kind = _ECHO if family == socket.AF_INET else _ECHO6
    body = struct.pack("!HH", ident, number) + bytes(range(48))
    total = checksum(struct.pack("!BBH", kind, 0, 0) + body) if family == socket.AF_INET else 0
    return struct.pack("!BBH", kind, 0, total) + body


def reply(family: int, packet: bytes, ident: int) -> int | None:
    """The number of the request that a received packet answers; None if it answers none of `ident`."""
    if family == socket.AF_INET:  # a raw IPv4 socket gives the IP header too
        if not packet:
            return None
        packet = packet[(packet[0] & 15) * 4 :]
    if len(packet) < 8 or packet[0] != (_ECHO_REPLY if family == socket.AF_INET else _ECHO6_REPLY):
        return None
    theirs = int.from_bytes(packet[4:6])
    return int.from_bytes(packet[6:8]) if theirs == ident else None


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _open(family: int) -> socket.socket:
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    if family == socket.AF_INET6:
        # A bit that is set blocks its type: let echo replies pass alone.
        words = [0xFFFFFFFF] * 8
        words[_ECHO6_REPLY // 32] &= ~(1 << _ECHO6_REPLY % 32)
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))
    return sock


def _arrival(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= 16:
            seconds, nanoseconds = struct.unpack("=qq", data[:16])
            return float(seconds + nanoseconds / 1e9)
    return time.time()


def socket_in(namespace: str, make: Callable[[], socket.socket]) -> socket.socket:
    """Call `make` in a network namespace and return the socket it made.

    :raises OSError: if the namespace cannot be entered or the socket not made.
    """
    made: list[socket.socket | BaseException] = []

    def enter() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = os.open(Path("/run/netns") / namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(descriptor, _CLONE_NEWNET):
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
            finally:
                os.close(descriptor)
            made.append(make())
        except BaseException as error:
            made.append(error)

    # A thread of its own: setns moves the calling thread alone, and this one ends here.
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    found = made[0]
    if isinstance(found, BaseException):
        raise found
    return found
