"""An HTTP proxy that knows CONNECT and nothing else, for tests of the ways to a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from rxnet.model import ServerAddress


def forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove every variable by which the environment could name a proxy."""
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Proxy:
    """An HTTP proxy that connects to one place, whatever it is asked for."""

    def __init__(self, target: ServerAddress, status: str = "200 OK") -> None:
        self.target = target
        self.status = status
        self.asked: list[str] = []
        self.credentials: list[str] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        self.asked.append(head[0].split()[1])
        self.credentials += [line.split()[-1] for line in head if line.lower().startswith("proxy-authorization:")]
        writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
        if not self.status.startswith("200"):
            await writer.drain()
            writer.close()
            return
        back_reader, back_writer = await asyncio.open_connection(self.target.host, self.target.port)
        try:
            await asyncio.gather(_pump(reader, back_writer), _pump(back_reader, writer))
        finally:
            back_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def proxying(proxy: Proxy) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await proxy.talk(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
