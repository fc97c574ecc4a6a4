"""NaCl box, which seals every message that we exchange with management, and with other peers through signal.

X25519 and XSalsa20-Poly1305 with the WireGuard keys of both sides; a sealed body is the 24-byte random nonce followed
by the box. There is no counter: a replayed body opens again (management document, 2; signal document, 2.3).
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict

from nacl.bindings import crypto_scalarmult_base
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey
from nacl.utils import random

from rxnet.errors import ProtocolError
from rxnet.model import PeerKey

KEY_BYTES = 32
KEY_TEXT = 44
OVERHEAD = 40
"""Bytes by which a sealed body is longer than the plain text: nonce and authentication tag."""
_NONCE_BYTES = 24
_REMOTES = 10_000


def generate_private_key() -> bytes:
    """Make a WireGuard private key: 32 random bytes, clamped as `wg genkey` does (RFC 7748 section 5)."""
    key = bytearray(random(KEY_BYTES))
    key[0] &= 248
    key[31] = (key[31] & 127) | 64
    return bytes(key)


def public_key(private: bytes) -> PeerKey:
    """The public key that belongs to a private key of 32 bytes. ValueError for another length."""
    if len(private) != KEY_BYTES:
        raise ValueError(f"a private key has {KEY_BYTES} bytes, not {len(private)}")
    return encode_key(crypto_scalarmult_base(private))


def encode_key(raw: bytes) -> PeerKey:
    """The text form of a key of 32 bytes."""
    return PeerKey(base64.b64encode(raw).decode("ascii"))


def decode_key(key: str) -> bytes:
    """The 32 bytes of a key; ProtocolError unless the text is the one canonical base64 form of 32 bytes.

    Only the canonical form counts, because keys are compared as text everywhere.
    """
    if len(key) == KEY_TEXT:
        try:
            raw = binascii.a2b_base64(key.encode("ascii"), strict_mode=True)
        except (UnicodeEncodeError, binascii.Error):
            raw = b""
        if len(raw) == KEY_BYTES and encode_key(raw) == key:
            return raw
    raise ProtocolError(f"{key[:KEY_TEXT]!r} is not a key: 44 characters of base64 for {KEY_BYTES} bytes are wanted")


def parse_key(text: str) -> PeerKey:
    """Check that `text` is a public key; ProtocolError otherwise."""
    decode_key(text)
    return PeerKey(text)


class Sealer:
    """Seals and opens bodies for one private key, towards any number of remote keys.

    The key agreement of a pair costs about 40 microseconds, so its result is kept for the 10,000 remote keys that
    were used last.
    """

    __slots__ = ("_boxes", "_private", "public_key")

    def __init__(self, private_key: bytes) -> None:
        self.public_key: PeerKey = public_key(private_key)
        self._private = PrivateKey(private_key)
        self._boxes: OrderedDict[PeerKey, Box] = OrderedDict()

    def __repr__(self) -> str:
        return f"Sealer({self.public_key})"

    def seal(self, peer_key: PeerKey, plaintext: bytes) -> bytes:
        """Seal for the owner of `peer_key`; the body is 40 bytes longer. ProtocolError if that is no usable key."""
        return bytes(self._box(peer_key).encrypt(plaintext, random(_NONCE_BYTES)))

    def open(self, peer_key: PeerKey, body: bytes) -> bytes:
        """Open what the owner of `peer_key` sealed for us; ProtocolError if it was not, or is damaged."""
        if len(body) < OVERHEAD:
            raise ProtocolError(f"a sealed body has at least {OVERHEAD} bytes, this one has {len(body)}")
        box = self._box(peer_key)
        try:
            return box.decrypt(body)
        except (CryptoError, ValueError):
            raise ProtocolError("a sealed body does not open: damaged, or sealed for another key") from None

    def _box(self, peer_key: PeerKey) -> Box:
        box = self._boxes.get(peer_key)
        if box is not None:
            self._boxes.move_to_end(peer_key)
            return box
        raw = decode_key(peer_key)
        try:
            box = Box(self._private, PublicKey(raw))
        except (CryptoError, RuntimeError):
            # A point of small order: the agreement would be the same for every private key.
            raise ProtocolError(f"{peer_key} is not a usable key") from None
        self._boxes[peer_key] = box
        if len(self._boxes) > _REMOTES:
            self._boxes.popitem(last=False)
        return box
