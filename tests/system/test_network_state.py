"""Normalisation: what counts, what does not, and what people are told about a difference."""

from __future__ import annotations

import random
import socket
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import kernel_messages as kernel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxnet.model import HostNetwork, LocalPeer
from rxnet.system import rtnetlink, rtnetlink_decode
from rxnet.system.network_state import (
    ROUTING_PROTOCOL,
    IgnoredInterfaces,
    differences,
    host_network,
    overlap,
)
from rxnet.system.rtnetlink import Link

IGNORED = IgnoredInterfaces()


def reduce(*datagrams: bytes, own: tuple[str, ...] = ()) -> HostNetwork:
    """Normalise a dump, given as the messages of the kernel."""
    decode = {
        16: rtnetlink_decode.decode_link,
        20: rtnetlink_decode.decode_address,
        24: rtnetlink_decode.decode_route,
        32: rtnetlink_decode.decode_rule,
    }
    found: dict[int, list] = {kind: [] for kind in decode}
    for message in rtnetlink.messages(b"".join(datagrams)):
        value = decode[message.type](message.payload)
        if value is not None:
            found[message.type].append(value)
    return host_network(found[16], found[20], found[24], found[32], IGNORED, own)


LAPTOP = (
    kernel.link(1, "lo", loopback=True),
    kernel.link(2, "eth0"),
    kernel.link(3, "wlan0"),
    kernel.link(4, "docker0", kind="bridge"),
    kernel.link(5, "wt0", kind="tun"),
    kernel.address(1, "127.0.0.1/8"),
    kernel.address(1, "::1/128"),
    kernel.address(2, "10.0.0.7/24"),
    kernel.address(2, "fe80::7/64"),
    kernel.address(2, "2001:db8::7/64"),
    kernel.address(2, "2001:db8::dead/64", flags=0x40),
    kernel.address(2, "2001:db8::01d/64", flags=0x20),
    kernel.address(3, "192.168.1.7/24"),
    kernel.address(4, "172.17.0.1/16"),
    kernel.address(5, "100.92.14.7/16"),
    kernel.route([(2, "10.0.0.1")], metric=100),
    kernel.route([(3, "192.168.1.1")], metric=600),
    kernel.route([(2, "fe80::1")], family=socket.AF_INET6, metric=1024),
    kernel.route([(5, "")], metric=5),
    kernel.route([(2, "")], "10.0.0.0/24"),
    kernel.rule(32766, table=254),
    kernel.rule(105, table=7120, mark=0x1BD00, inverted=True),
    kernel.rule(200, table=7120, protocol=ROUTING_PROTOCOL),
    kernel.rule(512, source="10.244.0.7/32", table=9),
    kernel.rule(513, source="10.0.0.0/8", table=9),
    kernel.rule(514, incoming="cni0", table=9),
)


def test_a_laptop() -> None:
    assert reduce(*LAPTOP) == HostNetwork(
        up=True,
        addresses=(
            ("eth0", ip_address("10.0.0.7")),
            ("eth0", ip_address("2001:db8::7")),
            ("wlan0", ip_address("192.168.1.7")),
        ),
        default_routes=(("eth0", "10.0.0.1", 100), ("eth0", "fe80::1", 1024), ("wlan0", "192.168.1.1", 600)),
        rules=(
            "inet 105: not from all fwmark 0x1bd00 lookup 7120",
            "inet 32766: from all lookup 254",
            "inet 513: from 10.0.0.0/8 lookup 9",
        ),
    )


@given(st.integers(0, 2**32), st.integers(0, 3))
@settings(deadline=None)
def test_order_and_repetition_make_no_difference(seed: int, repeated: int) -> None:
    shuffled = [*LAPTOP, *LAPTOP[:repeated]]
    random.Random(seed).shuffle(shuffled)
    assert reduce(*shuffled) == reduce(*LAPTOP)
    assert differences(reduce(*shuffled), reduce(*LAPTOP)) == ()


@pytest.mark.parametrize(("up", "running"), [(False, True), (True, False), (False, False)])
def test_without_carrier_there_is_no_network(up: bool, running: bool) -> None:
    found = reduce(
        kernel.link(2, "eth0", up=up, running=running),
        kernel.address(2, "10.0.0.7/24"),
        kernel.route([(2, "10.0.0.1")]),
    )
    assert found == HostNetwork()


def test_link_local_addresses_do_not_make_a_network() -> None:
    found = reduce(kernel.link(2, "eth0"), kernel.address(2, "fe80::7/64"), kernel.address(2, "169.254.3.4/16"))
    assert not found.up and not found.addresses


def test_lifetimes_and_mtu_make_no_difference() -> None:
    before = reduce(kernel.link(2, "eth0"), kernel.address(2, "2001:db8::7/64", lifetime=100))
    after = reduce(kernel.link(2, "eth0", mtu=1400), kernel.address(2, "2001:db8::7/64", lifetime=9000, flags=0x101))
    assert before == after and before.up


@pytest.mark.parametrize(
    ("link", "counts"),
    [
        (Link(2, "eth0", "veth"), True),
        (Link(2, "e0", "veth"), True),
        (Link(2, "veth12ab", "veth"), False),
        (Link(2, "br-0a1b", "bridge"), False),
        (Link(2, "br0", "bridge"), True),
        (Link(2, "bond0", "bond"), True),
        (Link(2, "tap0", "tap"), True),
        (Link(2, "vpn", "tun"), False),
        (Link(2, "office", "wireguard"), False),
        (Link(2, "lowpan0"), True),
        (Link(1, "lo", loopback=True), False),
        (Link(2, "mesh0"), False),
        (Link(2, "tailscale0", "tun"), False),
    ],
)
def test_which_interfaces_count(link: Link, counts: bool) -> None:
    assert IGNORED.covers(link, {"mesh0"}) is not counts


def test_several_ways_of_one_route() -> None:
    found = reduce(
        kernel.link(2, "eth0"), kernel.link(3, "eth1"), kernel.route([(2, "10.0.0.1"), (3, "10.1.0.1")], metric=7)
    )
    assert found.default_routes == (("eth0", "10.0.0.1", 7), ("eth1", "10.1.0.1", 7))


def test_differences_in_words() -> None:
    before = reduce(kernel.link(2, "eth0"), kernel.address(2, "10.0.0.7/24"), kernel.route([(2, "10.0.0.1")]))
    after = reduce(
        kernel.link(2, "eth0"), kernel.address(2, "10.0.0.9/24"), kernel.route([(2, "")]), kernel.rule(9, mark=3)
    )
    assert differences(before, after) == (
        "address 10.0.0.7 on eth0 gone",
        "address 10.0.0.9 on eth0 new",
        "default route via 10.0.0.1 on eth0 gone",
        "default route on eth0 new",
        "rule inet 9: from all fwmark 0x3 lookup 100 new",
    )


def test_a_new_metric_is_told() -> None:
    before, after = (HostNetwork(default_routes=(("eth0", "10.0.0.1", metric),)) for metric in (100, 600))
    assert differences(before, after) == (
        "default route via 10.0.0.1 on eth0 metric 100 gone",
        "default route via 10.0.0.1 on eth0 metric 600 new",
    )


def test_many_differences_are_counted() -> None:
    many = HostNetwork(addresses=tuple(("eth0", ip_address(n)) for n in range(1, 101)))
    told = differences(HostNetwork(), many)
    assert len(told) == 20 and told[-1] == "and 81 more"


addresses = st.builds(lambda n, i: (f"eth{i}", ip_address(n)), st.integers(1, 20), st.integers(0, 2))
networks = st.builds(
    lambda a, r, u: HostNetwork(bool(a), tuple(sorted(a)), tuple(sorted(r)), tuple(sorted(u))),
    st.sets(addresses, max_size=6),
    st.sets(
        st.tuples(st.sampled_from(["eth0", "eth1"]), st.sampled_from(["", "10.0.0.1"]), st.integers(0, 2)), max_size=3
    ),
    st.sets(st.sampled_from(["inet 1: a", "inet 2: b"])),
)


@given(networks, networks)
@settings(deadline=None)
def test_differences_are_empty_exactly_for_equal_networks(before: HostNetwork, after: HostNetwork) -> None:
    assert (differences(before, after) == ()) == (before == after)
    assert len(differences(before, after)) == len(differences(after, before))


LOCAL = LocalPeer(IPv4Interface("100.92.14.7/16"), IPv6Interface("fd00:1::7/64"))


@pytest.mark.parametrize(
    ("there", "collides"),
    [
        ("100.64.0.0/10", True),
        ("100.92.3.0/24", True),
        ("100.92.3.4/32", True),
        ("100.93.0.0/16", False),
        ("10.0.0.0/8", False),
        ("fd00:1::/48", True),
        ("fd00:2::/64", False),
        ("0.0.0.0/0", False),
    ],
)
def test_overlap(there: str, collides: bool) -> None:
    told = overlap(LOCAL, [("eth1", ip_network("192.168.0.0/24")), ("eth0", ip_network(there))])
    if collides:
        assert told is not None and there in told and "eth0" in told and "eth1" not in told
    else:
        assert told is None
