"""Which messages lead to a new reading, and which do not."""

from __future__ import annotations

import socket

import kernel_messages as kernel
import pytest

from rxnet.system import rtnetlink, rtnetlink_decode
from rxnet.system.network_state import ROUTING_PROTOCOL, IgnoredInterfaces
from rxnet.system.notifications import Notifications

LINKS = [
    kernel.link(1, "lo", loopback=True),
    kernel.link(2, "e0"),
    kernel.link(3, "e1", running=False),
    kernel.link(4, "docker0", kind="bridge"),
    kernel.link(5, "mesh0"),
]
ADDRESSES = [kernel.address(2, "10.0.0.7/24"), kernel.address(2, "2001:db8::7/64"), kernel.address(2, "fe80::7/64")]
ROUTES = [
    kernel.route([(2, "10.0.0.1")], metric=100),
    kernel.route([(2, "fe80::1")], family=socket.AF_INET6, metric=1024),
]


def known() -> Notifications:
    """A host that was just read."""
    state = Notifications(IgnoredInterfaces(), lambda: {"mesh0"})
    decoded = [
        [decode(message.payload) for data in datagrams for message in rtnetlink.messages(data)]
        for decode, datagrams in (
            (rtnetlink_decode.decode_link, LINKS),
            (rtnetlink_decode.decode_address, ADDRESSES),
            (rtnetlink_decode.decode_route, ROUTES),
        )
    ]
    state.read(*decoded)
    state.stale = state.stale_rules = False
    return state


WIRELESS = kernel.attr(11, b"\x15\x8b" + bytes(6))
NOISE = {
    "same link": kernel.link(2, "e0"),
    "mtu": kernel.link(2, "e0", mtu=1400),
    "wireless event": kernel.link(2, "e0", running=False, extra=WIRELESS),
    "left a bridge": kernel.link(2, "e0", family=7, gone=True),
    "link without carrier set down": kernel.link(3, "e1", up=False, running=False),
    "new link, down": kernel.link(9, "e9", up=False, running=False),
    "link that never worked is gone": kernel.link(3, "e1", gone=True),
    "ignored link down": kernel.link(4, "docker0", kind="bridge", running=False),
    "ignored link new": kernel.link(9, "veth1a2b", kind="veth"),
    "own link down": kernel.link(5, "mesh0", up=False, running=False),
    "own link gone": kernel.link(5, "mesh0", gone=True),
    "lifetimes renewed": kernel.address(2, "2001:db8::7/64", lifetime=9000, flags=0x100),
    "link-local renewed": kernel.address(2, "fe80::7/64"),
    "link-local gone": kernel.address(2, "fe80::7/64", gone=True),
    "tentative": kernel.address(2, "2001:db8::9/64", flags=0x40),
    "tentative gone": kernel.address(2, "2001:db8::9/64", flags=0x40, gone=True),
    "own address": kernel.address(5, "100.92.14.7/16"),
    "container address": kernel.address(4, "172.17.0.1/16"),
    "default route renewed": ROUTES[1],
    "other route": kernel.route([(2, "10.0.0.1")], "10.7.0.0/16"),
    "other route gone": kernel.route([(2, "10.0.0.1")], "10.7.0.0/16", gone=True),
    "other table": kernel.route([(2, "10.0.0.1")], table=7120),
    "own default route": kernel.route([(5, "")]),
    "unreachable": kernel.route([(1, "")], kind=7),
    "unknown route gone": kernel.route([(2, "10.0.0.99")], gone=True),
    "own rule": kernel.rule(105, protocol=ROUTING_PROTOCOL),
    "neighbour": kernel.message(28, bytes(12)),
    "prefix of a router": kernel.message(52, bytes(12)),
}
NEWS = {
    "carrier lost": kernel.link(2, "e0", running=False),
    "set down": kernel.link(2, "e0", up=False, running=False),
    "gone": kernel.link(2, "e0", gone=True),
    "renamed": kernel.link(2, "wan"),
    "carrier of another": kernel.link(3, "e1"),
    "new link, up": kernel.link(9, "e9"),
    "ignored link gets a name that counts": kernel.link(4, "e4"),
    "link gets a name that is ignored": kernel.link(2, "veth7"),
    "address new": kernel.address(2, "10.0.0.8/24"),
    "address gone": kernel.address(2, "10.0.0.7/24", gone=True),
    "address deprecated": kernel.address(2, "2001:db8::7/64", flags=0x20),
    "address of an unknown link": kernel.address(77, "10.0.0.8/24"),
    "default route new": kernel.route([(2, "10.0.0.2")]),
    "other metric": kernel.route([(2, "10.0.0.1")], metric=50),
    "default route gone": kernel.route([(2, "10.0.0.1")], metric=100, gone=True),
    "replacement by a known route": kernel.route([(2, "10.0.0.1")], metric=100, flags=0x100),
    "one way of two is new": kernel.route([(2, "10.0.0.1"), (2, "10.0.0.2")], metric=100),
    "cut off": kernel.link(2, "e0")[:40],
    "kernel's own overrun": kernel.message(4, b""),
}


@pytest.mark.parametrize("what", NOISE)
def test_noise_costs_no_reading(what: str) -> None:
    state = known()
    for _ in range(3):
        state.hear(NOISE[what])
    assert not state.stale and not state.stale_rules and not state.returned


@pytest.mark.parametrize("what", NEWS)
def test_news_are_read(what: str) -> None:
    state = known()
    state.hear(NOISE["same link"] + NEWS[what] if what != "cut off" else NEWS[what])
    assert state.stale


def test_rules_are_read_apart() -> None:
    state = known()
    state.hear(kernel.rule(9, mark=1))
    assert state.stale_rules and not state.stale


@pytest.mark.parametrize("what", ["same link", "lifetimes renewed", "default route renewed"])
def test_while_reading_nothing_counts_as_known(what: str) -> None:
    state = known()
    state.reading = True
    state.hear(NOISE[what])
    assert state.stale


@pytest.mark.parametrize("what", ["own link down", "container address", "own default route", "other route"])
def test_while_reading_ignored_interfaces_stay_ignored(what: str) -> None:
    state = known()
    state.reading = True
    state.hear(NOISE[what])
    assert not state.stale


def test_the_return_of_a_carrier_is_noticed_even_between_two_readings() -> None:
    state = known()
    state.hear(kernel.link(2, "e0", running=False))
    state.hear(kernel.link(2, "e0"))
    assert state.returned == {2}


def test_an_index_that_came_to_mean_another_interface() -> None:
    state = known()
    state.hear(kernel.link(4, "docker0", kind="bridge", gone=True))
    assert not state.stale
    state.hear(kernel.address(4, "10.3.0.1/16"))  # nobody knows any more what 4 is
    assert state.stale
