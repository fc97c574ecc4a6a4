"""Simulated management and signal: what their drivers would report, with latency, losses and restarts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from rxnet.engine.effects import OpenManagement, OpenSignal, SendMessages
from rxnet.events import (
    AnswerReceived,
    CandidateReceived,
    Event,
    LoggedIn,
    LoginRefused,
    ManagementConnected,
    ManagementDisconnected,
    MessagesNotSent,
    MessagesSent,
    NetworkMapReceived,
    OfferReceived,
    ServersAnnounced,
    SignalConnected,
    SignalDisconnected,
)
from rxnet.model import Answer, Candidates, Message, Offer, PeerKey, ServerAddress
from rxnet.testing.drivers import Work

if TYPE_CHECKING:
    from rxnet.testing.host import Host
    from rxnet.testing.plane import Plane

SIGNAL: Final = ServerAddress("signal.example", 443, tls=True)
STUN: Final = ServerAddress("stun.example", 3478)


class _Stream:
    """A connection of one host. It dies, unnoticed by the server, when the host's network goes or moves."""

    def __init__(self, host: Host, work: Work) -> None:
        self.host = host
        self.work = work
        self._moves = host.moves

    @property
    def alive(self) -> bool:
        return self.work.running and self.host.link_up and self.host.moves == self._moves


class _Server:
    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.running = True
        self.streams: dict[PeerKey, _Stream] = {}

    def go_down(self) -> None:
        """End every stream and refuse new ones."""
        self.running = False
        streams, self.streams = self.streams, {}
        self._end(streams)

    def come_back(self) -> None:
        """Take connections again."""
        self.running = True

    def drop_streams(self) -> None:
        """End every stream; new ones are welcome at once."""
        streams, self.streams = self.streams, {}
        self._end(streams)

    def _end(self, streams: dict[PeerKey, _Stream]) -> None:
        for key in sorted(streams):
            self.plane.later(partial(self._gone, streams[key]))

    def _gone(self, stream: _Stream) -> None:
        self._report(stream, self._over(stream.work, "the server is gone"))

    def _report(self, stream: _Stream, event: Event) -> None:
        if stream.alive:
            stream.work.report(event)

    def _over(self, work: Work, reason: str) -> Event:
        raise NotImplementedError


class Management(_Server):
    """Knows the members; every open stream is told each change of them."""

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane)
        self._members: dict[PeerKey, Host] = {}
        self._deleted: set[PeerKey] = set()
        self._serial = 0

    def open(self, host: Host, work: Work) -> None:
        """Perform `OpenManagement`."""
        stream = _Stream(host, work)
        self.plane.later(lambda: self._answer(stream))

    def delete(self, host: Host) -> None:
        """Remove a peer for good: it is refused, the others' maps no longer list it."""
        self._deleted.add(host.key)
        self._members.pop(host.key, None)
        stream = self.streams.pop(host.key, None)
        if stream is not None:
            effect = stream.work.effect
            assert isinstance(effect, OpenManagement)
            refused = LoginRefused(effect.generation, "this peer was deleted: register it again")
            self.plane.later(lambda: self._report(stream, refused))
        self._push()

    def _answer(self, stream: _Stream) -> None:
        work, host = stream.work, stream.host
        effect = work.effect
        assert isinstance(effect, OpenManagement)
        if not stream.alive:
            return
        if not self.running:
            work.report(self._over(work, "connection refused"))
            return
        if host.key in self._deleted:
            work.report(LoginRefused(effect.generation, "this peer was deleted: register it again"))
            return
        if effect.login:
            new = host.key not in self._members
            self._members[host.key] = host
            work.report(LoggedIn(effect.generation, host.overlay, SIGNAL, registered=new))
            if new:
                self._push()
        self.streams[host.key] = stream
        work.report(ManagementConnected(effect.generation))
        work.report(ServersAnnounced(effect.generation, (STUN,)))
        self._tell(stream)

    def _push(self) -> None:
        for key in sorted(self.streams):
            self.plane.later(partial(self._tell, self.streams[key]))

    def _tell(self, stream: _Stream) -> None:
        """Send a host the map; its driver passes the difference on in parts."""
        if not stream.alive:
            return
        host, effect = stream.host, stream.work.effect
        assert isinstance(effect, OpenManagement)
        self._serial += 1
        entries = {key: self.plane.entry(self._members[key]) for key in sorted(self._members) if key != host.key}
        changed = [entry for key, entry in entries.items() if host.map_told.get(key) != entry]
        removed = tuple(key for key in sorted(host.map_told) if key not in entries)
        host.map_told = entries
        size = self.plane.part
        parts = [tuple(changed[i : i + size]) for i in range(0, len(changed), size)] or [()]
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            stream.work.report(
                NetworkMapReceived(
                    effect.generation, self._serial, host.overlay, part, removed if last else (), last=last
                )
            )

    def _over(self, work: Work, reason: str) -> Event:
        assert isinstance(work.effect, OpenManagement)
        return ManagementDisconnected(work.effect.generation, reason)


class Signal(_Server):
    """Hands messages on to whoever is connected; loses some, doubles some, keeps none."""

    def __init__(self, plane: Plane, loss: float, duplication: float) -> None:
        super().__init__(plane)
        self.loss = loss
        self.duplication = duplication
        self.loses: Callable[[PeerKey, PeerKey, Message], bool] = lambda sender, to, message: False
        """Further messages to lose, by sender, receiver and message."""

    def open(self, host: Host, work: Work) -> None:
        """Perform `OpenSignal`."""
        stream = _Stream(host, work)
        self.plane.later(lambda: self._answer(stream))

    def _answer(self, stream: _Stream) -> None:
        work = stream.work
        assert isinstance(work.effect, OpenSignal)
        if not stream.alive:
            return
        if not self.running:
            work.report(self._over(work, "connection refused"))
            return
        self.streams[stream.host.key] = stream
        work.report(SignalConnected(work.effect.generation))

    def send(self, host: Host, work: Work) -> None:
        """Perform `SendMessages`."""
        effect = work.effect
        assert isinstance(effect, SendMessages)
        ids = tuple(message.id for message in effect.messages)
        for message in effect.messages:
            if isinstance(message, Offer | Answer):
                host.sessions.add(message.session)
        ufrag = host.ufrag

        def taken() -> None:
            if not work.running:
                return
            if not self.running or not host.link_up:
                work.report(MessagesNotSent(effect.peer, ids, "signal cannot be reached"))
                return
            for message in effect.messages:
                self._hand_on(host.key, ufrag, effect.peer, message)
            work.report(MessagesSent(effect.peer, ids))

        self.plane.later(taken)

    def _hand_on(self, sender: PeerKey, ufrag: str, to: PeerKey, message: Message) -> None:
        chance = self.plane.random
        if chance.random() < self.loss or self.loses(sender, to, message):
            return
        for _ in range(2 if chance.random() < self.duplication else 1):
            self.plane.later(lambda: self._deliver(sender, ufrag, to, message))

    def _deliver(self, sender: PeerKey, ufrag: str, to: PeerKey, message: Message) -> None:
        stream = self.streams.get(to)
        if stream is None:
            return
        for event in _received(sender, ufrag, message):
            self._report(stream, event)

    def _over(self, work: Work, reason: str) -> Event:
        assert isinstance(work.effect, OpenSignal)
        return SignalDisconnected(work.effect.generation, reason)


def _received(sender: PeerKey, ufrag: str, message: Message) -> list[Event]:
    """What the receiver's driver reports of a message."""
    if isinstance(message, Offer):
        return [OfferReceived(sender, message.session, ufrag=ufrag, wireguard_port=51820)]
    if isinstance(message, Answer):
        return [AnswerReceived(sender, message.session, ufrag=ufrag, wireguard_port=51820)]
    assert isinstance(message, Candidates)
    return [CandidateReceived(sender, candidate) for candidate in message.candidates]
