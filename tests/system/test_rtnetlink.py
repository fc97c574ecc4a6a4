"""The codec against messages built by hand, and against bytes of any kind."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import kernel_messages as kernel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxnet.errors import ProtocolError
from rxnet.system import rtnetlink, rtnetlink_decode
from rxnet.system.rtnetlink import InterfaceAddress, Link, NextHop, Route


def payload(data: bytes) -> memoryview:
    (only,) = rtnetlink.messages(data)
    return only.payload


def test_link() -> None:
    found = rtnetlink_decode.decode_link(payload(kernel.link(7, "e0", kind="veth", running=False, mtu=1400)))
    assert found == Link(7, "e0", "veth", up=True, carrier=False, mtu=1400)


@pytest.mark.parametrize(("tap", "kind"), [(False, "tun"), (True, "tap")])
def test_tap_is_told_from_tun(tap: bool, kind: str) -> None:
    found = rtnetlink_decode.decode_link(payload(kernel.link(7, "tap0", kind="tun", tap=tap)))
    assert found is not None and found.kind == kind


def test_news_of_bridge_ports_and_radios_are_not_news_of_the_interface() -> None:
    assert rtnetlink_decode.decode_link(payload(kernel.link(7, "e0", family=7, gone=True))) is None
    wireless = kernel.attr(11, b"\x15\x8b" + bytes(6))
    assert rtnetlink_decode.decode_link(payload(kernel.link(7, "wlan0", extra=wireless))) is None


@pytest.mark.parametrize(
    ("flags", "usable"),
    [
        (0x80, True),
        (0x01, True),
        (0xC0, False),
        (0x40, False),
        (0x44, True),
        (0x20, False),
        (0x88, False),
        (0x300, True),
    ],
)
def test_address_flags(flags: int, usable: bool) -> None:
    found = rtnetlink_decode.decode_address(payload(kernel.address(2, "2001:db8::7/64", flags=flags)))
    assert found == InterfaceAddress(2, IPv6Address("2001:db8::7"), 64, usable)


def test_local_address_of_a_point_to_point_link_is_ours() -> None:
    data = kernel.address(2, "10.0.0.7/32")
    theirs = IPv4Address("10.9.9.9").packed
    data = data.replace(kernel.attr(1, IPv4Address("10.0.0.7").packed), kernel.attr(1, theirs))
    found = rtnetlink_decode.decode_address(payload(data))
    assert found is not None and found.address == IPv4Address("10.0.0.7")


def test_routes() -> None:
    plain = rtnetlink_decode.decode_route(payload(kernel.route([(2, "10.0.0.1")], metric=100)))
    assert plain == Route(IPv4Network("0.0.0.0/0"), 254, 3, 100, (NextHop(2, IPv4Address("10.0.0.1")),))
    both = rtnetlink_decode.decode_route(payload(kernel.route([(2, "10.0.0.1"), (3, "")], "10.1.0.0/16")))
    assert both is not None and both.destination == IPv4Network("10.1.0.0/16")
    assert both.hops == (NextHop(2, IPv4Address("10.0.0.1")), NextHop(3))
    six = rtnetlink_decode.decode_route(payload(kernel.route([(2, "fe80::1")], family=socket.AF_INET6, table=7120)))
    assert six is not None and six.destination == IPv6Network("::/0") and six.table == 7120
    via = rtnetlink_decode.decode_route(payload(kernel.route([(2, "fe80::1")])))
    assert via is not None and via.hops == (NextHop(2, IPv6Address("fe80::1")),)
    assert rtnetlink_decode.decode_route(payload(kernel.route([(1, "")], kind=7))) is None  # unreachable


def test_main_default_is_known_undecoded() -> None:
    def known(data: bytes) -> bool:
        return rtnetlink_decode.is_main_default(payload(data))

    assert known(kernel.route([(2, "10.0.0.1")]))
    assert not known(kernel.route([(2, "10.0.0.1")], "10.1.0.0/16"))
    assert not known(kernel.route([(2, "10.0.0.1")], table=100))
    assert not known(kernel.route([(2, "10.0.0.1")], table=7120))
    assert not rtnetlink_decode.is_main_default(memoryview(b"\2\0"))


def test_rules_say_all_that_they_say() -> None:
    found = rtnetlink_decode.decode_rule(payload(kernel.rule(105, mark=0x1BD00, table=7120, inverted=True)))
    assert found is not None and found.text == "inet 105: not from all fwmark 0x1bd00 lookup 7120"
    found = rtnetlink_decode.decode_rule(payload(kernel.rule(9, source="10.1.0.0/16", incoming="eth9", protocol=157)))
    assert found is not None and found.text == "inet 9: from 10.1.0.0/16 iif eth9 lookup 100"
    assert (found.source, found.incoming, found.protocol) == (IPv4Network("10.1.0.0/16"), "eth9", 157)


def test_unwanted_messages_are_skipped_but_not_their_warning() -> None:
    data = kernel.route([(2, "10.0.0.1")]) + kernel.route([(2, "")], "10.1.0.0/16") + kernel.message(3, bytes(4))
    kept = rtnetlink.messages(data, rtnetlink.RTM_NEWROUTE, rtnetlink_decode.is_main_default)
    assert [message.type for message in kept] == [24, 3]
    torn = kernel.route([(2, "")], "10.1.0.0/16", flags=rtnetlink.NLM_F_DUMP_INTR)
    assert len(list(rtnetlink.messages(torn, rtnetlink.RTM_NEWROUTE, rtnetlink_decode.is_main_default))) == 1


def test_error_code() -> None:
    assert rtnetlink.error_code(memoryview(b"\xff\xff\xff\xff")) == 1
    assert rtnetlink.error_code(memoryview(bytes(4))) == 0
    assert rtnetlink.error_code(memoryview(b"")) == 0


DECODERS = [
    rtnetlink_decode.decode_link,
    rtnetlink_decode.decode_address,
    rtnetlink_decode.decode_route,
    rtnetlink_decode.decode_rule,
    rtnetlink_decode.decode_neighbour,
]
SAMPLES = [
    kernel.link(7, "e0", kind="tun"),
    kernel.address(2, "10.0.0.7/24"),
    kernel.address(2, "2001:db8::7/64"),
    kernel.route([(2, "10.0.0.1"), (3, "fe80::1")], "10.1.0.0/16"),
    kernel.rule(9, source="10.1.0.0/16", incoming="eth9"),
]


@given(
    st.one_of(st.binary(max_size=200), st.sampled_from(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 199), st.binary(min_size=1, max_size=2)), max_size=4),
)
@settings(max_examples=1500, deadline=None)
def test_any_bytes_give_values_or_protocol_errors(data: bytes, damage: list[tuple[int, bytes]]) -> None:
    broken = bytearray(data)
    for at, value in damage:
        broken[at : at + len(value)] = value
    for start in (0, 16):
        for decode in DECODERS:
            with contextlib.suppress(ProtocolError):
                decode(memoryview(broken)[start:])
    with contextlib.suppress(ProtocolError):
        list(rtnetlink.messages(broken))
