"""Only differences are told to the device."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from rxnet.model import Endpoint, PeerKey, WireGuardPeer
from rxnet.wireguard.peers import PeerChange, ToldPeers

KEY = PeerKey("k")
PEER = WireGuardPeer(KEY, (ip_network("100.64.0.2/32"),))


def tell(told: ToldPeers, *changed: WireGuardPeer, removed: tuple[PeerKey, ...] = ()) -> list[PeerChange]:
    changes = list(told.changes(changed, removed))
    told.applied(changes)
    return changes


def test_new_then_nothing_then_differences() -> None:
    told = ToldPeers()
    (new,) = tell(told, PEER)
    assert (new.update_only, new.allowed_ips, new.keepalive, new.endpoint) == (False, PEER.allowed_ips, 0, None)
    assert tell(told, PEER) == []
    wider = replace(PEER, allowed_ips=(*PEER.allowed_ips, ip_network("fd00::2/128")))
    (more,) = tell(told, wider)
    assert (more.update_only, more.allowed_ips, more.keepalive) == (True, wider.allowed_ips, None)


def test_a_given_endpoint_is_always_written() -> None:
    """WireGuard may have roamed from it, and an old program needs it again after a change of address."""
    told = ToldPeers()
    with_path = replace(PEER, endpoint=Endpoint("10.0.0.1", 1), keepalive=25)
    tell(told, PEER)
    for _ in range(2):
        (change,) = tell(told, with_path)
        assert (change.endpoint, change.keepalive, change.allowed_ips) == (with_path.endpoint, 25, None)
    (quiet,) = tell(told, PEER)
    assert (quiet.endpoint, quiet.keepalive) == (None, 0)


def test_a_new_incarnation_is_removed_and_added_again() -> None:
    told = ToldPeers()
    tell(told, PEER)
    (change,) = tell(told, replace(PEER, incarnation=1))
    assert (change.remove, change.update_only, change.allowed_ips) == (True, False, PEER.allowed_ips)


def test_removed_and_forgotten_peers_are_told_in_full() -> None:
    told = ToldPeers()
    tell(told, PEER)
    (removal,) = tell(told, removed=(KEY,))
    assert removal == PeerChange(KEY, remove=True)
    changes = tell(told, PEER)
    assert not changes[0].update_only
    told.forget(changes)
    assert not tell(told, PEER)[0].update_only
    # Removed and wanted in one go: removed first, then whole.
    both = tell(told, PEER, removed=(KEY,))
    assert [change.remove for change in both] == [True, False]
    assert both[1].allowed_ips == PEER.allowed_ips
    assert tell(told, PEER) == []
