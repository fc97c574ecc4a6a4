"""The limits of the management driver, together so that one can see that every wait has one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ManagementLimits:
    """Times in seconds (management document, 1.3)."""

    connect: float = 10.0
    """TCP, proxy and TLS together."""
    server_key: float = 5.0
    login: float = 10.0
    first_message: float = 30.0
    """From opening the Sync stream to its first message."""
    sync_meta: float = 10.0
    files: float = 10.0
    """To look at the files and processes that posture checks name."""
    logout: float = 15.0
    """All of it, dialling included."""
    ping_after: float = 30.0
    """A stream on which nothing came for so long is asked for a sign of life (HTTP/2 PING) ..."""
    ping_answer: float = 10.0
    """... and is half-dead if none comes within this time."""
