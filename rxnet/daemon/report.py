"""Events as lines of a log that a person can read. Pure: time comes with the events.

Most events are for machines; what is worth a line is told once, in the words of the user: names instead of keys,
reasons instead of codes. A flood (ten thousand peers in a first map) is cut to a few lines and a count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar, cast

from rxnet import events as e
from rxnet.engine.inbox import Stamped
from rxnet.engine.state import Connection, ConnectionStatus, State
from rxnet.model import HostNetwork, Path, PeerKey, Retry

Level = Literal["debug", "info", "warning", "error"]

_LONGEST: Final = 400
_PER_WINDOW: Final = 12
"""Lines of one class of event that a window lets through."""
_WINDOW: Final = 10.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log."""

    level: Level
    text: str


def clean(text: str) -> str:
    """Text from elsewhere as one line without control characters, cut to a sensible length."""
    text = "".join(c if c.isprintable() else " " for c in text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def describe(event: e.Event, state: State) -> Line | None:
    """The line for one event, in a state that contains it; None if it is not for people."""
    teller = _TELLERS.get(type(event))
    told = teller(event, state) if teller else None
    return Line(told.level, clean(told.text)) if told else None


def text_of(event: e.Event, state: State) -> str:
    """The text for one event; for those that are not worth a line, what kind of event it is."""
    told = describe(event, state)
    return told.text if told else type(event).__name__


# -- lines ----------------------------------------------------------------------------------------------------------

_E = TypeVar("_E", bound=e.Event)
_Teller = Callable[[e.Event, State], Line | None]
_TELLERS: dict[type[e.Event], _Teller] = {}


def _tells(kind: type[_E]) -> Callable[[Callable[[_E, State], Line | None]], Callable[[_E, State], Line | None]]:
    def register(teller: Callable[[_E, State], Line | None]) -> Callable[[_E, State], Line | None]:
        _TELLERS[kind] = cast(_Teller, teller)
        return teller

    return register


def name_of(state: State, key: PeerKey, fqdn: str = "") -> str:
    """A peer's name for people: its DNS name, or the beginning of its key."""
    peer = state.peers.get(key)
    return fqdn or (peer.remote.fqdn if peer else "") or f"peer {key[:8]}..."


def path_text(path: Path) -> str:
    """A path for people."""
    via = "directly" if "relay" not in (path.local_type, path.remote_type) else "through a TURN relay"
    time = f", round trip {path.round_trip * 1000:.1f} ms" if path.round_trip else ""
    return f"{via}, {path.local} ({path.local_type}) to {path.remote} ({path.remote_type}){time}"


def network_text(network: HostNetwork) -> str:
    """The host's addresses for people."""
    shown = [f"{address} on {interface}" for interface, address in network.addresses[:4]]
    more = len(network.addresses) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


@_tells(e.NetworkCameUp)
def _(event: e.NetworkCameUp, _: State) -> Line:
    return Line("info", f"network is up: {network_text(event.network)}")


@_tells(e.NetworkWentDown)
def _(_event: e.NetworkWentDown, _: State) -> Line:
    return Line("warning", "network is down: no interface with a carrier and an address")


@_tells(e.NetworkChanged)
def _(event: e.NetworkChanged, _: State) -> Line:
    return Line("info", f"network changed: {', '.join(event.differences) or network_text(event.network)}")


@_tells(e.NetlinkOverran)
def _(event: e.NetlinkOverran, _: State) -> Line:
    return Line("debug", f"the kernel dropped network news ({event.times} times so far); read everything anew")


@_tells(e.LoggedIn)
def _(event: e.LoggedIn, _: State) -> Line:
    verb = "registered with management" if event.registered else "logged in to management"
    return Line("info", f"{verb} as {event.local.fqdn or 'a nameless peer'}, {event.local.address}")


@_tells(e.ManagementConnected)
def _(_event: e.ManagementConnected, _: State) -> Line:
    return Line("info", "management connected")


@_tells(e.ManagementDisconnected)
def _(event: e.ManagementDisconnected, state: State) -> Line:
    if event.retry is Retry.NEVER:
        return Line("error", f"management ended for good: {event.reason}")
    return Line("warning", f"management disconnected: {event.reason}{_again(state.management)}")


@_tells(e.LoginRefused)
def _(event: e.LoginRefused, _: State) -> Line:
    return Line("error", f"management refused the login: {event.reason}")


@_tells(e.NetworkMapReceived)
def _(event: e.NetworkMapReceived, state: State) -> Line | None:
    if not event.last:
        return None
    return Line("info", f"network map {event.serial}: {_peers(len(state.peers))}")


@_tells(e.NetworkMapFaulted)
def _(event: e.NetworkMapFaulted, _: State) -> Line:
    entries = "1 entry" if event.count == 1 else f"{event.count} entries"
    return Line("warning", f"network map: {entries} refused: {'; '.join(event.complaints)}")


@_tells(e.ChecksReported)
def _(event: e.ChecksReported, _: State) -> Line:
    return Line("debug", f"management asked about {event.paths} files and processes and was told")


@_tells(e.SignalConnected)
def _(_event: e.SignalConnected, _: State) -> Line:
    return Line("info", "signal connected")


@_tells(e.SignalDisconnected)
def _(event: e.SignalDisconnected, state: State) -> Line:
    return Line("warning", f"signal disconnected: {event.reason}{_again(state.signal)}")


@_tells(e.SignalMessageUnreadable)
def _(event: e.SignalMessageUnreadable, state: State) -> Line:
    sender = name_of(state, PeerKey(event.sender))
    return Line("warning", f"dropped {event.count} unreadable signal message(s) of {sender}: {event.reason}")


@_tells(e.MessagesNotSent)
def _(event: e.MessagesNotSent, state: State) -> Line:
    return Line("debug", f"signal did not take a message to {name_of(state, event.peer)}: {event.reason}")


@_tells(e.OfferReceived)
def _(event: e.OfferReceived, state: State) -> Line:
    return Line("debug", f"{name_of(state, event.peer)} offers a connection")


@_tells(e.AnswerReceived)
def _(event: e.AnswerReceived, state: State) -> Line:
    return Line("debug", f"{name_of(state, event.peer)} answered")


@_tells(e.NegotiationFailed)
def _(event: e.NegotiationFailed, state: State) -> Line:
    return Line("info", f"no path to {name_of(state, event.peer)} found: {event.reason}")


@_tells(e.PathSelected)
def _(event: e.PathSelected, state: State) -> Line:
    return Line("debug", f"path to {name_of(state, event.peer)}: {path_text(event.path)}")


@_tells(e.PathLost)
def _(event: e.PathLost, state: State) -> Line:
    return Line("debug", f"path to {name_of(state, event.peer)} lost: {event.reason}")


@_tells(e.DeviceOpened)
def _(event: e.DeviceOpened, _: State) -> Line:
    kind = "kernel" if event.kernel else "userspace"
    return Line("info", f"interface {event.name} is up, UDP port {event.port}, {kind} WireGuard")


@_tells(e.DeviceFailed)
def _(event: e.DeviceFailed, _: State) -> Line:
    again = "; trying again" if event.retry else ""
    return Line("warning" if event.retry else "error", f"WireGuard interface failed: {event.reason}{again}")


@_tells(e.DeviceRefused)
def _(event: e.DeviceRefused, _: State) -> Line:
    return Line("warning", f"WireGuard interface refused {event.what}: {event.reason}")


@_tells(e.EffectFailed)
def _(event: e.EffectFailed, state: State) -> Line:
    about = f" for {name_of(state, event.peer)}" if event.peer else ""
    return Line("error", f"internal error in {event.effect}{about}: {event.reason}; please report it")


@_tells(e.EpicFailed)
def _(event: e.EpicFailed, _: State) -> Line:
    return Line("error", f"internal error in {event.name}: {event.reason}; please report it")


@_tells(e.PeerAdded)
def _(event: e.PeerAdded, state: State) -> Line:
    return Line("debug", f"{name_of(state, event.peer, event.fqdn)} joined the network map")


@_tells(e.PeerRemoved)
def _(event: e.PeerRemoved, state: State) -> Line:
    return Line("info", f"{name_of(state, event.peer, event.fqdn)} left the network map")


@_tells(e.PeerConnected)
def _(event: e.PeerConnected, state: State) -> Line:
    return Line("info", f"{name_of(state, event.peer, event.fqdn)} connected {path_text(event.path)}")


@_tells(e.PeerDisconnected)
def _(event: e.PeerDisconnected, state: State) -> Line:
    return Line("info", f"{name_of(state, event.peer, event.fqdn)} disconnected: {event.reason}")


@_tells(e.OffersCancelled)
def _(event: e.OffersCancelled, _: State) -> Line | None:
    return Line("info", f"{event.reason}: stopped all work for {_peers(event.count)}") if event.count else None


@_tells(e.OffersStarted)
def _(event: e.OffersStarted, _: State) -> Line | None:
    return Line("info", f"connecting to {_peers(event.count)}") if event.count else None


def _peers(count: int) -> str:
    return "1 peer" if count == 1 else f"{count} peers"


def _again(connection: Connection) -> str:
    if connection.status is not ConnectionStatus.WAITING or connection.retry_at is None:
        return ""
    return f"; again in {max(0.0, connection.retry_at - connection.since):.1f} s"


# -- floods ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Window:
    since: float
    told: int = 0
    dropped: int = 0


@dataclass(slots=True)
class Reporter:
    """Events to lines, at most a dozen of a class in ten seconds; the rest is counted and told when that is over.

    `flush_at` is when a count falls due (None: nothing was held back); the owner then calls `flush`.
    """

    debug: bool = False
    """Whether lines of level debug are wanted at all."""
    flush_at: float | None = None
    _windows: dict[str, _Window] = field(default_factory=dict)

    def report(self, stamped: Stamped, state: State) -> list[Line]:
        """The lines that are due now; `state` already contains the event."""
        lines = self.flush(stamped.at)
        line = describe(stamped.event, state)
        if line is None or (line.level == "debug" and not self.debug):
            return lines
        name = type(stamped.event).__name__
        window = self._windows.get(name)
        if window is None or stamped.at - window.since >= _WINDOW:
            window = self._windows[name] = _Window(stamped.at)
        if window.told < _PER_WINDOW:
            window.told += 1
            return [*lines, line]
        window.dropped += 1
        if self.flush_at is None:
            self.flush_at = window.since + _WINDOW
        return lines

    def flush(self, at: float) -> list[Line]:
        """The counts of windows that are over."""
        if self.flush_at is None or at < self.flush_at:
            return []
        over = {n: w for n, w in self._windows.items() if w.dropped and at - w.since >= _WINDOW}
        for name in over:
            del self._windows[name]
        due = [w.since + _WINDOW for w in self._windows.values() if w.dropped]
        self.flush_at = min(due, default=None)
        return [Line("info", f"... and {w.dropped} more of that ({_words(n)})") for n, w in sorted(over.items())]


def _words(name: str) -> str:
    """`PeerConnected` as `peer connected`."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
