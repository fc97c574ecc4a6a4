"""One agent's life between the effects that share it: `Negotiate` makes it, `KeepPath` takes it over."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from rxnet.events import CandidatesGathered, Event, NegotiationFailed, PathLost, PathSelected
from rxnet.ice.addresses import reflexive_candidate, remote_candidates
from rxnet.ice.agent import Agent
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

    def take(self) -> Event | None:
        """The oldest event; None when there is none."""
        return self._events.popleft() if self._events else None

    def arrival(self) -> asyncio.Future[None]:
        """What to await when there was none. A future and no coroutine: a thousand of them are cancelled at once."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter


class Session:
    """An agent, whoever holds it now, and the events that it makes.

    States: negotiated (`mailbox` is read by `Negotiate`), kept (`adopt` was called), closed.
    """

    __slots__ = (
        "_agent",
        "_given",
        "_limit",
        "_mapped",
        "_released",
        "_timer",
        "adopted",
        "closed",
        "generation",
        "key",
        "mailbox",
        "peer",
        "search",
        "watched",
    )

    def __init__(self, peer: PeerKey, generation: int) -> None:
        self.peer = peer
        self.generation = generation
        self.key: Key = (peer, generation)
        """By which effects find it."""
        self.mailbox = Mailbox()
        self.adopted = False
        self.closed = False
        self.watched: Watched | None = None
        self.search: Search | None = None
        self._agent: Agent | None = None
        self._timer: asyncio.Handle | None = None
        """Of the hold, then of the negotiation."""
        self._limit = 0.0
        self._released = False
        self._given: set[Candidate] = set()
        self._mapped: set[Address] = set()

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
        self._stop_timer()
        self.mailbox.post(PathSelected(self.peer, self.generation, path))

    def alive(self) -> None:
        """Something authentic came from the peer."""
        if self.watched is not None:
            self.watched.sign_of_life(asyncio.get_running_loop().time())

    # -- negotiation -------------------------------------------------------------------------------------------

    def hold(self, wait: float, limit: float) -> None:
        """Begin the checks after `wait` seconds, or at `release`; fail `limit` seconds later without a path."""
        self._limit = limit
        if self._released:
            self._begin()
        else:
            self._timer = asyncio.get_running_loop().call_later(wait, self._begin)

    def release(self) -> None:
        """End the hold, or leave out one that is yet to begin. Sends nothing itself: the loop's next turn does."""
        if self._released:
            return
        self._released = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._released = True
        # Before the first check: whatever becomes of that, the negotiation has an end.
        self._timer = asyncio.get_running_loop().call_later(self._limit, self._give_up)
        self.agent.start()

    def _give_up(self) -> None:
        tried = f"{len(self.agent.remote_candidates)} addresses of the peer tried"
        reason = f"no path within {self._limit:g} s ({tried})"
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
        self._stop_timer()
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

    def close(self) -> bool:
        """Stop everything, at once; `dissolve` follows when there is time. False: it was closed already."""
        if self.closed:
            return False
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self.search is not None:
            self.search.cancel()
        if self._agent is not None:
            self._agent.discard()
        return True

    def dissolve(self) -> None:
        """After `close`: see `Agent.dissolve`."""
        self._timer = self.search = self.watched = None
        if self._agent is not None:
            self._agent.dissolve()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
