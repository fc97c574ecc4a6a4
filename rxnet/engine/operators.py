"""The operators that epics are made of. Each says which effect should be going on; starting and stopping follow.

``running``  one effect at a time, chosen by the state::

    wanted   --A-----A--B------0----A---|
    perform     A:a--b--        (A again)
    out      ----a---b--(B's)-----------

``keyed``  a few effects a peer, reached through a dict: an event touches its own peer only.

``commanded``  effects that follow from a step and run to their end beside each other.

``emitted``  events that follow from a step at once.

All of them hand out `Input`s whose cause is the event that started the effect. A step that changes nothing for an
operator costs it one comparison: most steps concern one peer, and every epic sees every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

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

Operator = Callable[[Observable[Step]], Observable[Input]]

_T = TypeVar("_T")
_A = TypeVar("_A")
Select = Callable[[State], Effect | None]
SelectPeer = Callable[[State, PeerKey], Effect | None]
Touched = Callable[[Step], Sequence[PeerKey]]

_NOTHING: Final[Any] = object()


def caused(effects: Observable[Event], cause: int) -> Observable[Input]:
    """Carry the cause through an effect: what it reports was led to by the event that started it."""

    def with_cause(event: Event) -> Input:
        return Input(event, cause)

    return effects.pipe(ops.map(with_cause))


def switch(
    steps: Observable[Step], choose: Callable[[State], _T], project: Callable[[_T, Step], Observable[Input]]
) -> Observable[Input]:
    """`switch_map` on a part of the state: when it changes, the inner before is disposed, `project` subscribed to."""

    def inner(chosen: tuple[_T, Step]) -> Observable[Input]:
        return project(*chosen)

    return _changes(steps, choose).pipe(ops.switch_map(inner))


def running(select: Select, perform: Perform) -> Operator:
    """Keep the selected effect going: start it when it appears, cancel it when it changes or goes."""

    def project(effect: Effect | None, step: Step) -> Observable[Input]:
        return reactivex.never() if effect is None else caused(perform(effect), step.stamped.seq)

    return lambda steps: switch(steps, select, project)


def keyed(selects: Sequence[SelectPeer], touched: Touched, perform: Perform, first: Step) -> Operator:
    """Keep each select's effect going for each peer.

    Starts from `first` with all peers, then looks only at those a step touches. Disposing ends all of them: under the
    gate's `switch_map` that is how a thousand offers are cancelled at once.
    """

    def subscribe_to(observer: abc.ObserverBase[Input], steps: Observable[Step]) -> abc.DisposableBase:
        work = [_KeyedWork(select, perform, observer.on_next) for select in selects]
        every = sorted(first.after.peers)
        for each in work:
            each.look(first.after, every, first.stamped.seq)

        def on_step(step: Step) -> None:
            keys = touched(step)
            if keys:
                for each in work:
                    each.look(step.after, keys, step.stamped.seq)

        source = steps.subscribe(on_step, observer.on_error, observer.on_completed)
        return CompositeDisposable(source, *(Disposable(each.dispose) for each in work))

    return _operator(subscribe_to)


def commanded(effect_of: Callable[[Step], Effect | None], perform: Perform) -> Operator:
    """Start the effect that follows from a step, if any, and let it run to its end beside the others."""

    def commands(observer: abc.ObserverBase[Observable[Input]], steps: Observable[Step]) -> abc.DisposableBase:
        def on_step(step: Step) -> None:
            effect = effect_of(step)
            if effect is not None:
                observer.on_next(caused(perform(effect), step.stamped.seq))

        return steps.subscribe(on_step, observer.on_error, observer.on_completed)

    return lambda steps: _operator(commands)(steps).pipe(ops.merge_all())


def emitted(follow: Callable[[Step], Iterable[Event]]) -> Operator:
    """Emit the events that follow from a step, caused by it."""

    def subscribe_to(observer: abc.ObserverBase[Input], steps: Observable[Step]) -> abc.DisposableBase:
        def on_step(step: Step) -> None:
            for event in follow(step):
                observer.on_next(Input(event, step.stamped.seq))

        return steps.subscribe(on_step, observer.on_error, observer.on_completed)

    return _operator(subscribe_to)


def _changes(steps: Observable[Step], choose: Callable[[State], _T]) -> Observable[tuple[_T, Step]]:
    """`map` and `distinct_until_changed` in one: the part of the state, with the step that changed it."""

    def subscribe_to(observer: abc.ObserverBase[tuple[_T, Step]], source: Observable[Step]) -> abc.DisposableBase:
        last = _NOTHING

        def on_step(step: Step) -> None:
            nonlocal last
            part = choose(step.after)
            if part != last:
                last = part
                observer.on_next((part, step))

        return source.subscribe(on_step, observer.on_error, observer.on_completed)

    return _operator(subscribe_to)(steps)


def _operator(
    subscribe_to: Callable[[abc.ObserverBase[_A], Observable[Step]], abc.DisposableBase],
) -> Callable[[Observable[Step]], Observable[_A]]:
    """Make an operator on steps from what it does with an observer and its source."""

    def apply(steps: Observable[Step]) -> Observable[_A]:
        def subscribe(
            observer: abc.ObserverBase[_A], _scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return subscribe_to(observer, steps)

        return Observable(subscribe)

    return apply


class _KeyedWork:
    """What is going on for each peer: the effect and how to end it."""

    __slots__ = ("_going_on", "_perform", "_put", "_select")

    def __init__(self, select: SelectPeer, perform: Perform, put: Callable[[Input], None]) -> None:
        self._select = select
        self._perform = perform
        self._put = put
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
        put = self._put
        subscription = self._perform(effect).subscribe(lambda event: put(Input(event, cause)))
        self._going_on[key] = (effect, subscription)

    def dispose(self) -> None:
        going_on, self._going_on = self._going_on, {}
        for _effect, subscription in going_on.values():
            subscription.dispose()
