"""The limits of the signal driver, together so that one can see that every wait has one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignalLimits:
    """Times in seconds. The defaults are NetBird's where it has one (signal document, 1.3, 1.6, 1.7)."""

    dial: float = 10.0
    """From the first packet until the server says that we are registered."""
    silence: float = 30.0
    """Without any message for so long, the server is asked to bring back a heartbeat of ours."""
    probe: float = 10.0
    """If nothing came for so long after that, the stream is half-dead."""
    send: float = 10.0
    """For one `SendMessages`, from the moment it is asked for: waiting, all its messages and the retry together."""
    in_flight: int = 64
    """Messages on their way at once, all peers together; below the 100 streams that HTTP/2 servers must allow."""
    report: float = 1.0
    """Between two reports of unreadable messages."""
    burst: int = 32
    """Messages handled before other tasks of the loop have a turn."""
