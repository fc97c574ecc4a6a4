"""Addresses and labels: pure rules."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxnet.server.addressing import (
    NetworkFull,
    dns_label,
    free_address,
    free_address_v6,
    label_choices,
    random_prefix,
    random_prefix_v6,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "derived_values.json").read_text())["dns_labels"]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["hostname"][:20])
def test_labels_are_netbirds(case: dict[str, str]) -> None:
    assert dns_label(case["hostname"]) == case["label"]


@given(st.text(st.characters(codec=None), max_size=300))
def test_every_label_offered_is_a_dns_label(hostname: str) -> None:
    choices = list(islice(label_choices(hostname, IPv4Address("100.127.255.254")), 4))
    assert len(set(choices)) == 4
    for label in choices:
        assert 0 < len(label) <= 63 and label.isascii() and label == label.lower()
        assert set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert label.strip("-")


def test_a_taken_label_gets_the_last_octets() -> None:
    choices = label_choices("alpha", IPv4Address("100.127.134.57"))
    assert list(islice(choices, 3)) == ["alpha", "alpha-134-57", "alpha-134-57-2"]


def test_prefixes_are_of_the_right_kind() -> None:
    prefixes = {random_prefix(Random(seed)) for seed in range(500)}
    assert len(prefixes) > 50
    assert all(p.prefixlen == 16 and p.subnet_of(IPv4Network("100.64.0.0/10")) for p in prefixes)
    prefixes_v6 = {random_prefix_v6(Random(seed)) for seed in range(500)}
    assert len(prefixes_v6) == 500
    assert all(p.prefixlen == 64 and p.subnet_of(IPv6Network("fd00::/8")) for p in prefixes_v6)


def test_every_host_is_given_once_and_never_network_or_broadcast() -> None:
    prefix, taken, random = IPv4Network("100.80.0.0/24"), set[IPv4Address](), Random(1)
    for _ in range(254):
        taken.add(free_address(prefix, taken.__contains__, random))
    assert taken == set(prefix.hosts())
    with pytest.raises(NetworkFull):
        free_address(prefix, taken.__contains__, random)


def test_v6_addresses_avoid_taken_ones_and_the_anycast_address() -> None:
    prefix, random = IPv6Network("fd00:1:2:3::/64"), Random(1)
    first = free_address_v6(prefix, lambda address: False, Random(1))
    second = free_address_v6(prefix, lambda address: address == first, random)
    assert first in prefix and second in prefix and first != second
    assert int(first) != int(prefix.network_address)
