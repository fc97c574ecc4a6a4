"""NetBird's management service (management document, 1 to 4 and 8) over a `Registry`.

Statuses and their texts are those of NetBird's server where clients or people may read them (status_codes.json). No
single sign-on, no jobs, no reverse proxy: those calls are refused as a server without them refuses.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message

from rxnet.errors import ProtocolError
from rxnet.model import PeerKey
from rxnet.server.addressing import NetworkFull
from rxnet.server.meta import about, about_kept, is_present, kept
from rxnet.server.records import SetupKeyRefused, StoredPeer
from rxnet.server.refusal import Context, Refusal, generic_handler, refusing
from rxnet.server.registry import Registry
from rxnet.server.sync import Ending, Session, Sessions
from rxnet.wire import management_pb2 as pb
from rxnet.wire import services
from rxnet.wire.box import Sealer, parse_key

_Message = TypeVar("_Message", bound=Message)
_Expose = TypeVar("_Expose", pb.RenewExposeRequest, pb.StopExposeRequest)
_Code = grpc.StatusCode

_SSH_KEY_LIMIT = 8 * 1024
_ECHO_LIMIT = 255
_MOST_DNS_LABELS = 32
_DNS_LABEL = re.compile(r"(\*\.)?[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*")
_WRITE_TIMEOUT = 30.0
_HELLO_TIMEOUT = 60.0
_SMALL_NETWORK = 200
"""Peers up to which a map is built and sealed in less than a millisecond."""
_LARGE_AT_ONCE = 16
_JOBS_OF_A_PEER = 8

_NO_SSO = "this server has no single sign-on, use a setup key"


@dataclass(frozen=True, slots=True)
class _Call:
    """An opened request: who sealed it and what was inside."""

    key: PeerKey
    plaintext: bytes
    remote: str

    def read(self, kind: type[_Message]) -> _Message:
        try:
            return kind.FromString(self.plaintext)
        except DecodeError:
            raise Refusal(_Code.INVALID_ARGUMENT, "invalid request message") from None


class ManagementService:
    """All methods of `management.ManagementService`. `clock` is monotonic."""

    def __init__(self, registry: Registry, private_key: bytes, *, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._view = registry.view
        self._sealer = Sealer(private_key)
        # Large maps are sealed on a thread; a Sealer is for one thread.
        self._bulk_sealer = Sealer(private_key)
        self._bulk_thread = ThreadPoolExecutor(1, "rxnet-server-seal")
        self._large_at_once = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._building = asyncio.Lock()
        self._sessions = Sessions(clock)
        self._jobs: dict[PeerKey, set[asyncio.Event]] = {}
        self._server_key = pb.ServerKeyResponse(key=self._sealer.public_key).SerializeToString()
        registry.subscribe(self._sessions.changed, self._deleted)

    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """What a gRPC server needs to serve this."""
        unary, stream, both = (
            grpc.unary_unary_rpc_method_handler,
            grpc.unary_stream_rpc_method_handler,
            grpc.stream_stream_rpc_method_handler,
        )
        methods = {
            services.GET_SERVER_KEY: unary(refusing(self._get_server_key)),
            services.IS_HEALTHY: unary(refusing(self._is_healthy)),
            services.LOGIN: unary(refusing(self._login)),
            services.SYNC: stream(refusing(self._sync)),
            services.SYNC_META: unary(refusing(self._sync_meta)),
            services.LOGOUT: unary(refusing(self._logout)),
            services.JOB: both(refusing(self._job)),
            services.GET_DEVICE_AUTHORIZATION_FLOW: unary(refusing(self._no_flow)),
            services.GET_PKCE_AUTHORIZATION_FLOW: unary(refusing(self._no_flow)),
            services.EXTEND_AUTH_SESSION: unary(refusing(self._extend)),
            services.CREATE_EXPOSE: unary(refusing(self._create_expose)),
            services.RENEW_EXPOSE: unary(refusing(self._other_expose(pb.RenewExposeRequest))),
            services.STOP_EXPOSE: unary(refusing(self._other_expose(pb.StopExposeRequest))),
        }
        return generic_handler(methods)

    def is_connected(self, key: PeerKey) -> bool:
        """Tell whether the peer holds a Sync stream."""
        return key in self._sessions

    def end_streams(self) -> None:
        """End all streams with UNAVAILABLE, so that clients come back when there is a server again."""
        self._sessions.end_all(Ending.CLOSING)
        for key in list(self._jobs):
            self._end_jobs(key)

    def close(self) -> None:
        """Give up the thread; call it when no call runs any more."""
        self._bulk_thread.shutdown()

    # -- calls in clear

    async def _get_server_key(self, request: bytes, context: Context) -> bytes:
        return self._server_key

    async def _is_healthy(self, request: bytes, context: Context) -> bytes:
        return b""

    # -- Login

    async def _login(self, request: bytes, context: Context) -> bytes:
        call = self._open(request, context)
        login = call.read(pb.LoginRequest)
        if not login.HasField("meta"):
            raise Refusal(_Code.FAILED_PRECONDITION, f"peer system meta has to be provided to log in. {_who(call)}")
        if login.jwtToken:
            raise Refusal(_Code.INVALID_ARGUMENT, f"invalid jwt token, err: {_NO_SSO}")
        ssh_key = login.peerKeys.sshPubKey
        if len(ssh_key) > _SSH_KEY_LIMIT:
            raise Refusal(_Code.INVALID_ARGUMENT, f"the SSH key has more than {_SSH_KEY_LIMIT} bytes")
        meta = kept(login.meta)
        peer = self._view.get(call.key)
        if peer is None:
            peer = await self._register(call.key, login, meta)
        else:
            # A known peer's meta counts at Sync; the SSH key is taken over here (management document, 3.3, 3.4).
            await self._registry.update(peer.key, peer.hostname, peer.meta, ssh_key)
            self._registry.touch(peer.key)
        return self._seal(call.key, self._view.login_response(peer, ipv6=about(login.meta).ipv6))

    async def _register(self, key: PeerKey, login: pb.LoginRequest, meta: bytes) -> StoredPeer:
        if not login.setupKey:
            text = "no peer auth method provided, please use a setup key or interactive SSO login"
            raise Refusal(_Code.PERMISSION_DENIED, text)
        labels = login.dnsLabels
        if not login.meta.hostname or len(labels) > _MOST_DNS_LABELS or not all(map(_DNS_LABEL.fullmatch, labels)):
            raise Refusal(_Code.INTERNAL, "failed handling request")
        if labels:
            raise Refusal(_Code.FAILED_PRECONDITION, "couldn't add peer: setup key doesn't allow extra DNS labels")
        hostname = about(login.meta).hostname
        try:
            peer, _ = await self._registry.register(key, login.setupKey, hostname, meta, login.peerKeys.sshPubKey)
        except SetupKeyRefused:
            raise Refusal(_Code.NOT_FOUND, "couldn't add peer: setup key is invalid") from None
        except NetworkFull as full:
            raise Refusal(_Code.RESOURCE_EXHAUSTED, f"couldn't add peer: {full}") from None
        return peer

    # -- Sync

    async def _sync(self, request: bytes, context: Context) -> None:
        call = self._open(request, context)
        meta = call.read(pb.SyncRequest).meta
        peer = self._known(call.key)
        if is_present(meta):
            await self._registry.update(peer.key, about(meta).hostname or peer.hostname, kept(meta), peer.ssh_key)
            peer = self._known(call.key)
            ipv6 = about(meta).ipv6
        else:
            ipv6 = about_kept(peer.meta).ipv6
        # Open first, build the map after: no change can fall between the first map and the next.
        session = self._sessions.open(peer.key, ipv6=ipv6)
        self._registry.touch(peer.key)
        try:
            await self._feed(session, context)
        finally:
            self._sessions.close(session)
            self._registry.touch(peer.key)

    async def _feed(self, session: Session, context: Context) -> None:
        first = True
        ending = session.ending
        while ending is None:
            await self._push(session, context, first=first)
            first = False
            ending = await session.next()
        if ending is Ending.CLOSING:
            raise Refusal(_Code.UNAVAILABLE, "the server stops")
        if ending is Ending.DELETED and session.is_clear:
            await _send(session, context, self._seal(session.key, self._view.deleted_response()))

    async def _push(self, session: Session, context: Context, *, first: bool) -> None:
        """Build and send a map. Large ones are few at a time, because every one of them is megabytes of memory."""
        if len(self._view) <= _SMALL_NETWORK:
            message = self._build(session, first=first)
            if message is not None:
                await _send(session, context, self._seal(session.key, message))
            return
        async with self._large_at_once:
            async with self._building:  # one in a turn of the loop, for many streams want one at the same time
                message = self._build(session, first=first)
                await asyncio.sleep(0)
            if message is not None:
                loop = asyncio.get_running_loop()
                sealed = await loop.run_in_executor(self._bulk_thread, self._seal_large, session.key, message)
                await _send(session, context, sealed)

    def _build(self, session: Session, *, first: bool) -> bytes | None:
        """The map as of now; None for a stream that is to end anyway."""
        peer = self._view.get(session.key)
        if peer is None or session.ending is not None:
            return None
        return self._view.sync_response(peer, ipv6=session.ipv6, first=first)

    # -- what else a registered peer may ask

    async def _sync_meta(self, request: bytes, context: Context) -> bytes:
        call = self._open(request, context)
        meta = call.read(pb.SyncMetaRequest).meta
        if not is_present(meta):
            raise Refusal(_Code.FAILED_PRECONDITION, f"peer system meta has to be provided on sync. {_who(call)}")
        peer = self._view.get(call.key)
        if peer is None:
            raise Refusal(_Code.NOT_FOUND, "account not found: index lookup failed")
        await self._registry.update(peer.key, about(meta).hostname or peer.hostname, kept(meta), peer.ssh_key)
        return b""

    async def _logout(self, request: bytes, context: Context) -> bytes:
        call = self._open(request, context)
        if not await self._registry.delete(call.key):
            raise Refusal(_Code.NOT_FOUND, f"peer not found: {call.key}")
        return b""

    async def _job(self, request: AsyncIterator[bytes], context: Context) -> None:
        """Keep the stream open and silent: there is never any work, and ending it would make clients ask again."""
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT):
                hello = await anext(request)
        except StopAsyncIteration:
            raise Refusal(_Code.INVALID_ARGUMENT, "invalid request message") from None
        except TimeoutError:
            raise Refusal(_Code.DEADLINE_EXCEEDED, "no hello came") from None
        key = self._known(self._open(hello, context).key).key
        over = asyncio.Event()
        streams = self._jobs.setdefault(key, set())
        if len(streams) >= _JOBS_OF_A_PEER:
            raise Refusal(_Code.RESOURCE_EXHAUSTED, "this peer has too many job streams")
        streams.add(over)
        try:
            await over.wait()
        finally:
            streams.discard(over)
            if not streams and self._jobs.get(key) is streams:
                del self._jobs[key]
        raise Refusal(_Code.UNAVAILABLE, "this stream is over")

    async def _no_flow(self, request: bytes, context: Context) -> bytes:
        self._open(request, context)
        raise Refusal(_Code.NOT_FOUND, _NO_SSO)

    async def _extend(self, request: bytes, context: Context) -> bytes:
        if not self._open(request, context).read(pb.ExtendAuthSessionRequest).jwtToken:
            raise Refusal(_Code.INVALID_ARGUMENT, "jwt token is required")
        raise Refusal(_Code.INVALID_ARGUMENT, f"invalid jwt token, err: {_NO_SSO}")

    async def _create_expose(self, request: bytes, context: Context) -> bytes:
        self._known(self._open(request, context).key)
        raise Refusal(_Code.PERMISSION_DENIED, "peer expose is not enabled for this account")

    def _other_expose(self, kind: type[_Expose]) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def refuse(request: bytes, context: Context) -> bytes:
            call = self._open(request, context)
            domain = call.read(kind).domain[:_ECHO_LIMIT]
            self._known(call.key)
            raise Refusal(_Code.NOT_FOUND, f"service with domain {domain} not found")

        return refuse

    # -- helpers

    def _open(self, request: bytes, context: Context) -> _Call:
        """Open the envelope. Who can seal with the private key that belongs to `wgPubKey` is that peer."""
        try:
            envelope = pb.EncryptedMessage.FromString(request)
        except DecodeError:
            raise Refusal(_Code.INVALID_ARGUMENT, "invalid request message") from None
        try:
            key = parse_key(envelope.wgPubKey)
        except ProtocolError:
            text = f"provided wgPubKey {envelope.wgPubKey[:_ECHO_LIMIT]} is invalid"
            raise Refusal(_Code.INVALID_ARGUMENT, text) from None
        try:
            return _Call(key, self._sealer.open(key, envelope.body), unquote(context.peer() or ""))
        except ProtocolError:
            raise Refusal(_Code.INVALID_ARGUMENT, "invalid request message") from None

    def _seal(self, key: PeerKey, plaintext: bytes) -> bytes:
        return self._envelope(self._sealer.seal(key, plaintext))

    def _seal_large(self, key: PeerKey, plaintext: bytes) -> bytes:
        return self._envelope(self._bulk_sealer.seal(key, plaintext))

    def _envelope(self, body: bytes) -> bytes:
        return pb.EncryptedMessage(wgPubKey=self._sealer.public_key, body=body).SerializeToString()

    def _known(self, key: PeerKey) -> StoredPeer:
        peer = self._view.get(key)
        if peer is None:
            raise Refusal(_Code.PERMISSION_DENIED, "peer is not registered")
        return peer

    def _deleted(self, key: PeerKey) -> None:
        self._sessions.end(key, Ending.DELETED)
        self._end_jobs(key)

    def _end_jobs(self, key: PeerKey) -> None:
        for over in self._jobs.get(key, ()):
            over.set()


async def _send(session: Session, context: Context, message: bytes) -> None:
    """Write to the stream; a client that takes nothing for half a minute loses it.

    A write that is stuck is left behind: gRPC sends the status after it, if the client ever reads on.
    """
    writing = asyncio.ensure_future(context.write(message))
    ended = asyncio.ensure_future(session.ended())
    waits_for = {writing} if session.ending is not None else {writing, ended}  # the last message races with nothing
    try:
        await asyncio.wait(waits_for, timeout=_WRITE_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
        elif ended.done():
            session.is_clear = False
        else:
            raise Refusal(_Code.UNAVAILABLE, f"the client read nothing for {_WRITE_TIMEOUT:.0f} seconds")
    finally:
        writing.cancel()
        ended.cancel()


def _who(call: _Call) -> str:
    return f"Peer {call.key}, remote addr {call.remote}"
