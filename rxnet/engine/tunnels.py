"""What the WireGuard interface should hold: a peer for each peer of the map.

A peer is configured before there is a path, without endpoint: then the other side's handshake finds it. When a path is
selected only the controlling side sets a keepalive with the endpoint, which starts the handshake; both starting it
at once costs five seconds (prototype findings, section 3).
"""

from __future__ import annotations

from typing import Final

import reactivex
from reactivex import Observable

from rxnet.engine.effects import Effect, SetPeers
from rxnet.engine.inbox import Input, Step
from rxnet.engine.operators import Perform, commanded, switch
from rxnet.engine.peers import touched
from rxnet.engine.state import DeviceStatus, State
from rxnet.model import PeerKey, WireGuardPeer, is_controlling

KEEPALIVE: Final = 25
"""Seconds. NetBird's Go client sets the same."""

BATCH: Final = 512
"""Peers in one `SetPeers`: large enough to be cheap, small enough not to block the loop."""


def wireguard_peer(state: State, key: PeerKey) -> WireGuardPeer | None:
    """The peer's configuration on the device, as the state wants it."""
    peer = state.peers.get(key)
    if peer is None:
        return None
    if peer.path is None:
        return WireGuardPeer(key, peer.remote.allowed_ips, incarnation=peer.incarnation)
    keepalive = KEEPALIVE if is_controlling(state.own_key, key) else 0
    return WireGuardPeer(key, peer.remote.allowed_ips, peer.path.remote, keepalive, peer.incarnation)


def _tunnel_of(state: State, key: PeerKey) -> object:
    """What a peer's configuration follows from; cheaper to compare than the configuration is to make."""
    peer = state.peers.get(key)
    if peer is None:
        return None
    return (peer.remote.allowed_ips, peer.path and peer.path.remote, peer.incarnation)


def peers_epic(steps: Observable[Step], perform: Perform) -> Observable[Input]:
    """Tell an open device all peers, then each change; changes are performed in order, never cancelled by newer ones.

    ::

        device   closed--open(1)-----------------closed--open(2)-----
        map      ----------------+a+b-----a'-----
        out      --------{}------{a,b}----{a'}-----------{a',b}------
    """

    def project(generation: int | None, first: Step) -> Observable[Input]:
        if generation is None:
            return reactivex.never()
        full = _batches(generation, first, sorted(first.after.peers))

        def change(step: Step) -> Effect | None:
            return _change(generation, step)

        return steps.pipe(commanded(change, perform, full, first.stamped.seq))

    return switch(steps, _open_generation, project)


def _open_generation(state: State) -> int | None:
    return state.device.generation if state.device.status is DeviceStatus.OPEN else None


def _batches(generation: int, step: Step, keys: list[PeerKey]) -> list[Effect]:
    wanted = [peer for key in keys if (peer := wireguard_peer(step.after, key)) is not None]
    return [SetPeers(generation, tuple(wanted[i : i + BATCH])) for i in range(0, len(wanted), BATCH)]


def _change(generation: int, step: Step) -> Effect | None:
    """The difference that a step makes to the device."""
    if step.before.peers is step.after.peers:
        return None
    changed, removed = [], []
    for key in touched(step):
        if _tunnel_of(step.before, key) == _tunnel_of(step.after, key):
            continue
        before, after = wireguard_peer(step.before, key), wireguard_peer(step.after, key)
        if after is not None:
            changed.append(after)
        elif before is not None:
            removed.append(key)
    if not changed and not removed:
        return None
    return SetPeers(generation, tuple(changed), tuple(removed))
