"""The management driver: performs `OpenManagement` against a NetBird management server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager

import grpc
import grpc.aio

from rxnet.engine.effects import OpenManagement
from rxnet.errors import ConfigError, ControlPlaneError, ProtocolError
from rxnet.events import (
    ChecksReported,
    Event,
    LoggedIn,
    LoginRefused,
    ManagementConnected,
    ManagementDisconnected,
    NetworkMapFaulted,
    ServersAnnounced,
)
from rxnet.log import logger
from rxnet.management.calls import ManagementCalls
from rxnet.management.codec import Login, SystemMeta, decode_login, encode_login, encode_sync, encode_sync_meta
from rxnet.management.limits import ManagementLimits
from rxnet.management.map_reader import COMPLAINTS, ChecksNamed, MapReader
from rxnet.management.posture import look_at_all
from rxnet.management.verdicts import Ended, Step, ended, from_proxy
from rxnet.model import Retry, ServerAddress
from rxnet.wire import services
from rxnet.wire.box import Sealer
from rxnet.wire.channel import environment_proxy, explain, open_channel
from rxnet.wire.trust import system_root_certificates

_Code = grpc.StatusCode


def _no_setup_key() -> str | None:
    return None


class ManagementDriver:
    """Talks to one management server as one peer.

    `meta` tells what this host is; it is called in a thread, at every login and sync. `setup_key` is asked only when
    management does not know us; the key never leaves the sealed request. `root_certificates` (PEM) replace the
    system's. `proxy` (`http://...`) wins over HTTPS_PROXY; gRPC itself still leaves out hosts that `no_proxy` lists.
    """

    def __init__(
        self,
        server: ServerAddress,
        private_key: bytes,
        meta: Callable[[], SystemMeta],
        setup_key: Callable[[], str | None] = _no_setup_key,
        *,
        dns_labels: Sequence[str] = (),
        root_certificates: bytes | None = None,
        proxy: str | None = None,
        limits: ManagementLimits | None = None,
    ) -> None:
        self._server = server
        self._sealer = Sealer(private_key)
        self._meta = meta
        self._setup_key = setup_key
        self._dns_labels = tuple(dns_labels)
        self._root_certificates = root_certificates
        self._proxy = proxy
        self._limits = limits or ManagementLimits()
        self._reader = MapReader(self._sealer.public_key)
        self._checks: tuple[str, ...] = ()
        self._checks_told: tuple[str, ...] = ()
        self._accepted = False
        """Management has accepted us since we started, or since it last refused us."""

    def __repr__(self) -> str:
        return f"ManagementDriver({self._server}, {self._sealer.public_key})"

    # -- the effect

    async def open_management(self, effect: OpenManagement) -> AsyncIterator[Event]:
        """Perform the effect; see there what it reports."""
        try:
            async with self._conversation() as calls, aclosing(self._converse(effect, calls)) as events:
                async for event in events:
                    yield event
            return
        except Ended as end:
            last = end
        except ConfigError as error:
            last = Ended(str(error), Retry.NEVER)
        except ProtocolError as error:
            last = Ended(str(error))
        reason = self._without_secret(last.reason)
        logger.debug("management {}: {}", self._server, reason)
        if last.refused:
            self._accepted = False
            yield LoginRefused(effect.generation, reason)
        else:
            yield ManagementDisconnected(effect.generation, reason, last.retry)

    async def _converse(self, effect: OpenManagement, calls: ManagementCalls) -> AsyncGenerator[Event, None]:
        """From dialling on. Ends by raising `Ended` or `ProtocolError`, never by itself."""
        generation = effect.generation
        await self._dial(calls)
        meta = await asyncio.to_thread(self._meta)
        self._reader.new_stream(generation)
        if effect.login:
            login, registered = await self._log_in(calls, meta)
            self._accepted = True
            self._checks = login.checks
            self._reader.new_stream(generation, login.local, login.stuns)
            yield LoggedIn(generation, login.local, login.signal, registered)
            if login.stuns:
                yield ServersAnnounced(generation, login.stuns)
            if login.complaints:
                yield NetworkMapFaulted(generation, login.complaints[:COMPLAINTS], len(login.complaints))
            with self._judging(Step.CONNECT):
                await calls.fetch_server_key()
        stream, message = await self._open_sync(calls, meta)
        plaintext = await calls.open(message)
        self._accepted = True
        yield ManagementConnected(generation)
        while True:
            async with aclosing(self._read(plaintext, generation, calls)) as events:
                async for event in events:
                    yield event
            with self._judging(Step.SYNC):
                message = _not_over(await stream.read())
            plaintext = await calls.open(message)

    async def _dial(self, calls: ManagementCalls) -> None:
        await calls.connect()
        with self._judging(Step.CONNECT):
            await calls.fetch_server_key()

    # -- Login

    async def _log_in(self, calls: ManagementCalls, meta: SystemMeta) -> tuple[Login, bool]:
        """Log in, with the setup key if management does not know us. Tells, too, whether that registered us."""
        try:
            return await self._login(calls, meta), False
        except grpc.aio.AioRpcError as error:
            unknown = error.code() is _Code.PERMISSION_DENIED and not from_proxy(error)
            # A peer that was known a moment ago was deleted by somebody: it must not come back by itself.
            setup_key = self._setup_key() if unknown and not self._accepted else None
            if not setup_key:
                raise ended(Step.LOGIN, error, known_before=self._accepted) from None
        try:
            return await self._login(calls, meta, setup_key), True
        except grpc.aio.AioRpcError as error:
            refusal = ended(Step.REGISTER, error)
            if error.code() is not _Code.FAILED_PRECONDITION:
                raise refusal from None
        # It may say so because an earlier attempt of ours got through although its answer was lost (3.5).
        try:
            return await self._login(calls, meta), True
        except grpc.aio.AioRpcError:
            raise refusal from None

    async def _login(self, calls: ManagementCalls, meta: SystemMeta, setup_key: str | None = None) -> Login:
        request = encode_login(meta, self._sealer.public_key, setup_key=setup_key, dns_labels=self._dns_labels)
        return decode_login(await calls.open(await calls.unary(services.LOGIN, request, self._limits.login)))

    # -- Sync

    async def _open_sync(
        self, calls: ManagementCalls, meta: SystemMeta
    ) -> tuple[grpc.aio.UnaryStreamCall[bytes, bytes], bytes]:
        """Open the stream and wait for its first message, which is still sealed."""
        files = await look_at_all(self._checks, self._limits.files)
        request = encode_sync(meta, files)
        self._checks_told = self._checks
        try:
            return await self._first_message(calls, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not _Code.INVALID_ARGUMENT:
                raise ended(Step.SYNC, error) from None
        with self._judging(Step.CONNECT):  # the server's key changed while we were busy
            await calls.fetch_server_key()
        with self._judging(Step.SYNC):
            return await self._first_message(calls, request)

    async def _first_message(
        self, calls: ManagementCalls, request: bytes
    ) -> tuple[grpc.aio.UnaryStreamCall[bytes, bytes], bytes]:
        stream = calls.sync(request)
        try:
            async with asyncio.timeout(self._limits.first_message):
                message = await stream.read()
        except TimeoutError:
            limit = self._limits.first_message
            raise Ended(f"management opened no stream or sent nothing on it within {limit:g} s") from None
        return stream, _not_over(message)

    async def _read(self, plaintext: bytes, generation: int, calls: ManagementCalls) -> AsyncGenerator[Event, None]:
        """The events of one message, with a breath after each, so that a map of thousands blocks nobody."""
        try:
            for said in self._reader.read(plaintext):
                if isinstance(said, ChecksNamed):
                    self._checks = said.paths
                elif said is not None:
                    yield said
                await asyncio.sleep(0)
        except ProtocolError as error:
            # The next stream would begin with the same message, so there is no point in hurrying.
            raise Ended(str(error), Retry.SLOWLY) from None
        if self._checks != self._checks_told and await self._tell_files(calls):
            yield ChecksReported(generation, len(self._checks))

    async def _tell_files(self, calls: ManagementCalls) -> bool:
        """Answer changed checks. A failure is no reason to end the stream: the next map brings another chance."""
        checks = self._checks
        if checks:
            meta = await asyncio.to_thread(self._meta)
            files = await look_at_all(checks, self._limits.files)
            try:
                request = encode_sync_meta(meta, files)
                await calls.unary(services.SYNC_META, request, self._limits.sync_meta)
            except (grpc.aio.AioRpcError, ProtocolError) as error:
                logger.debug("management {}: SyncMeta failed: {}", self._server, _short(error))
                return False
        self._checks_told = checks
        return bool(checks)

    # -- Logout

    async def logout(self) -> None:
        """Delete this peer on the server; no error if it does not know us.

        :raises ControlPlaneError: it could not be done within 15 s, with the reason.
        :raises ConfigError: the environment names a proxy that cannot be used.
        """
        try:
            async with asyncio.timeout(self._limits.logout), self._conversation() as calls:
                await self._dial(calls)
                await calls.unary(services.LOGOUT, b"", self._limits.logout)
        except TimeoutError:
            raise ControlPlaneError(f"management did not answer the logout within {self._limits.logout:g} s") from None
        except grpc.aio.AioRpcError as error:
            if error.code() is _Code.NOT_FOUND and not from_proxy(error):
                return
            text = explain(error.code(), error.details())
            raise ControlPlaneError(f"management refused the logout: {text}") from None
        finally:
            self._accepted = False

    # -- common

    @asynccontextmanager
    async def _conversation(self) -> AsyncIterator[ManagementCalls]:
        roots = self._root_certificates
        if roots is None and self._server.tls:
            roots = await asyncio.to_thread(system_root_certificates)
        proxy = self._proxy or environment_proxy(self._server)
        channel = open_channel(
            self._server,
            root_certificates=roots,
            proxy=proxy,
            ping_after=self._limits.ping_after,
            ping_answer=self._limits.ping_answer,
        )
        try:
            yield ManagementCalls(channel, self._sealer, self._limits)
        finally:
            await channel.close(None)

    @contextmanager
    def _judging(self, step: Step) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise ended(step, error) from None

    def _without_secret(self, reason: str) -> str:
        """The reason, even if a server repeats the setup key in its texts."""
        key = self._setup_key()
        return re.sub(re.escape(key), "(setup key)", reason, flags=re.IGNORECASE) if key else reason


def _not_over(message: object) -> bytes:
    if isinstance(message, bytes):
        return message
    raise Ended("management ended the stream: another one replaced it, or the peer was deleted, or its login expired")


def _short(error: Exception) -> str:
    return explain(error.code(), error.details()) if isinstance(error, grpc.aio.AioRpcError) else str(error)
