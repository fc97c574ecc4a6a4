"""Effects: what the engine asks of the world, as data.

An effect is a frozen dataclass in the imperative. `perform(effect)` starts the work when subscribed to and cancels it
when disposed of, and never errors. Two effects that compare equal are the same piece of work: an epic that says the
same effect again changes nothing. `resource` names what an effect occupies; work on one resource never overlaps, the
next waits until the clean-up of the one before is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rxnet.events import EffectFailed
from rxnet.model import Candidate, LocalPeer, Message, PeerKey, ServerAddress, SessionId, WireGuardPeer


def failure(effect: Effect, error: BaseException) -> EffectFailed:
    """Report an effect whose work ended with an exception: errors are events.

    The exception's own text stays out of the event: nobody knows what it may quote. The debug log has it.
    """
    place = ""
    trace = error.__traceback__
    while trace is not None:
        place = f" in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return EffectFailed(
        type(effect).__name__,
        getattr(effect, "generation", 0),
        f"{type(error).__name__}{place}",
        getattr(effect, "peer", None),
    )


class Effect:
    """What all effects have: a `resource` (None: may overlap with anything)."""

    __slots__ = ()

    @property
    def resource(self) -> tuple[str, ...] | None:
        return None


@dataclass(frozen=True, slots=True)
class WatchNetwork(Effect):
    """Report the operating system's network now and on every real change. Reports: `Network...`, `NetlinkOverran`."""

    generation: int = 0

    @property
    def resource(self) -> tuple[str, ...] | None:
        return ("network",)


@dataclass(frozen=True, slots=True)
class OpenManagement(Effect):
    """Connect to management, log in if `login`, and hold the Sync stream.

    Reports: `LoggedIn`, `ManagementConnected`, `ServersAnnounced`, `NetworkMap...`, `ChecksReported`, and at the end
    exactly one `ManagementDisconnected` or `LoginRefused`.
    """

    generation: int
    login: bool

    @property
    def resource(self) -> tuple[str, ...] | None:
        return ("management",)


@dataclass(frozen=True, slots=True)
class OpenSignal(Effect):
    """Connect to signal and hold the stream.

    Reports: `SignalConnected`, messages of peers, `SignalMessageUnreadable`, and at the end exactly one
    `SignalDisconnected`.
    """

    generation: int
    server: ServerAddress

    @property
    def resource(self) -> tuple[str, ...] | None:
        return ("signal",)


@dataclass(frozen=True, slots=True)
class SendMessages(Effect):
    """Send messages to one peer, in this order, over the open signal connection.

    Reports `MessagesSent` or `MessagesNotSent`.
    """

    peer: PeerKey
    messages: tuple[Message, ...]
    wireguard_port: int

    @property
    def generation(self) -> int:
        """Which batch this is: the id of its first message."""
        return self.messages[0].id


@dataclass(frozen=True, slots=True)
class OpenDevice(Effect):
    """Make the WireGuard interface and hold it. Reports `DeviceOpened` or `DeviceFailed`; disposing removes it."""

    generation: int

    @property
    def resource(self) -> tuple[str, ...] | None:
        return ("device",)


@dataclass(frozen=True, slots=True)
class AssignAddresses(Effect):
    """Give the open interface its overlay addresses, MTU and routes, as the difference to what it has.

    Reports a `DeviceRefused` for each change that failed and at the end one `AddressesAssigned`.
    """

    generation: int
    local: LocalPeer
    attempt: int = 0

    @property
    def resource(self) -> tuple[str, ...] | None:
        return ("addresses",)


@dataclass(frozen=True, slots=True)
class SetPeers(Effect):
    """Add or update these peers on the open device and remove those.

    Reports `DeviceRefused` for a peer that the device does not take, `DeviceFailed` if it does not answer.
    """

    generation: int
    """Of the device."""
    changed: tuple[WireGuardPeer, ...]
    removed: tuple[PeerKey, ...] = ()

    @property
    def resource(self) -> tuple[str, ...] | None:
        return ("peers",)


@dataclass(frozen=True, slots=True)
class Negotiate(Effect):
    """Run an ICE agent against one session of a peer until it has a path, then hold it for `KeepPath`.

    Reports: `CandidatesGathered`, `PathSelected`, `NegotiationFailed`. Disposing closes the agent unless a `KeepPath`
    of the same generation took it over.
    """

    peer: PeerKey
    generation: int
    session: SessionId
    """Ours."""
    remote_session: SessionId | None
    """The one whose credentials the signal driver keeps for us."""
    controlling: bool
    stuns: tuple[ServerAddress, ...] = field(default=(), compare=False)

    @property
    def resource(self) -> tuple[str, ...] | None:
        return ("agent", self.peer)


@dataclass(frozen=True, slots=True)
class GiveCandidates(Effect):
    """Tell the agent all remote candidates known so far; those it has already are ignored."""

    peer: PeerKey
    generation: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class KeepPath(Effect):
    """Take over the agent of `Negotiate`, keep its path alive and watch it.

    Reports `PathSelected` (the pair moved) and `PathLost`.
    """

    peer: PeerKey
    generation: int

    @property
    def resource(self) -> tuple[str, ...] | None:
        return ("agent", self.peer)


@dataclass(frozen=True, slots=True)
class WaitUntil(Effect):
    """Report `DeadlineReached` at this time of the engine's clock."""

    name: str
    at: float
    peer: PeerKey | None = None
