"""ICE credentials: made and kept here, between the signal driver and the ICE driver, and nowhere else.

Events and effects name them by peer and session id; the passwords themselves never enter the engine.
"""

from __future__ import annotations

import secrets
import string
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from rxnet.model import PeerKey, SessionId

_SESSIONS_PER_PEER = 4
_STRANGERS = 256
"""Keys whose credentials are kept although the network map does not list them (yet): anybody can send us those."""


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """User fragment and password of one side (RFC 8445 section 5.3)."""

    ufrag: str
    pwd: str = field(repr=False)


def new_credentials() -> IceCredentials:
    """Make credentials as Go peers do: 16 and 32 letters, no colon (the signal payload is split at one)."""
    text = _letters(48)
    return IceCredentials(text[:16], text[16:])


def _letters(count: int) -> str:
    """Random letters from one call to the system; `secrets.choice` makes one for each, and a network has thousands."""
    letters, fair = string.ascii_letters, 256 - 256 % 52  # bytes beyond would favour the first letters
    text = ""
    while len(text) < count:
        text += "".join([letters[byte % 52] for byte in secrets.token_bytes(2 * count) if byte < fair])
    return text[:count]


_Sessions = OrderedDict[SessionId | None, IceCredentials]


class CredentialStore:
    """Ours for each peer, theirs for each session; bounded, the least recently named go first.

    :param is_listed: tells whether the network map lists a key. Strangers have a small store of their own, so that
        offers under invented keys cannot push out what real peers said.
    """

    def __init__(self, is_listed: Callable[[PeerKey], bool] = lambda key: True) -> None:
        self._is_listed = is_listed
        self._ours: dict[PeerKey, IceCredentials] = {}
        self._theirs: dict[PeerKey, _Sessions] = {}
        self._strangers: OrderedDict[PeerKey, _Sessions] = OrderedDict()

    def ours(self, peer: PeerKey) -> IceCredentials:
        """Our credentials towards `peer`: the same for all sessions, so that a peer that missed one still fits."""
        found = self._ours.get(peer)
        if found is None:
            found = self._ours[peer] = new_credentials()
        return found

    def remember(self, peer: PeerKey, session: SessionId | None, credentials: IceCredentials) -> None:
        """Keep what an offer or answer of `peer` said; the session may be absent (old clients)."""
        if self._is_listed(peer):
            sessions = self._theirs.setdefault(peer, self._strangers.pop(peer, OrderedDict()))
        else:
            sessions = self._strangers.setdefault(peer, OrderedDict())
            self._strangers.move_to_end(peer)
            if len(self._strangers) > _STRANGERS:
                self._strangers.popitem(last=False)
        sessions[session] = credentials
        sessions.move_to_end(session)
        if len(sessions) > _SESSIONS_PER_PEER:
            sessions.popitem(last=False)

    def theirs(self, peer: PeerKey, session: SessionId | None) -> IceCredentials | None:
        """The credentials of that session, or None if they were never told or are long forgotten."""
        sessions = self._theirs.get(peer) or self._strangers.get(peer)
        return sessions.get(session) if sessions is not None else None

    def forget(self, peer: PeerKey) -> None:
        """Drop both sides' credentials of a peer that is no longer wanted."""
        self._ours.pop(peer, None)
        self._theirs.pop(peer, None)
        self._strangers.pop(peer, None)
