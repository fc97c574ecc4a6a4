"""Which addresses are offered and which are tried."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from rxnet.candidates import host_candidate, new_candidate
from rxnet.ice.addresses import (
    host_candidates,
    reflexive_candidate,
    remote_candidates,
    sendable,
    usable_locals,
)

OVERLAY = [ip_network("100.64.0.0/10"), ip_network("fd00:64::/64")]


def test_local_addresses_that_can_carry_ice() -> None:
    texts = ["10.0.0.5", "127.0.0.1", "::1", "fe80::1", "100.64.3.4", "fd00:64::9", "fd77::1", "10.0.0.5", "0.0.0.0"]
    assert usable_locals(map(ip_address, texts), OVERLAY) == ["10.0.0.5", "fd77::1"]
    assert len(usable_locals((ip_address(f"10.0.1.{n}") for n in range(100)), [])) == 16


def test_host_candidates_share_the_port_and_name_the_user_fragment() -> None:
    v4, v6 = host_candidates(["10.0.0.5", "fd77::1"], 51820, "abcd")
    assert (v4.address, v4.port, v4.type, v6.address, v6.port) == ("10.0.0.5", 51820, "host", "fd77::1", 51820)
    assert dict(v4.extensions)["ufrag"] == "abcd"
    assert dict(v4.extensions)["cid"] != dict(v6.extensions)["cid"]


def test_reflexive_candidate() -> None:
    found = reflexive_candidate("10.0.0.5", 51820, ("203.0.113.9", 4000), "abcd")
    assert found is not None
    assert (found.type, found.address, found.port) == ("srflx", "203.0.113.9", 4000)
    assert (found.related_address, found.related_port) == ("10.0.0.5", 51820)
    assert reflexive_candidate("10.0.0.5", 51820, ("10.0.0.5", 51820), "abcd") is None
    assert reflexive_candidate("10.0.0.5", 51820, ("224.0.0.1", 4000), "abcd") is None
    assert reflexive_candidate("10.0.0.5", 51820, ("nonsense", 4000), "abcd") is None


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "127.0.0.1",
        "::1",
        "255.255.255.255",
        "240.0.0.1",
        "fe80::1",
        "100.64.0.1",
        "fd00:64::1",
        "fe80::1%eth0",
        "fd77::1%eth0",
        "::ffff:10.0.0.1",
        "printer.local",
        "",
    ],
)
def test_addresses_that_no_check_may_go_to(text: str) -> None:
    assert not sendable(text, ["10.0.0.5"], OVERLAY)


def test_addresses_that_may_be_tried() -> None:
    assert all(sendable(text, [], OVERLAY) for text in ("10.0.0.9", "203.0.113.1", "fd77::2", "2001:db8::1"))
    assert sendable("127.0.0.1", ["127.0.0.1"], OVERLAY)


def test_remote_candidates_are_sifted() -> None:
    good = host_candidate("10.0.0.9", 51820, ufrag="x")
    bad = [
        replace(good, address="127.0.0.1"),
        replace(good, transport="tcp"),
        replace(good, component=2),
        replace(good, port=0),
        replace(good, type="prflx"),
    ]
    assert list(remote_candidates([good, *bad], ["10.0.0.5"], OVERLAY)) == [good, None, None, None, None, None]


def test_a_mapped_port_stands_for_a_forwarded_one_too() -> None:
    mapped = new_candidate("srflx", "203.0.113.9", 4000, ufrag="x", related_address="0.0.0.0", related_port=51820)
    assert [found.port for found in remote_candidates([mapped], [], []) if found] == [4000, 51820]
    without_id = replace(mapped, extensions=())
    assert [found.port for found in remote_candidates([without_id], [], []) if found] == [4000]
