"""Who else is on this host: another NetBird or rxnet with our interface name, port or address range."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final

from rxnet.cli.failure import Exit, Failure
from rxnet.config import ClientConfig
from rxnet.model import LocalPeer

_INTERFACES: Final = "/sys/class/net"

Address = tuple[str, IPv4Interface | IPv6Interface]
"""Name of an interface and one of its addresses."""


def demand_interface(name: str | None) -> None:
    """Check that an interface that must be ours is free.

    :raises Failure: if it exists.
    """
    if name is not None and os.path.lexists(f"{_INTERFACES}/{name}"):
        raise Failure(
            Exit.TAKEN,
            f"interface {name} exists already, probably of a running NetBird or rxnet: stop that one, "
            "or use another --interface-name",
        )


def taken_port(config: ClientConfig) -> str:
    """A warning if another program has our UDP port; empty otherwise. The device takes another port then."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind(("0.0.0.0", config.wireguard_port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return (
                    f"UDP port {config.wireguard_port} is taken, by a NetBird, another rxnet or another WireGuard: "
                    "using another port"
                )
    return ""


def host_addresses() -> list[Address]:
    """The addresses of all interfaces."""
    import ifaddr

    found: list[Address] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            found.append((adapter.name, ip_interface(f"{text}/{ip.network_prefix}")))
    return found


def overlap(local: LocalPeer, addresses: Iterable[Address], own_interface: str) -> str:
    """What of the host collides with the network we are in, as one line; empty if nothing does."""
    ranges = [local.address.network] + ([local.address_v6.network] if local.address_v6 else [])
    for name, address in addresses:
        for network in ranges:
            if name != own_interface and address.version == network.version and network.overlaps(address.network):
                return (
                    f"the network's address range {network} overlaps {address} on {name}, probably of a running "
                    "NetBird or rxnet: stop that one, or join from another network namespace"
                )
    return ""
