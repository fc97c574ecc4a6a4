"""Which local addresses are offered as candidates, and which of the peer's are worth trying."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from rxnet.candidates import host_candidate, new_candidate, new_candidate_id
from rxnet.errors import ProtocolError
from rxnet.model import Candidate, IPAddress, IPNetwork

_MOST = 16
"""Local addresses that are offered. Each makes a pair with each of the peer's."""
_TYPES = ("host", "srflx", "relay")
_RESERVED = (IPv4Address("240.0.0.0"), IPv4Address("255.255.255.255"))


def usable_locals(addresses: Iterable[IPAddress], overlay: Sequence[IPNetwork]) -> list[str]:
    """The local addresses that can carry ICE, in their order, as text.

    Left out: link-local IPv6 (needs a zone), loopback, what cannot be sent from, and our own overlay.
    """
    found = []
    for address in addresses:
        unusable = address.is_unspecified or address.is_multicast or address.is_loopback
        if isinstance(address, IPv6Address) and (address.is_link_local or address.ipv4_mapped is not None):
            unusable = True
        if not unusable and not _within(address, overlay) and str(address) not in found:
            found.append(str(address))
    return found[:_MOST]


def host_candidates(locals: Sequence[str], port: int, ufrag: str) -> tuple[Candidate, ...]:
    """A candidate for each local address, all on the port that WireGuard and ICE share."""
    return tuple(
        replace(_host(local, port), extensions=(("ufrag", ufrag), ("cid", new_candidate_id()))) for local in locals
    )


@lru_cache(maxsize=256)
def _host(local: str, port: int) -> Candidate:
    """What the candidates of one address have in common for all peers."""
    return host_candidate(local, port, ufrag="u")  # replaced by each peer's own


def reflexive_candidate(local: str, port: int, mapped: tuple[str, int], ufrag: str) -> Candidate | None:
    """The srflx candidate of a local address seen as `mapped`; None if no NAT lies between (it equals the host's)."""
    try:
        address = str(ip_address(mapped[0]))
        if (address, mapped[1]) == (local, port):
            return None
        return new_candidate("srflx", address, mapped[1], ufrag=ufrag, related_address=local, related_port=port)
    except (ProtocolError, ValueError):
        return None  # a server that answers nonsense


def sendable(text: str, locals: Sequence[str], overlay: Sequence[IPNetwork]) -> bool:
    """Whether checks may go to this address.

    Refused: text that is no address, multicast, unspecified, reserved, IPv6 link-local (no zone is known), loopback
    unless it is an address of ours, and the overlay: a tunnel within the tunnel.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if address.is_unspecified or address.is_multicast:
        return False
    if address.is_loopback:
        return text in locals
    if isinstance(address, IPv4Address):
        if _RESERVED[0] <= address <= _RESERVED[1]:
            return False
    elif address.is_link_local or address.ipv4_mapped is not None or "%" in text:
        return False
    return not _within(address, overlay)


def remote_candidates(
    candidates: Iterable[Candidate], locals: Sequence[str], overlay: Sequence[IPNetwork]
) -> Iterator[Candidate | None]:
    """The peer's candidates as the agent shall try them; None for each that is refused.

    A srflx candidate with a `cid` whose port is not its base's stands for two: perhaps a router forwards the base's
    port (signal document, 3.5).
    """
    for candidate in candidates:
        right_kind = candidate.type in _TYPES and candidate.component == 1 and candidate.transport == "udp"
        if not right_kind or not 0 < candidate.port < 65536 or not sendable(candidate.address, locals, overlay):
            yield None
            continue
        candidate = replace(candidate, address=str(ip_address(candidate.address)))
        yield candidate
        related = candidate.related_port
        has_id = any(key == "cid" for key, _ in candidate.extensions)
        if candidate.type == "srflx" and has_id and 0 < related < 65536 and related != candidate.port:
            yield replace(candidate, port=related, extensions=())


def _within(address: IPAddress, networks: Sequence[IPNetwork]) -> bool:
    return any(address in network for network in networks)
