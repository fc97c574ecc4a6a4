"""The gate: network up, signal connected, device open. All pending work for peers stands under it.

::

    network   -----up------------------------down----up-------------
    signal    ----------connected------------------------connected--
    gate      closed----open(1)--------------closed------open(2)----
    pending             O--A--C--            (none)      O--A--C---

The epoch rises at every opening, and when the network changed under an open gate: then too what is pending rests on
addresses that may be gone.
"""

from __future__ import annotations

from dataclasses import replace

from immutables import Map

from rxnet.engine.inbox import Stamped
from rxnet.engine.network import reachability
from rxnet.engine.state import ConnectionStatus, DeviceStatus, Gate, State


def settle(before: State, state: State, stamped: Stamped) -> State:
    """Open, close or renew the gate after the facts it rests on changed."""
    reason = _obstacle(state)
    if reason:
        if not before.gate.open and before.gate.reason == reason:
            return state
        gate = replace(state.gate, open=False, reason=reason)
        return replace(state, gate=gate, silent=Map(), silent_round_at=None)
    if before.gate.open and not _renewing(before, state):
        return state
    gate = Gate(True, state.gate.epoch + 1, stamped.at, stamped.entropy, "")
    return replace(state, gate=gate, silent=Map(), silent_round_at=None)


def _renewing(before: State, state: State) -> bool:
    """Another network, or another device with another port: what is pending names addresses that are void."""
    return (
        reachability(before.link.network) != reachability(state.link.network)
        or state.device.generation != before.device.generation
        or state.signal.generation != before.signal.generation
    )


def _obstacle(state: State) -> str:
    if not state.wanted:
        return "stopped"
    if not state.link.up:
        return "no network"
    if state.signal.status is not ConnectionStatus.CONNECTED:
        return "signal is not connected"
    if state.device.status is not DeviceStatus.OPEN:
        return "the WireGuard interface is not open"
    return ""
