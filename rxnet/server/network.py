"""What peers are told: configuration and network maps, built without I/O.

The policy is NetBird's default one, everybody may talk to everybody (management document, 6.6). A map is therefore the
same for all receivers but for a short head, so each peer's contribution is serialized once, when the peer changes, and
a map is the head and the concatenation of the others' contributions: two serialized protobuf messages one after the
other are their merge. So a map of 10,000 peers costs a few milliseconds instead of half a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from itertools import accumulate

from rxnet.model import IPAddress, PeerKey, ServerAddress
from rxnet.server.meta import About, about_kept
from rxnet.server.records import Network, StoredPeer
from rxnet.wire import management_pb2 as pb

DEFAULT_DOMAIN = "rxnet.internal"
_POLICY_ID = b"rxnet-all-to-all"


class Rules(Enum):
    """How a map says that everybody may talk to everybody."""

    EXPLICIT = "explicit"
    """One ACCEPT rule in each direction for each peer, as NetBird's own server sends."""
    OPEN = "open"
    """No rules at all, which clients read as "allow everything" (management document, 8.4)."""


@dataclass(frozen=True, slots=True)
class Announced:
    """The other servers that peers are told about."""

    signal: ServerAddress
    stun: ServerAddress | None


class _Parts:
    """Every peer's contribution for one kind of receiver, and all of them joined: cutting one out is two copies."""

    def __init__(self) -> None:
        self._parts: dict[PeerKey, bytes] = {}
        self._joined: bytes | None = None
        self._ends: dict[PeerKey, int] = {}

    def put(self, key: PeerKey, part: bytes) -> bool:
        """Add or replace a contribution. True if it is not what it was."""
        if self._parts.get(key) == part:
            return False
        self._parts[key] = part
        self._joined = None
        return True

    def remove(self, key: PeerKey) -> None:
        """Drop a contribution, if it is there."""
        if self._parts.pop(key, None) is not None:
            self._joined = None

    def all_but(self, key: PeerKey) -> bytes:
        """All contributions but this one, one after the other."""
        joined = self._joined
        if joined is None:
            joined = self._joined = b"".join(self._parts.values())
            self._ends = dict(zip(self._parts, accumulate(map(len, self._parts.values())), strict=True))
        end = self._ends.get(key, 0)
        start = end - len(self._parts.get(key, b""))
        return joined[:start] + joined[end:]


class NetworkView:
    """All peers, with their contributions to maps ready for sending."""

    def __init__(
        self, network: Network, announced: Announced, *, domain: str = DEFAULT_DOMAIN, rules: Rules = Rules.EXPLICIT
    ) -> None:
        self._prefix: IPv4Network = network.prefix
        self._prefix_v6: IPv6Network = network.prefix_v6
        self.announced = announced
        self._domain = domain
        self._rules = rules
        self._peers: dict[PeerKey, StoredPeer] = {}
        self._parts = _Parts()
        self._parts_v6 = _Parts()
        self._config = _netbird_config(announced).SerializeToString()
        self.serial = network.serial

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[StoredPeer]:
        return iter(self._peers.values())

    def get(self, key: PeerKey) -> StoredPeer | None:
        """The peer with this key."""
        return self._peers.get(key)

    def fqdn(self, peer: StoredPeer) -> str:
        """Its full name in the overlay."""
        return f"{peer.label}.{self._domain}"

    def put(self, peer: StoredPeer) -> bool:
        """Add or replace a peer. True if maps of others change by it."""
        me = about_kept(peer.meta)
        part, part_v6 = self._part(peer, me, ipv6=False), self._part(peer, me, ipv6=me.ipv6)
        self._peers[peer.key] = peer
        changed = self._parts.put(peer.key, part)
        return self._parts_v6.put(peer.key, part_v6) or changed

    def note_seen(self, key: PeerKey, at: float) -> None:
        """Keep when a peer was last seen; no map says that."""
        if key in self._peers:
            self._peers[key] = replace(self._peers[key], last_seen=at)

    def remove(self, key: PeerKey) -> None:
        """Forget a peer, if it is there."""
        self._peers.pop(key, None)
        self._parts.remove(key)
        self._parts_v6.remove(key)

    # -- messages

    def login_response(self, peer: StoredPeer, *, ipv6: bool) -> bytes:
        """The answer to a Login: the same address texts as in its maps, or Go clients restart in a loop (8.4)."""
        response = pb.LoginResponse(
            netbirdConfig=_netbird_config(self.announced), peerConfig=self._peer_config(peer, ipv6=ipv6)
        )
        response.sessionExpiresAt.SetInParent()  # present and zero: this session never expires (4.5)
        return response.SerializeToString()

    def sync_response(self, peer: StoredPeer, *, ipv6: bool, first: bool) -> bytes:
        """A full map; the first one of a stream also carries the server configuration (4.2)."""
        others = (self._parts_v6 if ipv6 else self._parts).all_but(peer.key)
        config = self._peer_config(peer, ipv6=ipv6)
        head = pb.NetworkMap(
            Serial=self.serial,
            peerConfig=config,
            remotePeersIsEmpty=not others,
            firewallRulesIsEmpty=not others and self._rules is Rules.EXPLICIT,
            routesFirewallRulesIsEmpty=self._rules is Rules.EXPLICIT,
        ).SerializeToString()
        response = pb.SplitSyncResponse(peerConfig=config, remotePeersIsEmpty=not others, NetworkMap=head + others)
        if first:
            response.netbirdConfig.MergeFromString(self._config)
        response.sessionExpiresAt.SetInParent()
        return response.SerializeToString()

    def deleted_response(self) -> bytes:
        """The last message to a peer that was deleted: an empty map without an address (4.2)."""
        return pb.SyncResponse(
            remotePeersIsEmpty=True,
            NetworkMap=pb.NetworkMap(Serial=self.serial, remotePeersIsEmpty=True, firewallRulesIsEmpty=True),
        ).SerializeToString()

    def _peer_config(self, peer: StoredPeer, *, ipv6: bool) -> pb.PeerConfig:
        return pb.PeerConfig(
            address=f"{peer.address}/{self._prefix.prefixlen}",
            fqdn=self.fqdn(peer),
            address_v6=peer.address_v6.packed + bytes([self._prefix_v6.prefixlen]) if ipv6 else b"",
        )

    def _part(self, peer: StoredPeer, me: About, *, ipv6: bool) -> bytes:
        addresses: list[IPAddress] = [peer.address, peer.address_v6] if ipv6 else [peer.address]
        remote = pb.RemotePeerConfig(
            wgPubKey=peer.key,
            allowedIps=[f"{address}/{address.max_prefixlen}" for address in addresses],
            fqdn=self.fqdn(peer),
            agentVersion=me.agent_version,
        )
        if peer.ssh_key:
            remote.sshConfig.sshPubKey = peer.ssh_key
        part = pb.NetworkMap(remotePeers=[remote])
        if self._rules is Rules.EXPLICIT:
            part.FirewallRules.extend(
                pb.FirewallRule(
                    PeerIP=str(address),
                    Direction=direction,
                    Action=pb.ACCEPT,
                    Protocol=pb.ALL,
                    PolicyID=_POLICY_ID,
                    sourcePrefixes=[address.packed + bytes([address.max_prefixlen])],
                )
                for direction in (pb.IN, pb.OUT)
                for address in addresses
            )
        return part.SerializeToString()


def _netbird_config(announced: Announced) -> pb.NetbirdConfig:
    signal, stun = announced.signal, announced.stun
    protocol = pb.HostConfig.HTTPS if signal.tls else pb.HostConfig.HTTP
    config = pb.NetbirdConfig(signal=pb.HostConfig(uri=_host_port(signal), protocol=protocol))
    if stun is not None:
        config.stuns.add(uri=f"stun:{_host_port(stun)}", protocol=pb.HostConfig.UDP)
    return config


def _host_port(server: ServerAddress) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{host}:{server.port}"
