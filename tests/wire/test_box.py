"""NaCl box against recorded cases, and the keys' text form."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxnet.errors import ProtocolError
from rxnet.model import PeerKey
from rxnet.wire import box, management_pb2, signalexchange_pb2

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "nacl_box.json").read_text())
CASES = VECTORS["cases"]


@pytest.fixture
def fixed_nonce(monkeypatch: pytest.MonkeyPatch) -> bytes:
    nonce = bytes(range(24))
    monkeypatch.setattr(box, "random", lambda size: nonce)
    return nonce


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_sealed_bodies_are_the_recorded_ones(case: dict[str, str], fixed_nonce: bytes) -> None:
    sealer = box.Sealer(base64.b64decode(case["sender_private"]))
    assert sealer.public_key == case["sender_public"]
    assert bytes.fromhex(case["nonce_hex"]) == fixed_nonce
    body = sealer.seal(box.parse_key(case["receiver_public"]), bytes.fromhex(case["plaintext_hex"]))
    assert body.hex() == case["body_hex"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_recorded_bodies_open_from_both_sides(case: dict[str, str]) -> None:
    # The agreement is symmetric, so the sender can open what it sealed.
    sender = box.Sealer(base64.b64decode(case["sender_private"]))
    plain = sender.open(PeerKey(case["receiver_public"]), bytes.fromhex(case["body_hex"]))
    assert plain.hex() == case["plaintext_hex"]


def test_the_receiver_opens_the_recorded_envelopes() -> None:
    receiver = box.Sealer(base64.b64decode(VECTORS["receiver_private"]))
    envelope = management_pb2.EncryptedMessage.FromString(bytes.fromhex(VECTORS["encrypted_message_management_hex"]))
    assert receiver.open(box.parse_key(envelope.wgPubKey), envelope.body) == b""

    sender = box.Sealer(base64.b64decode(CASES[0]["sender_private"]))
    message = signalexchange_pb2.EncryptedMessage.FromString(bytes.fromhex(VECTORS["encrypted_message_signal_hex"]))
    assert message.key == message.remoteKey == sender.public_key
    opened = signalexchange_pb2.Body.FromString(sender.open(PeerKey(message.key), message.body))
    assert opened.type == signalexchange_pb2.Body.HEARTBEAT


@given(st.binary(max_size=200))
def test_what_is_sealed_opens_and_only_there(plain: bytes) -> None:
    ours, theirs, stranger = (box.Sealer(box.generate_private_key()) for _ in range(3))
    body = ours.seal(theirs.public_key, plain)
    assert len(body) == len(plain) + box.OVERHEAD
    assert theirs.open(ours.public_key, body) == plain
    with pytest.raises(ProtocolError):
        stranger.open(ours.public_key, body)
    damaged = bytes([body[0] ^ 1]) + body[1:]
    with pytest.raises(ProtocolError):
        theirs.open(ours.public_key, damaged)


@given(st.binary(max_size=120))
def test_any_bytes_are_refused_with_a_protocol_error(body: bytes) -> None:
    sealer = box.Sealer(box.generate_private_key())
    with pytest.raises(ProtocolError):
        sealer.open(sealer.public_key, body)


def test_two_bodies_of_one_text_differ() -> None:
    sealer = box.Sealer(box.generate_private_key())
    assert sealer.seal(sealer.public_key, b"x") != sealer.seal(sealer.public_key, b"x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A" * 44,  # no padding: 33 bytes
        "A" * 43,
        "A" * 42 + "B=",  # bits beyond the 32 bytes are set: not the canonical form
        "A" * 42 + "==",
        " " + "A" * 42 + "=",
        "A" * 43 + "=\n",
        "-" * 43 + "=",  # the URL alphabet
        "\u0410" * 43 + "=",
        "A" * 100_000,
    ],
)
def test_only_the_canonical_text_is_a_key(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        box.parse_key(text)
    assert len(str(caught.value)) < 400  # however long the text was


@given(st.binary(min_size=32, max_size=32))
def test_keys_survive_the_way_to_text_and_back(raw: bytes) -> None:
    assert box.decode_key(box.parse_key(box.encode_key(raw))) == raw


def test_keys_of_small_order_are_refused() -> None:
    sealer = box.Sealer(box.generate_private_key())
    with pytest.raises(ProtocolError):
        sealer.seal(box.encode_key(bytes(32)), b"x")


def test_generated_keys_are_clamped_and_differ() -> None:
    one, two = box.generate_private_key(), box.generate_private_key()
    assert one != two
    assert one[0] & 7 == 0
    assert one[31] & 128 == 0
    assert one[31] & 64 == 64


def test_the_private_key_is_not_shown() -> None:
    private = box.generate_private_key()
    sealer = box.Sealer(private)
    shown = repr(sealer) + str(sealer)
    assert box.encode_key(private) not in shown
    assert private.hex() not in shown
    assert sealer.public_key in shown


def test_the_memory_for_agreements_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "_REMOTES", 3)
    sealer = box.Sealer(box.generate_private_key())
    remotes = [box.Sealer(box.generate_private_key()) for _ in range(5)]
    for remote in remotes:
        sealer.seal(remote.public_key, b"")
    assert list(sealer._boxes) == [remote.public_key for remote in remotes[-3:]]
    assert remotes[0].open(sealer.public_key, sealer.seal(remotes[0].public_key, b"again")) == b"again"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_private_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        box.Sealer(bytes(length))
