"""What the peer entries of one map add up to: who is wanted and who owns which address.

The meaning of a map depends on nothing but that map. Its entries are taken in order; whoever comes first has an
address or a key, and who comes later and wants it, too, is refused. A refusal is not remembered: in the next map
everybody is judged anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rxnet.management.peer_entries import PeerEntry, Refused, read_entry
from rxnet.model import LocalPeer, PeerKey


@dataclass(frozen=True, slots=True)
class Ourselves:
    """Who reads the map: nobody else may have our key or our addresses."""

    key: PeerKey
    addresses: tuple[bytes, ...] = ()
    """Packed, 4 or 16 bytes."""
    has_v6: bool = True
    """False: IPv6 addresses of peers are of no use to us."""


def ourselves(key: PeerKey, local: LocalPeer | None) -> Ourselves:
    """Who we are, as far as management has told."""
    if local is None:
        return Ourselves(key)
    if local.address_v6 is None:
        return Ourselves(key, (local.address.ip.packed,), has_v6=False)
    return Ourselves(key, (local.address.ip.packed, local.address_v6.ip.packed))


@dataclass(frozen=True, slots=True)
class Difference:
    """The short way from one map to the next."""

    arrived: tuple[PeerEntry, ...]
    left: frozenset[PeerKey]


class PeerBook:
    """The entries of a map, judged one after the other."""

    __slots__ = ("_owners", "_refused", "_verdicts", "_wanted", "us")

    def __init__(self, us: Ourselves) -> None:
        self.us = us
        self._verdicts: dict[bytes, PeerEntry | Refused] = {}
        self._owners: dict[bytes, PeerKey] = {}
        self._wanted: set[PeerKey] = set()
        self._refused = False

    def __contains__(self, key: PeerKey) -> bool:
        return key in self._wanted

    def verdict(self, data: bytes) -> PeerEntry | Refused | None:
        """What was found out about these bytes before, if anything."""
        return self._verdicts.get(data)

    def enter(self, data: bytes, verdict: PeerEntry | Refused) -> PeerEntry | Refused | None:
        """Take the next entry of the map. Returns what counts of it, why it is refused, or None if it is ourselves."""
        self._verdicts[data] = verdict
        judged = self._claim(verdict) if isinstance(verdict, PeerEntry) else verdict
        if isinstance(judged, Refused):
            self._refused = True
        return judged

    def _claim(self, entry: PeerEntry) -> PeerEntry | Refused | None:
        key = entry.peer.key
        if key == self.us.key:
            return None
        if not self.us.has_v6:
            v4 = entry.only_v4()
            if v4 is None:
                return Refused(f"peer {entry.name} has only IPv6 addresses and we have none")
            entry = v4
        if key in self._wanted:
            return Refused(f"peer {entry.name}: the key {key} is listed twice")
        owners = self._owners
        for position, raw in enumerate(entry.addresses):
            if raw in owners or raw in self.us.addresses:
                network = entry.peer.allowed_ips[position]
                return Refused(f"peer {entry.name}: {network} belongs to {owners.get(raw, 'ourselves')}")
        for raw in entry.addresses:
            owners[raw] = key
        self._wanted.add(key)
        return entry

    def follow(self, listed: Sequence[bytes], us: Ourselves, most: int) -> Difference | None:
        """Become the book of the next map, if that can be told without going through it entry by entry.

        It can, if nobody was or is to be refused, because then the order does not matter, and at most `most` entries
        are new. Otherwise None, and nothing has changed. The book must be that of a whole map.
        """
        if self._refused or us != self.us or len(listed) - len(self._verdicts) > most:
            return None
        present = set(listed)
        fresh, stale = present - self._verdicts.keys(), self._verdicts.keys() - present
        if len(present) != len(listed) or len(fresh) > most:
            return None
        gone = [entry for entry in map(self._verdicts.__getitem__, stale) if isinstance(entry, PeerEntry)]
        left = frozenset(entry.peer.key for entry in gone)
        freed = {raw for entry in gone for raw in entry.addresses}
        new = PeerBook(us)  # of the new entries alone: do they get along with each other and with us?
        arrived = []
        for data in (data for data in listed if data in fresh) if fresh else ():
            judged = new.enter(data, read_entry(data))
            if isinstance(judged, Refused):
                return None
            if judged is not None:
                if judged.peer.key in self._wanted and judged.peer.key not in left:
                    return None
                if any(raw in self._owners and raw not in freed for raw in judged.addresses):
                    return None
                arrived.append(judged)
        self._become(new, stale, left, freed)
        return Difference(tuple(arrived), left - new._wanted)

    def _become(self, new: PeerBook, stale: set[bytes], left: frozenset[PeerKey], freed: set[bytes]) -> None:
        for data in stale:
            del self._verdicts[data]
        for raw in freed:
            self._owners.pop(raw, None)
        self._wanted -= left
        self._verdicts |= new._verdicts
        self._owners |= new._owners
        self._wanted |= new._wanted
