"""WireGuard's userspace configuration protocol."""

from __future__ import annotations

import base64
import errno
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxnet.errors import ProtocolError
from rxnet.model import Endpoint, PeerKey, WireGuardPeer
from rxnet.wireguard.peers import PeerChange
from rxnet.wireguard.uapi import (
    Answer,
    AnswerParser,
    encode_interface,
    encode_peers,
    key_from_hex,
    key_to_hex,
)

KEY = PeerKey(base64.b64encode(bytes(range(32))).decode())
HEX = bytes(range(32)).hex()

# As wireguard-go of 2022 and of 2025 answer: the private key's line first, then the interface, then peers.
ANSWER = f"""private_key={"11" * 32}
listen_port=51820
fwmark=1
public_key={HEX}
preshared_key={"00" * 32}
protocol_version=1
endpoint=[fd77::2]:51821
last_handshake_time_sec=1795000000
last_handshake_time_nsec=500000000
tx_bytes=148
rx_bytes=92
persistent_keepalive_interval=25
allowed_ip=100.64.0.2/32
public_key={"ab" * 32}
preshared_key={"00" * 32}
protocol_version=1
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=0
rx_bytes=0
persistent_keepalive_interval=0
errno=0

""".encode()


def parse(data: bytes, piece: int = 7) -> Answer | None:
    parser = AnswerParser()
    for start in range(0, len(data), piece):
        answer = parser.feed(data[start : start + piece])
        if answer is not None:
            return answer
    return None


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_answer_of_a_real_program(piece: int) -> None:
    answer = parse(ANSWER, piece)
    assert answer is not None
    assert (answer.errno, answer.listen_port, len(answer.peers)) == (0, 51820, 2)
    first = answer.peers[KEY]
    assert (first.rx_bytes, first.tx_bytes, first.last_handshake) == (92, 148, 1795000000.5)
    assert first.endpoint == Endpoint("fd77::2", 51821)
    other = answer.peers[key_from_hex("ab" * 32)]
    assert (other.last_handshake, other.endpoint) == (None, None)
    assert "11" * 32 not in repr(answer)


def test_error_is_positive_and_has_words() -> None:
    answer = parse(b"errno=-98\n\n")
    assert answer is not None
    assert answer.errno == errno.EADDRINUSE
    assert "EADDRINUSE" in answer.error


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"listen_port=1\n\n",
        b"listen_port=70000\nerrno=0\n\n",
        b"listen_port=1_0\nerrno=0\n\n",
        b"errno=x\n\n",
        b"nonsense\n\n",
        b"public_key=zz\nerrno=0\n\n",
        b"public_key=" + b"aa " * 32 + b"\nerrno=0\n\n",
        b"public_key=" + HEX.encode() + b"\nendpoint=example:1\nerrno=0\n\n",
        b"public_key=" + HEX.encode() + b"\nrx_bytes=-1\nerrno=0\n\n",
        b"a=" + b"b" * 5000,
        b"a=" + b"b" * 5000 + b"\n",
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(data, 100_000)


@given(st.one_of(st.binary(max_size=300), st.text("=\n0123abcpublic_keyerrno-", max_size=300).map(str.encode)))
def test_any_bytes_give_an_answer_or_a_protocol_error(data: bytes) -> None:
    try:
        answer = parse(data)
    except ProtocolError:
        return
    assert answer is None or isinstance(answer.errno, int)


@given(st.binary(min_size=32, max_size=32))
def test_keys_survive_both_ways(raw: bytes) -> None:
    key = PeerKey(base64.b64encode(raw).decode())
    assert key_to_hex(key) == raw.hex()
    assert key_from_hex(raw.hex()) == key


@pytest.mark.parametrize("text", ["", "AAAA", KEY + "\nremove=true", KEY[:-1], "ä" * 44])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        key_to_hex(text)


def test_interface_request() -> None:
    assert encode_interface(private_key=b"\x01" * 32) == b"set=1\nprivate_key=%s\nreplace_peers=true\n\n" % (b"01" * 32)
    assert encode_interface(listen_port=51820) == b"set=1\nlisten_port=51820\n\n"
    with pytest.raises(ValueError, match="32 bytes"):
        encode_interface(private_key=b"short")


def test_new_peer_request() -> None:
    networks = (ip_network("100.64.0.2/32"), ip_network("fd00::2/128"))
    peer = WireGuardPeer(KEY, networks)
    assert encode_peers([PeerChange(KEY, wanted=peer, allowed_ips=networks, keepalive=0)]).decode() == (
        f"set=1\npublic_key={HEX}\nreplace_allowed_ips=true\nallowed_ip=100.64.0.2/32\nallowed_ip=fd00::2/128\n"
        "persistent_keepalive_interval=0\n\n"
    )


def test_endpoint_with_keepalive_sends_at_once() -> None:
    """The program sends a keepalive only when the interval goes from off to on, so it is switched off first."""
    peer = WireGuardPeer(KEY, (), Endpoint("fd77::2", 51820), 25)
    change = PeerChange(KEY, wanted=peer, update_only=True, endpoint=peer.endpoint, keepalive=25)
    assert encode_peers([change]).decode() == (
        f"set=1\npublic_key={HEX}\nupdate_only=true\nendpoint=[fd77::2]:51820\n"
        "persistent_keepalive_interval=0\npersistent_keepalive_interval=25\n\n"
    )


def test_removal_and_renewal() -> None:
    peer = WireGuardPeer(KEY, ())
    assert encode_peers([PeerChange(KEY, remove=True)]).decode() == f"set=1\npublic_key={HEX}\nremove=true\n\n"
    assert encode_peers([PeerChange(KEY, remove=True, wanted=peer)]).decode() == (
        f"set=1\npublic_key={HEX}\nremove=true\npublic_key={HEX}\n\n"
    )
