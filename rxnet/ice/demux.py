"""Who gets a STUN message that came to the shared port. No I/O.

An answer belongs to the request with its transaction id. A request belongs to the agent that its USERNAME names, at
the local address it came to. Everything else is counted and dropped, without an answer: the port tells strangers
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from rxnet.ice.packets import ERROR, REQUEST, RESPONSE, Address, message_class, transaction_id, username

OnAnswer = Callable[[bytes, Address], None]
"""Called with an answer's bytes, its source and nothing verified yet."""


class Answerer(Protocol):
    """Something that answers connectivity checks under a user fragment: an ICE agent."""

    @property
    def remote_ufrag(self) -> str:
        """The other side's user fragment."""

    def take_request(self, message: bytes, source: Address, local: str) -> bool:
        """Take a request that came to the address `local`; False if that is no address of this agent."""


@dataclass(slots=True)
class Counters:
    """What passed a port since it was opened."""

    stun_received: int = 0
    stun_sent: int = 0
    dropped: int = 0
    """STUN messages that belong to nobody."""
    wireguard_taken: int = 0
    """WireGuard datagrams that ended in Python because the kernel had merged them with a STUN message."""


@dataclass(slots=True)
class Demux:
    """The table. Agents of one peer share a user fragment: the one registered last is asked first."""

    counters: Counters = field(default_factory=Counters)
    transactions: dict[bytes, OnAnswer] = field(default_factory=dict)
    _agents: dict[str, list[Answerer]] = field(default_factory=dict)

    def register(self, ufrag: str, agent: Answerer) -> None:
        """From now on `agent` gets the requests whose USERNAME begins with `ufrag`."""
        self._agents.setdefault(ufrag, []).insert(0, agent)

    def unregister(self, ufrag: str, agent: Answerer) -> None:
        """Undo `register`; nothing happens if it is not registered."""
        agents = self._agents.get(ufrag)
        if agents is None:
            return
        if agent in agents:
            agents.remove(agent)
        if not agents:
            del self._agents[ufrag]

    def __len__(self) -> int:
        return sum(len(agents) for agents in self._agents.values())

    def dispatch(self, message: bytes, source: Address, local: str) -> None:
        """Hand over one message of at least 20 bytes with the STUN cookie."""
        self.counters.stun_received += 1
        kind = message_class(message)
        if kind in (RESPONSE, ERROR):
            on_answer = self.transactions.get(transaction_id(message))
            if on_answer is not None:
                on_answer(message, source)
                return
        elif kind == REQUEST and self._request(message, source, local):
            return
        self.counters.dropped += 1

    def _request(self, message: bytes, source: Address, local: str) -> bool:
        ours, _, theirs = username(message).partition(":")
        agents = self._agents.get(ours)
        if agents is None:
            return False
        # The newest agent of a peer that is in the same life as ours; a copy, because taking may unregister.
        fitting = [agent for agent in agents if agent.remote_ufrag == theirs]
        return any(agent.take_request(message, source, local) for agent in fitting)
