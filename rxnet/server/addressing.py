"""Overlay addresses and DNS labels: pure, random numbers come in from outside.

Rules: management document, 6.2 and 8.6. An IPv4 /16 carved out of 100.64.0.0/10, an IPv6 /64 of unique local
addresses, a random host for each peer, and a label made of the first label of its host name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from random import Random

_SHARED = IPv4Network("100.64.0.0/10")
_LABEL_LIMIT = 59
"""NetBird's limit for the label proper."""
_DNS_LIMIT = 63
"""RFC 1035 section 2.3.4; with a suffix the label has to give way."""
_RANDOM_TRIES = 64
_NOT_IN_A_LABEL = re.compile(r"[^a-z0-9-]+")


class NetworkFull(Exception):
    """No address is free."""


def random_prefix(random: Random) -> IPv4Network:
    """Choose a /16 of the shared address space (RFC 6598), as every new NetBird account has one."""
    return IPv4Network((int(_SHARED.network_address) + (random.randrange(1 << 6) << 16), 16))


def random_prefix_v6(random: Random) -> IPv6Network:
    """Choose a /64 with a random global id and subnet (RFC 4193 section 3.2: fd, 40 random bits, 16 bits of subnet)."""
    return IPv6Network(((0xFD << 120) | (random.getrandbits(56) << 64), 64))


def free_address(prefix: IPv4Network, taken: Callable[[IPv4Address], bool], random: Random) -> IPv4Address:
    """Choose a free host of `prefix`, never its network or broadcast address. Raises `NetworkFull`."""
    base, hosts = int(prefix.network_address), prefix.num_addresses - 2
    if hosts < 1:
        raise NetworkFull(f"{prefix} has no host addresses")
    for _ in range(_RANDOM_TRIES):
        address = IPv4Address(base + 1 + random.randrange(hosts))
        if not taken(address):
            return address
    # Nearly full: what chance does not find, a walk around the ring does.
    start = random.randrange(hosts)
    for step in range(hosts):
        address = IPv4Address(base + 1 + (start + step) % hosts)
        if not taken(address):
            return address
    raise NetworkFull(f"all {hosts} addresses of {prefix} are taken")


def free_address_v6(prefix: IPv6Network, taken: Callable[[IPv6Address], bool], random: Random) -> IPv6Address:
    """Choose a free interface id of a /64; id 0 is the routers' anycast address (RFC 4291 section 2.6.1)."""
    while True:
        address = IPv6Address(int(prefix.network_address) | random.randrange(1, 1 << 64))
        if not taken(address):
            return address


def dns_label(hostname: str) -> str:
    """Make the DNS label of a host name as NetBird does; it may come out empty or as a lone `-`.

    First label, punycode if it is not ASCII, every run of other characters one `-`, lower case, 59 characters.
    """
    first = hostname.split(".", 1)[0].lower()
    if not first.isascii():
        # Surrogates (undecodable names) have no punycode; they would have become a dash anyway.
        clean = first.encode("utf-8", "replace").decode("utf-8", "replace")
        first = "xn--" + clean.encode("punycode").decode("ascii")
    return _NOT_IN_A_LABEL.sub("-", first.lower())[:_LABEL_LIMIT]


def label_choices(hostname: str, address: IPv4Address) -> Iterator[str]:
    """Yield labels in order of preference, without end: plain, with the last two octets, then with a count.

    A host name without a letter or digit would give a useless name; `peer` stands in for it.
    """
    label = dns_label(hostname)
    if not label.strip("-"):
        label = "peer"
    yield label
    third, fourth = address.packed[2:]
    octets = f"-{third}-{fourth}"
    yield label[: _DNS_LIMIT - len(octets)] + octets
    count = 2
    while True:
        suffix = f"{octets}-{count}"
        yield label[: _DNS_LIMIT - len(suffix)] + suffix
        count += 1
