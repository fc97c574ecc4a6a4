"""From decrypted SyncResponse bytes to events: network maps as differences, in parts that do not block the loop.

Management always sends the whole map (management document, 4.2), the engine wants what changed. So the entries of a
map are compared, still serialized, with those of the map before; only new bytes are decoded. The reader outlives
streams, because the engine keeps its peers over a reconnect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rxnet.errors import ProtocolError
from rxnet.events import Event, NetworkMapFaulted, NetworkMapReceived, ServersAnnounced
from rxnet.management.codec import check_paths, decode, local_peer, stun_addresses
from rxnet.management.peer_book import PeerBook, ourselves
from rxnet.management.peer_entries import Refused, read_entry
from rxnet.model import LocalPeer, PeerKey, RemotePeer, ServerAddress
from rxnet.wire import management_pb2 as pb

_PART = 256
_PEERS = 50_000
_PAUSE = 1_000
"""Known entries to look at without a pause: about a millisecond."""
COMPLAINTS = 5
"""Texts that an event carries; further ones are only counted."""


@dataclass(frozen=True, slots=True)
class ChecksNamed:
    """The map came with these posture checks; they replace earlier ones. Not for the engine."""

    paths: tuple[str, ...]


@dataclass(slots=True)
class _Faults:
    """Complaints of one message: the first few texts and how many there were."""

    texts: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, text: str, count: int = 1) -> None:
        if len(self.texts) < COMPLAINTS:
            self.texts.append(text)
        self.count += count


class MapReader:
    """Reads the messages of Sync streams, one stream after the other.

    `own_key` is ours: the map may list us, which is not a fault (4.4).
    """

    def __init__(self, own_key: PeerKey, *, part: int = _PART, peers: int = _PEERS) -> None:
        self._own_key = own_key
        self._part = part
        self._limit = peers
        self._generation = 0
        self._serial = 0
        self._local: LocalPeer | None = None
        self._stuns: tuple[ServerAddress, ...] = ()
        self._book = PeerBook(ourselves(own_key, None))
        self._whole = True
        """The book holds all of the last map, and all of it was delivered."""
        self._delivered: dict[PeerKey, RemotePeer] = {}

    def new_stream(
        self, generation: int, local: LocalPeer | None = None, stuns: tuple[ServerAddress, ...] = ()
    ) -> None:
        """A stream opens: serials start anew (4.3). `local` and `stuns` are what Login said and the engine knows."""
        self._generation = generation
        self._serial = 0
        self._stuns = stuns
        if local is not None:
            self._local = local

    def read(self, data: bytes) -> Iterator[Event | ChecksNamed | None]:
        """Yield what one message says; None is an invitation to let others run.

        A part counts as delivered when it is yielded: a caller that stops in the middle gets the rest as part of the
        next map's difference.

        :raises ProtocolError: the message as a whole cannot be understood.
        """
        response = decode(pb.SplitSyncResponse, data)
        if response.Version or response.HasField("NetworkMapEnvelope"):
            raise ProtocolError(
                f"management sent a map in the form {response.Version}, although we only announced the plain form (0)"
            )
        faults = _Faults()
        if response.HasField("netbirdConfig"):
            yield from self._servers(response.netbirdConfig, faults)
        if response.HasField("NetworkMap"):
            split = decode(pb.SplitNetworkMap, response.NetworkMap)
            local = self._own(split, faults)
            if split.Serial >= self._serial:
                self._serial = split.Serial
                yield from self._map(split, local, faults)
                yield ChecksNamed(check_paths(response.Checks))
            elif local is not None:
                # An older map that came late: only what it says about ourselves counts (4.3).
                yield NetworkMapReceived(self._generation, self._serial, local, ())
        if faults.count:
            yield NetworkMapFaulted(self._generation, tuple(faults.texts), faults.count)

    def _servers(self, config: pb.NetbirdConfig, faults: _Faults) -> Iterator[Event]:
        complaints: list[str] = []
        stuns = stun_addresses(config.stuns, complaints)
        for text in complaints:
            faults.add(text)
        if stuns and stuns != self._stuns:  # an empty list means "as before" (4.4)
            self._stuns = stuns
            yield ServersAnnounced(self._generation, stuns)

    def _own(self, split: pb.SplitNetworkMap, faults: _Faults) -> LocalPeer | None:
        if not split.HasField("peerConfig"):
            return None
        complaints: list[str] = []
        try:
            self._local = local_peer(split.peerConfig, complaints)
        except ProtocolError as error:
            if self._local is None:
                raise
            complaints.append(f"{error}; {self._local.address} is kept")
        for text in complaints:
            faults.add(text)
        return self._local

    def _map(self, split: pb.SplitNetworkMap, local: LocalPeer | None, faults: _Faults) -> Iterator[Event | None]:
        listed = [] if split.remotePeersIsEmpty else list(split.remotePeers)
        if len(listed) > self._limit:
            excess = len(listed) - self._limit
            faults.add(f"the map lists {len(listed)} peers, only the first {self._limit} are taken", excess)
            del listed[self._limit :]
        us = ourselves(self._own_key, self._local)
        difference = self._book.follow(listed, us, self._part) if self._whole else None
        if difference is not None:
            changed = [entry.peer for entry in difference.arrived if self._differs(entry.peer)]
            yield self._deliver(local, changed, tuple(difference.left & self._delivered.keys()), last=True)
        else:
            known, self._book = self._book, PeerBook(us)
            self._whole = False
            yield from self._walk(listed, known, local, faults)

    def _walk(
        self, listed: Sequence[bytes], known: PeerBook, local: LocalPeer | None, faults: _Faults
    ) -> Iterator[Event | None]:
        """Go through the map entry by entry."""
        book = self._book
        changed: list[RemotePeer] = []
        tired = 0
        for data in listed:
            verdict = known.verdict(data)
            tired += 1
            if verdict is None:
                verdict = read_entry(data)
                tired += _PAUSE // self._part
            judged = book.enter(data, verdict)
            if isinstance(judged, Refused):
                faults.add(judged.reason)
            elif judged is not None and self._differs(judged.peer):
                changed.append(judged.peer)
            if len(changed) == self._part:
                yield self._deliver(local, changed)
                local, changed, tired = None, [], 0
            elif tired >= _PAUSE:
                yield None
                tired = 0
        removed = tuple(key for key in self._delivered if key not in book)
        self._whole = True
        yield self._deliver(local, changed, removed, last=True)

    def _differs(self, peer: RemotePeer) -> bool:
        held = self._delivered.get(peer.key)
        return held is not peer and held != peer

    def _deliver(
        self,
        local: LocalPeer | None,
        changed: Sequence[RemotePeer],
        removed: tuple[PeerKey, ...] = (),
        *,
        last: bool = False,
    ) -> NetworkMapReceived:
        for key in removed:
            del self._delivered[key]
        for peer in changed:
            self._delivered[peer.key] = peer
        return NetworkMapReceived(self._generation, self._serial, local, tuple(changed), removed, last)
