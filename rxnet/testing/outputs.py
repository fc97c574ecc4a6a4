"""What the marks of expected lanes mean: everything the engine starts, cancels and announces, as characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from rxnet.engine.effects import (
    AssignAddresses,
    Effect,
    GiveCandidates,
    KeepPath,
    Negotiate,
    OpenDevice,
    OpenManagement,
    OpenSignal,
    SendMessages,
    SetPeers,
    WaitUntil,
    WatchNetwork,
)
from rxnet.engine.inbox import Step
from rxnet.events import (
    CommandTaken,
    EffectFailed,
    EpicFailed,
    OffersCancelled,
    OffersStarted,
    PeerAdded,
    PeerConnected,
    PeerDisconnected,
    PeerRemoved,
)
from rxnet.model import Answer, Candidates, Offer, WireGuardPeer
from rxnet.testing.cast import letter_of
from rxnet.testing.drivers import Ending, Work

OUTPUTS: Final[dict[str, dict[str, str]]] = {
    "network": {"W": "watched", "w": "waited for (back-off)", "x": "watched no more, or the wait cancelled"},
    "management": {
        "L": "dialled, with a login",
        "D": "dialled, without a login",
        "w": "waited for (back-off)",
        "x": "cancelled: the connection, the dial or the wait",
    },
    "signal": {"D": "dialled", "w": "waited for (back-off)", "x": "cancelled: the connection, the dial or the wait"},
    "device": {"D": "opened", "w": "waited for (back-off)", "x": "closed, or the wait cancelled"},
    "addresses": {"A": "assigned"},
    "tunnel": {"a-z": "told to the device", "A-Z": "removed from the device"},
    "silent": {"w": "the wait for the next round starts", "x": "it is cancelled"},
    "gate": {"O": "opened, or opened anew", "X": "closed"},
    "news": {
        "S": "OffersStarted",
        "X": "OffersCancelled",
        "C": "CommandTaken",
        "E": "EpicFailed or EffectFailed: somebody's defect",
    },
    "p": {
        "O": "an offer sent",
        "A": "an answer sent",
        "C": "candidates sent",
        "x": "a message on its way cancelled",
        "N": "a negotiation started",
        "n": "it is cancelled",
        "K": "its path kept",
        "k": "its path given up",
    },
    "p timer": {"T": "a deadline set", "x": "it is cancelled"},
    "p given": {"G": "the agent is told the peer's candidates"},
    "p tunnel": {
        "t": "told to the device without an endpoint",
        "e": "with an endpoint",
        "E": "with an endpoint and a keepalive (we start the handshake)",
        "r": "to be removed and added again: the peer is a new process",
        "x": "removed",
    },
    "p news": {"a": "PeerAdded", "r": "PeerRemoved", "c": "PeerConnected", "d": "PeerDisconnected"},
}
"""Lane, mark, meaning. `p` stands for every peer's letter."""

_WAITS: Final = {
    "network retry": "network",
    "management retry": "management",
    "signal retry": "signal",
    "device retry": "device",
    "silent peers": "silent",
}
_MESSAGES: Final[dict[type, str]] = {Offer: "O", Answer: "A", Candidates: "C"}
_NEWS: Final = {OffersStarted: "S", OffersCancelled: "X", CommandTaken: "C", EpicFailed: "E", EffectFailed: "E"}
_PEER_NEWS: Final = {PeerAdded: "a", PeerRemoved: "r", PeerConnected: "c", PeerDisconnected: "d"}


class Scribe:
    """Writes marks for what it sees.

    :param write: told the lane and the mark.
    :param going_on: what goes on, to tell an agent that was taken over from one that was given up.
    """

    def __init__(self, write: Callable[[str, str], None], going_on: Callable[[], list[Work]]) -> None:
        self._write = write
        self._going_on = going_on
        self._incarnations: dict[str, int] = {}

    def see_work(self, work: Work) -> None:
        """An effect started or ended."""
        if work.running:
            for lane, mark in self._started(work.effect):
                self._write(lane, mark)
        elif work.ending is Ending.CANCELLED:
            for lane, mark in self._cancelled(work.effect):
                self._write(lane, mark)

    def see_step(self, step: Step) -> None:
        """The engine made a step."""
        before, after, event = step.before.gate, step.after.gate, step.stamped.event
        if after.open and after.epoch != before.epoch:
            self._write("gate", "O")
        elif before.open and not after.open:
            self._write("gate", "X")
        if type(event) in _NEWS:
            self._write("news", _NEWS[type(event)])
        elif type(event) in _PEER_NEWS and event.peer is not None:
            self._write(f"{letter_of(event.peer)} news", _PEER_NEWS[type(event)])

    def _started(self, effect: Effect) -> Iterator[tuple[str, str]]:
        match effect:
            case WatchNetwork():
                yield "network", "W"
            case OpenManagement(login=login):
                yield "management", "L" if login else "D"
            case OpenSignal():
                yield "signal", "D"
            case OpenDevice():
                yield "device", "D"
            case AssignAddresses():
                yield "addresses", "A"
            case WaitUntil(name=name, peer=None):
                yield _WAITS[name], "w"
            case WaitUntil(peer=peer) if peer is not None:
                yield f"{letter_of(peer)} timer", "T"
            case SendMessages(peer=peer, messages=messages):
                for message in messages:
                    yield letter_of(peer), _MESSAGES[type(message)]
            case Negotiate(peer=peer):
                yield letter_of(peer), "N"
            case KeepPath(peer=peer):
                yield letter_of(peer), "K"
            case GiveCandidates(peer=peer):
                yield f"{letter_of(peer)} given", "G"
            case SetPeers():
                yield from self._told(effect)

    def _told(self, effect: SetPeers) -> Iterator[tuple[str, str]]:
        for peer in effect.changed:
            letter = letter_of(peer.key)
            yield "tunnel", letter
            yield f"{letter} tunnel", self._tunnel_mark(peer)
        for key in effect.removed:
            yield "tunnel", letter_of(key).upper()
            yield f"{letter_of(key)} tunnel", "x"

    def _tunnel_mark(self, peer: WireGuardPeer) -> str:
        before, self._incarnations[peer.key] = self._incarnations.get(peer.key, peer.incarnation), peer.incarnation
        if before != peer.incarnation:
            return "r"
        if peer.endpoint is None:
            return "t"
        return "E" if peer.keepalive else "e"

    def _cancelled(self, effect: Effect) -> Iterator[tuple[str, str]]:
        match effect:
            case WatchNetwork():
                yield "network", "x"
            case OpenManagement():
                yield "management", "x"
            case OpenSignal():
                yield "signal", "x"
            case OpenDevice():
                yield "device", "x"
            case WaitUntil(name=name, peer=None):
                yield _WAITS[name], "x"
            case WaitUntil(peer=peer) if peer is not None:
                yield f"{letter_of(peer)} timer", "x"
            case SendMessages(peer=peer):
                yield letter_of(peer), "x"
            case Negotiate(peer=peer) if not self._taken_over(effect):
                yield letter_of(peer), "n"
            case KeepPath(peer=peer):
                yield letter_of(peer), "k"

    def _taken_over(self, effect: Negotiate) -> bool:
        successor = KeepPath(effect.peer, effect.generation)
        return any(work.effect == successor for work in self._going_on())
