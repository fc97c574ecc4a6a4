"""Values: what events, effects and the state are made of.

Everything here is immutable, hashable and free of I/O. Addresses are `ipaddress` objects inside rxnet and
text only at its edges; keys and session ids stay text, because text is how NetBird compares them
(the ICE role is decided by comparing base64 text, see `is_controlling`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import NewType

PeerKey = NewType("PeerKey", str)
"""A WireGuard public key as standard base64 text, 44 characters. It is a peer's identity everywhere."""

SessionId = NewType("SessionId", str)
"""Ten lower-case hex digits: the five bytes by which signal messages name one ICE agent's life."""

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


def is_controlling(ours: PeerKey, theirs: PeerKey) -> bool:
    """Tell whether we are the ICE controlling agent: the greater base64 *text* controls (signal document, 3.1)."""
    return ours > theirs


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A UDP or TCP address: literal `host` (no zone) and `port`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a control-plane server listens. `host` may be a name."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LocalPeer:
    """What management says about ourselves (management document, 6.2)."""

    address: IPv4Interface
    """Own overlay address with the prefix length of the network, `100.92.14.7/16`."""
    address_v6: IPv6Interface | None = None
    fqdn: str = ""
    mtu: int = 1280


@dataclass(frozen=True, slots=True)
class RemotePeer:
    """One peer of the network map, validated: no own key, no prefix that belongs to somebody else."""

    key: PeerKey
    allowed_ips: tuple[IPNetwork, ...]
    """Host prefixes (/32, /128) only."""
    fqdn: str = ""
    agent_version: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ICE candidate as signal carries it (signal document, 2.4; RFC 8445 section 5.1)."""

    foundation: str
    priority: int
    address: str
    """Literal IP in canonical text, no zone."""
    port: int
    type: str
    """`host`, `srflx`, `prflx` or `relay`."""
    component: int = 1
    transport: str = "udp"
    related_address: str = ""
    related_port: int = 0
    extensions: tuple[tuple[str, str], ...] = ()
    """Further pairs in order, such as `ufrag` and `cid`."""


@dataclass(frozen=True, slots=True)
class Path:
    """A nominated ICE pair: where WireGuard packets of one peer go."""

    local: Endpoint
    remote: Endpoint
    local_type: str = "host"
    remote_type: str = "host"
    round_trip: float = 0.0
    """Seconds, of the check that selected the pair; 0 when unknown."""


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """What the operating system's network looks like, normalised so that equal means "nothing changed for us".

    Own, ignored and loopback interfaces are left out; so are counters, flags, link-local addresses and lifetimes.
    """

    up: bool = False
    """At least one interface has carrier and an address that others can reach."""
    addresses: tuple[tuple[str, IPAddress], ...] = ()
    """Sorted pairs of interface name and address, of interfaces with carrier."""
    default_routes: tuple[tuple[str, str, int], ...] = ()
    """Sorted triples of interface name, gateway text (empty: on link) and metric; both families."""
    rules: tuple[str, ...] = ()
    """Sorted texts of the policy rules that are not ours."""


@dataclass(frozen=True, slots=True)
class WireGuardPeer:
    """The configuration of one peer on the device, as wanted."""

    key: PeerKey
    allowed_ips: tuple[IPNetwork, ...]
    endpoint: Endpoint | None = None
    """None: leave what the device knows (a new peer then waits for the other side's handshake)."""
    keepalive: int = 0
    """Persistent keepalive in seconds; 0 is off. Setting it together with the endpoint starts a handshake at once."""
    incarnation: int = 0
    """When it differs from before, the other side is a new process: remove the peer and add it again, because its
    WireGuard has lost our keys and would ignore us until ours expire."""


class Retry(Enum):
    """What to do after management ended a connection or refused it."""

    BACK_OFF = "back off"
    """Dial again after the usual back-off."""
    LOG_IN = "log in"
    """Dial again, with a Login before Sync (it refused Sync with PermissionDenied)."""
    SLOWLY = "slowly"
    """Dial again after minutes: the server bans or limits us."""
    NEVER = "never"
    """Final until the user acts: credentials refused, peer deleted, protocol not understood."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A connection offer to send. The driver adds version, ICE credentials and WireGuard port."""

    id: int
    session: SessionId


@dataclass(frozen=True, slots=True)
class Answer:
    """The one answer to a received offer."""

    id: int
    session: SessionId


@dataclass(frozen=True, slots=True)
class Candidates:
    """Local candidates to signal, one CANDIDATE message each."""

    id: int
    candidates: tuple[Candidate, ...]


Message = Offer | Answer | Candidates
"""What may wait in a peer's outbox. `id` is unique among the messages to one peer."""
