"""What must hold after every step of every engine, whatever happened: the invariants of simulated worlds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rxnet.engine.connections import MANAGEMENT_RETRY, SIGNAL_RETRY
from rxnet.engine.device import ADDRESSES_RETRY, DEVICE_RETRY
from rxnet.engine.effects import Effect, GiveCandidates, KeepPath, Negotiate, SendMessages, WaitUntil
from rxnet.engine.network import NETWORK_RETRY
from rxnet.engine.offers import OFFER
from rxnet.engine.peers import SILENT, current
from rxnet.engine.state import (
    OFFER_GAPS,
    SILENT_ROUND,
    ConnectionStatus,
    DeviceStatus,
    Peer,
    State,
)
from rxnet.engine.tunnels import wireguard_peer
from rxnet.model import PeerKey, WireGuardPeer

MAX_CANDIDATES = 64
MAX_OUTBOX = 32


def broken_in_state(state: State, at: float) -> Iterator[str]:
    """Say what a state at a time of the engine's clock violates by itself."""
    peers = {key: state.peers[key] for key in sorted(state.peers)}
    connected = [key for key, peer in peers.items() if peer.connected]
    if state.connected != len(connected):
        yield f"state.connected is {state.connected}, but {len(connected)} peers have a path"
    if connected and state.device.status is not DeviceStatus.OPEN:
        yield f"{connected[0]} has a path, but the device is {state.device.status.value}"
    possible = (
        state.wanted
        and state.link.up
        and state.signal.status is ConnectionStatus.CONNECTED
        and state.device.status is DeviceStatus.OPEN
    )
    if state.gate.open != possible:
        yield f"the gate is {'open' if state.gate.open else 'closed'} against its conditions: {state.gate.reason!r}"
    silent = [key for key, peer in peers.items() if _silent(state, peer)]
    if sorted(state.silent) != silent:
        yield f"the silent set is {sorted(state.silent)}, by definition it is {silent}"
    if (state.silent_round_at is not None) != bool(silent):
        yield f"silent_round_at is {state.silent_round_at} with {len(silent)} silent peers"
    if state.silent_round_at is not None and not at <= state.silent_round_at <= at + SILENT_ROUND:
        yield f"silent_round_at is {state.silent_round_at} at {at}"
    for name, link in (("management", state.management), ("signal", state.signal)):
        if (link.status is ConnectionStatus.WAITING) != (link.retry_at is not None):
            yield f"{name} is {link.status.value} with retry_at {link.retry_at}"
        if link.status is ConnectionStatus.CONNECTED and link.reason:
            yield f"{name} is connected, and why not: {link.reason!r}"
    for key in peers:
        yield from _broken_in_peer(state, key, at)


def _silent(state: State, peer: Peer) -> bool:
    return (
        state.gate.open
        and peer.epoch == state.gate.epoch
        and not peer.connected
        and peer.agent is None
        and peer.next_offer is None
    )


def _broken_in_peer(state: State, key: PeerKey, at: float) -> Iterator[str]:
    peer = current(state, key)
    assert peer is not None
    if len(peer.candidates) > MAX_CANDIDATES:
        yield f"{key} holds {len(peer.candidates)} candidates"
    if len(peer.outbox.sending) + len(peer.outbox.waiting) > MAX_OUTBOX:
        yield f"{key} holds {len(peer.outbox.sending)} + {len(peer.outbox.waiting)} messages"
    if peer.connected == bool(peer.reason):
        yield f"{key} is {'connected' if peer.connected else 'not connected'}, and why not: {peer.reason!r}"
    if peer.connected and peer.agent is None:
        yield f"{key} has a path without an agent"
    if not state.gate.open or peer.connected or _silent(state, peer):
        return
    if peer.agent is None and peer.next_offer is None:
        yield f"{key} is stuck: nothing is pending for it"
    # A deadline of this very instant is about to be worked off.
    if peer.next_offer is not None and not at <= peer.next_offer <= at + OFFER_GAPS[-1] * 1.1:
        yield f"{key} has its next offer at {peer.next_offer}, and it is {at}"


def broken_in_work(state: State, going_on: Iterable[Effect]) -> Iterator[str]:
    """Say what goes on without a reason in the state, or does not go on in spite of one."""
    for effect in going_on:
        match effect:
            case SendMessages() | Negotiate() | GiveCandidates() if not state.gate.open:
                yield f"{effect} goes on while the gate is closed"
            case WaitUntil() if not _owned(state, effect):
                yield f"{effect} has no owner"
            case KeepPath(peer=key, generation=generation):
                peer = state.peers.get(key)
                if peer is None or not peer.connected or peer.generation != generation:
                    yield f"{effect} goes on without a path"


def _owned(state: State, wait: WaitUntil) -> bool:
    if wait.name == OFFER and wait.peer is not None:
        peer = current(state, wait.peer)
        return state.gate.open and peer is not None and peer.next_offer == wait.at
    owners = {
        NETWORK_RETRY: state.link.retry_at,
        MANAGEMENT_RETRY: state.management.retry_at,
        SIGNAL_RETRY: state.signal.retry_at,
        DEVICE_RETRY: state.device.retry_at,
        ADDRESSES_RETRY: state.device.addresses_retry_at,
        SILENT: state.silent_round_at,
    }
    return owners.get(wait.name) == wait.at


def broken_on_device(state: State, told: Mapping[PeerKey, WireGuardPeer]) -> Iterator[str]:
    """Say where what an open device was told differs from what the state wants."""
    if state.device.status is not DeviceStatus.OPEN:
        return
    for key in sorted(state.peers):
        wanted = wireguard_peer(state, key)
        if told.get(key) != wanted:
            yield f"the device was told {told.get(key)}, wanted is {wanted}"
    for key in sorted(told):
        if key not in state.peers:
            yield f"the device still holds {key}"
