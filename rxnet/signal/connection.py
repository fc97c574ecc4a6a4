"""One connection to a signal server: a gRPC channel of its own, the receiving stream and unary sends on it.

Bytes in and out; what they mean is the codec's business. Everything that ends the connection comes out as
`ConnectionEnded` with a reason for people, whichever of gRPC's ways it took.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc
import grpc.aio

from rxnet.errors import ControlPlaneError
from rxnet.model import PeerKey, ServerAddress
from rxnet.signal.limits import SignalLimits
from rxnet.signal.watchdog import ReceiveWatchdog
from rxnet.wire.channel import explain, open_channel
from rxnet.wire.services import HEADER_PEER_ID, HEADER_PEER_REGISTERED, SIGNAL_CONNECT_STREAM, SIGNAL_SEND

_MAX_MESSAGE = (4 << 20) + (64 << 10)
"""Bytes. The server takes messages up to 4 MiB; one that we refused would end the stream for all peers."""
_TRAILERS = 1.0
"""Seconds to wait for the status of a server that answered without registering us."""
_AFTERMATH = 0.002
"""Seconds in which gRPC's thread reports the end of cancelled calls; it needs a tenth of that."""

_TRANSIENT = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED, grpc.StatusCode.UNKNOWN}
)


class ConnectionEnded(ControlPlaneError):
    """The connection could not be made or is over; the text is the reason."""


@dataclass(frozen=True, slots=True)
class SendFailure:
    """Why a message was not taken, and whether another try may help."""

    reason: str
    transient: bool = False


class SignalConnection:
    """A channel that is dialled by `register`, read by `receive` and ended by `close`, each once and in this order.

    `root_certificates` are PEM bytes; None means those that gRPC brings. `proxy` is the URL of an HTTP proxy, such as
    `http://proxy.example.org:3128`; None means a direct connection (who calls has asked the environment).
    """

    def __init__(
        self,
        server: ServerAddress,
        *,
        limits: SignalLimits,
        root_certificates: bytes | None = None,
        proxy: str | None = None,
    ) -> None:
        self._server = server
        self._limits = limits
        self._channel = open_channel(server, root_certificates=root_certificates, proxy=proxy, max_receive=_MAX_MESSAGE)
        # Bytes as they are: gRPC turns what its deserialiser cannot read into None, which tells us nothing.
        self._connect_stream = self._channel.stream_stream(SIGNAL_CONNECT_STREAM, None, None)
        self._send = self._channel.unary_unary(SIGNAL_SEND, None, None)
        self._stream: grpc.aio.StreamStreamCall[bytes, bytes] | None = None
        self._sends: set[grpc.aio.Call] = set()
        self._watchdog: ReceiveWatchdog | None = None
        self._probe: asyncio.Task[SendFailure | None] | None = None
        self._verdict = ""
        self._closed = False

    async def register(self, key: PeerKey) -> None:
        """Dial, open the stream as `key` and wait until the server says that messages reach us.

        :raises ConnectionEnded: refused, unreachable, no signal server, or no answer within the dial limit.
        """
        self._stream = self._connect_stream(None, metadata=((HEADER_PEER_ID, key),))
        try:
            async with asyncio.timeout(self._limits.dial):
                headers = await self._stream.initial_metadata()
                if HEADER_PEER_REGISTERED not in headers:
                    raise ConnectionEnded(await self._refusal(self._stream))
        except TimeoutError:
            raise ConnectionEnded(f"signal {self._server} did not answer within {self._limits.dial:g} s") from None
        except grpc.aio.AioRpcError as error:
            raise ConnectionEnded(f"signal {self._server} refused: {explain(error.code(), error.details())}") from None

    async def _refusal(self, stream: grpc.aio.StreamStreamCall[bytes, bytes]) -> str:
        try:
            async with asyncio.timeout(_TRAILERS):
                code, details = await stream.code(), await stream.details()
        except TimeoutError:
            return f"signal {self._server} answered without {HEADER_PEER_REGISTERED}: is it a NetBird signal server?"
        if code is grpc.StatusCode.UNAVAILABLE:
            return f"signal {self._server} cannot be reached: {explain(code, details)}"
        return f"signal {self._server} refused: {explain(code, details)}"

    def watch(self, heartbeat: bytes) -> None:
        """Start the watchdog. `heartbeat` is the message to ourselves that it sends."""
        loop = asyncio.get_running_loop()

        def probe() -> None:
            # The answer to the send says nothing, only a message on the stream does; so nobody waits for it.
            self._drop_probe()
            self._probe = loop.create_task(self.send(heartbeat, self._limits.probe))

        self._watchdog = ReceiveWatchdog(
            loop, silence=self._limits.silence, answer=self._limits.probe, probe=probe, give_up=self._give_up
        )
        self._watchdog.start()

    def _give_up(self) -> None:
        total = self._limits.silence + self._limits.probe
        self._verdict = f"signal stream is half-dead: nothing came for {total:g} s, not even our own heartbeat"
        if self._stream is not None:
            self._stream.cancel()

    def _drop_probe(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None

    async def receive(self) -> bytes:
        """Wait for the next message. Nothing is read ahead: gRPC's flow control holds the server back.

        :raises ConnectionEnded: the stream is over.
        """
        stream, watchdog = self._stream, self._watchdog
        if stream is None or watchdog is None:
            raise RuntimeError("receive() before register() and watch()")
        watchdog.waiting()
        try:
            message = await stream.read()
        except grpc.aio.AioRpcError as error:
            raise ConnectionEnded(
                self._verdict or f"signal {self._server} ended the stream: {explain(error.code(), error.details())}"
            ) from None
        except asyncio.CancelledError:
            # gRPC says so too when only the call was cancelled, as the watchdog does; our own cancelling goes on.
            if _being_cancelled():
                raise
            raise ConnectionEnded(self._verdict or "signal stream was cancelled") from None
        watchdog.heard()
        if not isinstance(message, bytes):  # gRPC's mark of the end
            raise ConnectionEnded(f"signal {self._server} ended the stream without an error")
        return message

    async def send(self, message: bytes, timeout: float) -> SendFailure | None:
        """Send one message by unary `Send`; None when the server took it. `timeout` in seconds."""
        if self._closed:
            return SendFailure("signal is not connected any more")
        try:
            call = self._send(message, timeout=max(timeout, 0.0))
            self._sends.add(call)
            call.add_done_callback(self._sends.discard)
            await call
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return SendFailure(f"signal did not take a message within {self._limits.send:g} s")
            return SendFailure(
                f"signal refused a message: {explain(error.code(), error.details())}", error.code() in _TRANSIENT
            )
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            return SendFailure("signal connection ended before it took the message")
        return None

    async def close(self) -> None:
        """End the stream, the sends in flight and the channel."""
        self._closed = True
        if self._watchdog is not None:
            self._watchdog.stop()
        self._drop_probe()
        for call in [*self._sends, self._stream]:
            if call is not None:
                call.cancel()
        try:
            # gRPC's thread tells our loop of the end of each cancelled call a moment after `cancel` returned, and makes
            # noise if the loop is closed by then. gRPC has nothing to wait for that: `code()` answers at once.
            await asyncio.sleep(_AFTERMATH)
        finally:
            await self._channel.close(None)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
