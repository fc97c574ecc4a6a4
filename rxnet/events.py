"""The vocabulary: one frozen dataclass for each fact that rxnet can learn.

Events are past-tense facts. A driver reports one when the world moved, the engine reports one (kind `own`) when
its own state did; both go through the same inbox, are stamped there, reduced, and only then published. `kind` says
who the news is about or from; `peer` names the peer or is None. No event carries a secret: ICE passwords, private
keys, setup keys and tokens stay inside the drivers.

Reports of an effect carry its `generation`. A report whose generation is not the current one is late news of work
that was cancelled; `reduce` drops it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar, cast, dataclass_transform

from rxnet.model import (
    Candidate,
    HostNetwork,
    LocalPeer,
    Path,
    PeerKey,
    RemotePeer,
    Retry,
    ServerAddress,
    SessionId,
)

Kind = Literal["signal", "management", "network", "peer", "own"]


class Event:
    """What all events have: `kind`, and `peer` (None unless the event is about one peer)."""

    __slots__ = ()
    kind: ClassVar[Kind]

    if TYPE_CHECKING:

        @property
        def peer(self) -> PeerKey | None: ...


_T = TypeVar("_T", bound=type[Event])


@dataclass_transform(frozen_default=True)
def fact(kind: Kind) -> Callable[[_T], _T]:
    """Make a class a frozen, slotted event of this kind."""

    def decorate(cls: _T) -> _T:
        made = cast(_T, dataclass(frozen=True, slots=True)(cls))
        made.kind = kind
        if "peer" not in cls.__annotations__:
            made.peer = None  # type: ignore[assignment, method-assign]  # a class-wide "no peer" costs no slot
        return made

    return decorate


# -- network: the operating system's view ------------------------------------------------------------------------


@fact("network")
class NetworkCameUp(Event):
    """The host can reach others: an interface with carrier has an address. Also the first report after start."""

    network: HostNetwork


@fact("network")
class NetworkWentDown(Event):
    """No interface is left with carrier and address. Also the first report, when the host starts without network."""

    network: HostNetwork


@fact("network")
class NetworkChanged(Event):
    """Up before and after, but something that matters to us differs."""

    network: HostNetwork
    differences: tuple[str, ...]
    """What differs, for people: `address 10.0.0.7 on eth0 gone`."""


@fact("network")
class NetlinkOverran(Event):
    """The kernel dropped netlink messages; the state was read anew. Any difference follows as an event of its own."""

    times: int


# -- management --------------------------------------------------------------------------------------------------


@fact("management")
class LoggedIn(Event):
    """Management knows us. Enough to dial signal, before the first map."""

    generation: int
    local: LocalPeer
    signal: ServerAddress
    registered: bool = False
    """True when this login registered a new peer (a setup key was spent)."""


@fact("management")
class ManagementConnected(Event):
    """The Sync stream gave its first message that decrypts: from here on it counts as healthy."""

    generation: int


@fact("management")
class ServersAnnounced(Event):
    """Management named the STUN servers (`host:port`); signal is fixed at login."""

    generation: int
    stuns: tuple[ServerAddress, ...]


@fact("management")
class NetworkMapReceived(Event):
    """One part of a network map, as the difference to what earlier parts said.

    A large map comes in parts, so that no single event blocks the loop; `last` marks the final one. Peers that
    the map no longer lists are in `removed` of the last part.
    """

    generation: int
    serial: int
    local: LocalPeer | None
    """None: this part says nothing about ourselves."""
    changed: tuple[RemotePeer, ...]
    """Peers that are new or differ from before."""
    removed: tuple[PeerKey, ...] = ()
    last: bool = True


@fact("management")
class NetworkMapFaulted(Event):
    """Parts of a map were refused; the good part was applied."""

    generation: int
    complaints: tuple[str, ...]
    """The first few, each naming the entry and what is wrong with it."""
    count: int
    """How many entries were refused in all."""


@fact("management")
class ManagementDisconnected(Event):
    """The attempt or the stream of this generation is over."""

    generation: int
    reason: str
    retry: Retry = Retry.BACK_OFF


@fact("management")
class LoginRefused(Event):
    """Management refused us for good: wrong or spent setup key, deleted peer. Nothing is asked until the user acts."""

    generation: int
    reason: str
    """One line that names the thing and the mend."""


@fact("management")
class ChecksReported(Event):
    """Management asked about files and processes (posture checks) and was answered through SyncMeta."""

    generation: int
    paths: int


# -- signal ------------------------------------------------------------------------------------------------------


@fact("signal")
class SignalConnected(Event):
    """The stream is registered: messages reach us from now on."""

    generation: int


@fact("signal")
class SignalDisconnected(Event):
    """The attempt or the stream of this generation is over, or the watchdog found it half-dead."""

    generation: int
    reason: str


@fact("signal")
class SignalMessageUnreadable(Event):
    """Messages that could not be decrypted or decoded were dropped: `count` since the last report (rate-limited)."""

    sender: str
    """The key text it claims, cut to 44 characters."""
    reason: str
    count: int = 1


# -- peers: what they told us through signal ---------------------------------------------------------------------


@fact("peer")
class OfferReceived(Event):
    """A peer offers a connection and wants an answer."""

    peer: PeerKey
    session: SessionId | None
    """None: an old client, or a peer without ICE."""
    ice: bool = True
    """False: the peer sent no credentials (relay only)."""
    ufrag: str = ""
    """The public half of its ICE credentials: another one means another process over there."""
    wireguard_port: int = 0
    version: str = ""


@fact("peer")
class AnswerReceived(Event):
    """A peer answered an offer of ours. Never answered in turn."""

    peer: PeerKey
    session: SessionId | None
    ice: bool = True
    ufrag: str = ""
    wireguard_port: int = 0
    version: str = ""


@fact("peer")
class CandidateReceived(Event):
    """A peer named an address of its own."""

    peer: PeerKey
    candidate: Candidate


@fact("peer")
class GoIdleReceived(Event):
    """A lazy Go peer closes its side for lack of traffic."""

    peer: PeerKey


@fact("peer")
class MessagesSent(Event):
    """Signal took the messages (it gives no delivery receipt beyond that)."""

    peer: PeerKey
    ids: tuple[int, ...]


@fact("peer")
class MessagesNotSent(Event):
    """Signal refused or did not answer in time; the messages are given up, repeats follow their own schedule."""

    peer: PeerKey
    ids: tuple[int, ...]
    reason: str


# -- peers: what the ICE agents report ---------------------------------------------------------------------------


@fact("peer")
class CandidatesGathered(Event):
    """The agent found local candidates, to be signalled before the first check leaves."""

    peer: PeerKey
    generation: int
    candidates: tuple[Candidate, ...]


@fact("peer")
class PathSelected(Event):
    """A pair was nominated. May repeat with another pair; the last one counts."""

    peer: PeerKey
    generation: int
    path: Path


@fact("peer")
class NegotiationFailed(Event):
    """The agent gave up: no pair answered in time."""

    peer: PeerKey
    generation: int
    reason: str


@fact("peer")
class PathLost(Event):
    """Nothing authenticated came over the path for too long."""

    peer: PeerKey
    generation: int
    reason: str


# -- own: the device, deadlines, commands ------------------------------------------------------------------------


@fact("own")
class DeviceOpened(Event):
    """The WireGuard interface exists and listens."""

    generation: int
    name: str
    port: int
    kernel: bool = False


@fact("own")
class DeviceFailed(Event):
    """The interface could not be made, or died. Final unless `retry`."""

    generation: int
    reason: str
    retry: bool = False


@fact("own")
class DeviceRefused(Event):
    """One change of the device's configuration failed; the others were applied."""

    what: str
    reason: str


@fact("own")
class AddressesAssigned(Event):
    """The interface has its overlay addresses, MTU and routes, or as much of it as the host allows."""

    generation: int
    """Of the device."""
    attempt: int
    refused: str = ""
    """What could not be set; empty if all was."""


@fact("own")
class DeadlineReached(Event):
    """A `WaitUntil` ran out. `name` says which deadline; `at` is the time it was set for."""

    name: str
    at: float
    peer: PeerKey | None = None


@fact("own")
class UpRequested(Event):
    """A command: be connected. `id` comes back in `CommandTaken`."""

    id: str


@fact("own")
class DownRequested(Event):
    """A command: disconnect and leave the host as it was."""

    id: str


@fact("own")
class CommandTaken(Event):
    """The answer to a command: the state now says what it asked."""

    id: str


@fact("own")
class EffectFailed(Event):
    """An effect ended with an error that its driver did not expect; reduced like that effect's own failure event."""

    effect: str
    """Class name of the effect."""
    generation: int
    reason: str
    peer: PeerKey | None = None


@fact("own")
class EpicFailed(Event):
    """An epic or `reduce` raised: a defect of rxnet. The epic was started again from the current state."""

    name: str
    reason: str


# -- own: what follows for those who watch -----------------------------------------------------------------------


@fact("own")
class PeerAdded(Event):
    """The network map lists a peer that it did not list before."""

    peer: PeerKey
    fqdn: str = ""


@fact("own")
class PeerRemoved(Event):
    """The network map no longer lists the peer; its tunnel is gone."""

    peer: PeerKey
    fqdn: str = ""


@fact("own")
class PeerConnected(Event):
    """A path is up and WireGuard uses it."""

    peer: PeerKey
    path: Path
    fqdn: str = ""


@fact("own")
class PeerDisconnected(Event):
    """The peer had a path and has none now."""

    peer: PeerKey
    reason: str
    fqdn: str = ""


@fact("own")
class OffersCancelled(Event):
    """The gate closed (network or signal went away): all pending work for peers was cancelled at once."""

    count: int
    reason: str


@fact("own")
class OffersStarted(Event):
    """The gate opened: every wanted peer without a path was started, at once and by this event alone."""

    count: int
