"""The event stream of one host, as `rxnet up --json` tells it, and questions about it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """One event. `at` is wall-clock time, seconds since 1970."""

    seq: int
    at: float
    cause: int
    kind: str
    name: str
    """Of the event's class."""
    peer: str | None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Its own fields."""


def parse(text: str | bytes) -> Seen | None:
    """Read one line; None if it is not an event."""
    try:
        found = json.loads(text)
        peer = found["peer"]
        return Seen(
            int(found["seq"]),
            datetime.fromisoformat(found["time"]).timestamp(),
            int(found["cause"]),
            str(found["kind"]),
            str(found["event"]),
            str(peer) if peer else None,
            found,
        )
    except (ValueError, KeyError, TypeError):
        return None


class Trace:
    """All events of a host so far, in order."""

    def __init__(self) -> None:
        self.events: list[Seen] = []
        self._by_seq: dict[int, Seen] = {}

    def __len__(self) -> int:
        return len(self.events)

    def add(self, event: Seen) -> None:
        """Take the next event."""
        self.events.append(event)
        self._by_seq[event.seq] = event

    def caused(self, event: Seen) -> Seen | None:
        """What led to an event; None if it is not among those told."""
        return self._by_seq.get(event.cause)

    @property
    def missed(self) -> int:
        """Events between the first and the last that were not told."""
        return self.events[-1].seq - self.events[0].seq + 1 - len(self.events) if self.events else 0

    def find(
        self,
        *names: str,
        since: float = 0.0,
        until: float = float("inf"),
        peer: str | None = None,
        where: Callable[[Seen], bool] = lambda event: True,
    ) -> Iterator[Seen]:
        """The events of these names in [since, until), of one peer if one is named."""
        for event in self.events:
            if event.name in names and since <= event.at < until and peer in (None, event.peer) and where(event):
                yield event

    def first(self, *names: str, since: float = 0.0, peer: str | None = None) -> Seen | None:
        """The first of these names from a time on."""
        return next(self.find(*names, since=since, peer=peer), None)

    def count(self, *names: str, since: float = 0.0, until: float = float("inf")) -> int:
        """How many of these names there are in [since, until)."""
        return sum(1 for _ in self.find(*names, since=since, until=until))

    def connected(self) -> set[str]:
        """The keys of the peers that are connected now."""
        up: set[str] = set()
        for event in self.find("PeerConnected", "PeerDisconnected", "PeerRemoved"):
            if event.peer is not None:
                (up.add if event.name == "PeerConnected" else up.discard)(event.peer)
        return up
