"""`reduce(state, stamped) -> state`: the only place where decisions are made.

A table says which functions an event goes through; they live in the modules of their topics. Then the conditions are
settled: connections that have become possible start, those that have become pointless stop, the gate follows.
"""

from __future__ import annotations

from typing import Any, Final

from rxnet.engine import connections, device, gate, messages, network, network_map, offers, paths
from rxnet.engine.inbox import Stamped
from rxnet.engine.state import State

_TABLE: Final[dict[type, tuple[Any, ...]]] = {}
for _module in (connections, network, device, network_map, messages, offers, paths):
    for _event, _reducer in _module.REDUCERS:
        _TABLE[_event] = (*_TABLE.get(_event, ()), _reducer)


def reduce(state: State, stamped: Stamped) -> State:
    """Fold one event into the state. Pure: time and randomness come with the event."""
    event = stamped.event
    after = state
    for reducer in _TABLE.get(type(event), ()):
        after = reducer(after, event, stamped)
    if after is state:
        return state
    if (
        after.wanted is not state.wanted
        or after.link is not state.link
        or after.management is not state.management
        or after.signal is not state.signal
        or after.device is not state.device
        or after.local is not state.local
    ):
        after = device.settle(connections.settle(after, stamped.at), stamped.at)
        after = gate.settle(state, after, stamped)
        if after.gate.open and not state.gate.open and after.early.order:
            listed = [key for key in after.early.order if key in after.peers]
            after = messages.hand_over_early(after, listed, stamped)
    return after
