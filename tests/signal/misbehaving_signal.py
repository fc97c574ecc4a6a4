"""Signal servers for the driver's tests: a gRPC one that does as told, raw HTTP/2, and a TCP relay that can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from rxnet.model import ServerAddress
from rxnet.wire.services import HEADER_PEER_ID, HEADER_PEER_REGISTERED, SIGNAL_SERVICE
from rxnet.wire.signalexchange_pb2 import EncryptedMessage

Context = Any


class FakeSignal:
    """Routes messages like the real one; attributes change what it does."""

    def __init__(self) -> None:
        self.queues: dict[str, asyncio.Queue[bytes | tuple[grpc.StatusCode, str]]] = {}
        self.registered = asyncio.Condition()
        self.with_header = True
        self.refuse: tuple[grpc.StatusCode, str] | None = None
        self.brings_heartbeats_back = True
        self.heartbeats = 0
        self.streams_over = 0
        self.written = 0
        self.sends: list[EncryptedMessage] = []
        self.on_send: Callable[[EncryptedMessage, Context], Awaitable[None]] | None = None
        self.news = asyncio.Condition()
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.address = ServerAddress("127.0.0.1", 0)
        self.credentials: grpc.ServerCredentials | None = None

    async def __aenter__(self) -> FakeSignal:
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SIGNAL_SERVICE,
                    {
                        "ConnectStream": grpc.stream_stream_rpc_method_handler(self._connect_stream),
                        "Send": grpc.unary_unary_rpc_method_handler(self._send),
                    },
                ),
            )
        )
        if self.credentials is not None:
            port = self._server.add_secure_port("127.0.0.1:0", self.credentials)
        else:
            port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.address = ServerAddress("127.0.0.1", port, tls=self.credentials is not None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def push(self, key: str, message: bytes) -> None:
        await self.queues[key].put(message)

    async def end_stream(self, key: str, code: grpc.StatusCode, details: str) -> None:
        await self.queues[key].put((code, details))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with self.news:
            await self.news.wait_for(condition)

    async def _notify(self) -> None:
        async with self.news:
            self.news.notify_all()

    async def _connect_stream(self, _requests: AsyncIterator[bytes], context: Context) -> None:
        if self.refuse is not None:
            await context.abort(*self.refuse)
        key = dict(context.invocation_metadata())[HEADER_PEER_ID]
        queue = self.queues[key] = asyncio.Queue()
        try:
            await context.send_initial_metadata(((HEADER_PEER_REGISTERED, "1"),) if self.with_header else ())
            await self._notify()
            while True:
                item = await queue.get()
                if isinstance(item, tuple):
                    if item[0] is grpc.StatusCode.OK:
                        return
                    await context.abort(*item)
                else:
                    await context.write(item)
                    self.written += 1
        finally:
            self.streams_over += 1
            await self._notify()

    async def _send(self, request: bytes, context: Context) -> bytes:
        message = EncryptedMessage.FromString(request)
        self.sends.append(message)
        await self._notify()
        if message.key == message.remoteKey:
            self.heartbeats += 1
            await self._notify()
            if not self.brings_heartbeats_back:
                return b""
        elif self.on_send is not None:
            await self.on_send(message, context)
        if message.remoteKey in self.queues:
            await self.queues[message.remoteKey].put(request)
        return b""


async def drop(writers: list[asyncio.StreamWriter]) -> None:
    """Reset these connections and wait until they are gone."""
    for writer in writers:
        writer.transport.abort()
    for writer in writers:
        with suppress(ConnectionError):
            await writer.wait_closed()
    writers.clear()


class TcpRelay:
    """Sits between driver and server: `kill` resets all connections, `hang` swallows everything from then on."""

    def __init__(self, target: ServerAddress) -> None:
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._hanging = False
        self._server: asyncio.Server | None = None
        self.address = target

    async def __aenter__(self) -> TcpRelay:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = ServerAddress("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.kill()

    async def kill(self) -> None:
        await drop(self._writers)

    def hang(self) -> None:
        self._hanging = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target.host, self._target.port)
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if not self._hanging:
                    sink.write(data)
                    await sink.drain()
            sink.close()
        except ConnectionError:
            pass


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str) -> bytes:
    """A header field without indexing (RFC 7541 section 6.2.2); short texts only."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


REGISTERED = frame(
    1,
    4,
    1,
    b"\x88" + literal("content-type", "application/grpc") + literal(HEADER_PEER_REGISTERED, "1"),
)
"""The response header of stream 1."""
END_WITHOUT_TRAILERS = frame(0, 1, 1, b"")
"""An empty DATA frame with END_STREAM."""
NO_MORE_REQUEST = frame(3, 0, 1, bytes(4))
"""RST_STREAM with NO_ERROR: what Go's HTTP server adds, for it never read the request to its end."""
SETTINGS = frame(4, 0, 0, b"")
SETTINGS_ACK = frame(4, 1, 0, b"")


class RawServer:
    """Accepts TCP and says `hello` after the client's first words, then what `say` gives it."""

    def __init__(self, hello: bytes) -> None:
        self._hello = hello
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.address = ServerAddress("127.0.0.1", 0)

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = ServerAddress("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await drop(self._writers)

    def say(self, data: bytes) -> None:
        for writer in self._writers:
            writer.write(data)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            await reader.read(65536)
            writer.write(self._hello)
            if self._hello == SETTINGS:
                # Stream 1 can be answered only when its request is there, by its path.
                await reader.readuntil(b"ConnectStream")
                writer.write(SETTINGS_ACK + REGISTERED)
            while await reader.read(65536):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
