"""From events to lanes of marbles. Pure: the same events give the same lanes, live or from a file.

A marble is an event; the line between marbles is what holds meanwhile. One lane each for the network, signal,
management and every peer, seen from one host. What a shared event does to all peers (offers cancelled, offers started)
is put on each peer's lane that it concerns.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from rxnet.demo.trace import Seen


class Mark(Enum):
    """What a marble tells, by rising importance: where several share a column, the most important is drawn."""

    NEWS = 1
    """Something was learnt: a login, a network map, a changed address."""
    FAILED = 2
    """Another attempt did not work."""
    OFFER = 3
    """An offer is on its way to the peer."""
    UP = 4
    LOST = 5
    CANCELLED = 6
    """What was pending for the peer was given up at once."""


class Line(Enum):
    """What holds between two marbles."""

    UNKNOWN = "unknown"
    UP = "up"
    HELD = "held"
    """A tunnel whose network is away: kept, in the hope that it is back soon."""
    PENDING = "pending"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Marble:
    """One event on a lane."""

    at: float
    mark: Mark


@dataclass(slots=True)
class Lane:
    """One line of the picture."""

    name: str
    note: str = ""
    """What kind of peer it is, if not an ordinary one."""
    marbles: list[Marble] = field(default_factory=list)
    _times: list[float] = field(default_factory=list)
    _lines: list[Line] = field(default_factory=list)

    @property
    def line(self) -> Line:
        """What holds at the end."""
        return self._lines[-1] if self._lines else Line.UNKNOWN

    def line_at(self, at: float) -> Line | None:
        """What holds at a time; None before the lane begins."""
        index = bisect_right(self._times, at)
        return self._lines[index - 1] if index else None

    def put(self, at: float, mark: Mark | None, line: Line | None = None) -> None:
        """Add a marble, a change of the line, or both."""
        if mark is not None:
            self.marbles.append(Marble(at, mark))
        if line is not None and line is not self.line:
            self._times.append(at)
            self._lines.append(line)
        elif not self._lines:
            self._times.append(at)
            self._lines.append(Line.UNKNOWN)


_UP: Final = {"NetworkCameUp": "network", "SignalConnected": "signal", "ManagementConnected": "management"}
_LOST: Final = {
    "NetworkWentDown": "network",
    "SignalDisconnected": "signal",
    "ManagementDisconnected": "management",
    "LoginRefused": "management",
}
_NEWS: Final = {"NetworkChanged": "network", "LoggedIn": "management", "NetworkMapReceived": "management"}


class Timeline:
    """The lanes of one host.

    :param notes: what to say of peers with these names, behind their names.
    """

    def __init__(self, notes: Mapping[str, str] | None = None) -> None:
        self.shared = {name: Lane(name) for name in ("network", "signal", "management")}
        self.peers: dict[str, Lane] = {}
        """By public key."""
        self.acts: list[tuple[float, int]] = []
        """When which act of the story began."""
        self.cancelled: set[str] = set()
        """Keys of the peers for which something was pending when the gate closed, the first time."""
        self._notes = notes or {}

    @property
    def lanes(self) -> list[Lane]:
        """All lanes in the order of the picture."""
        return [*self.shared.values(), *sorted(self.peers.values(), key=lambda lane: natural(lane.name))]

    def times(self) -> list[float]:
        """When something happened, sorted, without repeats."""
        return sorted({marble.at for lane in self.lanes for marble in lane.marbles} | {at for at, _ in self.acts})

    def feed(self, event: Seen) -> None:
        """Take the next event."""
        if event.peer is not None:
            self._peer(event)
        elif event.name in _UP:
            self.shared[_UP[event.name]].put(event.at, Mark.UP, Line.UP)
        elif event.name in _LOST:
            lane = self.shared[_LOST[event.name]]
            lane.put(event.at, Mark.LOST if lane.line in (Line.UP, Line.UNKNOWN) else Mark.FAILED, Line.DOWN)
        elif event.name in _NEWS and event.data.get("last", True):
            self.shared[_NEWS[event.name]].put(event.at, Mark.NEWS)
        elif event.name in ("OffersCancelled", "OffersStarted"):
            self._all_peers(event)
        if event.name == "NetworkWentDown":
            self._without_network(event.at)
        elif event.name == "NetworkCameUp":
            self._change(event.at, Line.HELD, Line.UP)

    def _peer(self, event: Seen) -> None:
        assert event.peer is not None
        lane = self.peers.get(event.peer)
        if lane is None:
            if event.name != "PeerAdded":
                return  # early messages of a peer that the map does not list yet
            name = str(event.data.get("fqdn") or event.peer[:8]).partition(".")[0]
            lane = self.peers[event.peer] = Lane(name, self._notes.get(name, ""))
            lane.put(event.at, None, Line.DOWN)
        if event.name == "PeerConnected":
            lane.put(event.at, Mark.UP, Line.UP)
        elif event.name in ("PeerDisconnected", "PeerRemoved"):
            lane.put(event.at, Mark.LOST, Line.DOWN)
        elif event.name == "NegotiationFailed":
            lane.put(event.at, Mark.FAILED)
        elif event.name == "DeadlineReached" and event.data.get("name") == "offer" and lane.line is Line.PENDING:
            lane.put(event.at, Mark.OFFER)

    def _all_peers(self, event: Seen) -> None:
        first = not self.cancelled
        for key, lane in self.peers.items():
            if event.name == "OffersStarted" and lane.line in (Line.DOWN, Line.PENDING):
                lane.put(event.at, Mark.OFFER, Line.PENDING)
            elif event.name == "OffersCancelled" and lane.line is Line.PENDING:
                lane.put(event.at, Mark.CANCELLED, Line.DOWN)
                if first:
                    self.cancelled.add(key)

    def _without_network(self, at: float) -> None:
        """Connections end with the network, without an event of their own; tunnels are kept for a while."""
        for name in ("signal", "management"):
            if self.shared[name].line is Line.UP:
                self.shared[name].put(at, None, Line.DOWN)
        self._change(at, Line.UP, Line.HELD)

    def _change(self, at: float, before: Line, after: Line) -> None:
        for lane in self.peers.values():
            if lane.line is before:
                lane.put(at, None, after)


def natural(name: str) -> tuple[object, ...]:
    """A sort key that puts h2 before h10."""
    digits = name.lstrip("abcdefghijklmnopqrstuvwxyz-")
    return (name[: len(name) - len(digits)], int(digits)) if digits.isdigit() else (name, -1)
