"""What the kernel says about links, addresses, routes and rules, reduced to what matters to us.

Two readings that come out equal mean "nothing changed for us". That spares the engine the noise of a normal host:
router advertisements that renew lifetimes, wireless statistics, containers that come and go, other tunnels.

Pure functions; the classification of changes follows style-models B1.4 (ignore own interface, link-local, flags, MTU).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from rxnet.model import HostNetwork, IPAddress, IPNetwork, LocalPeer
from rxnet.system.rtnetlink import InterfaceAddress, Link, Route, Rule

ROUTING_PROTOCOL = 157
"""Marks routes and rules as ours (rtm_protocol, FRA_PROTOCOL): a number that rt_protos of iproute2 gives to nobody."""

_DIFFERENCES = 20


@dataclass(frozen=True, slots=True)
class IgnoredInterfaces:
    """Which interfaces do not count as a way to others, besides loopback and our own.

    The default names are those of NetBird (signal document, 4.3), without its `ts` (Tailscale's is `tailscale0`) and
    `lo` (known by its flag), and with the bridges and ports of other container and machine managers. A name only
    counts as a prefix: the `eth0` of a container counts although it is one end of a veth pair, the `veth1a2b` outside
    does not. A TUN device is an overlay; a TAP device is not: it is how rootless containers reach the world.
    """

    prefixes: tuple[str, ...] = (
        *("wt", "wg", "utun", "tun0", "zt", "ZeroTier", "tailscale", "Tailscale", "docker", "veth", "br-"),
        *(
            "virbr",
            "vnet",
            "lxcbr",
            "lxdbr",
            "incusbr",
            "podman",
            "cni",
            "cali",
            "cilium",
            "lxc_",
            "flannel",
            "nodelocal",
        ),
    )
    kinds: frozenset[str] = frozenset({"wireguard", "tun", "vxlan", "geneve", "nlmon"})
    """IFLA_INFO_KIND, as `Link.kind` gives it."""
    names: frozenset[str] = frozenset()
    """Further interfaces, by their full name."""

    def covers(self, link: Link, own: Collection[str] = ()) -> bool:
        """Tell whether `link` does not count; `own` are the names of our own interfaces."""
        return (
            link.loopback
            or link.name in own
            or link.name in self.names
            or link.kind in self.kinds
            or link.name.startswith(self.prefixes)
        )


def matters(address: IPAddress) -> bool:
    """Tell whether others can reach an address: not link-local, multicast, loopback or unspecified."""
    return not (address.is_link_local or address.is_multicast or address.is_loopback or address.is_unspecified)


def host_network(
    links: Iterable[Link],
    addresses: Iterable[InterfaceAddress],
    routes: Iterable[Route],
    rules: Iterable[Rule],
    ignored: IgnoredInterfaces,
    own: Collection[str] = (),
) -> HostNetwork:
    """Reduce a reading of the kernel's tables. The order of the entries, and repeated ones, make no difference.

    Counted are interfaces that are up and have carrier; their addresses that others can reach and that may be used
    now; default routes of the main table over them; rules that can apply to packets of this host (a rule for packets
    that came in elsewhere, or from an address of a container, cannot) and that are not ours.
    """
    working = {link.index: link.name for link in links if link.up and link.carrier and not ignored.covers(link, own)}
    reachable = {
        (working[a.index], a.address) for a in addresses if a.usable and a.index in working and matters(a.address)
    }
    defaults = {
        (working[hop.index], str(hop.gateway or ""), route.metric)
        for route in routes
        if route.destination.prefixlen == 0
        for hop in route.hops
        if hop.index in working
    }
    local = {address for _, address in reachable}
    return HostNetwork(
        up=bool(reachable),
        addresses=tuple(sorted(reachable, key=lambda pair: (pair[0], pair[1].version, pair[1]))),
        default_routes=tuple(sorted(defaults)),
        rules=tuple(sorted({rule.text for rule in rules if _applies(rule, local)})),
    )


def _applies(rule: Rule, local: Collection[IPAddress]) -> bool:
    if rule.protocol == ROUTING_PROTOCOL:
        return False
    if rule.inverted:
        return True
    if rule.incoming not in ("", "lo"):
        return False
    return rule.source is None or any(address in rule.source for address in local)


def differences(before: HostNetwork, after: HostNetwork) -> tuple[str, ...]:
    """What differs, for people: `address 10.0.0.7 on eth0 gone`, `default route via 10.0.0.1 on eth0 new`.

    What is gone comes before what is new. At most 20 lines; a last one counts the rest.
    """
    told: list[str] = []
    for word, one, other in (("gone", before, after), ("new", after, before)):
        there = frozenset(other.addresses)
        told += [
            f"address {address} on {name} {word}" for name, address in one.addresses if (name, address) not in there
        ]
    moved = {route[:2] for route in before.default_routes} & {route[:2] for route in after.default_routes}
    for word, one, other in (("gone", before, after), ("new", after, before)):
        for route in sorted(set(one.default_routes) - set(other.default_routes)):
            told.append(f"default route {_route_text(route, metric=route[:2] in moved)} {word}")
    for word, one, other in (("gone", before, after), ("new", after, before)):
        told += [f"rule {rule} {word}" for rule in sorted(set(one.rules) - set(other.rules))]
    if len(told) > _DIFFERENCES:
        told[_DIFFERENCES - 1 :] = [f"and {len(told) - _DIFFERENCES + 1} more"]
    return tuple(told)


def _route_text(route: tuple[str, str, int], *, metric: bool) -> str:
    """The metric is told only where nothing else tells two routes apart."""
    name, gateway, number = route
    return (f"via {gateway} " if gateway else "") + f"on {name}" + (f" metric {number}" if metric else "")


def overlap(local: LocalPeer, ranges: Iterable[tuple[str, IPNetwork]]) -> str | None:
    """Say which address range of the host the overlay's range collides with; None: none does.

    :param ranges: pairs of interface name and the network of an address on it, as `host_ranges` of addresses.py reads
        them; one of length 0 says nothing and does not count.
    """
    overlays: list[IPNetwork] = [local.address.network]
    overlays += [local.address_v6.network] if local.address_v6 else []
    there = sorted(ranges, key=lambda pair: (pair[0], str(pair[1])))
    for overlay in overlays:
        for name, network in there:
            if network.prefixlen and _overlap(overlay, network):
                return (
                    f"the overlay's range {overlay} and {network} on {name} overlap: packets for addresses in both may "
                    f"take the wrong way; give the overlay another range in its management, or {name} another network"
                )
    return None


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)
