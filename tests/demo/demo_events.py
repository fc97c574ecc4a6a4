"""A made-up host's events, for tests of the picture: one call is one event."""

from __future__ import annotations

from typing import Any

from rxnet.demo.trace import Seen


class Script:
    """Events with times in seconds from zero; sequence numbers count up."""

    def __init__(self) -> None:
        self.events: list[Seen] = []

    def at(self, at: float, event: str, peer: str | None = None, /, **data: Any) -> Script:
        kind = "peer" if peer else "own"
        self.events.append(Seen(len(self.events) + 1, at, 0, kind, event, peer, data))
        return self


def seeds_scenario() -> list[Seen]:
    """Link cut, pending offers cancelled, signal back, peers reconnected: h2 is well, h3 never answers."""
    script = Script()
    script.at(0.0, "NetworkCameUp").at(1.0, "LoggedIn").at(1.5, "SignalConnected").at(2.0, "ManagementConnected")
    script.at(2.5, "PeerAdded", "B", fqdn="h2.rxnet.internal").at(2.5, "PeerAdded", "C", fqdn="h3.rxnet.internal")
    script.at(3.0, "OffersStarted", count=2).at(4.0, "PeerConnected", "B")
    script.at(6.0, "DeadlineReached", "C", name="offer")
    script.at(8.0, "NetworkWentDown").at(8.0, "OffersCancelled", count=1)
    script.at(12.0, "PeerDisconnected", "B")
    script.at(16.0, "NetworkCameUp").at(16.5, "SignalConnected").at(16.6, "OffersStarted", count=2)
    script.at(17.0, "PeerConnected", "B")
    return script.events
