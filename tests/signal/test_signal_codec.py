"""The signal codec against recorded messages of a Go peer, the decoding rules and arbitrary bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxnet.candidates import parse_candidate
from rxnet.credentials import IceCredentials
from rxnet.errors import ProtocolError
from rxnet.events import AnswerReceived, CandidateReceived, GoIdleReceived, OfferReceived
from rxnet.model import Answer, Candidates, Message, Offer, PeerKey, SessionId
from rxnet.signal import codec
from rxnet.signal.codec import Ignored, Received, UnreadableMessage, decode, decode_body, encode, encode_heartbeat
from rxnet.wire.box import Sealer, encode_key, generate_private_key
from rxnet.wire.signalexchange_pb2 import Body, EncryptedMessage

RECORDED: dict[str, dict[str, Any]] = {
    message["name"]: message
    for message in json.loads((Path(__file__).parents[1] / "vectors" / "signal_messages.json").read_text())
}
WHOLE = [name for name, message in RECORDED.items() if "encrypted_message_base64" in message]

ALICE = Sealer(bytes([1]) * 32)
BOB = Sealer(bytes([2]) * 32)
SESSION = SessionId("00055ed085")


def recorded_bytes(name: str) -> bytes:
    return base64.b64decode(RECORDED[name]["encrypted_message_base64"])


def receiver(name: str) -> Sealer:
    return Sealer(base64.b64decode(RECORDED[name]["receiver_private"]))


def sender(name: str) -> PeerKey:
    return PeerKey(EncryptedMessage.FromString(recorded_bytes(name)).key)


def plain(name: str) -> bytes:
    return base64.b64decode(RECORDED[name]["body_plain_base64"])


def sealed(body: bytes | Body, source: Sealer = ALICE, target: Sealer = BOB) -> bytes:
    raw = body.SerializeToString() if isinstance(body, Body) else body
    return EncryptedMessage(
        key=source.public_key, remoteKey=target.public_key, body=source.seal(target.public_key, raw)
    ).SerializeToString()


def say(*messages: Message, credentials: IceCredentials | None = None, port: int = 51820) -> list[bytes]:
    return encode(
        messages,
        sealer=ALICE,
        peer=BOB.public_key,
        credentials=credentials or IceCredentials("ufrag", "password"),
        wireguard_port=port,
        version="0.77.1",
    )


# -- recorded ----------------------------------------------------------------------------------------------------


def expected(name: str) -> Received | Ignored:
    peer, credentials = sender(name), IceCredentials("uKppDjgITTvOdJqH", "MfLaqQJrUjWQrqSQlwTDCQlfOBdvCRii")
    common: dict[str, Any] = {"peer": peer, "wireguard_port": 51820, "version": "0.77.1"}
    match name:
        case "offer":
            return Received(OfferReceived(session=SESSION, ufrag=credentials.ufrag, **common), credentials)
        case "answer":
            return Received(AnswerReceived(session=SESSION, ufrag=credentials.ufrag, **common), credentials)
        case "answer_new_session":
            return Received(
                AnswerReceived(session=SessionId("2b7b906626"), ufrag="uMlpOJPbXaWVSDJk", **common),
                IceCredentials("uMlpOJPbXaWVSDJk", "JrmQkCnKvIQJkzpTelVVRmqjvUzaabwK"),
            )
        case "offer_force_relay" | "offer_after_remote_without_ice":
            return Received(OfferReceived(session=None, ice=False, **common))
        case "answer_force_relay":
            return Received(AnswerReceived(session=None, ice=False, **common))
        case "go_idle":
            return Received(GoIdleReceived(peer))
        case "heartbeat_self":
            return Ignored(peer)
    return Received(CandidateReceived(peer, parse_candidate(RECORDED[name]["json"]["payload"])))


@pytest.mark.parametrize("name", WHOLE)
def test_recorded_message_is_understood(name: str) -> None:
    assert decode(recorded_bytes(name), receiver(name)) == expected(name)


@pytest.mark.parametrize("name", WHOLE)
def test_recorded_body_reserialises(name: str) -> None:
    opened = receiver(name).open(sender(name), EncryptedMessage.FromString(recorded_bytes(name)).body)
    assert opened == plain(name)
    if RECORDED[name]["reserialises_identically"]:
        assert Body.FromString(opened).SerializeToString(deterministic=True) == opened


@pytest.mark.parametrize("name", ["offer", "answer", "answer_new_session"])
def test_our_offer_is_the_recorded_one_but_for_the_relay(name: str) -> None:
    wanted = Body.FromString(plain(name))
    wanted.ClearField("relayServerAddress")
    wanted.ClearField("relayServerIP")
    ufrag, pwd = wanted.payload.split(":")
    session = SessionId(wanted.sessionId.hex())
    message: Offer | Answer = Answer(1, session) if "answer" in name else Offer(1, session)
    [made] = say(message, credentials=IceCredentials(ufrag, pwd))
    assert BOB.open(ALICE.public_key, EncryptedMessage.FromString(made).body) == wanted.SerializeToString()


@pytest.mark.parametrize("name", [name for name in WHOLE if name.startswith("candidate")])
def test_our_candidate_is_the_recorded_one(name: str) -> None:
    [made] = say(Candidates(1, (parse_candidate(RECORDED[name]["json"]["payload"]),)))
    assert BOB.open(ALICE.public_key, EncryptedMessage.FromString(made).body) == plain(name)


def test_our_heartbeat_is_the_recorded_one() -> None:
    envelope = EncryptedMessage.FromString(encode_heartbeat(ALICE))
    assert envelope.key == envelope.remoteKey == ALICE.public_key
    assert ALICE.open(ALICE.public_key, envelope.body) == plain("heartbeat_self")


def test_rosenpass_offer_is_an_ordinary_offer() -> None:
    said = RECORDED["offer_rosenpass_abridged"]["json"]
    body = Body(
        payload=said["payload"],
        wgListenPort=said["wgListenPort"],
        netBirdVersion=said["netBirdVersion"],
        sessionId=base64.b64decode(said["sessionId"]),
        relayServerAddress=said["relayServerAddress"],
        relayServerIP=base64.b64decode(said["relayServerIP"]),
    )
    body.rosenpassConfig.rosenpassPubKey = bytes(RECORDED["offer_rosenpass_abridged"]["rosenpass_pubkey_length"])
    body.rosenpassConfig.rosenpassServerAddr = said["rosenpassConfig"]["rosenpassServerAddr"]
    message = sealed(body)
    # The length was recorded of the sealed body.
    assert len(EncryptedMessage.FromString(message).body) == RECORDED["offer_rosenpass_abridged"]["body_length"]
    received = decode(message, BOB)
    assert isinstance(received, Received) and isinstance(received.event, OfferReceived)
    assert received.event.session == "f76adbc782"


# -- what we send ------------------------------------------------------------------------------------------------


def test_both_ends_understand_each_other() -> None:
    candidate = parse_candidate(RECORDED["candidate_srflx"]["json"]["payload"])
    credentials = IceCredentials("ufrag", "password")
    made = say(Offer(1, SESSION), Answer(2, SESSION), Candidates(3, (candidate, candidate)), credentials=credentials)
    alice = ALICE.public_key
    assert [decode(message, BOB) for message in made] == [
        Received(OfferReceived(alice, SESSION, True, "ufrag", 51820, "0.77.1"), credentials),
        Received(AnswerReceived(alice, SESSION, True, "ufrag", 51820, "0.77.1"), credentials),
        Received(CandidateReceived(alice, candidate)),
        Received(CandidateReceived(alice, candidate)),
    ]


@pytest.mark.parametrize("session", ["", "00", "00055ed08", "00055ed0855", "00055ED085", "00 055ed085", "xxxxxxxxxx"])
def test_session_id_that_cannot_be_sent(session: str) -> None:
    with pytest.raises(ProtocolError, match="session id"):
        say(Offer(1, SessionId(session)))


@pytest.mark.parametrize(
    "credentials", [("a:b", "c"), ("a", "b:c"), ("", "b"), ("a", ""), ("ä", "b"), ("a", "x" * 257)]
)
def test_credentials_that_cannot_be_sent_and_are_not_shown(credentials: tuple[str, str]) -> None:
    with pytest.raises(ProtocolError, match="credentials") as caught:
        say(Offer(1, SESSION), credentials=IceCredentials(*credentials))
    assert "b:c" not in str(caught.value)


@pytest.mark.parametrize("port", [-1, 65536])
def test_port_that_cannot_be_sent(port: int) -> None:
    with pytest.raises(ProtocolError, match="port"):
        say(Offer(1, SESSION), port=port)


def test_key_that_cannot_be_sent_to() -> None:
    with pytest.raises(ProtocolError):
        encode(
            [Offer(1, SESSION)],
            sealer=ALICE,
            peer=PeerKey("nobody"),
            credentials=IceCredentials("a", "b"),
            wireguard_port=1,
            version="",
        )


# -- decoding rules ----------------------------------------------------------------------------------------------


def received_offer(**fields: Any) -> OfferReceived:
    received = decode_body(ALICE.public_key, Body(**{"payload": "u:p", **fields}).SerializeToString())
    assert isinstance(received, Received) and isinstance(received.event, OfferReceived)
    return received.event


@pytest.mark.parametrize("payload", ["", "abc", "a:b:c", "::", "a:b:", ":" * 1000])
def test_payload_must_have_two_parts(payload: str) -> None:
    with pytest.raises(ProtocolError, match="payload"):
        received_offer(payload=payload)


@pytest.mark.parametrize("payload", [":", "ufrag:", ":pwd"])
def test_a_part_missing_is_a_peer_without_ice(payload: str) -> None:
    received = decode_body(ALICE.public_key, Body(payload=payload, sessionId=b"12345").SerializeToString())
    assert isinstance(received, Received)
    assert received.credentials is None
    assert received.event == OfferReceived(ALICE.public_key, None, ice=False)


@pytest.mark.parametrize("payload", ["ü:pwd", "u:p\x7f", "u u:p", "u\n:p", "u" * 257 + ":p", "u:" + "p" * 100_000])
def test_credentials_out_of_bounds(payload: str) -> None:
    with pytest.raises(ProtocolError, match="credentials") as caught:
        received_offer(payload=payload)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("session", [b"", b"1234", b"123456", bytes(1000)])
def test_session_of_another_length_is_absent(session: bytes) -> None:
    assert received_offer(sessionId=session).session is None


def test_session_and_sizes() -> None:
    assert received_offer(sessionId=b"\x00\x01\xab\xff\x10").session == "0001abff10"
    assert received_offer(wgListenPort=65535).wireguard_port == 65535
    assert received_offer(wgListenPort=65536).wireguard_port == 0
    assert received_offer(netBirdVersion="9" * 1000).version == "9" * 64
    assert received_offer(netBirdVersion="1\n\x1b[2J").version == "1??[2J"


@pytest.mark.parametrize("kind", [3, 7, 99])
def test_unknown_type(kind: int) -> None:
    raw = bytes([8, kind])
    with pytest.raises(ProtocolError, match="type"):
        decode_body(ALICE.public_key, raw)


@pytest.mark.parametrize("kind", [Body.MODE, Body.HEARTBEAT])
def test_types_that_change_nothing(kind: Any) -> None:
    assert decode(sealed(Body(type=kind)), BOB) == Ignored(ALICE.public_key)


def test_own_key_is_never_an_event() -> None:
    assert decode(sealed(Body(type=Body.GO_IDLE), ALICE, ALICE), ALICE) == Ignored(ALICE.public_key)
    forged = EncryptedMessage(key=ALICE.public_key, body=b"not even sealed").SerializeToString()
    assert decode(forged, ALICE) == Ignored(ALICE.public_key)


# -- unreadable --------------------------------------------------------------------------------------------------


def refusal(data: bytes) -> UnreadableMessage:
    with pytest.raises(UnreadableMessage) as caught:
        decode(data, BOB)
    return caught.value


def test_no_signal_message_at_all() -> None:
    assert refusal(b"\xff\xff\xff").sender == ""
    assert refusal(b"").sender == ""
    invalid_utf8 = b"\x12\x01\xff"
    assert "no signal message" in str(refusal(invalid_utf8))


def test_sealed_for_somebody_else() -> None:
    third = Sealer(bytes([3]) * 32)
    error = refusal(sealed(Body(type=Body.GO_IDLE), ALICE, third))
    assert error.sender == ALICE.public_key
    assert "does not open" in str(error)


def test_every_damaged_byte_of_the_body_is_noticed() -> None:
    whole = EncryptedMessage.FromString(sealed(Body(type=Body.GO_IDLE)))
    for index in range(len(whole.body)):
        damaged = bytearray(whole.body)
        damaged[index] ^= 1
        refusal(EncryptedMessage(key=whole.key, body=bytes(damaged)).SerializeToString())


def test_garbage_within_a_good_box() -> None:
    assert refusal(sealed(b"\xff\xff")).sender == ALICE.public_key
    assert "payload" in str(refusal(sealed(b"")))


@pytest.mark.parametrize("key", ["", "x", "A" * 43 + "=", "A" * 44, "\x1b[2J" * 100, "é" * 44])
def test_sender_text_is_cut_and_printable(key: str) -> None:
    error = refusal(EncryptedMessage(key=key, body=bytes(100)).SerializeToString())
    assert len(error.sender) <= 44
    assert error.sender.isprintable()
    assert str(error).isprintable()


def test_small_order_key_is_refused() -> None:
    refusal(EncryptedMessage(key=encode_key(bytes(32)), body=bytes(100)).SerializeToString())


def test_large_body_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sealer, "open", lambda *_: pytest.fail("opened"))
    data = EncryptedMessage(key=ALICE.public_key, body=bytes(codec.MAX_BODY + 1)).SerializeToString()
    assert "more than" in str(refusal(data))


def test_no_password_in_texts() -> None:
    received = decode(say(Offer(1, SESSION), credentials=IceCredentials("u", "hunter2"))[0], BOB)
    assert "hunter2" not in repr(received)


# -- arbitrary bytes ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        decode(data, BOB)


@settings(deadline=None)
@given(key=st.text(max_size=60) | st.just(str(ALICE.public_key)), body=st.binary(max_size=200))
def test_any_envelope(key: str, body: bytes) -> None:
    error = refusal(EncryptedMessage(key=key, remoteKey=key, body=body).SerializeToString())
    assert len(error.sender) <= 44


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_opened_body(raw: bytes) -> None:
    check(raw)


@settings(deadline=None)
@given(
    st.builds(
        lambda kind, payload, port, version, session: Body(
            type=kind,
            payload=payload,
            wgListenPort=port,
            netBirdVersion=version,
            sessionId=session,
        ).SerializeToString(),
        kind=st.sampled_from([0, 1, 2, 4, 5, 6]),
        payload=st.text(max_size=80) | st.from_regex(r"\A[!-~]{0,9}:[!-~]{0,9}\Z"),
        port=st.integers(0, 2**32 - 1),
        version=st.text(max_size=100),
        session=st.binary(max_size=8),
    )
)
def test_any_well_formed_body(raw: bytes) -> None:
    check(raw)


def check(raw: bytes) -> None:
    """Either refused, or values within their bounds."""
    try:
        received = decode_body(ALICE.public_key, raw)
    except ProtocolError as error:
        assert len(str(error)) < 300
        return
    if isinstance(received, Received) and isinstance(received.event, OfferReceived | AnswerReceived):
        event = received.event
        assert event.ice == (received.credentials is not None)
        assert event.ufrag == (received.credentials.ufrag if received.credentials else "")
        assert event.session is None or len(event.session) == 10
        assert 0 <= event.wireguard_port <= 0xFFFF
        assert len(event.version) <= 64 and event.version.isprintable()


def test_fresh_keys_work() -> None:
    sealer = Sealer(generate_private_key())
    message = encode(
        [Offer(7, SESSION)],
        sealer=sealer,
        peer=BOB.public_key,
        credentials=IceCredentials("a", "b"),
        wireguard_port=0,
        version="",
    )
    received = decode(message[0], BOB)
    assert isinstance(received, Received) and received.event.peer == sealer.public_key
