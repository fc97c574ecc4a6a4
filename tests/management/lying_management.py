"""A management server for tests that answers as it is told, truth or lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from rxnet.engine.effects import OpenManagement
from rxnet.events import Event
from rxnet.management.client import ManagementDriver
from rxnet.management.codec import SystemMeta
from rxnet.management.limits import ManagementLimits
from rxnet.model import ServerAddress
from rxnet.wire import box, services
from rxnet.wire import management_pb2 as pb

Context = Any
QUICK = ManagementLimits(
    connect=2.0, server_key=2.0, login=2.0, first_message=2.0, sync_meta=2.0, files=2.0, logout=3.0
)
SETUP_KEY = "a2c8e62b-38f5-4553-b31e-dd66c696cebb"


def server_config() -> pb.NetbirdConfig:
    return pb.NetbirdConfig(
        stuns=[pb.HostConfig(uri="stun:192.0.2.1:3478")],
        signal=pb.HostConfig(uri="signal.example.org:10000", protocol=pb.HostConfig.HTTPS),
    )


def own_config() -> pb.PeerConfig:
    return pb.PeerConfig(address="100.64.0.1/16", fqdn="we.example.org")


def remote(number: int, **changes: Any) -> pb.RemotePeerConfig:
    """Peer `number` of the map; always the same bytes."""
    values: dict[str, Any] = {
        "wgPubKey": box.encode_key(number.to_bytes(32, "big")),
        "allowedIps": [f"100.{65 + number // 65536}.{number // 256 % 256}.{number % 256}/32"],
        "fqdn": f"peer-{number}.example.org",
        "agentVersion": "0.77.1",
    }
    return pb.RemotePeerConfig(**(values | changes))


def network_map(*peers: pb.RemotePeerConfig, serial: int = 1, **more: Any) -> bytes:
    """A SyncResponse with a map."""
    values: dict[str, Any] = {"peerConfig": own_config(), "remotePeersIsEmpty": not peers} | more
    checks = values.pop("checks", ())
    return pb.SyncResponse(
        NetworkMap=pb.NetworkMap(Serial=serial, remotePeers=peers, **values),
        Checks=[pb.Checks(Files=checks)] if checks else [],
    ).SerializeToString()


class LyingManagement(grpc.GenericRpcHandler):
    """Knows one peer or none. What it answers can be replaced, call by call.

    `answers[path]` is an async function of request bytes and context; for Sync an async generator.
    """

    def __init__(self) -> None:
        self.sealer = box.Sealer(box.generate_private_key())
        self.known = False
        self.setup_key = SETUP_KEY
        self.logins: list[pb.LoginRequest] = []
        self.syncs: list[pb.SyncRequest] = []
        self.metas: list[pb.SyncMetaRequest] = []
        self.key_calls = 0
        self.messages: list[bytes] = [network_map(remote(1), serial=5)]
        self.checks: list[str] = []
        self.stay_open = False
        self.sync_ended = asyncio.Event()
        self.answers: dict[str, Callable[[bytes, Context], Any]] = {
            services.GET_SERVER_KEY: self.get_server_key,
            services.LOGIN: self.login,
            services.SYNC: self.sync,
            services.SYNC_META: self.sync_meta,
            services.LOGOUT: self.logout,
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        path = handler_call_details.method
        answer = self.answers.get(path)
        if answer is None:
            return None
        kind = grpc.unary_stream_rpc_method_handler if path == services.SYNC else grpc.unary_unary_rpc_method_handler
        return kind(answer)

    async def opened(self, request: bytes, context: Context) -> tuple[str, bytes]:
        envelope = pb.EncryptedMessage.FromString(request)
        try:
            return envelope.wgPubKey, self.sealer.open(box.parse_key(envelope.wgPubKey), envelope.body)
        except Exception:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "invalid request message")
            raise

    def sealed(self, key: str, plaintext: bytes) -> bytes:
        body = self.sealer.seal(box.parse_key(key), plaintext)
        return pb.EncryptedMessage(wgPubKey=self.sealer.public_key, body=body).SerializeToString()

    async def get_server_key(self, request: bytes, context: Context) -> bytes:
        self.key_calls += 1
        return pb.ServerKeyResponse(key=self.sealer.public_key).SerializeToString()

    async def login(self, request: bytes, context: Context) -> bytes:
        key, plaintext = await self.opened(request, context)
        login = pb.LoginRequest.FromString(plaintext)
        self.logins.append(login)
        if not self.known:
            if not login.setupKey:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no peer auth method provided, please use ...")
            if login.setupKey != self.setup_key:
                await context.abort(grpc.StatusCode.NOT_FOUND, "couldn't add peer: setup key is invalid")
            self.known = True
        response = pb.LoginResponse(netbirdConfig=server_config(), peerConfig=own_config())
        if self.checks:
            response.Checks.add(Files=self.checks)
        return self.sealed(key, response.SerializeToString())

    async def sync(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        key, plaintext = await self.opened(request, context)
        if not self.known:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "peer is not registered")
        self.syncs.append(pb.SyncRequest.FromString(plaintext))
        try:
            for message in self.messages:
                yield self.sealed(key, message)
            if self.stay_open:
                await asyncio.Event().wait()
        finally:
            self.sync_ended.set()

    async def sync_meta(self, request: bytes, context: Context) -> bytes:
        _, plaintext = await self.opened(request, context)
        self.metas.append(pb.SyncMetaRequest.FromString(plaintext))
        return b""

    async def logout(self, request: bytes, context: Context) -> bytes:
        key, _ = await self.opened(request, context)
        if not self.known:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"peer not found: {key}")
        self.known = False
        return b""

    def abort(self, path: str, code: grpc.StatusCode, text: str) -> None:
        """Answer this call with a status from now on."""

        async def unary(request: bytes, context: Context) -> bytes:
            await context.abort(code, text)
            raise AssertionError

        async def stream(request: bytes, context: Context) -> AsyncIterator[bytes]:
            await context.abort(code, text)
            yield b""

        self.answers[path] = stream if path == services.SYNC else unary

    def hang(self, path: str) -> None:
        """Never answer this call."""

        async def unary(request: bytes, context: Context) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

        async def stream(request: bytes, context: Context) -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b""

        self.answers[path] = stream if path == services.SYNC else unary


@asynccontextmanager
async def serving(
    management: LyingManagement, credentials: grpc.ServerCredentials | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[ServerAddress]:
    """Listen on a free port."""
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10),
        ("grpc.http2.max_ping_strikes", 0),
    ]
    server = grpc.aio.server(handlers=[management], options=options)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield ServerAddress(host, port, credentials is not None)
    finally:
        await server.stop(None)


def driver(server: ServerAddress, setup_key: str | None = None, **more: Any) -> ManagementDriver:
    private_key = more.pop("private_key", None) or box.generate_private_key()
    return ManagementDriver(
        server, private_key, lambda: SystemMeta("we"), lambda: setup_key, **({"limits": QUICK} | more)
    )


async def collect(one: ManagementDriver, *, login: bool = True, generation: int = 7) -> list[Event]:
    """All events of one attempt."""
    return [event async for event in one.open_management(OpenManagement(generation, login))]


def run(work: Callable[[], Awaitable[None]], limit: float = 20.0) -> None:
    """Run a test's coroutine; nothing may take longer than `limit` seconds or leave a task behind."""

    async def bounded() -> None:
        async with asyncio.timeout(limit):
            await work()

    asyncio.run(bounded())
