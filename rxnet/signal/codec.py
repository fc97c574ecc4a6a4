"""Signal messages: bytes in, values out, and back (signal document, 2).

The only message on the wire is `EncryptedMessage`: sender key, destination key, sealed body. `decode` opens one and
says what it means to us, by the rules of 2.2; `encode` makes those that we send. No I/O, no state but the sealer's.

Nothing of a body enters an error text but lengths and numbers: a body holds ICE passwords.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from rxnet.candidates import format_candidate, parse_candidate
from rxnet.credentials import IceCredentials
from rxnet.errors import ProtocolError
from rxnet.events import AnswerReceived, CandidateReceived, GoIdleReceived, OfferReceived
from rxnet.model import Answer, Candidate, Candidates, Message, Offer, PeerKey, SessionId
from rxnet.wire.box import KEY_TEXT, Sealer
from rxnet.wire.signalexchange_pb2 import Body, EncryptedMessage

MAX_BODY = 1 << 20
"""Bytes of a sealed body that are worth opening: twice an offer with a Rosenpass key, the largest that Go sends."""

_SESSION_BYTES = 5
_MAX_VERSION = 64
# RFC 8445 section 5.3 allows 256 characters of letters, digits, `+` and `/`. Go peers check nothing; what is let
# through here can still be part of a STUN user name.
_CREDENTIAL = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True, slots=True)
class Received:
    """A message that matters: the event, and the sender's ICE credentials if it told some."""

    event: OfferReceived | AnswerReceived | CandidateReceived | GoIdleReceived
    credentials: IceCredentials | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A good message that changes nothing: a heartbeat of anybody, `MODE` of old clients, anything from ourselves."""

    sender: PeerKey


class UnreadableMessage(ProtocolError):
    """A message that was dropped. `sender` is the key text it claims, printable, at most 44 characters."""

    def __init__(self, reason: str, sender: str = "") -> None:
        super().__init__(reason)
        self.sender = "".join(c if c.isprintable() else "?" for c in sender[:KEY_TEXT])


# -- received ----------------------------------------------------------------------------------------------------


def decode(data: bytes, sealer: Sealer) -> Received | Ignored:
    """Open and read one `EncryptedMessage`.

    :raises UnreadableMessage: it is no such message, does not open, or its body breaks a rule of 2.2.
    """
    envelope = EncryptedMessage()
    try:
        envelope.ParseFromString(data)
    except DecodeError:
        raise UnreadableMessage(f"{len(data)} bytes that are no signal message") from None
    if envelope.key == sealer.public_key:
        # Our heartbeat came back; or somebody pretends. Either way there is nothing we have to tell ourselves.
        return Ignored(sealer.public_key)
    sender = PeerKey(envelope.key)
    try:
        if len(envelope.body) > MAX_BODY:
            raise ProtocolError(f"a body of {len(envelope.body)} bytes, more than {MAX_BODY}")
        return decode_body(sender, sealer.open(sender, envelope.body))
    except ProtocolError as error:
        raise UnreadableMessage(str(error), sender) from None


def decode_body(sender: PeerKey, plain: bytes) -> Received | Ignored:
    """Read an opened body.

    :raises ProtocolError: it is no body, of an unknown type, or breaks a rule of 2.2.
    """
    body = Body()
    try:
        body.ParseFromString(plain)
    except DecodeError:
        raise ProtocolError("the opened body is no signal body") from None
    match body.type:
        case Body.OFFER | Body.ANSWER:
            return _offer_or_answer(sender, body)
        case Body.CANDIDATE:
            return Received(CandidateReceived(sender, parse_candidate(body.payload)))
        case Body.GO_IDLE:
            return Received(GoIdleReceived(sender))
        case Body.HEARTBEAT | Body.MODE:
            return Ignored(sender)
        case unknown:
            raise ProtocolError(f"body type {int(unknown)} is not known")


def _offer_or_answer(sender: PeerKey, body: Body) -> Received:
    credentials = _credentials(body.payload)
    kind = OfferReceived if body.type == Body.OFFER else AnswerReceived
    event = kind(
        peer=sender,
        session=_session(body.sessionId) if credentials is not None else None,
        ice=credentials is not None,
        ufrag=credentials.ufrag if credentials is not None else "",
        wireguard_port=body.wgListenPort if body.wgListenPort <= 0xFFFF else 0,
        version="".join(c if c.isprintable() else "?" for c in body.netBirdVersion[:_MAX_VERSION]),
    )
    return Received(event, credentials)


def _credentials(payload: str) -> IceCredentials | None:
    """Split `ufrag:pwd`; None if the peer is without ICE (either part is empty, as in `:`)."""
    parts = payload.split(":", 2)
    if len(parts) != 2:
        raise ProtocolError("an offer or answer whose payload is not `ufrag:pwd`")
    ufrag, pwd = parts
    if not ufrag or not pwd:
        return None
    if not _CREDENTIAL.fullmatch(ufrag) or not _CREDENTIAL.fullmatch(pwd):
        raise ProtocolError("ICE credentials that are not up to 256 printable ASCII characters each")
    return IceCredentials(ufrag, pwd)


def _session(raw: bytes) -> SessionId | None:
    return SessionId(raw.hex()) if len(raw) == _SESSION_BYTES else None


# -- sent --------------------------------------------------------------------------------------------------------


def encode(
    messages: Sequence[Message],
    *,
    sealer: Sealer,
    peer: PeerKey,
    credentials: IceCredentials,
    wireguard_port: int,
    version: str,
) -> list[bytes]:
    """Serialise and seal `messages` for `peer`: one `EncryptedMessage` each, one for each of `Candidates`.

    `credentials` are ours towards that peer.

    :raises ProtocolError: the key is unusable, or a value cannot be said (a session id that is not ten hex digits,
        credentials with a colon, a port out of range, a candidate that `format_candidate` refuses).
    """
    sealed = []
    for message in messages:
        if isinstance(message, Candidates):
            bodies = [candidate_body(candidate) for candidate in message.candidates]
        else:
            bodies = [offer_body(message, credentials, wireguard_port, version)]
        sealed += [_seal(sealer, peer, body) for body in bodies]
    return sealed


def encode_heartbeat(sealer: Sealer) -> bytes:
    """The watchdog's probe: a heartbeat to ourselves, which the server has to bring back (signal document, 1.6)."""
    return _seal(sealer, sealer.public_key, Body(type=Body.HEARTBEAT))


def offer_body(message: Offer | Answer, credentials: IceCredentials, wireguard_port: int, version: str) -> Body:
    """The body of an offer or answer, as Go peers fill it; without relay fields, for there is no home relay."""
    if not _CREDENTIAL.fullmatch(credentials.ufrag) or not _CREDENTIAL.fullmatch(credentials.pwd):
        raise ProtocolError("own ICE credentials are not up to 256 printable ASCII characters each")
    if ":" in credentials.ufrag or ":" in credentials.pwd:
        raise ProtocolError("own ICE credentials contain a colon, at which the receiver splits them")
    if not 0 <= wireguard_port <= 0xFFFF:
        raise ProtocolError(f"WireGuard port {wireguard_port} is not a port number")
    try:
        session = bytes.fromhex(message.session)
    except ValueError:
        session = b""
    if len(session) != _SESSION_BYTES or session.hex() != message.session:
        raise ProtocolError(f"session id {message.session[:20]!r} is not ten lower-case hex digits")
    body = Body(
        type=Body.OFFER if isinstance(message, Offer) else Body.ANSWER,
        payload=f"{credentials.ufrag}:{credentials.pwd}",
        wgListenPort=wireguard_port,
        netBirdVersion=version,
        sessionId=session,
    )
    body.rosenpassConfig.SetInParent()  # present and empty: "Rosenpass is off"
    return body


def candidate_body(candidate: Candidate) -> Body:
    """The body that carries one candidate."""
    return Body(type=Body.CANDIDATE, payload=format_candidate(candidate))


def _seal(sealer: Sealer, peer: PeerKey, body: Body) -> bytes:
    envelope = EncryptedMessage(
        key=sealer.public_key, remoteKey=peer, body=sealer.seal(peer, body.SerializeToString(deterministic=True))
    )
    return envelope.SerializeToString()
