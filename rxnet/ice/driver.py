"""Performs the engine's effects on ICE agents."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence

from rxnet.credentials import CredentialStore, IceCredentials
from rxnet.engine.effects import GiveCandidates, KeepPath, Negotiate
from rxnet.events import CandidatesGathered, Event, NegotiationFailed, PathLost
from rxnet.ice.addresses import host_candidates, sendable, usable_locals
from rxnet.ice.agent import Agent
from rxnet.ice.keeper import Keeper, ReceivedBytes, Watched
from rxnet.ice.port import StunPort
from rxnet.ice.reflexive import ReflexiveAddresses
from rxnet.ice.session import Key, Session
from rxnet.log import logger
from rxnet.model import Candidate, IPAddress, IPNetwork, PeerKey

_HOLD = 0.1
"""Seconds that checks wait for the word that our candidates are signalled. A check that overtakes them costs a Go peer
a second (signal document, 3.5); a signal server that does not answer must not cost us more than this."""
_GRACE = 0.1
_GRACE_TURNS = 32
"""Seconds, and then turns of the loop, that an agent with a path outlives its `Negotiate`. The `KeepPath` that takes it
over is subscribed in the same step, but its task starts a few turns later, and a turn may take any time: only one that
does not come at all is given up."""
_DISSOLVED = 64
"""Closed agents whose memory is let go in one turn of the loop."""
_EARLY_PEERS = 4096
_EARLY_CANDIDATES = 64
_CREDENTIALS = re.compile(r"[!-9;-~]{1,256}")
"""Printable and without a colon: more than RFC 8445 allows, and still safe in a USERNAME."""


class IceDriver:
    """Holds the agents of all peers.

    :param credentials: ours and the peers'; ICE passwords come from nowhere else.
    :param port: gives the port shared with WireGuard (see `PortHolder`), or None while there is none.
    :param local_addresses: gives the host's own addresses, best first, without those of containers.
    :param overlay: gives the overlay's networks, to which no check may go.
    :param received_bytes: asked only when a path seems dead.
    :param negotiation_limit: seconds for an agent to find a path.
    :param keep_interval: see `Keeper`; likewise `patience`.
    """

    def __init__(
        self,
        credentials: CredentialStore,
        port: Callable[[], StunPort | None],
        local_addresses: Callable[[], Sequence[IPAddress]],
        *,
        overlay: Callable[[], Sequence[IPNetwork]] = tuple,
        received_bytes: ReceivedBytes | None = None,
        negotiation_limit: float = 15.0,
        keep_interval: float = 2.0,
        patience: float = 6.0,
    ) -> None:
        self._credentials = credentials
        self._port = port
        self._local_addresses = local_addresses
        self._overlay = overlay
        self._negotiation_limit = negotiation_limit
        self._keeper = Keeper(received_bytes, lambda: bool(self._locals()), interval=keep_interval, patience=patience)
        self._reflexive = ReflexiveAddresses()
        self._sessions: dict[Key, Session] = {}
        self._held: dict[PeerKey, Session] = {}
        """Of each peer the session that waits until its candidates are signalled."""
        self._closed: deque[Session] = deque()
        self._early: OrderedDict[Key, tuple[Candidate, ...]] = OrderedDict()
        self._known: tuple[tuple[IPAddress, ...], tuple[IPNetwork, ...]] | None = None
        self._usable: list[str] = []
        self.refused_candidates = 0
        """Candidates of peers that were not worth trying, since the start: nonsense, loopback, our own overlay."""

    def __len__(self) -> int:
        """Agents that live."""
        return len(self._sessions)

    def close(self) -> None:
        """End all agents and questions: for the end of the program."""
        for session in list(self._sessions.values()):
            self._close(session)
        self._reflexive.close()

    # -- news that drivers do not hear of by themselves --------------------------------------------------------

    def candidates_signalled(self, peer: PeerKey) -> None:
        """Signal took, or gave up, the candidates that were gathered for this peer: its checks may begin.

        To be called for the message that carried them, not for one before. Cheap, and nothing when nothing waits.
        """
        session = self._held.pop(peer, None)
        if session is not None:
            session.release()

    def network_changed(self) -> None:
        """The host's network came up, went down or changed, and `local_addresses` knows: look at all kept paths."""
        self._keeper.network_changed()

    # -- effects -----------------------------------------------------------------------------------------------

    async def negotiate(self, effect: Negotiate) -> AsyncIterator[Event]:
        """Perform `Negotiate`. Ends by itself only with `NegotiationFailed`; with a path it holds the agent."""
        opened = self._open(effect)
        if isinstance(opened, str):
            yield NegotiationFailed(effect.peer, effect.generation, opened)
            return
        session, ours = opened
        try:
            if effect.stuns:
                locals = [candidate.address for candidate in ours]
                session.search = self._reflexive.find(session.agent.port, locals, effect.stuns, session.mapped)
            self._held[effect.peer] = session
            yield CandidatesGathered(effect.peer, effect.generation, ours)
            early = self._early.pop(session.key, ())
            if early:
                await self._give(session, early)
            session.hold(_HOLD, self._negotiation_limit)
            mailbox = session.mailbox
            while True:
                event = mailbox.take()
                if event is None:
                    await mailbox.arrival()
                    continue
                yield event
                if isinstance(event, NegotiationFailed):
                    return
        finally:
            self._leave(session)

    async def give_candidates(self, effect: GiveCandidates) -> AsyncIterator[Event]:
        """Perform `GiveCandidates`; candidates that come before their agent are kept for it. Reports nothing."""
        key = (effect.peer, effect.generation)
        session = self._sessions.get(key)
        if session is not None:
            await self._give(session, effect.candidates)
        else:
            self._early[key] = effect.candidates[:_EARLY_CANDIDATES]
            self._early.move_to_end(key)
            if len(self._early) > _EARLY_PEERS:
                self._early.popitem(last=False)
        nothing: tuple[Event, ...] = ()
        for event in nothing:
            yield event

    async def keep_path(self, effect: KeepPath) -> AsyncIterator[Event]:
        """Perform `KeepPath`. Takes the agent over before anything else can happen; ends by itself with `PathLost`."""
        session = self._sessions.get((effect.peer, effect.generation))
        if session is None or session.path is None:
            yield PathLost(effect.peer, effect.generation, "the agent that found the path is gone")
            return
        mailbox = session.adopt()
        now = asyncio.get_running_loop().time()
        watched = session.watched = Watched(effect.peer, session.agent, now, session.lost)
        self._keeper.add(watched)
        try:
            while True:
                event = mailbox.take()
                if event is None:
                    await mailbox.arrival()
                    continue
                yield event
                if isinstance(event, PathLost):
                    return
        finally:
            self._keeper.remove(watched)
            if session.watched is watched:
                self._close(session)

    # -- sessions ----------------------------------------------------------------------------------------------

    def _open(self, effect: Negotiate) -> tuple[Session, tuple[Candidate, ...]] | str:
        """Make the agent; or tell why there can be none."""
        port = self._port()
        if port is None or not port.is_open:
            return "WireGuard's UDP port is not open for ICE"
        theirs = self._credentials.theirs(effect.peer, effect.remote_session)
        if theirs is None:
            return "the peer's ICE credentials for this session are not known"
        if not _usable(theirs):
            return "the peer's ICE credentials are malformed"
        locals = [local for local in self._locals() if port.can_send_from(local)]
        if not locals:
            return "this host has no address that a peer could reach"
        session = Session(effect.peer, effect.generation)
        ours = self._credentials.ours(effect.peer)
        # Before the agent: whatever fails from there on must not leave one behind.
        candidates = host_candidates(locals, port.port, ours.ufrag)
        session.agent = Agent(
            port,
            locals,
            ours=ours,
            theirs=theirs,
            controlling=effect.controlling,
            observer=session,
            may_talk_to=self._may_talk_to,
            is_local=self._is_local,
        )
        previous = self._sessions.get(session.key)
        if previous is not None:
            self._close(previous)
        self._sessions[session.key] = session
        return session, candidates

    def _locals(self) -> list[str]:
        """Usable local addresses; worked out again only when something differs, because each message asks."""
        known = (tuple(self._local_addresses()), tuple(self._overlay()))
        if self._known != known:
            self._known = known
            self._usable = usable_locals(*known)
        return self._usable

    def _may_talk_to(self, address: str) -> bool:
        return sendable(address, self._locals(), self._overlay())

    def _is_local(self, address: str) -> bool:
        return address in self._locals()

    async def _give(self, session: Session, candidates: Sequence[Candidate]) -> None:
        refused = await session.give(candidates[:_EARLY_CANDIDATES], self._locals(), self._overlay())
        if refused:
            self.refused_candidates += refused
            logger.debug("{} candidates of {}... were refused", refused, session.peer[:8])

    def _leave(self, session: Session) -> None:
        """`Negotiate` is over."""
        if session.adopted:
            return
        if session.path is None:
            self._close(session)
        else:
            asyncio.get_running_loop().call_later(_GRACE, self._orphaned, session, _GRACE_TURNS)

    def _orphaned(self, session: Session, turns: int) -> None:
        """Nobody has taken it over in time; perhaps nobody had a turn to."""
        if session.adopted:
            return
        if turns:
            asyncio.get_running_loop().call_soon(self._orphaned, session, turns - 1)
        else:
            self._close(session)

    def _close(self, session: Session) -> None:
        if not session.close():
            return
        if self._held and self._held.get(session.peer) is session:
            del self._held[session.peer]
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
        if not self._closed:
            asyncio.get_running_loop().call_soon(self._dissolve)
        self._closed.append(session)

    def _dissolve(self) -> None:
        """Let go of the memory of closed sessions, a few in each turn of the loop."""
        for _ in range(min(_DISSOLVED, len(self._closed))):
            self._closed.popleft().dissolve()
        if self._closed:
            asyncio.get_running_loop().call_soon(self._dissolve)


def _usable(credentials: IceCredentials) -> bool:
    return bool(_CREDENTIALS.fullmatch(credentials.ufrag) and _CREDENTIALS.fullmatch(credentials.pwd))
