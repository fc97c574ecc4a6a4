"""What a device was told about its peers, and the difference to what it should be told now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rxnet.model import Endpoint, IPNetwork, PeerKey, WireGuardPeer


@dataclass(frozen=True, slots=True)
class PeerChange:
    """One step of one peer, in the terms of WireGuard's configuration protocols. None means "leave as it is"."""

    key: PeerKey
    remove: bool = False
    """Remove the peer first; with `wanted` set it is added again."""
    wanted: WireGuardPeer | None = None
    """What the peer will be; None for a removal alone."""
    update_only: bool = False
    """Do nothing if the device does not have the peer."""
    allowed_ips: tuple[IPNetwork, ...] | None = None
    """Replaces what the device has."""
    endpoint: Endpoint | None = None
    keepalive: int | None = None
    """Seconds, 0 is off. Given together with `endpoint`, one packet must leave for it at once."""


class ToldPeers:
    """What the device was told of each peer. Say what happened to a change with `applied` or `forget`."""

    def __init__(self) -> None:
        self._told: dict[PeerKey, WireGuardPeer] = {}

    def changes(self, changed: Sequence[WireGuardPeer], removed: Sequence[PeerKey] = ()) -> Iterator[PeerChange]:
        """The steps from what was told to what is wanted: removals first, then `changed` in its order.

        Lazy, so that a caller with many peers can pause between steps.
        """
        for key in removed:
            yield PeerChange(key, remove=True)
        gone = frozenset(removed)
        for peer in changed:
            told = None if peer.key in gone else self._told.get(peer.key)
            change = _whole(peer) if told is None else _difference(told, peer)
            if change is not None:
                yield change

    def applied(self, changes: Iterable[PeerChange]) -> None:
        """The device has taken these."""
        for change in changes:
            if change.wanted is None:
                self._told.pop(change.key, None)
            else:
                self._told[change.key] = change.wanted

    def forget(self, changes: Iterable[PeerChange]) -> None:
        """Nobody knows what the device made of these: next time they are told in full."""
        for change in changes:
            self._told.pop(change.key, None)

    def clear(self) -> None:
        """Nothing is known any more."""
        self._told.clear()


def _whole(peer: WireGuardPeer, remove: bool = False) -> PeerChange:
    return PeerChange(
        peer.key,
        remove=remove,
        wanted=peer,
        allowed_ips=peer.allowed_ips,
        endpoint=peer.endpoint,
        keepalive=peer.keepalive,
    )


def _difference(told: WireGuardPeer, peer: WireGuardPeer) -> PeerChange | None:
    if told.incarnation != peer.incarnation:
        return _whole(peer, remove=True)
    allowed_ips = peer.allowed_ips if peer.allowed_ips != told.allowed_ips else None
    keepalive = peer.keepalive if peer.keepalive != told.keepalive or peer.endpoint is not None else None
    if allowed_ips is None and keepalive is None and peer.endpoint is None:
        return None
    return PeerChange(
        peer.key,
        wanted=peer,
        update_only=True,
        allowed_ips=allowed_ips,
        endpoint=peer.endpoint,
        keepalive=keepalive,
    )
