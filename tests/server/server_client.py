"""A small NetBird client for tests of the control plane: the real wire, nothing of rxnet's own drivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc

from rxnet.model import PeerKey, ServerAddress
from rxnet.server.app import ControlPlane
from rxnet.wire import management_pb2 as pb
from rxnet.wire import services
from rxnet.wire import signalexchange_pb2 as signal_pb
from rxnet.wire.box import Sealer, generate_private_key

_T = TypeVar("_T")
LIMIT = 30.0
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 16 << 20))


def run(test: Coroutine[Any, Any, _T], limit: float = LIMIT) -> _T:
    async def limited() -> _T:
        async with asyncio.timeout(limit):
            return await test

    return asyncio.run(limited())


@asynccontextmanager
async def control_plane(directory: Path, **options: Any) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(directory, **{"stun_port": None, **options}) as plane:
        yield plane


def channel(address: ServerAddress, *options: tuple[str, Any]) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"{address.host}:{address.port}", options=(*OPTIONS, *options))


def meta(hostname: str = "alpha", *, ipv6: bool = True, version: str = "0.77.1") -> pb.PeerSystemMeta:
    return pb.PeerSystemMeta(
        hostname=hostname,
        goOS="linux",
        netbirdVersion=version,
        capabilities=[pb.PeerCapabilitySourcePrefixes, *([pb.PeerCapabilityIPv6Overlay] if ipv6 else [])],
        syncMessageVersion=1,
    )


class Stream:
    """An open Sync stream."""

    def __init__(self, peer: Peer, call: Any) -> None:
        self._peer = peer
        self.call = call

    async def next(self) -> pb.SyncResponse | None:
        """The next message, None at the end with OK; raises AioRpcError otherwise."""
        answer = await self.call.read()
        return None if answer is grpc.aio.EOF else self._peer.opened(pb.SyncResponse, answer)

    async def until_peers(self, count: int) -> pb.SyncResponse:
        """Read on to the first map with so many remote peers."""
        while True:
            message = await self.next()
            assert message is not None, "the stream ended"
            if len(message.NetworkMap.remotePeers) == count:
                return message


class Peer:
    """One key pair talking to one control plane."""

    def __init__(self, to: grpc.aio.Channel, private: bytes | None = None) -> None:
        self.private = private or generate_private_key()
        self.sealer = Sealer(self.private)
        self.key: PeerKey = self.sealer.public_key
        self.channel = to
        self.server_key = PeerKey("")

    async def fetch_key(self) -> PeerKey:
        answer = pb.ServerKeyResponse.FromString(await self.raw(services.GET_SERVER_KEY, b""))
        self.server_key = PeerKey(answer.key)
        return self.server_key

    async def raw(self, path: str, request: bytes) -> bytes:
        answer: bytes = await self.channel.unary_unary(path)(request)
        return answer

    async def sealed(self, message: Any) -> bytes:
        server = self.server_key or await self.fetch_key()
        plain = message if isinstance(message, bytes) else message.SerializeToString()
        return pb.EncryptedMessage(wgPubKey=self.key, body=self.sealer.seal(server, plain)).SerializeToString()

    async def call(self, path: str, message: Any) -> bytes:
        return await self.raw(path, await self.sealed(message))

    def opened(self, kind: Any, answer: bytes) -> Any:
        return kind.FromString(self.sealer.open(self.server_key, pb.EncryptedMessage.FromString(answer).body))

    async def login(self, setup_key: str = "", hostname: str = "alpha", **more: Any) -> pb.LoginResponse:
        request = pb.LoginRequest(setupKey=setup_key, **{"meta": meta(hostname), **more})
        answer = self.opened(pb.LoginResponse, await self.call(services.LOGIN, request))
        assert isinstance(answer, pb.LoginResponse)
        return answer

    async def sync(self, hostname: str = "alpha", **more: Any) -> Stream:
        request = pb.SyncRequest(meta=meta(hostname, **more))
        return Stream(self, self.channel.unary_stream(services.SYNC)(await self.sealed(request)))

    # -- signal

    async def connect_signal(self) -> Any:
        call = self.channel.stream_stream(services.SIGNAL_CONNECT_STREAM)(
            metadata=((services.HEADER_PEER_ID, self.key),)
        )
        assert dict(await call.initial_metadata())[services.HEADER_PEER_REGISTERED] == "1"
        return call

    async def send(self, to: str, body: bytes) -> bytes:
        message = signal_pb.EncryptedMessage(key=self.key, remoteKey=to, body=body)
        return await self.raw(services.SIGNAL_SEND, message.SerializeToString())
