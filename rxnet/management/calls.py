"""The RPCs of management on one channel: sealing, opening, limits. Errors of gRPC come out as they are.

Everything but GetServerKey is sealed for the server's key, which changes whenever the server starts (management
document, 2). So the key is fetched before a stream, and fetched again when the server cannot open what we sealed.
"""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from rxnet.errors import ProtocolError
from rxnet.management.codec import decode, decode_server_key
from rxnet.management.limits import ManagementLimits
from rxnet.management.verdicts import Ended
from rxnet.model import PeerKey
from rxnet.wire import management_pb2 as pb
from rxnet.wire import services
from rxnet.wire.box import Sealer

_LARGE = 256 << 10
"""Bytes of a body from which opening it would hold up the loop for a millisecond."""


class ManagementCalls:
    """One conversation. The channel belongs to the caller."""

    def __init__(self, channel: grpc.aio.Channel, sealer: Sealer, limits: ManagementLimits) -> None:
        self._channel = channel
        self._sealer = sealer
        self._limits = limits
        self._server_key: PeerKey | None = None

    async def connect(self) -> None:
        """Dial. A connection that fails is not an error yet: the next call will say why.

        :raises Ended: neither connected nor refused within the limit.
        """
        over = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
        try:
            async with asyncio.timeout(self._limits.connect):
                state = self._channel.get_state(try_to_connect=True)
                while state not in over:
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise Ended(f"management cannot be reached: no connection within {self._limits.connect:g} s") from None

    async def fetch_server_key(self) -> None:
        """GetServerKey. To be called before anything that is sealed.

        :raises grpc.aio.AioRpcError: the call failed.
        :raises ProtocolError: the answer is no key.
        """
        call = self._unary(services.GET_SERVER_KEY)
        self._server_key = decode_server_key(await call(b"", timeout=self._limits.server_key))

    async def unary(self, path: str, plaintext: bytes, timeout: float) -> bytes:
        """Make one call with a sealed request; a key that became stale is fetched again, once.

        :raises grpc.aio.AioRpcError: the call failed.
        """
        call = self._unary(path)
        try:
            answer: bytes = await call(self._seal(plaintext), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            await self.fetch_server_key()
            answer = await call(self._seal(plaintext), timeout=timeout)
        return answer

    def sync(self, plaintext: bytes) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
        """Open the Sync stream. A refusal shows at the first read."""
        return self._channel.unary_stream(services.SYNC, None, None)(self._seal(plaintext))

    def _unary(self, path: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
        # Bytes as they are: gRPC turns what its deserialiser cannot read into None, which tells us nothing.
        return self._channel.unary_unary(path, None, None)

    def _seal(self, plaintext: bytes) -> bytes:
        if self._server_key is None:
            raise RuntimeError("a sealed call before fetch_server_key()")
        body = self._sealer.seal(self._server_key, plaintext)
        return pb.EncryptedMessage(wgPubKey=self._sealer.public_key, body=body).SerializeToString()

    async def open(self, data: bytes) -> bytes:
        """Open a sealed answer. What the envelope says about its sender is ignored (2).

        :raises ProtocolError: it is not sealed for us, or damaged.
        """
        if self._server_key is None:
            raise RuntimeError("a sealed answer before fetch_server_key()")
        body = decode(pb.EncryptedMessage, data).body
        try:
            if len(body) < _LARGE:
                return self._sealer.open(self._server_key, body)
            return await asyncio.to_thread(self._sealer.open, self._server_key, body)
        except ProtocolError as error:
            raise ProtocolError(f"management's message cannot be read: {error}") from None
