"""News: the events of kind `own` that follow from a step, for those who watch. Nothing in `reduce` depends on them."""

from __future__ import annotations

from collections.abc import Iterator

from rxnet.engine.inbox import Step
from rxnet.engine.peers import touched
from rxnet.engine.state import State
from rxnet.events import (
    CommandTaken,
    DownRequested,
    Event,
    OffersCancelled,
    OffersStarted,
    PeerAdded,
    PeerConnected,
    PeerDisconnected,
    PeerRemoved,
    UpRequested,
)
from rxnet.model import PeerKey


def news(step: Step) -> Iterator[Event]:
    before, after, event = step.before, step.after, step.stamped.event
    if before.peers is not after.peers:
        keys = touched(step)
        if not keys and before.connected:
            keys = tuple(sorted(before.peers))  # the device is gone, and with it every path
        for key in keys:
            yield from _of_peer(before, after, key)
    if before.gate is not after.gate:
        yield from _of_gate(before, after)
    if isinstance(event, UpRequested | DownRequested):
        yield CommandTaken(event.id)


def _of_peer(before: State, after: State, key: PeerKey) -> Iterator[Event]:
    was, now = before.peers.get(key), after.peers.get(key)
    if now is None:
        if was is not None:
            if was.connected:
                yield PeerDisconnected(key, "it left the network map", was.remote.fqdn)
            yield PeerRemoved(key, was.remote.fqdn)
        return
    if was is None:
        yield PeerAdded(key, now.remote.fqdn)
    old, new = (was.path if was else None), now.path
    if new is not None and (old is None or old != new):
        yield PeerConnected(key, new, now.remote.fqdn)
    elif old is not None and new is None:
        yield PeerDisconnected(key, now.reason, now.remote.fqdn)


def _of_gate(before: State, after: State) -> Iterator[Event]:
    if before.gate.open:
        yield OffersCancelled(_waiting(before), after.gate.reason or "the network changed")
    if after.gate.open:
        yield OffersStarted(len(after.peers) - after.connected)


def _waiting(state: State) -> int:
    """Peers that something was pending for: neither connected nor silent."""
    return len(state.peers) - state.connected - len(state.silent)
