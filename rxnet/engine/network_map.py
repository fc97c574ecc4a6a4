"""The network map: which peers are wanted. Applied part by part, each part a difference to what came before."""

from __future__ import annotations

from typing import Final

from rxnet.engine.evolve import evolve
from rxnet.engine.inbox import Stamped
from rxnet.engine.messages import hand_over_early
from rxnet.engine.peers import current, put_peer, renewed
from rxnet.engine.state import Gate, Peer, State
from rxnet.events import NetworkMapReceived
from rxnet.model import PeerKey, RemotePeer


def on_network_map(state: State, event: NetworkMapReceived, stamped: Stamped) -> State:
    """Add, change and remove peers; then hand the new ones what they sent before we knew them.

    The generation is not compared: parts are differences, so one that was read before its stream was cancelled
    still counts, and the next stream's parts build upon it.
    """
    if event.local is not None and event.local != state.local:
        state = evolve(state, local=event.local)
    state = _without(state, event.removed)
    state = _with(state, event.changed, stamped)
    if event.last:
        state = evolve(state, map_serial=event.serial)
    if state.early.order:
        state = hand_over_early(state, [remote.key for remote in event.changed], stamped)
    return state


def _without(state: State, removed: tuple[PeerKey, ...]) -> State:
    if not removed:
        return state
    silent, connected = state.silent, state.connected
    with state.peers.mutate() as peers:
        for key in removed:
            gone = peers.pop(key, None)
            connected -= gone is not None and gone.connected
            if key in silent:
                silent = silent.delete(key)
        after = peers.finish()
    round_at = state.silent_round_at if silent else None
    return evolve(state, peers=after, silent=silent, silent_round_at=round_at, connected=connected)


def _with(state: State, changed: tuple[RemotePeer, ...], stamped: Stamped) -> State:
    if not changed:
        return state
    gate = state.gate
    with state.peers.mutate() as peers:
        for remote in changed:
            held = peers.get(remote.key)
            peers[remote.key] = _new(remote, gate, stamped) if held is None else evolve(held, remote=remote)
        after = peers.finish()
    return evolve(state, peers=after)


def _new(remote: RemotePeer, gate: Gate, stamped: Stamped) -> Peer:
    peer = Peer(remote, since=stamped.at)
    return renewed(peer, gate, stamped.at, stamped.seq) if gate.open else peer


def on_map_while_silent(state: State, event: NetworkMapReceived, stamped: Stamped) -> State:
    """A change of a silent peer's entry is an event that starts it again: it may be back with a new address."""
    changed = [r.key for r in event.changed if r.key in state.silent]
    if not changed:
        return state
    for key in changed:
        peer = current(state, key)
        if peer is not None and state.gate.open:
            state = put_peer(state, renewed(peer, state.gate, stamped.at, stamped.seq), stamped.at)
    return state


REDUCERS: Final = ((NetworkMapReceived, on_network_map), (NetworkMapReceived, on_map_while_silent))
