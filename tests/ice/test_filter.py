"""The BPF programs, run by a small machine on sample packets."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxnet.ice import filter
from rxnet.ice.filter import Program
from rxnet.ice.packets import MAGIC

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "stun_packets.json").read_text())
PACKETS = {packet["name"]: bytes.fromhex(packet["hex"]) for packet in VECTORS["packets"]}
STUN, WIREGUARD = PACKETS["request_controlling"], PACKETS["wireguard_initiation_same_flow"]
PORT = 51820


def machine(program: Program, data: bytes) -> int:
    """Classic BPF as the kernel runs it: a load beyond the packet ends the program with 0."""
    a = x = at = 0
    for _ in range(10_000):
        code, jt, jf, k = program[at]
        at += 1
        if code == filter.RET:
            return k
        if code == filter.JEQ:
            at += jt if a == k else jf
        elif code == filter.TAX:
            x = a
        elif code == filter.LD_LEN:
            a = len(data)
        elif code == filter.LDX_MSH:
            x = (data[k] & 15) * 4
        else:
            where = k if code in (filter.LD_W_ABS, filter.LD_H_ABS) else (x + k) & 0xFFFFFFFF
            size = 4 if code in (filter.LD_W_ABS, filter.LD_W_IND) else 2
            if where + size > len(data):
                return 0
            a = int.from_bytes(data[where : where + size], "big")
    raise AssertionError("the program does not end")


def udp(payload: bytes, port: int = PORT) -> bytes:
    return struct.pack("!HHHH", 4000, port, 8 + len(payload), 0) + payload


def ip(payload: bytes, port: int = PORT, options: bytes = b"") -> bytes:
    return bytes([0x45 + len(options) // 4]) + bytes(19) + options + udp(payload, port)


ACCEPTED = [
    STUN,
    *(data for name, data in PACKETS.items() if "re" in name[:2] or "success" in name),
    STUN * 3,
    WIREGUARD + STUN,
    WIREGUARD * 40 + STUN,
    bytes(1300) * 2 + STUN,
]
REFUSED = [WIREGUARD, WIREGUARD * 5, PACKETS["punch"], b"", bytes(2000), STUN[:4], bytes(31)]


@pytest.mark.parametrize("payload", ACCEPTED)
def test_stun_is_picked(payload: bytes) -> None:
    assert machine(filter.raw_v4(PORT), ip(payload)) == filter.ALL
    assert machine(filter.raw_v4(PORT), ip(payload, options=bytes(8))) == filter.ALL
    assert machine(filter.raw_v6(PORT), udp(payload)) == filter.ALL
    assert machine(filter.steer(), payload) == 1


@pytest.mark.parametrize("payload", REFUSED)
def test_the_rest_stays_wireguards(payload: bytes) -> None:
    assert machine(filter.raw_v4(PORT), ip(payload)) == 0
    assert machine(filter.raw_v6(PORT), udp(payload)) == 0
    assert machine(filter.steer(), payload) == 0
    assert machine(filter.only_stun(), udp(payload)) == 0


def test_other_ports_are_not_ours() -> None:
    assert machine(filter.raw_v4(PORT), ip(STUN, PORT + 1)) == 0
    assert machine(filter.raw_v6(PORT), udp(STUN, PORT + 1)) == 0


def test_only_stun_at_the_head_enters_before_the_group_is_steered() -> None:
    assert machine(filter.only_stun(), udp(STUN)) == filter.ALL
    assert machine(filter.only_stun(), udp(WIREGUARD + STUN)) == 0


@given(st.integers(5, 64), st.integers(0, 5))
def test_the_tail_is_found_at_each_length(words: int, before: int) -> None:
    tail = struct.pack("!HH", 1, words * 4 - 20) + MAGIC + bytes(words * 4 - 8)
    payload = WIREGUARD * before + tail
    assert machine(filter.steer(), payload) == 1


@given(st.binary(max_size=2000).filter(lambda data: MAGIC not in data))
def test_what_has_no_cookie_is_never_picked(data: bytes) -> None:
    assert machine(filter.steer(), data) == 0
    assert machine(filter.raw_v6(PORT), udp(data)) == 0
