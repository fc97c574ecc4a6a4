"""What a run measured, and whether it is what rxnet promises. A figure that was not measured is None, with a reason.

`document` is the JSON of `rxnet demo --json`; docs/demo.md explains its fields.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from rxnet._version import __version__
from rxnet.demo.prober import Ping

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Act:
    """One act: when it began, in seconds from the start, and what was said."""

    number: int
    at: float
    title: str


@dataclass(slots=True)
class PairPings:
    """Pings of one pair of hosts in one address family."""

    source: str
    target: str
    family: int
    sent: int = 0
    answered: int = 0
    milliseconds: list[float] = field(default_factory=list)

    def take(self, pings: list[Ping]) -> None:
        """Count some pings."""
        self.sent += len(pings)
        self.milliseconds += [round(p.seconds * 1000, 3) for p in pings if p.seconds is not None]
        self.answered = len(self.milliseconds)

    @property
    def middle(self) -> float | None:
        """The median round trip in milliseconds."""
        return median(self.milliseconds) if self.milliseconds else None

    @property
    def passed(self) -> bool:
        """Whether each ping was answered."""
        return 0 < self.sent == self.answered


@dataclass(slots=True)
class Cut:
    """The link of the first host was cut. Seconds count from the cut unless the name says else."""

    seconds: float | None = None
    """How long the link was cut."""
    network_down_after: float | None = None
    """Until the host's rxnet knew."""
    cancelled: int | None = None
    """Peers whose pending work was given up, as `OffersCancelled` counts."""
    cancelled_after_event: float | None = None
    """Seconds from the event `NetworkWentDown` to the event `OffersCancelled`."""
    cancelled_by: str = ""
    """The event that `OffersCancelled` names as its cause."""
    offers_before: int = 0
    """Offers that had been sent to the silent host until then."""
    peers_lost: int | None = None
    """Paths that were given up while the link was cut."""
    messages_while_down: int | None = None
    """Signal messages (offers among them) that were sent between `OffersCancelled` and the return of the link."""
    offers_due_while_down: int | None = None
    """Repeats of offers that fell due while the link was cut: their timers should have gone with the gate."""
    pings_sent_while_down: int = 0
    pings_answered_while_down: int = 0


@dataclass(slots=True)
class Recovery:
    """The link came back. Seconds count from just before it was given its carrier."""

    network_up_after: float | None = None
    signal_after: float | None = None
    started: int | None = None
    """Peers that were started, as `OffersStarted` counts."""
    started_after: float | None = None
    started_by: str = ""
    """The event that `OffersStarted` names as its cause."""


@dataclass(slots=True)
class SignalOutage:
    """The signal service went away for a while; the link stayed."""

    seconds: float | None = None
    """Between `SignalDisconnected` and `SignalConnected` at the first host."""
    pings_sent: int = 0
    """Through its tunnels, between these two events."""
    pings_answered: int = 0
    peers_lost: int | None = None
    started_by: str = ""


@dataclass(slots=True)
class Frozen:
    """All Python processes of the hosts were stopped by SIGSTOP; only WireGuard was left to carry packets."""

    seconds: float | None = None
    processes: int = 0
    """How many the kernel showed as stopped."""
    pings_sent: int = 0
    pings_answered: int = 0


@dataclass(slots=True)
class HostPackets:
    """Counters of one host at the end."""

    host: str
    tunnel_received: int | None = None
    """Packets that came out of the tunnel, as the kernel counts them on the interface."""
    tunnel_sent: int | None = None
    through_python: int | None = None
    """WireGuard packets that ended in Python, as rxnet's driver counts them."""
    reason: str = ""
    """Why a figure is missing."""


@dataclass(slots=True)
class PeerFacts:
    """A peer of the first host."""

    name: str
    silent: bool = False
    """It was registered and then stopped, so that something was pending."""
    path: dict[str, str] | None = None
    """local, remote, local_type, remote_type; of the end of the run."""
    ping_ms: float | None = None
    ping_v6_ms: float | None = None
    offer_cancelled: bool = False
    first_ping_after: float | None = None
    """Seconds from the link's return to the first answer of a ping that was sent after it."""
    connected_after: float | None = None
    """Seconds from the link's return to `PeerConnected`; None if it was never lost."""
    reason: str = ""
    """Why figures are missing."""


@dataclass(slots=True)
class Facts:
    """Everything."""

    hosts: int
    wireguard: str = ""
    seconds: float | None = None
    acts: list[Act] = field(default_factory=list)
    pings: list[PairPings] = field(default_factory=list)
    cut: Cut = field(default_factory=Cut)
    recovery: Recovery = field(default_factory=Recovery)
    signal_outage: SignalOutage = field(default_factory=SignalOutage)
    frozen: Frozen = field(default_factory=Frozen)
    packets: list[HostPackets] = field(default_factory=list)
    peers: list[PeerFacts] = field(default_factory=list)
    events: int = 0
    """Events of the first host that were seen."""
    events_missed: int = 0
    failures: list[str] = field(default_factory=list)
    """What was promised and not seen; empty if all went well."""

    @property
    def passed(self) -> bool:
        return not self.failures

    def judge(self) -> None:
        """Compare with what is promised, and note each difference as a failure.

        A story that came to a stop has failed already: what it did not come to is no failure of its own.
        """
        if self.failures:
            return
        self.failures += [
            f"{p.source} to {p.target} over IPv{p.family}: {p.answered} of {p.sent} pings were answered"
            for p in self.pings
            if not p.passed
        ]
        expected = self.hosts * (self.hosts - 1)
        for family in (4, 6):
            if (found := sum(p.family == family for p in self.pings)) != expected:
                self.failures.append(f"{found} of {expected} pairs of hosts were pinged over IPv{family}")
        if not self.cut.cancelled:
            self.failures.append("no pending offer was cancelled when the link was cut")
        if self.cut.messages_while_down or self.cut.offers_due_while_down:
            self.failures.append(
                f"offers went on while the link was cut: {self.cut.messages_while_down} messages were sent, "
                f"{self.cut.offers_due_while_down} repeats fell due"
            )
        for peer in self.peers:
            if not peer.silent and peer.first_ping_after is None:
                self.failures.append(f"no ping to {peer.name} was answered after the link was back")
        outage, frozen = self.signal_outage, self.frozen
        if not 0 < outage.pings_sent == outage.pings_answered:
            self.failures.append(f"without signal {outage.pings_answered} of {outage.pings_sent} pings were answered")
        if frozen.processes != self.hosts:
            self.failures.append(f"{frozen.processes} of {self.hosts} Python processes could be stopped")
        if not 0 < frozen.pings_sent == frozen.pings_answered:
            self.failures.append(
                f"with Python stopped {frozen.pings_answered} of {frozen.pings_sent} pings were answered"
            )

    def document(self) -> dict[str, Any]:
        """The facts in JSON's types."""
        found = asdict(self)
        for pair, own in zip(found["pings"], self.pings, strict=True):
            pair["median_ms"] = own.middle
        head: dict[str, Any] = {"schema": SCHEMA, "rxnet": __version__, "passed": self.passed}
        return head | {name: _rounded(value) for name, value in found.items()}


def _rounded(value: Any) -> Any:
    """Microseconds are all that the clocks are good for."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
