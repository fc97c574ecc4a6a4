"""The state: everything the engine knows, as one immutable value.

A state is enough to know all that is pending: epics read from it which effect should be going on, and nothing else
remembers. Peers are held in a persistent map; iterate it only through `sorted`, because its own order follows string
hashes and differs from process to process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from immutables import Map

from rxnet.events import Event
from rxnet.model import (
    Candidate,
    Candidates,
    HostNetwork,
    LocalPeer,
    Message,
    Path,
    PeerKey,
    RemotePeer,
    ServerAddress,
    SessionId,
)

OFFER_GAPS: Final = (3.0, 6.0, 12.0, 24.0)
"""Seconds after which an unanswered offer is repeated: a first offer is often lost (signal document, 2.2 and 5.1)."""

NO_SESSION: Final = SessionId("")

SILENT_ROUND: Final = 900.0
"""Seconds between batches of one offer to each silent peer."""


class ConnectionStatus(Enum):
    """Where the connection to a server stands."""

    IDLE = "idle"
    """Not wanted, or pointless at the moment (no network, no server known)."""
    DIALING = "dialing"
    CONNECTED = "connected"
    WAITING = "waiting"
    """For the back-off to run out."""
    REFUSED = "refused"
    """By the server, for good: final until the user acts."""
    ENDED = "ended"
    """By ourselves, because trying again cannot help: final until the user acts."""


FINAL: Final = (ConnectionStatus.REFUSED, ConnectionStatus.ENDED)


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection to management or to signal."""

    status: ConnectionStatus = ConnectionStatus.IDLE
    generation: int = 0
    """Of the latest attempt; reports of older ones are late."""
    attempt: int = 0
    """Failures in a row: what the back-off grows with."""
    since: float = 0.0
    """When `status` began, on the engine's clock."""
    reason: str = ""
    """Why it is not connected; empty while it is."""
    retry_at: float | None = None
    """When WAITING ends, on the engine's clock."""
    not_before: float = 0.0
    """No attempt may start earlier, whatever happens here: the server bans or limits us."""
    server: ServerAddress | None = None
    """Signal: where management said it is. Management: None, its driver knows."""
    login: bool = True
    """Management: whether the next attempt logs in before Sync."""


class DeviceStatus(Enum):
    """Where the WireGuard interface stands."""

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    WAITING = "waiting"
    FAILED = "failed"
    """Final until the user acts."""


@dataclass(frozen=True, slots=True)
class Device:
    """The WireGuard interface."""

    status: DeviceStatus = DeviceStatus.CLOSED
    generation: int = 0
    attempt: int = 0
    name: str = ""
    port: int = 0
    kernel: bool = False
    reason: str = ""
    """Why it is not open, or what of its addresses could not be set."""
    retry_at: float | None = None
    addresses: int = 0
    """Which attempt at its addresses this is."""
    addresses_retry_at: float | None = None
    """When to try again what could not be set."""


@dataclass(frozen=True, slots=True)
class Link:
    """The host's network, as the engine sees it."""

    known: bool = False
    """False until the first report after start."""
    network: HostNetwork = field(default_factory=HostNetwork)
    since: float = 0.0
    generation: int = 0
    """Of the watch."""
    retry_at: float | None = None
    """When to watch again, after the watch failed."""

    @property
    def up(self) -> bool:
        return self.known and self.network.up


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether peers may be worked on: network up, signal connected, device open.

    `epoch` rises whenever pending work must start afresh: at every opening, and when the network changed under an
    open gate. What a peer had pending in an older epoch is void; `current` says what it becomes.
    """

    open: bool = False
    epoch: int = 0
    opened_at: float = 0.0
    seed: int = 0
    """The opening's entropy: session ids and jitter of the whole epoch come from it."""
    reason: str = "not started"
    """Why it is closed."""


_WAITING_MESSAGES: Final = 16


class AgentStatus(Enum):
    CHECKING = "checking"
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class Agent:
    """One ICE agent's life."""

    generation: int
    session: SessionId
    remote_session: SessionId | None
    status: AgentStatus = AgentStatus.CHECKING


@dataclass(frozen=True, slots=True)
class Outbox:
    """Messages to one peer: a batch on its way, and what came since. At most one offer and one answer wait."""

    sending: tuple[Message, ...] = ()
    waiting: tuple[Message, ...] = ()

    def put(self, message: Message) -> Outbox:
        """Add a message; an offer or answer that still waits is replaced by the newer one."""
        if not self.sending:
            return Outbox((message,))
        waiting = tuple(m for m in self.waiting if isinstance(m, Candidates) or type(m) is not type(message))
        if len(waiting) >= _WAITING_MESSAGES:
            # Only batches of candidates can be so many. The oldest goes: it is the least likely still to be true.
            oldest = next(m for m in waiting if isinstance(m, Candidates))
            waiting = tuple(m for m in waiting if m is not oldest)
        return Outbox(self.sending, (*waiting, message))

    def done(self, ids: tuple[int, ...]) -> Outbox:
        """The batch with these ids left; what waited goes next."""
        if tuple(m.id for m in self.sending) != ids:
            return self
        return Outbox(self.waiting)


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer of the network map and what is going on with it."""

    remote: RemotePeer
    since: float
    """When it became connected or ceased to be, on the engine's clock."""
    reason: str = "waiting for its answer"
    """Why it is not connected; empty while it is."""
    epoch: int = -1
    """The gate's epoch that `offers`, `outbox` and a checking agent belong to."""
    generation: int = 0
    """Of the latest agent."""
    session: SessionId = NO_SESSION
    """Our session id: of the agent, or of the one to come."""
    agent: Agent | None = None
    path: Path | None = None
    """Of a connected agent."""
    offers: int = 0
    """Offers made in this epoch without coming to a path."""
    next_offer: float | None = None
    """Deadline of the next repeat; None: silent until an event."""
    outbox: Outbox = field(default_factory=Outbox)
    candidates: tuple[tuple[float, Candidate], ...] = ()
    """The peer's candidates with their arrival, kept also before there is an agent for them."""
    incarnation: int = 0
    """Rises when the peer turns out to be a new process, whose WireGuard has lost our keys."""
    remote_ufrag: str = ""
    """By which we notice that."""

    @property
    def connected(self) -> bool:
        return self.path is not None


@dataclass(frozen=True, slots=True)
class Early:
    """Messages that came before they could be handled, see early.py."""

    messages: Map[PeerKey, tuple[Event, ...]] = field(default_factory=Map)
    order: tuple[PeerKey, ...] = ()
    """Oldest first; bounded, see early.py."""
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """Everything. Published with every event, and the snapshot that a new subscriber starts with."""

    own_key: PeerKey
    wanted: bool = False
    """What the user asked: up or down."""
    link: Link = field(default_factory=Link)
    management: Connection = field(default_factory=Connection)
    signal: Connection = field(default_factory=Connection)
    device: Device = field(default_factory=Device)
    gate: Gate = field(default_factory=Gate)
    local: LocalPeer | None = None
    stuns: tuple[ServerAddress, ...] = ()
    map_serial: int | None = None
    """Serial of the last network map that was applied whole."""
    peers: Map[PeerKey, Peer] = field(default_factory=Map)
    connected: int = 0
    """How many peers have a path."""
    silent: Map[PeerKey, None] = field(default_factory=Map)
    """Peers whose offers are exhausted in this epoch."""
    silent_round_at: float | None = None
    """When the silent ones get one more offer each."""
    early: Early = field(default_factory=Early)

    @property
    def login_refused(self) -> str:
        """Why management refused us for good; empty unless it did."""
        return self.management.reason if self.management.status is ConnectionStatus.REFUSED else ""
