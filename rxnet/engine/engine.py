"""The engine: inbox, reduce and epics wired to one port to the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Final

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable

from rxnet.engine.connections import management_effect, signal_effect
from rxnet.engine.device import addresses_effect, device_effect
from rxnet.engine.effects import Effect, WaitUntil
from rxnet.engine.inbox import Clock, Entropy, Inbox, Input, Reduce, Step
from rxnet.engine.multicast import Multicast
from rxnet.engine.network import network_effect
from rxnet.engine.news import news
from rxnet.engine.offers import silent_round_effect
from rxnet.engine.operators import Epic, PeerWork, Perform, emitted, keyed, running, switch
from rxnet.engine.paths import path_effect
from rxnet.engine.peers import touched
from rxnet.engine.pending import pending_epic
from rxnet.engine.reduce import reduce as default_reduce
from rxnet.engine.state import DeviceStatus, State
from rxnet.engine.timers import wait_until
from rxnet.engine.tunnels import peers_epic
from rxnet.events import EpicFailed, Event
from rxnet.model import PeerKey


def _one(select: Callable[[State], Effect | None]) -> Epic:
    return lambda steps, perform: steps.pipe(running(select, perform))


PATHS: Final = (PeerWork(attrgetter("agent"), path_effect),)


def paths_epic(steps: Observable[Step], perform: Perform) -> Observable[Input]:
    """Keep each connected peer's path: outside the gate, because a path that works outlives signal."""
    return switch(
        steps,
        lambda state: state.device.generation if state.device.status is DeviceStatus.OPEN else None,
        lambda _device, first: steps.pipe(keyed(PATHS, touched, perform, first)),
    )


EPICS: Final[Mapping[str, Epic]] = MappingProxyType(
    {
        # Order matters in one place: `paths` takes an agent over before `pending` lets go of it.
        "news": lambda steps, perform: steps.pipe(emitted(news)),
        "network": _one(network_effect),
        "management": _one(management_effect),
        "signal": _one(signal_effect),
        "device": _one(device_effect),
        "addresses": _one(addresses_effect),
        "peers": peers_epic,
        "paths": paths_epic,
        "pending": pending_epic,
        "silent": _one(silent_round_effect),
    }
)


SHARED_EPICS: Final = frozenset({"network", "management", "signal", "device", "addresses", "silent"})
"""Those that look only at what all peers share: they are spared the steps that concern peers alone, which are most."""


def _shared_changed(step: Step) -> bool:
    before, after = step.before, step.after
    return (
        before.wanted is not after.wanted
        or before.link is not after.link
        or before.management is not after.management
        or before.signal is not after.signal
        or before.device is not after.device
        or before.local is not after.local
        or before.gate is not after.gate
        or before.silent_round_at != after.silent_round_at
        or isinstance(step.stamped.event, EpicFailed)
    )


class Engine:
    """One client's mind. Feed it events with `put`, watch `steps`, read `state`.

    :param own_key: our WireGuard public key.
    :param perform: the port to the world; `WaitUntil` does not reach it, the engine waits on its scheduler.
    :param scheduler: where everything runs: an `AsyncIOScheduler`, or a virtual-time one in tests.
    :param clock: seconds, monotonic.
    :param entropy: 64 random bits a call.
    :param epics: other epics, for tests.
    """

    def __init__(
        self,
        own_key: PeerKey,
        perform: Perform,
        *,
        scheduler: abc.SchedulerBase,
        clock: Clock,
        entropy: Entropy,
        epics: Mapping[str, Epic] = EPICS,
        reduce: Reduce = default_reduce,
    ) -> None:
        self._inbox = Inbox(reduce, State(own_key), scheduler=scheduler, clock=clock, entropy=entropy)
        self._perform = perform
        self._scheduler = scheduler
        self._clock = clock
        put = self._inbox.put_input
        self._runners = [_EpicRunner(name, epic, self.perform, put) for name, epic in epics.items()]
        self._peer_runners = [r for r in self._runners if r.name not in SHARED_EPICS]
        self._inbox.steps.subscribe(self._run_epics)

    @property
    def state(self) -> State:
        """The present state: a value, free to keep."""
        return self._inbox.state

    @property
    def steps(self) -> Observable[Step]:
        """Every step in order. Observers are called inside the drain: they must be quick and must not raise.

        Whoever cannot promise that subscribes through a `Feed`.
        """
        return self._inbox.steps

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._inbox.closed

    @property
    def depth(self) -> int:
        """How many inputs wait in the inbox."""
        return self._inbox.depth

    def put(self, event: Event, cause: int = 0) -> None:
        """Take an event in. Never calls anybody: it is reduced and published by the scheduler's next turn."""
        self._inbox.put(event, cause)

    def close(self) -> None:
        """Dispose everything that is going on and take nothing more in."""
        for runner in self._runners:
            runner.dispose()
        self._inbox.close()

    def perform(self, effect: Effect) -> Observable[Event]:
        """Start an effect: a wait here, everything else in the world."""
        if type(effect) is WaitUntil:
            return wait_until(effect, scheduler=self._scheduler, clock=self._clock)
        return self._perform(effect)

    def _run_epics(self, step: Step) -> None:
        if step.after is step.before and type(step.stamped.event) is not EpicFailed:
            return  # what was late, or known already: nothing can follow from it
        for runner in self._runners if _shared_changed(step) else self._peer_runners:
            runner.on_step(step)


class _EpicRunner:
    """One epic, walled off: if it raises, the others go on, and it starts again from the next step.

    One that raises again on the very news of its failure is left stopped, or the two would go on for ever.
    """

    def __init__(self, name: str, epic: Epic, perform: Perform, put: Callable[[Input], None]) -> None:
        self.name = name
        self._epic = epic
        self._perform = perform
        self._put = put
        self._subscription = SerialDisposable()
        self._start()

    def _start(self) -> None:
        self._steps: Multicast[Step] = Multicast()
        inputs = self._epic(self._steps, self._perform)
        self._error: Exception | None = None
        # Operators hand an error on instead of raising it; both ways end in `on_step`.
        self._subscription.disposable = inputs.subscribe(self._put, self._keep_error)

    def _keep_error(self, error: Exception) -> None:
        self._error = error

    def on_step(self, step: Step) -> None:
        try:
            self._steps.on_next(step)
        except Exception as error:
            self._error = error
        if self._error is not None:
            self._failed(step, self._error)

    def _failed(self, step: Step, error: Exception) -> None:
        event = step.stamped.event
        if isinstance(event, EpicFailed) and event.name == self.name:
            self._subscription.dispose()
            self._put(Input(EpicFailed(f"{self.name} (given up)", repr(error)), step.stamped.seq))
            self._steps, self._error = Multicast(), None
            return
        self._put(Input(EpicFailed(self.name, repr(error)), step.stamped.seq))
        self._start()

    def dispose(self) -> None:
        self._subscription.dispose()
