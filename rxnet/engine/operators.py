"""The operators that epics are made of. Each says which effect should be going on; starting and stopping follow.

``running``  one effect at a time, chosen by the state::

    wanted   --A-----A--B------0----A---|
    perform     A:a--b--        (A again)
    out      ----a---b--(B's)-----------

``keyed``  a few effects a peer, reached through a dict: an event touches its own peer only.

``commanded``  effects that follow from a step and run to their end beside each other.

``emitted``  events that follow from a step at once.

The engine's drain runs inside Rx's current-thread trampoline, so a source that emits through it (`of`, `from_`, the
static `merge`) would come after the whole drain, steps too late: an epic is made of the operators here.

All of them hand out `Input`s whose cause is the event that started the effect. A step that changes nothing for an
operator costs it one comparison: most steps concern one peer, and every epic sees every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import reactivex
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxnet.engine.effects import Effect, failure
from rxnet.engine.inbox import Input, Step
from rxnet.engine.peers import current
from rxnet.engine.state import Peer, State
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
Touched = Callable[[Step], Sequence[PeerKey]]


@dataclass(frozen=True, slots=True)
class PeerWork:
    """One kind of effect that can be going on for a peer."""

    part: Callable[[Peer], object]
    """What of the peer the effect follows from: while that is the same, so is the effect, and it is not made anew."""
    effect: Callable[[State, PeerKey, Peer], Effect | None]
    """The effect that should be going on. The peer is the one `current` gives."""


_NOTHING: Final[Any] = object()
_GoingOn = tuple[object, Effect, abc.DisposableBase]


def started(perform: Perform, effect: Effect, cause: int) -> Observable[Input]:
    """Perform an effect; what it reports was led to by the event that started it, and its errors are reports too."""

    def subscribe(observer: abc.ObserverBase[Input], _scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        return _start(perform, effect, cause, observer.on_next, observer.on_completed)

    return Observable(subscribe)


def _start(
    perform: Perform,
    effect: Effect,
    cause: int,
    put: Callable[[Input], None],
    completed: Callable[[], None] | None = None,
) -> abc.DisposableBase:
    # `perform` promises not to raise and not to error. Should it, one effect fails and not the stream.
    def on_next(event: Event) -> None:
        put(Input(event, cause))

    def on_error(error: Exception) -> None:
        put(Input(failure(effect, error), cause))
        if completed is not None:
            completed()

    try:
        return perform(effect).subscribe(on_next, on_error, completed)
    except Exception as error:
        on_error(error)
        return Disposable()


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
        return reactivex.never() if effect is None else started(perform, effect, step.stamped.seq)

    return lambda steps: switch(steps, select, project)


def keyed(kinds: Sequence[PeerWork], touched: Touched, perform: Perform, first: Step) -> Operator:
    """Keep an effect of each kind going for each peer.

    Starts from `first` with all peers, then looks only at those a step touches. Disposing ends all of them: under the
    gate's `switch_map` that is how a thousand offers are cancelled at once.
    """

    def subscribe_to(observer: abc.ObserverBase[Input], steps: Observable[Step]) -> abc.DisposableBase:
        work = _KeyedWork(kinds, perform, observer.on_next)
        work.look(first.after, sorted(first.after.peers), first.stamped.seq)

        def on_step(step: Step) -> None:
            if step.before.peers is not step.after.peers:
                work.look(step.after, touched(step), step.stamped.seq)

        source = steps.subscribe(on_step, observer.on_error, observer.on_completed)
        return CompositeDisposable(source, Disposable(work.dispose))

    return _operator(subscribe_to)


def commanded(
    effect_of: Callable[[Step], Effect | None], perform: Perform, first: Sequence[Effect], cause: int
) -> Operator:
    """Start the effects of `first`, then the one that follows from each step, and let all run to their end."""

    def subscribe_to(observer: abc.ObserverBase[Input], steps: Observable[Step]) -> abc.DisposableBase:
        going_on = CompositeDisposable()

        def start(effect: Effect, cause: int) -> None:
            slot = SingleAssignmentDisposable()
            going_on.add(slot)

            def ended() -> None:
                going_on.remove(slot)

            slot.disposable = _start(perform, effect, cause, observer.on_next, ended)

        def on_step(step: Step) -> None:
            effect = effect_of(step)
            if effect is not None:
                start(effect, step.stamped.seq)

        for effect in first:
            start(effect, cause)
        going_on.add(steps.subscribe(on_step, observer.on_error, observer.on_completed))
        return going_on

    return _operator(subscribe_to)


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
    """What is going on for each peer, kind by kind: what it followed from, the effect, and how to end it."""

    __slots__ = ("_kinds", "_perform", "_put")

    def __init__(self, kinds: Sequence[PeerWork], perform: Perform, put: Callable[[Input], None]) -> None:
        self._perform = perform
        self._put = put
        self._kinds: list[tuple[PeerWork, dict[PeerKey, _GoingOn]]] = [(kind, {}) for kind in kinds]

    def look(self, state: State, keys: Iterable[PeerKey], cause: int) -> None:
        for key in keys:
            peer = current(state, key)
            for kind, going_on in self._kinds:
                held = going_on.get(key)
                if peer is None:
                    if held is not None:
                        going_on.pop(key)[2].dispose()
                    continue
                part = kind.part(peer)
                if held is not None and held[0] == part:
                    continue
                wanted = kind.effect(state, key, peer)
                if held is not None:
                    if held[1] == wanted:
                        going_on[key] = (part, held[1], held[2])
                        continue
                    going_on.pop(key)[2].dispose()
                if wanted is not None:
                    going_on[key] = (part, wanted, _start(self._perform, wanted, cause, self._put))

    def dispose(self) -> None:
        for _kind, going_on in self._kinds:
            ending = list(going_on.values())
            going_on.clear()
            for _part, _effect, subscription in ending:
                subscription.dispose()
