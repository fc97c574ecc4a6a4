"""The operators that epics are made of. Each says which effect should be going on; starting and stopping follow.

``running``  one effect at a time, chosen by the state::

    wanted   --A-----A--B------0----A---|
    perform     A:a--b--        (A again)
    out      ----a---b--(B's)-----------

``keyed``  one effect a peer, reached through a dict: an event touches its own peer only.

``emitted``  events that follow from a step at once.

All of them hand out `Input`s whose cause is the event that started the effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import reactivex
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import CompositeDisposable, Disposable

from rxnet.engine.effects import Effect
from rxnet.engine.inbox import Input, Step
from rxnet.engine.state import State
from rxnet.events import Event
from rxnet.model import PeerKey

Perform = Callable[[Effect], Observable[Event]]
"""The engine's only port to the world. Cold; disposing cancels; never errors."""

Epic = Callable[[Observable[Step], Perform], Observable[Input]]
"""Steps in, inputs out, nothing kept but subscriptions."""

_T = TypeVar("_T")
Select = Callable[[State], Effect | None]
SelectPeer = Callable[[State, PeerKey], Effect | None]
Touched = Callable[[Step], Iterable[PeerKey]]


def caused(effects: Observable[Event], cause: int) -> Observable[Input]:
    """Carry the cause through an effect: what it reports was led to by the event that started it."""

    def with_cause(event: Event) -> Input:
        return Input(event, cause)

    return effects.pipe(ops.map(with_cause))


def switch(
    steps: Observable[Step], choose: Callable[[State], _T], project: Callable[[_T, Step], Observable[Input]]
) -> Observable[Input]:
    """`switch_map` on a part of the state: when it changes, the inner before is disposed, `project` subscribed to."""

    def pair(step: Step) -> tuple[_T, Step]:
        return choose(step.after), step

    def part(chosen: tuple[_T, Step]) -> _T:
        return chosen[0]

    def inner(chosen: tuple[_T, Step]) -> Observable[Input]:
        return project(*chosen)

    return steps.pipe(ops.map(pair), ops.distinct_until_changed(part), ops.switch_map(inner))


def running(select: Select, perform: Perform) -> Callable[[Observable[Step]], Observable[Input]]:
    """Keep the selected effect going: start it when it appears, cancel it when it changes or goes."""

    def project(effect: Effect | None, step: Step) -> Observable[Input]:
        return reactivex.never() if effect is None else caused(perform(effect), step.stamped.seq)

    return lambda steps: switch(steps, select, project)


def keyed(
    select: SelectPeer, touched: Touched, perform: Perform, first: Step
) -> Callable[[Observable[Step]], Observable[Input]]:
    """Keep one effect a peer going. Starts from `first` with all peers, then looks only at those a step touches.

    Disposing ends all of them: under the gate's `switch_map` that is how a thousand offers are cancelled at once.
    """

    def subscribe_to(steps: Observable[Step]) -> Observable[Input]:
        def subscribe(
            observer: abc.ObserverBase[Input], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            work = _KeyedWork(select, perform, observer)
            work.look(first.after, sorted(first.after.peers), first.stamped.seq)

            def on_step(step: Step) -> None:
                keys = touched(step)
                if keys:
                    work.look(step.after, keys, step.stamped.seq)

            source = steps.subscribe(on_step, observer.on_error, observer.on_completed)
            return CompositeDisposable(source, Disposable(work.dispose))

        return Observable(subscribe)

    return subscribe_to


class _KeyedWork:
    """What is going on for each peer: the effect and how to end it."""

    __slots__ = ("_going_on", "_observer", "_perform", "_select")

    def __init__(self, select: SelectPeer, perform: Perform, observer: abc.ObserverBase[Input]) -> None:
        self._select = select
        self._perform = perform
        self._observer = observer
        self._going_on: dict[PeerKey, tuple[Effect, abc.DisposableBase]] = {}

    def look(self, state: State, keys: Iterable[PeerKey], cause: int) -> None:
        for key in keys:
            wanted = self._select(state, key)
            held = self._going_on.get(key)
            if held is None:
                if wanted is not None:
                    self._start(key, wanted, cause)
            elif held[0] != wanted:
                del self._going_on[key]
                held[1].dispose()
                if wanted is not None:
                    self._start(key, wanted, cause)

    def _start(self, key: PeerKey, effect: Effect, cause: int) -> None:
        on_next = self._observer.on_next
        subscription = self._perform(effect).subscribe(lambda event: on_next(Input(event, cause)))
        self._going_on[key] = (effect, subscription)

    def dispose(self) -> None:
        going_on, self._going_on = self._going_on, {}
        for _effect, subscription in going_on.values():
            subscription.dispose()


def emitted(follow: Callable[[Step], Iterable[Event]]) -> Callable[[Observable[Step]], Observable[Input]]:
    """Emit the events that follow from a step, caused by it."""

    def subscribe_to(steps: Observable[Step]) -> Observable[Input]:
        def subscribe(
            observer: abc.ObserverBase[Input], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_step(step: Step) -> None:
                for event in follow(step):
                    observer.on_next(Input(event, step.stamped.seq))

            return steps.subscribe(on_step, observer.on_error, observer.on_completed)

        return Observable(subscribe)

    return subscribe_to
