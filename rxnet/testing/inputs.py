"""What the marks of input lanes mean: the hand that plays the drivers, the peers and the user.

Reports carry the generation of the work that goes on, as a driver's do; on a lane whose name ends in `late` they carry
the generation before it, as a cancelled driver's would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from rxnet.engine.effects import (
    Effect,
    KeepPath,
    Negotiate,
    OpenDevice,
    OpenManagement,
    OpenSignal,
    SendMessages,
    WatchNetwork,
)
from rxnet.engine.engine import Engine
from rxnet.events import (
    AnswerReceived,
    CandidateReceived,
    CandidatesGathered,
    DeviceFailed,
    DeviceOpened,
    DownRequested,
    EffectFailed,
    Event,
    GoIdleReceived,
    LoggedIn,
    LoginRefused,
    ManagementConnected,
    ManagementDisconnected,
    MessagesNotSent,
    MessagesSent,
    NegotiationFailed,
    NetlinkOverran,
    NetworkCameUp,
    NetworkChanged,
    NetworkMapReceived,
    NetworkWentDown,
    OfferReceived,
    PathLost,
    PathSelected,
    SignalConnected,
    SignalDisconnected,
    UpRequested,
)
from rxnet.model import HostNetwork, PeerKey, Retry
from rxnet.testing import cast
from rxnet.testing.drivers import VirtualDrivers

INPUTS: Final[dict[str, dict[str, str]]] = {
    "user": {"U": "asks to be up", "D": "asks to be down"},
    "network": {
        "U": "came up",
        "D": "went down",
        "A": "changed: the address is another one",
        "B": "changed: one more address, nothing gone",
        "O": "netlink overran",
        "E": "the driver fails unexpectedly",
    },
    "management": {
        "L": "logged in",
        "M": "logged in, and signal is elsewhere now",
        "C": "connected",
        "A": "a map says that our overlay address is another one",
        "X": "disconnected: back off",
        "I": "disconnected: log in again",
        "S": "disconnected: it limits us, come back slowly",
        "V": "disconnected: never come back",
        "R": "refused the login",
        "E": "the driver fails unexpectedly",
    },
    "signal": {"C": "connected", "X": "disconnected", "E": "the driver fails unexpectedly"},
    "device": {
        "O": "opened",
        "X": "failed, worth another try",
        "F": "failed for good",
        "E": "the driver fails unexpectedly",
    },
    "map": {"a-z": "lists the peer, or a change of its entry", "A-Z": "no longer lists it"},
    "map part": {"a-z": "as map, with more parts to come"},
    "p": {
        "o": "its offer",
        "n": "its offer with a new session",
        "N": "its offer with a new session and new credentials: a new process",
        "i": "its offer without ICE",
        "j": "its offer without a session id (an old client)",
        "a": "its answer",
        "b": "its answer with a new session",
        "c": "a new candidate of it",
        "r": "its latest candidate once more",
        "z": "goes idle",
        "g": "our agent gathered a candidate",
        "s": "our agent selected a path",
        "S": "our agent selected another path",
        "f": "our agent failed",
        "l": "our agent lost its path",
        "E": "our agent's driver fails unexpectedly",
        "m": "signal took our messages (when the test answers by hand)",
        "x": "signal did not take our messages (when the test answers by hand)",
    },
}
"""Lane, mark, meaning. `p` stands for every peer's letter."""


@dataclass(slots=True)
class _Remote:
    """What one peer said last."""

    session: int = 1
    process: int = 1
    candidates: int = 0
    paths: int = 1
    gathered: int = 0


@dataclass(slots=True)
class Hand:
    """Plays one mark at a time into an engine."""

    engine: Engine
    drivers: VirtualDrivers
    _network: HostNetwork = field(default_factory=lambda: cast.network(0))
    _moves: int = 0
    _commands: int = 0
    _serial: int = 0
    _versions: dict[str, int] = field(default_factory=dict)
    _remotes: dict[str, _Remote] = field(default_factory=dict)

    def play(self, lane: str, symbols: str) -> None:
        """Play the marks that one lane has in one instant.

        :raises KeyError: if the lane has no such mark or there is no such lane; the argument tells.
        """
        base, late = (lane[: -len(" late")], True) if lane.endswith(" late") else (lane, False)
        if base in ("map", "map part"):
            self._map(symbols, last=base == "map")
            return
        for symbol in symbols:
            self._play_one(base, symbol, late)

    def _play_one(self, lane: str, symbol: str, late: bool) -> None:
        if len(lane) == 1:
            self._peer(lane, symbol, late)
        elif lane == "user":
            self._commands += 1
            command = {"U": UpRequested, "D": DownRequested}[symbol]
            self.engine.put(command(str(self._commands)))
        else:
            play = {
                "network": self._host,
                "management": self._management,
                "signal": self._signal,
                "device": self._device,
            }[lane]
            play(symbol, late)

    # -- reports -----------------------------------------------------------------------------------------------------

    def _report(
        self,
        effects: tuple[type[Effect], ...],
        peer: PeerKey | None,
        current: int,
        late: bool,
        make: Callable[[int], Event],
    ) -> None:
        if late:
            self.engine.put(make(current - 1))
            return
        for effect in effects:
            work = self.drivers.find(effect, peer)
            if work is not None:
                work.report(make(getattr(work.effect, "generation", 0)))
                return
        self.engine.put(make(current))

    def _host(self, symbol: str, late: bool) -> None:
        current = self.engine.state.link.generation
        self._report((WatchNetwork,), None, current, late, lambda generation: self._host_event(symbol, generation))

    def _host_event(self, symbol: str, generation: int) -> Event:
        if symbol == "O":
            return NetlinkOverran(1)
        if symbol == "E":
            return EffectFailed(WatchNetwork.__name__, generation, "surprise")
        if symbol == "D":
            return NetworkWentDown(HostNetwork())
        if symbol == "U":
            return NetworkCameUp(self._network)
        self._moves += 1
        if symbol == "A":
            self._network = cast.network(self._moves)
            return NetworkChanged(self._network, ("the address of eth0 is another one",))
        if symbol == "B":
            held = self._network
            more = (*held.addresses, *cast.network(0, self._moves).addresses[-1:])
            self._network = replace(held, addresses=more)
            return NetworkChanged(self._network, ("wlan0 has an address",))
        raise KeyError(symbol)

    def _management(self, symbol: str, late: bool) -> None:
        current = self.engine.state.management.generation
        retries = {"X": Retry.BACK_OFF, "I": Retry.LOG_IN, "S": Retry.SLOWLY, "V": Retry.NEVER}

        def make(generation: int) -> Event:
            if symbol == "L":
                return LoggedIn(generation, cast.LOCAL, cast.SIGNAL)
            if symbol == "M":
                return LoggedIn(generation, cast.LOCAL, cast.OTHER_SIGNAL)
            if symbol == "C":
                return ManagementConnected(generation)
            if symbol == "A":
                self._serial += 1
                return NetworkMapReceived(generation, self._serial, cast.OTHER_LOCAL, ())
            if symbol == "R":
                return LoginRefused(generation, "the setup key is spent: ask for another one")
            if symbol == "E":
                return EffectFailed(OpenManagement.__name__, generation, "surprise")
            return ManagementDisconnected(generation, "the stream ended", retries[symbol])

        self._report((OpenManagement,), None, current, late, make)

    def _signal(self, symbol: str, late: bool) -> None:
        made: dict[str, Callable[[int], Event]] = {
            "C": SignalConnected,
            "X": lambda generation: SignalDisconnected(generation, "the stream ended"),
            "E": lambda generation: EffectFailed(OpenSignal.__name__, generation, "surprise"),
        }
        self._report((OpenSignal,), None, self.engine.state.signal.generation, late, made[symbol])

    def _device(self, symbol: str, late: bool) -> None:
        made: dict[str, Callable[[int], Event]] = {
            "O": lambda generation: DeviceOpened(generation, cast.DEVICE_NAME, cast.DEVICE_PORT),
            "X": lambda generation: DeviceFailed(generation, "it died", retry=True),
            "F": lambda generation: DeviceFailed(generation, "no permission"),
            "E": lambda generation: EffectFailed(OpenDevice.__name__, generation, "surprise"),
        }
        self._report((OpenDevice,), None, self.engine.state.device.generation, late, made[symbol])

    def _map(self, symbols: str, *, last: bool) -> None:
        changed, removed = [], []
        for symbol in symbols:
            letter = symbol.lower()
            if not letter.isalpha():
                raise KeyError(symbol)
            if symbol.isupper():
                removed.append(cast.key_of(letter))
                continue
            version = self._versions[letter] = self._versions.get(letter, -1) + 1
            changed.append(cast.remote(letter, version))
        self._serial += 1
        serial = self._serial
        self._report(
            (OpenManagement,),
            None,
            self.engine.state.management.generation,
            False,
            lambda generation: NetworkMapReceived(
                generation, serial, cast.LOCAL, tuple(changed), tuple(removed), last=last
            ),
        )

    # -- peers -------------------------------------------------------------------------------------------------------

    def _peer(self, letter: str, symbol: str, late: bool) -> None:
        key, said = cast.key_of(letter), self._remotes.setdefault(letter, _Remote())
        message = self._message(letter, symbol, key, said)
        if message is not None:
            self._report((OpenSignal,), None, 0, False, lambda _: message)
        elif symbol in "mx":
            self._messages_left(key, symbol)
        else:
            self._agent(letter, symbol, key, said, late)

    def _message(self, letter: str, symbol: str, key: PeerKey, said: _Remote) -> Event | None:
        if symbol in "nNb":
            said.session += 1
        if symbol == "N":
            said.process += 1
        session, ufrag = cast.session(letter, said.session), cast.ufrag(letter, said.process)
        if symbol in "onN":
            return OfferReceived(key, session, ufrag=ufrag)
        if symbol == "j":
            return OfferReceived(key, None, ufrag=ufrag)
        if symbol == "i":
            return OfferReceived(key, None, ice=False)
        if symbol in "ab":
            return AnswerReceived(key, session, ufrag=ufrag)
        if symbol in "cr":
            said.candidates += symbol == "c"
            return CandidateReceived(key, cast.candidate(letter, said.candidates))
        return GoIdleReceived(key) if symbol == "z" else None

    def _messages_left(self, key: PeerKey, symbol: str) -> None:
        work = self.drivers.find(SendMessages, key)
        if work is None:
            raise KeyError(f"{symbol}: no message to {cast.letter_of(key)} is on its way")
        assert isinstance(work.effect, SendMessages)
        ids = tuple(message.id for message in work.effect.messages)
        work.report(MessagesSent(key, ids) if symbol == "m" else MessagesNotSent(key, ids, "no answer from signal"))

    def _agent(self, letter: str, symbol: str, key: PeerKey, said: _Remote, late: bool) -> None:
        held = self.engine.state.peers.get(key)
        said.paths += symbol == "S"
        said.gathered += symbol == "g"
        path, candidates = cast.path(letter, said.paths), (cast.own_candidate(said.gathered),)
        made: dict[str, Callable[[int], Event]] = {
            "g": lambda generation: CandidatesGathered(key, generation, candidates),
            "s": lambda generation: PathSelected(key, generation, path),
            "S": lambda generation: PathSelected(key, generation, path),
            "f": lambda generation: NegotiationFailed(key, generation, "no pair answered"),
            "l": lambda generation: PathLost(key, generation, "nothing came for 6 s"),
            "E": lambda generation: EffectFailed(Negotiate.__name__, generation, "surprise", key),
        }
        generation = 0 if held is None else held.generation
        self._report((KeepPath, Negotiate), key, generation, late, made[symbol])
