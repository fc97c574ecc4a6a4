"""Agents and paths: a negotiation comes to a path, fails, or the path is lost again."""

from __future__ import annotations

from typing import Final

from rxnet.engine.chance import draw, session_id
from rxnet.engine.effects import Effect, GiveCandidates, KeepPath, Negotiate
from rxnet.engine.evolve import evolve
from rxnet.engine.inbox import Stamped
from rxnet.engine.peers import current, offer_deadline, put_peer, renewed
from rxnet.engine.state import AgentStatus, Outbox, Peer, State
from rxnet.events import EffectFailed, NegotiationFailed, PathLost, PathSelected
from rxnet.model import PeerKey, is_controlling


def negotiation_effect(state: State, key: PeerKey, peer: Peer) -> Effect | None:
    """Under the gate: the agent that is looking for a path."""
    agent = peer.agent
    if agent is None or agent.status is not AgentStatus.CHECKING:
        return None
    return Negotiate(
        key,
        agent.generation,
        agent.session,
        agent.remote_session,
        is_controlling(state.own_key, key),
        state.stuns,
    )


def candidates_effect(state: State, key: PeerKey, peer: Peer) -> Effect | None:
    """Under the gate: what the checking agent should know of the peer's addresses."""
    agent = peer.agent
    if agent is None or agent.status is not AgentStatus.CHECKING or not peer.candidates:
        return None
    return GiveCandidates(key, agent.generation, tuple([c for _, c in peer.candidates]))


def path_effect(state: State, key: PeerKey, peer: Peer) -> Effect | None:
    """Not under the gate: a path that works outlives signal."""
    agent = peer.agent
    if agent is None or agent.status is not AgentStatus.CONNECTED:
        return None
    return KeepPath(key, agent.generation)


def on_path_selected(state: State, event: PathSelected, stamped: Stamped) -> State:
    peer = current(state, event.peer)
    if peer is None or peer.agent is None or peer.agent.generation != event.generation:
        return state
    if not peer.connected and not state.gate.open:
        return state  # the agent was cancelled when the gate closed; this was under way
    since = peer.since if peer.connected else stamped.at
    return put_peer(
        state,
        evolve(
            peer,
            agent=evolve(peer.agent, status=AgentStatus.CONNECTED),
            path=event.path,
            since=since,
            reason="",
            offers=0,
            next_offer=None,
        ),
        stamped.at,
    )


def on_negotiation_failed(state: State, event: NegotiationFailed, stamped: Stamped) -> State:
    peer = current(state, event.peer)
    if peer is None or peer.agent is None or peer.agent.generation != event.generation:
        return state
    if peer.connected:
        return on_path_lost(state, PathLost(event.peer, event.generation, event.reason), stamped)
    # The schedule of offers goes on where it stood: a peer that answers but cannot be reached does not keep us busy.
    bits = draw(stamped.entropy, event.peer)
    offers = max(peer.offers, 1)
    return put_peer(
        state,
        evolve(
            peer,
            agent=None,
            session=session_id(draw(stamped.entropy, "session", event.peer, peer.generation)),
            reason=event.reason,
            next_offer=offer_deadline(stamped.at, offers, bits),
        ),
        stamped.at,
    )


def on_path_lost(state: State, event: PathLost, stamped: Stamped) -> State:
    peer = current(state, event.peer)
    if peer is None or peer.agent is None or peer.agent.generation != event.generation:
        return state
    lost = evolve(peer, agent=None, path=None, since=stamped.at, reason=event.reason, outbox=Outbox(), epoch=-1)
    return put_peer(state, _afresh(lost, state, stamped), stamped.at)


def _afresh(peer: Peer, state: State, stamped: Stamped) -> Peer:
    """Offer again at once under an open gate; under a closed one the opening does it."""
    if not state.gate.open:
        return peer
    return evolve(renewed(peer, evolve(state.gate, seed=stamped.entropy), stamped.at, stamped.seq), reason=peer.reason)


def on_effect_failed(state: State, event: EffectFailed, stamped: Stamped) -> State:
    if event.peer is None:
        return state
    reason = f"unexpected: {event.reason}"
    if event.effect in (Negotiate.__name__, KeepPath.__name__):
        return on_negotiation_failed(state, NegotiationFailed(event.peer, event.generation, reason), stamped)
    return state


REDUCERS: Final = (
    (PathSelected, on_path_selected),
    (NegotiationFailed, on_negotiation_failed),
    (PathLost, on_path_lost),
    (EffectFailed, on_effect_failed),
)
