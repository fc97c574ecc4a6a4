"""Candidate text: recorded forms, the limits of the parser, arbitrary text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxnet.candidates import (
    MAX_TEXT,
    candidate_foundation,
    candidate_priority,
    format_candidate,
    host_candidate,
    new_candidate,
    new_candidate_id,
    parse_candidate,
)
from rxnet.errors import ProtocolError
from rxnet.model import Candidate

VECTORS = Path(__file__).parents[1] / "vectors"
RECORDED = [
    message["json"]["payload"]
    for message in json.loads((VECTORS / "signal_messages.json").read_text())
    if message["name"].startswith("candidate")
]
FOUNDATIONS: list[dict[str, Any]] = json.loads((VECTORS / "derived_values.json").read_text())["candidate_foundations"]
HOST = "2299766078 1 udp 2130706431 10.0.0.5 51820 typ host"


def test_three_candidates_are_recorded() -> None:
    assert len(RECORDED) == 3


@pytest.mark.parametrize("text", RECORDED)
def test_recorded_text_survives_both_ways(text: str) -> None:
    assert format_candidate(parse_candidate(text)) == text
    assert parse_candidate("candidate:" + text) == parse_candidate(text)


@pytest.mark.parametrize("text", RECORDED)
def test_recorded_foundation_and_priority_are_what_we_compute(text: str) -> None:
    candidate = parse_candidate(text)
    assert candidate_foundation(candidate.type, candidate.address) == candidate.foundation
    assert candidate_priority(candidate.type) == candidate.priority


def test_srflx_fields() -> None:
    [text] = [text for text in RECORDED if "srflx" in text]
    assert parse_candidate(text) == Candidate(
        foundation="270920779",
        priority=1694498815,
        address="10.99.0.12",
        port=51820,
        type="srflx",
        related_address="0.0.0.0",
        related_port=51820,
        extensions=(("ufrag", "uKppDjgITTvOdJqH"), ("cid", "XZ+XZVzwG+0sf1y7bVe6UDLsx7C5iOWi")),
    )


@pytest.mark.parametrize("case", FOUNDATIONS, ids=[case["input"] for case in FOUNDATIONS])
def test_foundations(case: dict[str, Any]) -> None:
    type_ = "srflx" if case["input"].startswith("srflx") else "host"
    address = case["input"].removeprefix(type_)[: -len("udp4")]
    assert candidate_foundation(type_, address) == str(case["crc32"])


@pytest.mark.parametrize(
    ("type_", "priority"), [("host", 2130706431), ("prflx", 1862270975), ("srflx", 1694498815), ("relay", 16777215)]
)
def test_priorities(type_: str, priority: int) -> None:
    assert candidate_priority(type_) == priority


@pytest.mark.parametrize(
    "text",
    [
        " 1 udp 1 10.0.0.5 1 typ host",  # empty foundation
        HOST,
        HOST + " cid candidate:abc",  # a forwarded port of a Go peer
        HOST + " generation 0 network-id 3 ufrag x",
        HOST + " tcptype active cid x",
        HOST + " lonely",
        "f" * 32 + " 99999 tcp 4294967295 fd00::1 65535 typ relay raddr 1.2.3.4 rport 9 a b",
        "1 1 udp 1 1.2.3.4 5 typ srflx raddr hidden.local rport 9",
    ],
)
def test_accepted_and_written_back(text: str) -> None:
    if "99999" in text:  # five digits, but no 16-bit number
        with pytest.raises(ProtocolError, match="component"):
            parse_candidate(text)
        text = text.replace("99999", "256")
    assert format_candidate(parse_candidate(text)) == text


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("FD99:0:0::00c", "fd99::c"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_addresses_become_canonical(written: str, canonical: str) -> None:
    candidate = parse_candidate(HOST.replace("10.0.0.5", written))
    assert candidate.address == canonical
    assert f" {canonical} " in format_candidate(candidate)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "parts"),
        ("a b c", "parts"),
        (HOST.replace(" host", ""), "parts"),
        (HOST.replace("host", "hosts"), "type 'hosts'"),
        (HOST.replace("typ", "type"), "where `typ` belongs"),
        (HOST.replace("udp", "sctp"), "transport"),
        (HOST.replace("udp ", "udp  "), "typ"),
        (HOST.replace("typ ", "typ  "), "type ''"),
        (HOST.replace("2299766078", "f" * 33), "foundation"),
        (HOST.replace("2299766078", "a:b"), "foundation"),
        (HOST.replace(" 1 ", " 123456 "), "component"),
        (HOST.replace(" 1 ", " ١ "), "component"),
        (HOST.replace(" 1 ", " +1 "), "component"),
        (HOST.replace("2130706431", "12345678901"), "priority"),
        (HOST.replace("2130706431", "4294967296"), "priority"),
        (HOST.replace("2130706431", "-1"), "priority"),
        (HOST.replace("51820", "65536"), "port"),
        (HOST.replace("51820", "0"), "port"),
        (HOST.replace("51820", "1_0"), "port"),
        (HOST.replace("10.0.0.5", "5f1e.local"), r"\.local"),
        (HOST.replace("10.0.0.5", "peer.example.org"), "literal"),
        (HOST.replace("10.0.0.5", "10.0.0.05"), "literal"),
        (HOST.replace("10.0.0.5", "0.0.0.0"), "sent to"),
        (HOST.replace("10.0.0.5", "255.255.255.255"), "sent to"),
        (HOST.replace("10.0.0.5", "224.0.0.1"), "sent to"),
        (HOST.replace("10.0.0.5", "ff02::1"), "sent to"),
        (HOST.replace("10.0.0.5", "::"), "sent to"),
        (HOST + " raddr 1.2.3.4", "rport"),
        (HOST + " raddr 1.2.3.4 port 5", "rport"),
        (HOST + " raddr 1.2.3.4 rport", "rport"),
        (HOST + " raddr 1.2.3.4 rport 65536", "rport"),
        (HOST + " tcptype sideways", "tcptype"),
        (HOST + "  a b", "two spaces"),
        (HOST + " a  b c", "two spaces"),
        (HOST + " a b\n", "unprintable"),
        (HOST + " a \x00", "unprintable"),
        (HOST + " a " + "x" * MAX_TEXT, "characters"),
    ],
)
def test_refused(text: str, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        parse_candidate(text)


@pytest.mark.parametrize(
    "broken",
    [
        Candidate("1", 1, "10.0.0.5", 1, "host", extensions=(("a b", "c"),)),
        Candidate("1", 1, "10.0.0.5", 1, "host", extensions=(("raddr", "1.2.3.4"), ("rport", "5"))),
        Candidate("1", 1, "10.0.0.5", 1, "host", extensions=(("", ""), ("a", "b"))),
        Candidate("1", 1, "10.0.0.5", 70000, "host"),
        Candidate("1", -1, "10.0.0.5", 1, "host"),
        Candidate("1", 1, "name.example.org", 1, "host"),
        Candidate("1", 1, "10.0.0.5", 1, "hosts"),
        Candidate("1 1", 1, "10.0.0.5", 1, "host"),
    ],
)
def test_nonsense_is_not_written(broken: Candidate) -> None:
    with pytest.raises(ProtocolError):
        format_candidate(broken)


def test_related_address_needs_a_port() -> None:
    assert "raddr" not in format_candidate(parse_candidate(HOST + " raddr 0.0.0.0 rport 0"))


def test_own_host_candidate() -> None:
    candidate = host_candidate("fd99:0::c", 51820, ufrag="uKppDjgITTvOdJqH")
    assert candidate.foundation == "1559810372"
    assert candidate.priority == 2130706431
    assert candidate.address == "fd99::c"
    (ufrag, cid) = candidate.extensions
    assert ufrag == ("ufrag", "uKppDjgITTvOdJqH")
    assert cid[0] == "cid" and len(cid[1]) == 32
    assert parse_candidate(format_candidate(candidate)) == candidate


def test_own_srflx_candidate() -> None:
    candidate = new_candidate(
        "srflx", "191.228.238.68", 40000, ufrag="x", related_address="0.0.0.0", related_port=51820
    )
    text = format_candidate(candidate)
    assert text.startswith(
        "647372371 1 udp 1694498815 191.228.238.68 40000 typ srflx raddr 0.0.0.0 rport 51820 ufrag x"
    )


@pytest.mark.parametrize(
    ("address", "port", "ufrag"), [("0.0.0.0", 1, "x"), ("host", 1, "x"), ("10.0.0.1", 0, "x"), ("10.0.0.1", 1, "a b")]
)
def test_own_candidate_that_cannot_be(address: str, port: int, ufrag: str) -> None:
    with pytest.raises(ProtocolError):
        host_candidate(address, port, ufrag=ufrag)


def test_candidate_ids_differ() -> None:
    made = {new_candidate_id() for _ in range(100)}
    assert len(made) == 100
    assert all(len(cid) == 32 and " " not in cid for cid in made)


@settings(deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from([*HOST.split(), "raddr", "rport", "", "x"])).map(" ".join))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        candidate = parse_candidate(text)
    except ProtocolError:
        return
    assert parse_candidate(format_candidate(candidate)).extensions == candidate.extensions


WORD = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@settings(deadline=None)
@given(
    st.builds(
        Candidate,
        foundation=st.from_regex(r"\A[A-Za-z0-9+/]{0,32}\Z"),
        priority=st.integers(0, 0xFFFFFFFF),
        address=st.ip_addresses().map(str),
        port=st.integers(1, 0xFFFF),
        type=st.sampled_from(["host", "srflx", "prflx", "relay"]),
        component=st.integers(0, 0xFFFF),
        transport=st.sampled_from(["udp", "tcp"]),
        related_address=st.ip_addresses(v=4).map(str),
        related_port=st.integers(1, 0xFFFF),
        extensions=st.lists(st.tuples(WORD, WORD), max_size=5).map(tuple),
    )
)
def test_what_is_written_reads_the_same(candidate: Candidate) -> None:
    try:
        text = format_candidate(candidate)
    except ProtocolError:
        return  # an address nobody can send to, a tcptype that is none
    read = parse_candidate(text)
    assert format_candidate(read) == text
    assert (read.foundation, read.priority, read.port, read.extensions) == (
        candidate.foundation,
        candidate.priority,
        candidate.port,
        candidate.extensions,
    )
