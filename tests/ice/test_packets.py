"""STUN bytes: vectors of a real Go peer, merged datagrams, and nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from rxnet.ice.packets import (
    ERROR,
    HEADER,
    MAGIC,
    REQUEST,
    RESPONSE,
    message_class,
    parse_stun,
    split_stun,
    transaction_id,
    username,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "stun_packets.json").read_text())
PACKETS = {packet["name"]: bytes.fromhex(packet["hex"]) for packet in VECTORS["packets"]}
GO, OURS = VECTORS["go_pwd"].encode(), VECTORS["our_pwd"].encode()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("request_controlling", OURS),
        ("request_use_candidate", OURS),
        ("success_response_ipv4", GO),
        ("success_response_ipv6", GO),
    ],
)
def test_go_peers_messages_are_read_and_authentic(name: str, key: bytes) -> None:
    message = parse_stun(PACKETS[name])
    assert message is not None
    assert message.check_message_integrity(key)
    assert not message.check_message_integrity(b"another password")
    assert transaction_id(PACKETS[name]) == message.transaction_id
    changed = bytearray(PACKETS[name])
    changed[HEADER + 5] ^= 1
    spoilt = parse_stun(bytes(changed))
    assert spoilt is None or not spoilt.check_message_integrity(key)


def test_what_go_peers_say() -> None:
    request, nomination = PACKETS["request_controlling"], PACKETS["request_use_candidate"]
    assert username(request) == f"{VECTORS['our_ufrag']}:{VECTORS['go_ufrag']}"
    assert message_class(request) == REQUEST
    assert message_class(PACKETS["success_response_ipv4"]) == RESPONSE
    parsed, nominating = parse_stun(request), parse_stun(nomination)
    assert parsed is not None and nominating is not None
    assert "USE-CANDIDATE" not in parsed.attributes
    assert "USE-CANDIDATE" in nominating.attributes
    answer = parse_stun(PACKETS["success_response_ipv6"])
    assert answer is not None
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == ("fd99::b", 44827)


def test_stun_is_told_from_what_else_comes() -> None:
    for name, data in PACKETS.items():
        messages, rest = split_stun(data)
        is_stun = name not in ("punch", "wireguard_initiation_same_flow")
        assert (messages, rest) == (([data], 0) if is_stun else ([], len(data)))


def test_merged_datagrams() -> None:
    stun_message, wireguard = PACKETS["request_controlling"], PACKETS["wireguard_initiation_same_flow"]
    assert split_stun(wireguard * 3 + stun_message) == ([stun_message], 3 * len(wireguard))
    assert split_stun(stun_message * 2) == ([stun_message] * 2, 0)
    assert split_stun(stun_message + wireguard) == ([stun_message], len(wireguard))


@given(st.binary(max_size=400))
def test_any_bytes_are_split_and_parsed_without_an_error(data: bytes) -> None:
    messages, rest = split_stun(data)
    assert sum(map(len, messages)) + rest == len(data)
    parse_stun(data)


@given(st.binary(max_size=200), st.sampled_from([0x0001, 0x0101, 0x0111, 0x0011, 0x0003]))
def test_any_attributes_are_parsed_without_an_error(attributes: bytes, kind: int) -> None:
    message = kind.to_bytes(2, "big") + len(attributes).to_bytes(2, "big") + MAGIC + bytes(12) + attributes
    assert split_stun(message) == ([message], 0)
    username(message)
    parsed = parse_stun(message)
    assert parsed is None or parsed.message_class in list(stun.Class)


def test_a_number_attribute_that_is_too_short() -> None:
    """aioice raises struct.error here, which is no ValueError."""
    attribute = bytes.fromhex("00240001ff000000")
    message = bytes.fromhex("00010008") + MAGIC + bytes(12) + attribute
    assert parse_stun(message) is None
    assert message_class(bytes.fromhex("0111")) == ERROR
