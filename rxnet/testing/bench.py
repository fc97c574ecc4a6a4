"""A bench: one engine on virtual time, with a hand that plays the world to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from rxnet.engine.effects import AssignAddresses, Effect, GiveCandidates, SendMessages, SetPeers
from rxnet.engine.engine import EPICS, Engine
from rxnet.engine.inbox import Reduce, Step
from rxnet.engine.operators import Epic
from rxnet.engine.reduce import reduce as default_reduce
from rxnet.engine.state import State
from rxnet.events import Event
from rxnet.testing import cast
from rxnet.testing.diagram import DiagramError
from rxnet.testing.drivers import Started, VirtualDrivers, Watcher, Work, sent_at_once
from rxnet.testing.inputs import Hand
from rxnet.testing.virtual import VirtualScheduler, even_entropy

CONDITIONS: Final[dict[str, tuple[str, str]]] = {
    "up": ("user", "U"),
    "network": ("network", "U"),
    "login": ("management", "L"),
    "management": ("management", "C"),
    "signal": ("signal", "C"),
    "device": ("device", "O"),
}
"""What can be given, with the lane and the mark that bring it about; `ready` is all of it in this order."""

_SILENCE: Final = 60.0
"""Seconds after which the offers to a peer that never answers are exhausted, whatever the jitter."""


def done_at_once(work: Work) -> None:
    """Do what the driver of a short effect does when all goes well: finish."""
    work.observer.on_completed()


class Bench:
    """An engine whose drivers do nothing of their own, and the hand that plays them.

    :param jitter: which part of its interval every back-off waits: nearly all of it, so that waits are the nominal
        1, 1.7, 2.9 ... seconds.
    :param seed: of everything else that is drawn by chance.
    :param by_hand: leave it to marks to say what became of messages, instead of "sent at once".
    :param on_start: what the driver of an effect does when it starts.
    :param keep_steps: keep every step and every effect; without it, only the latest effects.
    :param watchers: told of every start and end of an effect.
    """

    def __init__(
        self,
        *watchers: Watcher,
        jitter: float = 0.999,
        seed: int = 0,
        by_hand: bool = False,
        reduce: Reduce = default_reduce,
        epics: Mapping[str, Epic] = EPICS,
        on_start: Mapping[type[Effect], Started] | None = None,
        keep_steps: bool = True,
    ) -> None:
        self.scheduler = VirtualScheduler()
        acts: dict[type[Effect], Started] = dict.fromkeys((SetPeers, AssignAddresses, GiveCandidates), done_at_once)
        if not by_hand:
            acts[SendMessages] = sent_at_once
        acts.update(on_start or {})
        self.drivers = VirtualDrivers(self.scheduler.clock, acts, *watchers, keep=None if keep_steps else 50)
        self.engine = Engine(
            cast.OWN,
            self.drivers,
            scheduler=self.scheduler,
            clock=self.scheduler.clock,
            entropy=even_entropy(seed, jitter),
            epics=self.drivers.recording(epics),
            reduce=reduce,
        )
        self.steps: list[Step] = []
        """Every step so far."""
        self.hand = Hand(self.engine, self.drivers)
        if keep_steps:
            self.engine.steps.subscribe(self.steps.append)

    @property
    def state(self) -> State:
        return self.engine.state

    @property
    def events(self) -> list[Event]:
        """Every event so far."""
        return [step.stamped.event for step in self.steps]

    def play(self, lane: str, marks: str) -> None:
        """Play marks of an input lane and let the engine work them off; no time passes.

        :raises KeyError: if there is no such lane or mark.
        """
        self.hand.play(lane, marks)
        self.scheduler.settle()

    def put(self, *events: Event) -> None:
        """Put events into the inbox, all before the engine works off the first."""
        for event in events:
            self.engine.put(event)
        self.scheduler.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.scheduler.advance(seconds)

    def given(self, phrases: Iterable[str]) -> None:
        """Bring about what a diagram's `given:` line says.

        :raises DiagramError: if a phrase is not known.
        """
        for phrase in phrases:
            word, _, letters = phrase.partition(" ")
            if phrase == "ready":
                self.given(CONDITIONS)
            elif phrase in CONDITIONS:
                self.play(*CONDITIONS[phrase])
            elif phrase == "silence":
                self.advance(_SILENCE)
            elif word == "peers" and letters:
                self.play("map", letters)
            elif word == "connected" and letters:
                for letter in letters:
                    self.play(letter, "o")
                    self.play(letter, "s")
            else:
                known = ", ".join(("ready", *CONDITIONS, "peers pq", "connected pq", "silence"))
                raise DiagramError(f'"given: {phrase}" is not known; known are {known}')

    def close(self) -> None:
        self.engine.close()


def ready(*phrases: str, make: Callable[..., Bench] = Bench) -> Bench:
    """Make a bench whose engine is connected to everything, and bring about more."""
    bench = make()
    bench.given(("ready", *phrases))
    return bench
