"""ICE credentials: made and kept here, between the signal driver and the ICE driver, and nowhere else.

Events and effects name them by peer and session id; the passwords themselves never enter the engine.
"""

from __future__ import annotations

import secrets
import string
from collections import OrderedDict
from dataclasses import dataclass, field

from rxnet.model import PeerKey, SessionId

_SESSIONS_PER_PEER = 4
_PEERS = 20_000


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """User fragment and password of one side (RFC 8445 section 5.3)."""

    ufrag: str
    pwd: str = field(repr=False)


def new_credentials() -> IceCredentials:
    """Make credentials as Go peers do: 16 and 32 letters, no colon (the signal payload is split at one)."""
    letters = string.ascii_letters
    return IceCredentials(
        "".join(secrets.choice(letters) for _ in range(16)),
        "".join(secrets.choice(letters) for _ in range(32)),
    )


class CredentialStore:
    """Ours for each peer, theirs for each session; bounded, the least recently named go first."""

    def __init__(self) -> None:
        self._ours: OrderedDict[PeerKey, IceCredentials] = OrderedDict()
        self._theirs: OrderedDict[PeerKey, OrderedDict[SessionId | None, IceCredentials]] = OrderedDict()

    def ours(self, peer: PeerKey) -> IceCredentials:
        """Our credentials towards `peer`: the same for all sessions, so that a peer that missed one still fits."""
        found = self._ours.get(peer)
        if found is None:
            found = self._ours[peer] = new_credentials()
            if len(self._ours) > _PEERS:
                self._ours.popitem(last=False)
        return found

    def remember(self, peer: PeerKey, session: SessionId | None, credentials: IceCredentials) -> None:
        """Keep what an offer or answer of `peer` said; the session may be absent (old clients)."""
        sessions = self._theirs.setdefault(peer, OrderedDict())
        sessions[session] = credentials
        sessions.move_to_end(session)
        self._theirs.move_to_end(peer)
        if len(sessions) > _SESSIONS_PER_PEER:
            sessions.popitem(last=False)
        if len(self._theirs) > _PEERS:
            self._theirs.popitem(last=False)

    def theirs(self, peer: PeerKey, session: SessionId | None) -> IceCredentials | None:
        """The credentials of that session, or None if they were never told or are long forgotten."""
        sessions = self._theirs.get(peer)
        return sessions.get(session) if sessions is not None else None

    def forget(self, peer: PeerKey) -> None:
        """Drop both sides' credentials of a peer that is no longer wanted."""
        self._ours.pop(peer, None)
        self._theirs.pop(peer, None)
