"""Who plays in a marble diagram: one letter is one peer, and everything about it follows from the letter.

We are peer `n`, in the middle of the alphabet: towards `a` to `m` we are the controlling side, towards `o` to `z` the
controlled one, because the greater key controls (signal document, 3.1).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from rxnet.model import (
    Candidate,
    Endpoint,
    HostNetwork,
    LocalPeer,
    Path,
    PeerKey,
    RemotePeer,
    ServerAddress,
    SessionId,
)


def key_of(letter: str) -> PeerKey:
    """The key of the peer that a letter stands for: `pppp...pA=`, so that a failure names its peer at sight."""
    return PeerKey(letter * 42 + "A=")


def letter_of(key: PeerKey) -> str:
    """The letter of a key made by `key_of`."""
    return key[0]


OWN: Final = key_of("n")
SIGNAL: Final = ServerAddress("signal.example", 443, tls=True)
OTHER_SIGNAL: Final = ServerAddress("signal-2.example", 443, tls=True)
LOCAL: Final = LocalPeer(IPv4Interface("100.64.0.14/16"), fqdn="n.example")
OTHER_LOCAL: Final = LocalPeer(IPv4Interface("100.64.0.15/16"), fqdn="n.example")
DEVICE_NAME: Final = "wt0"
DEVICE_PORT: Final = 51820


def remote(letter: str, version: int = 0) -> RemotePeer:
    """The network map's entry for a peer; another `version` is a changed entry."""
    number = ord(letter)
    return RemotePeer(
        key_of(letter),
        (IPv4Network(f"100.64.1.{number}/32"),),
        fqdn=f"{letter}.example" if version == 0 else f"{letter}-{version}.example",
    )


def session(letter: str, number: int) -> SessionId:
    """The `number`th session of a peer: `p` and 1 give `7000000001`."""
    return SessionId(f"{ord(letter):02x}{number:08x}")


def ufrag(letter: str, process: int) -> str:
    """The user fragment of a peer's `process`th life."""
    return letter * 12 + f"{process:04d}"


def candidate(letter: str, number: int) -> Candidate:
    """The `number`th candidate of a peer."""
    return Candidate(f"{number}", 2130706431 - number, f"198.51.100.{ord(letter)}", 50000 + number, "host")


def own_candidate(number: int) -> Candidate:
    """The `number`th candidate of ours."""
    return Candidate(f"{number}", 2130706431 - number, "192.0.2.14", 50000 + number, "host")


def path(letter: str, number: int) -> Path:
    """The `number`th path to a peer."""
    return Path(Endpoint("192.0.2.14", DEVICE_PORT), Endpoint(f"198.51.100.{ord(letter)}", 50000 + number))


def network(first: int, more: int = 0) -> HostNetwork:
    """A host's network: up, with one address that `first` tells apart and `more` further ones."""
    addresses = [("eth0", IPv4Address(f"192.0.2.{14 + first}"))]
    addresses += [("wlan0", IPv4Address(f"203.0.113.{i + 1}")) for i in range(more)]
    return HostNetwork(up=True, addresses=tuple(addresses), default_routes=(("eth0", "192.0.2.1", 100),))
