"""NetBird's signal service: routes sealed messages between peers and keeps nothing (signal document, 1 and 10).

A message goes to the newest stream of the key it names, and nowhere if there is none; the sender always gets OK.
Nobody is authenticated, as with NetBird's: what protects peers is that the bodies are sealed. So everything is bounded:
streams, the queue of each, and the bytes of all queues together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import grpc
from google.protobuf.message import DecodeError

from rxnet.server.refusal import Context, Refusal, generic_handler, refusing
from rxnet.wire import services
from rxnet.wire import signalexchange_pb2 as pb

_Code = grpc.StatusCode

MESSAGE_LIMIT = 4 * 1024 * 1024
_ID_LIMIT = 128
_QUEUE_MESSAGES = 1024
_QUEUE_BYTES = 2 * MESSAGE_LIMIT
_ALL_BYTES = 256 * 1024 * 1024
_ROOM_TIMEOUT = 5.0
"""How long a sender waits for room; clients give up on Send after 10 s."""
_SEND_TIMEOUT = 10.0
"""How long a receiver may take nothing before its stream ends; NetBird's value."""
_EMPTY = b""


class _Budget:
    """Bytes in all queues together."""

    def __init__(self) -> None:
        self.used = 0

    def has_room(self, size: int) -> bool:
        return self.used + size <= _ALL_BYTES


class _Queue:
    """Messages on their way to one stream, in order."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._over = asyncio.Event()
        self._ending: Refusal | None = None

    def end(self, why: Refusal) -> None:
        """Let the stream end; what waits is dropped. The first reason stays."""
        self._ending = self._ending or why
        self._messages.clear()
        self._budget.used -= self._bytes
        self._bytes = 0
        for event in (self._news, self._room, self._over):
            event.set()

    async def put(self, message: bytes) -> bool:
        """Queue a message, waiting a little for room. False if there was none or the stream is over."""
        try:
            async with asyncio.timeout(_ROOM_TIMEOUT):
                while self._ending is None and self._is_full(len(message)):
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            return False
        if self._ending is not None or not self._budget.has_room(len(message)):
            return False
        self._messages.append(message)
        self._bytes += len(message)
        self._budget.used += len(message)
        self._news.set()
        return True

    async def get(self) -> bytes:
        """The next message. Raises the `Refusal` with which the stream is to end."""
        while not self._messages:
            if self._ending is not None:
                raise self._ending
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        self._bytes -= len(message)
        self._budget.used -= len(message)
        self._room.set()
        return message

    async def ended(self) -> Refusal:
        """Wait until the stream is to end, whatever else happens."""
        await self._over.wait()
        assert self._ending is not None
        return self._ending

    def _is_full(self, size: int) -> bool:
        return len(self._messages) >= _QUEUE_MESSAGES or self._bytes + size > _QUEUE_BYTES


class SignalService:
    """Both methods of `signalexchange.SignalExchange`."""

    def __init__(self, *, most_streams: int, send_timeout: float = _SEND_TIMEOUT) -> None:
        self._most_streams = most_streams
        self._send_timeout = send_timeout
        self._streams: dict[str, _Queue] = {}
        self._budget = _Budget()
        self._on = True
        self._dropped = 0

    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """What a gRPC server needs to serve this."""
        return generic_handler(
            {
                services.SIGNAL_SEND: grpc.unary_unary_rpc_method_handler(refusing(self._send)),
                services.SIGNAL_CONNECT_STREAM: grpc.stream_stream_rpc_method_handler(refusing(self._connect)),
            }
        )

    @property
    def is_on(self) -> bool:
        """Whether the service works."""
        return self._on

    @property
    def streams(self) -> int:
        """How many peers are connected."""
        return len(self._streams)

    @property
    def dropped(self) -> int:
        """How many messages were dropped because their receiver was absent or too slow."""
        return self._dropped

    def start(self) -> None:
        """Work (again)."""
        self._on = True

    def stop(self) -> None:
        """End all streams with UNAVAILABLE and refuse calls, until `start`."""
        self._on = False
        for queue in self._streams.values():
            queue.end(_off())
        self._streams.clear()

    async def _send(self, request: bytes, context: Context) -> bytes:
        if not self._on:
            raise _off()
        try:
            destination = pb.EncryptedMessage.FromString(request).remoteKey
        except DecodeError:
            raise Refusal(_Code.INTERNAL, "the message is not an EncryptedMessage") from None
        queue = self._streams.get(destination)
        if queue is None or not await queue.put(request):
            self._dropped += 1
        return _EMPTY

    async def _connect(self, request: AsyncIterator[bytes], context: Context) -> None:
        """Hold a peer's stream. What the peer writes to it is never read, as with NetBird's server."""
        if not self._on:
            raise _off()
        key = _peer_id(context)
        if key not in self._streams and len(self._streams) >= self._most_streams:
            raise Refusal(_Code.RESOURCE_EXHAUSTED, f"the server has its limit of {self._most_streams} streams")
        older = self._streams.get(key)
        if older is not None:
            older.end(Refusal(_Code.UNKNOWN, "peer registered again"))
        queue = self._streams[key] = _Queue(self._budget)
        try:
            # At once: clients wait for the header before they do anything else.
            await context.send_initial_metadata(((services.HEADER_PEER_REGISTERED, "1"),))
            while True:
                await self._write(queue, context, await queue.get())
        finally:
            queue.end(_off())
            if self._streams.get(key) is queue:
                del self._streams[key]

    async def _write(self, queue: _Queue, context: Context, message: bytes) -> None:
        writing = asyncio.ensure_future(context.write(message))
        ended = asyncio.ensure_future(queue.ended())
        try:
            done, _ = await asyncio.wait(
                {writing, ended}, timeout=self._send_timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if writing in done:
                writing.result()
            elif ended in done:
                raise ended.result()
            else:
                raise Refusal(_Code.UNKNOWN, f"the receiver took nothing for {self._send_timeout:g} seconds")
        finally:
            # A stuck write is left behind: gRPC sends the status after it, if the client ever reads on.
            writing.cancel()
            ended.cancel()


def _off() -> Refusal:
    return Refusal(_Code.UNAVAILABLE, "the signal service is off")


def _peer_id(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == services.HEADER_PEER_ID:
            if isinstance(value, str) and len(value) <= _ID_LIMIT:
                return value
            raise Refusal(_Code.INVALID_ARGUMENT, f"{services.HEADER_PEER_ID} is longer than {_ID_LIMIT} characters")
    raise Refusal(_Code.FAILED_PRECONDITION, f"missing connection header: {services.HEADER_PEER_ID}")
