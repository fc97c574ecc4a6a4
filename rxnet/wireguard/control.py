"""Talks to the control socket (UAPI) of a userspace WireGuard."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct

from rxnet.errors import DeviceError, ProtocolError
from rxnet.wireguard.uapi import GET, Answer, AnswerParser

_PIECE = 64 * 1024


class Control:
    """Opens one connection per request: they are cheap, and the program ends a connection after an error."""

    def __init__(self, path: str, limit: float = 5.0) -> None:
        self.path = path
        self._limit = limit
        """Seconds without any progress after which the program counts as stuck."""

    async def get(self) -> Answer:
        """Ask for the port and all peers.

        :raises DeviceError: see `request`.
        """
        return await self.request(GET)

    async def request(self, data: bytes) -> Answer:
        """Send a request and read its answer.

        :raises DeviceError: no connection, no progress within the limit, or an answer that is none.
        """
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            try:
                async with asyncio.timeout(self._limit):
                    await loop.sock_connect(sock, self.path)
                for start in range(0, len(data), _PIECE):
                    async with asyncio.timeout(self._limit):
                        await loop.sock_sendall(sock, data[start : start + _PIECE])
                return await self._answer(sock)
            except TimeoutError:
                raise DeviceError(f"WireGuard did not answer on {self.path} for {self._limit:g} s") from None
            except OSError as error:
                raise DeviceError(f"WireGuard cannot be asked on {self.path}: {error.strerror or error}") from None
            except ProtocolError as error:
                raise DeviceError(str(error)) from None

    async def _answer(self, sock: socket.socket) -> Answer:
        parser = AnswerParser()
        while True:
            async with asyncio.timeout(self._limit):
                data = await asyncio.get_running_loop().sock_recv(sock, _PIECE)
            if not data:
                raise DeviceError(f"WireGuard hung up on {self.path} without an answer")
            answer = parser.feed(data)
            if answer is not None:
                return answer
            # sock_recv does not let others run when data is there already, and 10,000 peers are megabytes.
            await asyncio.sleep(0)


def control_path(name: str) -> str:
    """Where programs put the control socket of an interface, free of symbolic links.

    (A link in it would be followed out of `/proc/PID/root`.)
    """
    return f"{os.path.realpath('/var/run')}/wireguard/{name}.sock"


def listener(path: str) -> int | None:
    """The process that listens on this unix socket; None if nobody does: no file, or its owner is dead."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(0.2)
        sock.connect(path)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[0])
    return None
