"""The host's network: watched while we are wanted; what its changes mean for connections is decided here."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rxnet.engine import backoff
from rxnet.engine.connections import redialed
from rxnet.engine.effects import Effect, WaitUntil, WatchNetwork
from rxnet.engine.inbox import Stamped
from rxnet.engine.state import Link, State
from rxnet.events import DeadlineReached, EffectFailed, NetworkCameUp, NetworkChanged, NetworkWentDown
from rxnet.model import HostNetwork

NETWORK_RETRY: Final = "network retry"


def network_effect(state: State) -> Effect | None:
    if not state.wanted:
        return None
    if state.link.retry_at is not None:
        return WaitUntil(NETWORK_RETRY, state.link.retry_at)
    return WatchNetwork(state.link.generation)


def on_network(state: State, event: NetworkCameUp | NetworkWentDown | NetworkChanged, stamped: Stamped) -> State:
    before = state.link.network
    state = replace(state, link=Link(True, event.network, stamped.at, state.link.generation))
    if isinstance(event, NetworkChanged) and lost_ground(before, event.network):
        # What was idle over such a change is not trusted: TCP may sleep for seconds before it notices.
        why = "the network changed"
        state = replace(
            state,
            management=redialed(state.management, stamped.at, why),
            signal=redialed(state.signal, stamped.at, why),
        )
    return state


def lost_ground(before: HostNetwork, after: HostNetwork) -> bool:
    """An address is gone or the default route is another one: what goes on may hang on what is no more."""
    return bool(set(before.addresses) - set(after.addresses)) or before.default_routes != after.default_routes


def reachability(network: HostNetwork) -> object:
    """What of the network decides whom we can reach: a change starts pending and silent peers anew."""
    return network.up, network.addresses, network.default_routes


def on_deadline(state: State, event: DeadlineReached, stamped: Stamped) -> State:
    if event.name != NETWORK_RETRY or state.link.retry_at != event.at:
        return state
    return replace(state, link=replace(state.link, generation=state.link.generation + 1, retry_at=None))


def on_effect_failed(state: State, event: EffectFailed, stamped: Stamped) -> State:
    """The watch failed. The last picture stays: it is the best there is until we look again."""
    if event.effect != WatchNetwork.__name__ or event.generation != state.link.generation:
        return state
    retry_at = stamped.at + backoff.DEVICE.delay(1, stamped.entropy)
    return replace(state, link=replace(state.link, retry_at=retry_at))


REDUCERS: Final = (
    (NetworkCameUp, on_network),
    (NetworkWentDown, on_network),
    (NetworkChanged, on_network),
    (DeadlineReached, on_deadline),
    (EffectFailed, on_effect_failed),
)
