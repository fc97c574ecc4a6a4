"""What peers say through signal, and what we answer.

Every offer is answered with exactly one answer. Crossing offers (glare) are the normal case and need no rule of their
own: each side answers the other's offer, and both sides come to the same pair of sessions.

A message's session id decides what happens to our agent (signal document, 3.4)::

    our agent      their session        action
    none           any                  make an agent for it
    some           absent or the same   nothing (the offer is still answered)
    some           another one          new agent with a new session id of ours; all candidates are signalled again

Messages of keys that the map does not list are kept until it does; candidates are kept until there is an agent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from rxnet.engine.chance import draw, session_id
from rxnet.engine.early import keep_early, take_early
from rxnet.engine.effects import SendMessages
from rxnet.engine.evolve import evolve
from rxnet.engine.inbox import Stamped
from rxnet.engine.peers import current, put_peer
from rxnet.engine.state import Agent, Peer, State
from rxnet.events import (
    AnswerReceived,
    CandidateReceived,
    CandidatesGathered,
    EffectFailed,
    MessagesNotSent,
    MessagesSent,
    OfferReceived,
)
from rxnet.model import Answer, Candidates, PeerKey, SessionId

MAX_CANDIDATES: Final = 64
"""Candidates kept of one peer; more push the oldest out."""

CANDIDATE_MEMORY: Final = 5.0
"""Seconds for which candidates count that came before the agent they belong to was made."""


REPEATED_WITHIN: Final = 1.0
"""Seconds within which a candidate that comes again is the same news."""


RELAY_ONLY: Final = "it offers no direct path (relay only), and relays are not supported yet"


def on_offer(state: State, event: OfferReceived, stamped: Stamped) -> State:
    peer = current(state, event.peer)
    if peer is None or not state.gate.open:
        return keep_early(state, event.peer, event)
    peer = _with_agent_for(peer, event, stamped)
    return put_peer(state, evolve(peer, outbox=peer.outbox.put(Answer(stamped.seq, peer.session))), stamped.at)


def on_answer(state: State, event: AnswerReceived, stamped: Stamped) -> State:
    peer = current(state, event.peer)
    if peer is None:
        return keep_early(state, event.peer, event)
    if not state.gate.open:
        return state  # it answers an offer of an epoch that is over
    return put_peer(state, _with_agent_for(peer, event, stamped), stamped.at)


def on_candidate(state: State, event: CandidateReceived, stamped: Stamped) -> State:
    peer = current(state, event.peer)
    if peer is None:
        return keep_early(state, event.peer, event)
    candidate = event.candidate
    others = peer.candidates
    for known in others:
        if known[1].address == candidate.address and known[1].port == candidate.port:
            if stamped.at - known[0] < REPEATED_WITHIN:
                return state
            # Signalled again: it belongs to the session to come too.
            others = tuple([c for c in others if c is not known])
            break
    candidates = (*others, (stamped.at, candidate))[-MAX_CANDIDATES:]
    return put_peer(state, evolve(peer, candidates=candidates), stamped.at)


def _with_agent_for(peer: Peer, event: OfferReceived | AnswerReceived, stamped: Stamped) -> Peer:
    """Apply the table above."""
    if not event.ice:
        # It has given up its agent, so ours has nobody to talk to (signal document, 3.3).
        since = stamped.at if peer.connected else peer.since
        return evolve(peer, agent=None, path=None, since=since, reason=RELAY_ONLY)
    agent = peer.agent
    if agent is None:
        return _new_agent(peer, peer.session, event, stamped)
    if event.session is None or event.session == agent.remote_session:
        return peer
    session = session_id(draw(stamped.entropy, "session", peer.remote.key, peer.generation))
    lost = evolve(peer, path=None, since=stamped.at if peer.connected else peer.since)
    return _new_agent(lost, session, event, stamped)


def _new_agent(peer: Peer, session: SessionId, event: OfferReceived | AnswerReceived, stamped: Stamped) -> Peer:
    generation = peer.generation + 1
    recent = tuple(c for c in peer.candidates if stamped.at - c[0] <= CANDIDATE_MEMORY)
    # Another user fragment means another process over there, whose WireGuard does not know our keys.
    restarted = bool(peer.remote_ufrag) and event.ufrag != peer.remote_ufrag
    return evolve(
        peer,
        generation=generation,
        session=session,
        agent=Agent(generation, session, event.session),
        candidates=recent,
        next_offer=None,
        reason="checking for a path",
        remote_ufrag=event.ufrag,
        incarnation=peer.incarnation + restarted,
    )


def on_candidates_gathered(state: State, event: CandidatesGathered, stamped: Stamped) -> State:
    peer = current(state, event.peer)
    if peer is None or peer.agent is None or peer.agent.generation != event.generation or not state.gate.open:
        return state
    message = Candidates(stamped.seq, event.candidates)
    return put_peer(state, evolve(peer, outbox=peer.outbox.put(message)), stamped.at)


def on_messages_left(state: State, event: MessagesSent | MessagesNotSent, stamped: Stamped) -> State:
    """Sent or given up, the batch is over: an offer that did not arrive is repeated by its own schedule."""
    peer = current(state, event.peer)
    if peer is None:
        return state
    outbox = peer.outbox.done(event.ids)
    return state if outbox is peer.outbox else put_peer(state, evolve(peer, outbox=outbox), stamped.at)


def on_effect_failed(state: State, event: EffectFailed, stamped: Stamped) -> State:
    """A send that ended in a surprise is over like one that was refused."""
    peer = current(state, event.peer) if event.peer is not None else None
    if peer is None or event.effect != SendMessages.__name__:
        return state
    sending = peer.outbox.sending
    if not sending or sending[0].id != event.generation:
        return state  # that batch is over already
    outbox = peer.outbox.done(tuple(message.id for message in sending))
    return put_peer(state, evolve(peer, outbox=outbox), stamped.at)


def hand_over_early(state: State, keys: Iterable[PeerKey], stamped: Stamped) -> State:
    """Handle what these peers said before it could be handled."""
    for key in keys:
        state, early = take_early(state, key)
        for message in early:
            state = _HANDLERS[type(message)](state, message, stamped)
    return state


REDUCERS: Final[tuple[tuple[type, Any], ...]] = (
    (OfferReceived, on_offer),
    (AnswerReceived, on_answer),
    (CandidateReceived, on_candidate),
    (CandidatesGathered, on_candidates_gathered),
    (MessagesSent, on_messages_left),
    (MessagesNotSent, on_messages_left),
    (EffectFailed, on_effect_failed),
)

_HANDLERS: Final[dict[type, Any]] = {
    OfferReceived: on_offer,
    AnswerReceived: on_answer,
    CandidateReceived: on_candidate,
}
