"""Peers in the state: how to read them, how to store them, and which of them a step is about."""

from __future__ import annotations

from typing import Final

from rxnet.engine.chance import draw, fraction, session_id
from rxnet.engine.evolve import evolve
from rxnet.engine.inbox import Step
from rxnet.engine.state import OFFER_GAPS, SILENT_ROUND, Gate, Outbox, Peer, State
from rxnet.events import DeadlineReached, NetworkMapReceived
from rxnet.model import Offer, PeerKey

SILENT: Final = "silent peers"
"""The deadline of the batch for all silent peers."""


def current(state: State, key: PeerKey) -> Peer | None:
    """The peer as of the present epoch: stored, or renewed if what it has pending is of an older one.

    Renewal is lazy so that a gate which opens costs the same with one peer and with ten thousand: nobody rewrites
    the map, everybody reads through this function.
    """
    peer = state.peers.get(key)
    gate = state.gate
    if peer is None or peer.epoch == gate.epoch or not gate.open:
        return peer
    return renewed(peer, gate, gate.opened_at, -gate.epoch)


def renewed(peer: Peer, gate: Gate, at: float, message_id: int) -> Peer:
    """Start the peer afresh in the gate's epoch: unless it has a path, with a first offer in the outbox."""
    if peer.connected:
        return evolve(peer, epoch=gate.epoch, outbox=Outbox())
    bits = draw(gate.seed, "session", peer.remote.key, peer.generation)
    session = session_id(bits)
    return evolve(
        peer,
        epoch=gate.epoch,
        session=session,
        agent=None,
        offers=1,
        next_offer=offer_deadline(at, 1, draw(gate.seed, "offer", peer.remote.key)),
        outbox=Outbox((Offer(message_id, session),)),
    )


def offer_deadline(at: float, offers: int, bits: int) -> float | None:
    """When the offer after `offers` ones is due, within ±10 %; None when there is none."""
    if offers > len(OFFER_GAPS):
        return None
    return at + OFFER_GAPS[offers - 1] * (0.9 + 0.2 * fraction(bits))


def put_peer(state: State, peer: Peer, at: float) -> State:
    """Store a peer, keeping the count of connected ones and the set of silent ones."""
    key: PeerKey = peer.remote.key
    before = state.peers.get(key)
    if before is peer:
        return state
    peers = state.peers.set(key, peer)
    connected = state.connected + peer.connected - (before is not None and before.connected)
    silent = _is_silent(state, peer)
    if silent == (key in state.silent):
        return evolve(state, peers=peers, connected=connected)
    members = state.silent.set(key, None) if silent else state.silent.delete(key)
    round_at = (state.silent_round_at or at + SILENT_ROUND) if members else None
    return evolve(state, peers=peers, connected=connected, silent=members, silent_round_at=round_at)


def _is_silent(state: State, peer: Peer) -> bool:
    """Its offers are exhausted: nothing is pending and nothing is due."""
    return (
        state.gate.open
        and peer.epoch == state.gate.epoch
        and not peer.connected
        and peer.agent is None
        and peer.next_offer is None
    )


def without_paths(state: State, at: float, reason: str) -> State:
    """Forget every agent and path: the device that carried them is gone."""
    with state.peers.mutate() as peers:
        for key in sorted(state.peers):
            peer = peers[key]
            if peer.agent is not None or peer.connected:
                peers[key] = evolve(peer, agent=None, path=None, since=at, reason=reason, epoch=-1, outbox=Outbox())
        after = peers.finish()
    return evolve(state, peers=after, connected=0)


def touched(step: Step) -> tuple[PeerKey, ...]:
    """The peers that a step may change: its own, those of a map, the silent ones of a round, early ones let in."""
    event = step.stamped.event
    if event.peer is not None:
        return (event.peer,)
    if type(event) is DeadlineReached and event.name == SILENT:
        return tuple(sorted(step.before.silent))
    if type(event) is NetworkMapReceived:
        return (*(remote.key for remote in event.changed), *event.removed)
    if step.before.gate is not step.after.gate and step.before.early.order:
        # The opening gate lets in what was kept until then.
        return tuple(key for key in step.before.early.order if key in step.after.peers)
    return ()
