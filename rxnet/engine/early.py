"""Messages that come too early: of keys that the map does not list yet, or while the gate is still closed.

The reverse order is common, not exotic: a peer that has just registered is in the others' maps before it has its own
(management document, 3.1), and signal is connected before the WireGuard interface is open. Bounded, because anybody
can send messages under any key.
"""

from __future__ import annotations

from typing import Final

from rxnet.engine.evolve import evolve
from rxnet.engine.state import Early, State
from rxnet.events import CandidateReceived, Event
from rxnet.model import PeerKey

_PER_PEER: Final = 32
_PEERS: Final = 256


def keep_early(state: State, key: PeerKey, event: Event) -> State:
    """Keep a message for later. The oldest key gives way to a new one, the oldest message of a key to a newer."""
    early = state.early
    messages, order, dropped = early.messages, early.order, early.dropped
    held = messages.get(key)
    if held is None:
        if len(order) >= _PEERS:
            messages = messages.delete(order[0])
            order, dropped = order[1:], dropped + 1
        return evolve(state, early=Early(messages.set(key, (event,)), (*order, key), dropped))
    if not isinstance(event, CandidateReceived):
        # A newer offer or answer makes the older one pointless.
        held = tuple(m for m in held if isinstance(m, CandidateReceived))
    if len(held) >= _PER_PEER:
        held, dropped = held[1:], dropped + 1
    return evolve(state, early=Early(messages.set(key, (*held, event)), order, dropped))


def take_early(state: State, key: PeerKey) -> tuple[State, tuple[Event, ...]]:
    """Take out what was kept of a key."""
    early = state.early
    held = early.messages.get(key)
    if held is None:
        return state, ()
    order = tuple(other for other in early.order if other != key)
    return evolve(state, early=Early(early.messages.delete(key), order, early.dropped)), held
