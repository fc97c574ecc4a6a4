"""What the store hands out: the network, registered peers, setup keys."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from uuid import uuid4

from rxnet.model import PeerKey

_SETUP_KEY = re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}")


class SetupKeyRefused(Exception):
    """The setup key is unknown, revoked, expired or used up; which of them is not told to the peer."""


@dataclass(frozen=True, slots=True)
class Network:
    """The one network of this server."""

    prefix: IPv4Network
    prefix_v6: IPv6Network
    serial: int
    """Counts changes of membership; never falls."""
    private_key: bytes = field(repr=False)
    """32 bytes; the management key pair, stable for the life of the data base."""


@dataclass(frozen=True, slots=True)
class StoredPeer:
    """One registered peer. `meta` is a serialized `PeerSystemMeta`; times are seconds since 1970."""

    key: PeerKey
    address: IPv4Address
    address_v6: IPv6Address
    label: str
    hostname: str
    meta: bytes = field(repr=False)
    ssh_key: bytes = field(repr=False)
    created: float
    last_seen: float


@dataclass(frozen=True, slots=True)
class SetupKey:
    """One setup key, without its text: only a hash of that is kept."""

    id: int
    name: str
    hint: str
    """The first five characters, to recognise it by."""
    usage_limit: int
    """How many peers may register with it; 0: any number."""
    used: int
    created: float
    expires: float | None
    revoked: bool

    def is_valid(self, now: float) -> bool:
        """Tell whether a peer could register with it at this time."""
        spent = 0 < self.usage_limit <= self.used
        return not (self.revoked or spent or (self.expires is not None and now >= self.expires))


def new_setup_key_text() -> str:
    """Make the text of a setup key: a random UUID in upper case, as NetBird's."""
    return str(uuid4()).upper()


def normal_setup_key(text: str) -> str | None:
    """Give a setup key its upper-case form, or None if it is not the text of a UUID."""
    upper = text.strip().upper()
    return upper if _SETUP_KEY.fullmatch(upper) else None


def setup_key_hash(text: str) -> str:
    """What is kept of a setup key's (normal) text."""
    # 122 random bits cannot be guessed, so a plain hash is enough; NetBird keeps the same one.
    return base64.b64encode(hashlib.sha256(text.encode("ascii")).digest()).decode("ascii")
