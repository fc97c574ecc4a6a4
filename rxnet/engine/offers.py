"""Offers: repeated as deadlines of the state, then silence until an event.

One pending peer whose answers are lost, and the deadlines that repeat its offer::

    t/s    0   3         9                    21                                          45
    offer  O---O---------O--------------------O-------------------------------------------O--- (silent)

A silent peer costs nothing: it has no timer and no task. It is started again by whatever may have changed its lot (a
message from it, a new epoch of the gate, a change of its entry in the map) and, all silent peers together, by one
batch every 15 minutes.
"""

from __future__ import annotations

from typing import Final

from rxnet.engine.chance import draw
from rxnet.engine.effects import Effect, SendMessages, WaitUntil
from rxnet.engine.evolve import evolve
from rxnet.engine.inbox import Stamped
from rxnet.engine.peers import SILENT, current, offer_deadline, put_peer
from rxnet.engine.state import SILENT_ROUND, Peer, State
from rxnet.events import DeadlineReached
from rxnet.model import Offer, PeerKey

OFFER: Final = "offer"


def deadline_effect(state: State, key: PeerKey, peer: Peer) -> Effect | None:
    """Under the gate: the wait for the next repeat."""
    if peer.next_offer is None:
        return None
    return WaitUntil(OFFER, peer.next_offer, key)


def messages_effect(state: State, key: PeerKey, peer: Peer) -> Effect | None:
    """Under the gate: the batch of messages on its way to a peer."""
    if not peer.outbox.sending:
        return None
    return SendMessages(key, peer.outbox.sending, state.device.port)


def silent_round_effect(state: State) -> Effect | None:
    """The one wait for all silent peers."""
    if state.silent_round_at is None:
        return None
    return WaitUntil(SILENT, state.silent_round_at)


def on_deadline(state: State, event: DeadlineReached, stamped: Stamped) -> State:
    if event.name == SILENT and event.at == state.silent_round_at:
        return _round(state, stamped)
    if event.name == OFFER and event.peer is not None:
        return _repeat(state, event.peer, event.at, stamped)
    return state


def _repeat(state: State, key: PeerKey, due: float, stamped: Stamped) -> State:
    peer = current(state, key)
    if peer is None or peer.next_offer != due:
        return state
    offers = peer.offers + 1
    return put_peer(
        state,
        evolve(
            peer,
            offers=offers,
            next_offer=offer_deadline(stamped.at, offers, draw(stamped.entropy, key)),
            outbox=peer.outbox.put(Offer(stamped.seq, peer.session)),
            reason="it does not answer" if peer.reason == "waiting for its answer" else peer.reason,
        ),
        stamped.at,
    )


def _round(state: State, stamped: Stamped) -> State:
    for key in sorted(state.silent):
        peer = current(state, key)
        if peer is not None:
            offer = Offer(stamped.seq, peer.session)
            state = put_peer(state, evolve(peer, outbox=peer.outbox.put(offer)), stamped.at)
    return evolve(state, silent_round_at=stamped.at + SILENT_ROUND if state.silent else None)


REDUCERS: Final = ((DeadlineReached, on_deadline),)
