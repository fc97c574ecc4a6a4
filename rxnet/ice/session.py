"""One agent's life between the effects that share it: `Negotiate` makes it, `KeepPath` takes it over."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from rxnet.events import CandidatesGathered, Event, NegotiationFailed, PathLost, PathSelected
from rxnet.ice.agent import Agent
from rxnet.ice.addresses import reflexive_candidate, remote_candidates
from rxnet.ice.keeper import Watched
from rxnet.ice.packets import Address
from rxnet.ice.reflexive import Search
from rxnet.model import Candidate, IPNetwork, Path, PeerKey

Key = tuple[PeerKey, int]
"""Peer and generation."""

_EVENTS = 64
_CANDIDATES = 256
"""Different remote candidates that are looked at in a session's life."""


class Mailbox:
    """Events on their way from callbacks to the one generator that yields them."""

    __slots__ = ("_events", "_waiter")

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._waiter: asyncio.Future[None] | None = None

    def post(self, event: Event) -> None:
        """Add an event. Of more than 64 the oldest go: the last path counts, and candidates are few."""
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def drain(self) -> list[Event]:
        """All events that nobody took; none is left."""
        events = list(self._events)
        self._events.clear()
        return events

    async def next(self) -> Event:
        """The oldest event, waiting for one if need be."""
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._events.popleft()


class Session:
    """An agent, whoever holds it now, and the events that it makes.

    States: negotiated (`mailbox` is read by `Negotiate`), kept (`adopt` was called), closed.
    """

    def __init__(self, peer: PeerKey, generation: int) -> None:
        self.peer = peer
        self.generation = generation
        self.mailbox = Mailbox()
        self.adopted = False
        self.watched: Watched | None = None
        self.search: Search | None = None
        self._agent: Agent | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._given: set[Candidate] = set()
        self._mapped: set[Address] = set()

    @property
    def key(self) -> Key:
        """By which effects find it."""
        return (self.peer, self.generation)

    @property
    def agent(self) -> Agent:
        """The agent."""
        assert self._agent is not None
        return self._agent

    @agent.setter
    def agent(self, agent: Agent) -> None:
        self._agent = agent

    @property
    def path(self) -> Path | None:
        """The selected path of an agent that lives."""
        agent = self._agent
        return agent.path if agent is not None and not agent.discarded else None

    # -- AgentObserver -----------------------------------------------------------------------------------------

    def selected(self, path: Path) -> None:
        """The agent has a path."""
        self._stop_limit()
        self.mailbox.post(PathSelected(self.peer, self.generation, path))

    def alive(self) -> None:
        """Something authentic came from the peer."""
        if self.watched is not None:
            self.watched.sign_of_life(asyncio.get_running_loop().time())

    # -- negotiation -------------------------------------------------------------------------------------------

    def start(self, limit: float) -> None:
        """Begin the checks; fail after `limit` seconds without a path."""
        self.agent.start()
        if self.path is None:
            self._limit = asyncio.get_running_loop().call_later(limit, self._give_up, limit)

    def _give_up(self, limit: float) -> None:
        tried = f"{len(self.agent.remote_candidates)} addresses of the peer tried"
        reason = f"no path within {limit:g} s ({tried})"
        self.mailbox.post(NegotiationFailed(self.peer, self.generation, reason))

    def mapped(self, local: str, address: Address) -> None:
        """A STUN server sees `local` as `address`: offer that too, once."""
        if address in self._mapped:
            return
        self._mapped.add(address)
        found = reflexive_candidate(local, self.agent.port.port, address, self.agent.local_username)
        if found is not None and not self.agent.is_side(found.address, found.port):
            self.mailbox.post(CandidatesGathered(self.peer, self.generation, (found,)))

    async def give(self, candidates: Iterable[Candidate], locals: Sequence[str], overlay: Sequence[IPNetwork]) -> int:
        """Hand remote candidates to the agent, each once; gives how many were refused."""
        fresh = [candidate for candidate in candidates if candidate not in self._given]
        if len(self._given) + len(fresh) > _CANDIDATES:
            return len(fresh)
        self._given.update(fresh)
        refused = 0
        for candidate in remote_candidates(fresh, locals, overlay):
            if candidate is None:
                refused += 1
            elif self._agent is not None:
                await self._agent.add_remote(candidate)
        return refused

    # -- keeping -----------------------------------------------------------------------------------------------

    def adopt(self) -> Mailbox:
        """From now on the events go to a new mailbox, and `Negotiate` no longer closes the agent.

        News of a path that `Negotiate` had no time to tell moves along.
        """
        self.adopted = True
        self._stop_limit()
        if self.search is not None:
            self.search.cancel()
        self.mailbox, unread = Mailbox(), self.mailbox
        for event in unread.drain():
            if isinstance(event, PathSelected):
                self.mailbox.post(event)
        return self.mailbox

    def lost(self, reason: str) -> None:
        """The path is dead."""
        self.mailbox.post(PathLost(self.peer, self.generation, reason))

    # -- the end -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of everything, at once. Idempotent."""
        self._stop_limit()
        if self.search is not None:
            self.search.cancel()
        if self._agent is not None:
            self._agent.discard()

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
