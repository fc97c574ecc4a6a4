"""What the world says to an engine with many peers: the mix of events that the benchmark feeds to it.

Shares of what is put in; what the engine adds to it (the reports of its effects, news of peers) is counted with it::

    candidate     36 %   a peer names an address, three or four of them for each of its sessions
    offer again    8 %   with the session that our agent has: answered, nothing else
    answer again   8 %   the same; nothing follows
    offer new     10 %   with another session: a new agent, an answer
    answer new     2 %   to an offer of ours, after a path was lost: a new agent
    gathered      11 %   the agent found local addresses: they are sent
    selected      12 %   a pair is nominated: the tunnel gets its endpoint, `PeerConnected`
    lost           4 %   the path is gone: `PeerDisconnected`, an offer, a deadline
    late           6 %   a report of an agent that is no more: dropped
    deadline       2 %   an offer is due again: it is sent
    map            1 %   the network map with one peer that differs

A kind that fits no peer at the moment gives way to a candidate; the benchmark prints what it came to.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv4Network

from rxnet.engine.offers import OFFER
from rxnet.engine.state import AgentStatus, Peer, State
from rxnet.events import (
    AnswerReceived,
    CandidateReceived,
    CandidatesGathered,
    DeadlineReached,
    Event,
    NegotiationFailed,
    NetworkMapReceived,
    OfferReceived,
    PathLost,
    PathSelected,
)
from rxnet.model import Candidate, Endpoint, LocalPeer, Path, PeerKey, RemotePeer, SessionId

LOCAL = LocalPeer(IPv4Interface("100.64.0.1/10"))
PATH = Path(Endpoint("10.0.0.2", 51820), Endpoint("10.0.0.9", 51820))
_TRIES = 50


def keys(count: int) -> list[PeerKey]:
    return [PeerKey(base64.b64encode(i.to_bytes(32)).decode()) for i in range(1, count + 1)]


def remote(index: int, key: PeerKey, name: str = "peer") -> RemotePeer:
    return RemotePeer(key, (IPv4Network((0x64400000 + 2 + index, 32)),), f"{name}{index}.example")


class Traffic:
    """Makes events that fit the state they will meet."""

    def __init__(self, known: list[PeerKey]) -> None:
        self._keys = known
        self._index = {key: i for i, key in enumerate(known)}
        self._said = 0
        shares: dict[Callable[[PeerKey, Peer], Event | None], int] = {
            self._candidate: 36,
            self._offer_again: 8,
            self._answer_again: 8,
            self._offer_new: 10,
            self._answer_new: 2,
            self._gathered: 11,
            self._selected: 12,
            self._lost: 4,
            self._late: 6,
            self._deadline: 2,
            self._map: 1,
        }
        self._kinds, self._shares = list(shares), list(shares.values())

    def chunk(self, state: State, count: int, dice: random.Random) -> list[Event]:
        """Events about as many peers, so that each is as true when it arrives as it is now."""
        free = dice.sample(self._keys, min(len(self._keys), count + _TRIES))
        return [self._one(state, make, free) for make in dice.choices(self._kinds, self._shares, k=count)]

    def _one(self, state: State, make: Callable[[PeerKey, Peer], Event | None], free: list[PeerKey]) -> Event:
        for position in range(min(_TRIES, len(free))):
            key = free[-1 - position]
            event = make(key, state.peers[key])
            if event is not None:
                del free[-1 - position]
                return event
        key = free.pop()
        return self._candidate(key, state.peers[key])

    def _session(self) -> SessionId:
        self._said += 1
        return SessionId(f"{self._said:010x}")

    def _candidate(self, key: PeerKey, peer: Peer) -> Event:
        self._said += 1
        return CandidateReceived(key, Candidate("1", 2130706431, "10.0.0.9", 1024 + self._said % 60_000, "host"))

    def _offer_again(self, key: PeerKey, peer: Peer) -> Event | None:
        return OfferReceived(key, peer.agent.remote_session, ufrag="u") if peer.agent is not None else None

    def _answer_again(self, key: PeerKey, peer: Peer) -> Event | None:
        return AnswerReceived(key, peer.agent.remote_session, ufrag="u") if peer.agent is not None else None

    def _offer_new(self, key: PeerKey, peer: Peer) -> Event:
        return OfferReceived(key, self._session(), ufrag="u")

    def _answer_new(self, key: PeerKey, peer: Peer) -> Event | None:
        return AnswerReceived(key, self._session(), ufrag="u") if peer.agent is None else None

    def _gathered(self, key: PeerKey, peer: Peer) -> Event | None:
        if peer.agent is None or peer.agent.status is not AgentStatus.CHECKING:
            return None
        ours = tuple(Candidate("1", 2130706431, "10.0.0.2", port, "host") for port in (51820, 51821, 51822))
        return CandidatesGathered(key, peer.agent.generation, ours)

    def _selected(self, key: PeerKey, peer: Peer) -> Event | None:
        if peer.agent is None or peer.agent.status is not AgentStatus.CHECKING:
            return None
        return PathSelected(key, peer.agent.generation, PATH)

    def _lost(self, key: PeerKey, peer: Peer) -> Event | None:
        if peer.agent is None or not peer.connected:
            return None
        return PathLost(key, peer.agent.generation, "nothing came for too long")

    def _late(self, key: PeerKey, peer: Peer) -> Event:
        return NegotiationFailed(key, peer.generation - 1, "late")

    def _deadline(self, key: PeerKey, peer: Peer) -> Event | None:
        return DeadlineReached(OFFER, peer.next_offer, key) if peer.next_offer is not None else None

    def _map(self, key: PeerKey, peer: Peer) -> Event:
        self._said += 1
        renamed = remote(self._index[key], key, f"renamed-{self._said}-")
        return NetworkMapReceived(1, self._said, LOCAL, (renamed,))
