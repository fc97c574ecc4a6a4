"""The signal driver: performs `OpenSignal` and `SendMessages`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from rxnet.credentials import CredentialStore
from rxnet.engine.effects import OpenSignal, SendMessages
from rxnet.errors import ConfigError, ProtocolError
from rxnet.events import (
    AnswerReceived,
    Event,
    MessagesNotSent,
    MessagesSent,
    OfferReceived,
    SignalConnected,
    SignalDisconnected,
    SignalMessageUnreadable,
)
from rxnet.signal.codec import Received, UnreadableMessage, decode, encode, encode_heartbeat
from rxnet.signal.connection import ConnectionEnded, SignalConnection
from rxnet.signal.limits import SignalLimits
from rxnet.signal.sender import Sender
from rxnet.wire.box import Sealer
from rxnet.wire.channel import environment_proxy


class SignalDriver:
    """One driver for the life of a client; it holds at most one open connection.

    :param private_key: the WireGuard private key, 32 bytes.
    :param credentials: where the peers' ICE credentials go, and ours come from.
    :param version: what offers and answers say as `netBirdVersion`.
    :param root_certificates: PEM bytes for TLS servers; None means those that gRPC brings.
    :param proxy: URL of an HTTP proxy, `http://host:port`; None means the one that HTTPS_PROXY names, if any (see
        `environment_proxy`).
    """

    def __init__(
        self,
        private_key: bytes,
        credentials: CredentialStore,
        version: str,
        root_certificates: bytes | None = None,
        proxy: str | None = None,
        limits: SignalLimits | None = None,
    ) -> None:
        self._sealer = Sealer(private_key)
        self._credentials = credentials
        self._version = version
        self._root_certificates = root_certificates
        self._proxy = proxy
        self._limits = limits or SignalLimits()
        self._sender = Sender(self._limits.in_flight, self._limits.send)
        self._connection: SignalConnection | None = None

    async def open_signal(self, effect: OpenSignal) -> AsyncIterator[Event]:
        """Hold one connection; one `SignalDisconnected` at its end, after everything is closed."""
        try:
            proxy = self._proxy or environment_proxy(effect.server)
        except ConfigError as error:
            yield SignalDisconnected(effect.generation, str(error))
            return
        connection = SignalConnection(
            effect.server, limits=self._limits, root_certificates=self._root_certificates, proxy=proxy
        )
        unreadable = _Tally(self._limits.report)
        try:
            await connection.register(self._sealer.public_key)
            connection.watch(encode_heartbeat(self._sealer))
            self._connection = connection
            yield SignalConnected(effect.generation)
            count = 0
            while True:
                message = await connection.receive()
                event = self._read(message, unreadable)
                if event is not None:
                    yield event
                if unreadable.due():
                    yield unreadable.report()
                count += 1
                if count % self._limits.burst == 0:
                    await asyncio.sleep(0)
        except ConnectionEnded as error:
            reason = str(error)
        finally:
            if self._connection is connection:
                self._connection = None
            await connection.close()
        if unreadable.count:
            yield unreadable.report()
        yield SignalDisconnected(effect.generation, reason)

    def _read(self, message: bytes, unreadable: _Tally) -> Event | None:
        try:
            decoded = decode(message, self._sealer)
        except UnreadableMessage as error:
            unreadable.add(error)
            return None
        if not isinstance(decoded, Received):
            return None
        event = decoded.event
        if decoded.credentials is not None and isinstance(event, OfferReceived | AnswerReceived):
            # Before the event: whoever acts on it finds them.
            self._credentials.remember(event.peer, event.session, decoded.credentials)
        return event

    async def send_messages(self, effect: SendMessages) -> AsyncIterator[Event]:
        """Send over the connection that is open now; one `MessagesSent` or `MessagesNotSent`, for all ids together."""
        ids = tuple(message.id for message in effect.messages)
        reason = await self._send(effect)
        if reason is None:
            yield MessagesSent(effect.peer, ids)
        else:
            yield MessagesNotSent(effect.peer, ids, reason)

    async def _send(self, effect: SendMessages) -> str | None:
        connection = self._connection
        if connection is None:
            return "signal is not connected"
        try:
            messages = encode(
                effect.messages,
                sealer=self._sealer,
                peer=effect.peer,
                credentials=self._credentials.ours(effect.peer),
                wireguard_port=effect.wireguard_port,
                version=self._version,
            )
        except ProtocolError as error:
            return f"a message cannot be written: {error}"
        return await self._sender.send(connection, messages)


class _Tally:
    """Counts unreadable messages and says when the next report is due: the first at once, then one an interval.

    No timer: what is counted last is reported with the next message of any kind, or at the end.
    """

    def __init__(self, interval: float) -> None:
        self.count = 0
        self._last: UnreadableMessage | None = None
        self._interval = interval
        self._next = 0.0

    def add(self, error: UnreadableMessage) -> None:
        self.count += 1
        self._last = error

    def due(self) -> bool:
        return self.count > 0 and asyncio.get_running_loop().time() >= self._next

    def report(self) -> SignalMessageUnreadable:
        assert self._last is not None
        made = SignalMessageUnreadable(self._last.sender, str(self._last), self.count)
        self.count = 0
        self._next = asyncio.get_running_loop().time() + self._interval
        return made
