"""The checks of the rules bite: each is run against an engine in which that rule is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import engine_rules as rules
import pytest
from immutables import Map
from reactivex import Observable
from reactivex import operators as ops
from reactivex.disposable import Disposable

from rxnet.engine import feed, inbox, messages, operators, pending
from rxnet.engine.effects import Effect, WaitUntil
from rxnet.engine.engine import EPICS
from rxnet.engine.inbox import Input, Stamped, Step
from rxnet.engine.operators import Epic, Perform
from rxnet.engine.reduce import reduce
from rxnet.engine.state import Early, State
from rxnet.events import Event
from rxnet.model import PeerKey
from rxnet.testing.bench import Bench

Patch = pytest.MonkeyPatch


def bites(check: Callable[..., object], *arguments: Any) -> None:
    """The check must fail, and by its own judgement or by the defect itself, not by a mistake of ours."""
    with pytest.raises((AssertionError, ZeroDivisionError, RecursionError)) as caught:
        check(*arguments)
    print(check.__name__, "says:", repr(caught.value)[:300])


def with_perform(change: Callable[[Perform], Perform]) -> dict[str, Epic]:
    """All epics, given another `perform`."""
    return {
        name: partial(lambda epic, steps, perform: epic(steps, change(perform)), epic) for name, epic in EPICS.items()
    }


def leaking(which: Callable[[Effect], bool]) -> Callable[[Perform], Perform]:
    """A `perform` whose effects of a kind cannot be cancelled: as under a `merge` where a `switch` belongs."""

    def change(perform: Perform) -> Perform:
        def performed(effect: Effect) -> Observable[Event]:
            if not which(effect):
                return perform(effect)

            def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
                perform(effect).subscribe(observer.on_next, observer.on_error, observer.on_completed)
                return Disposable()

            return Observable(subscribe)

        return performed

    return change


# -- 1 -----------------------------------------------------------------------------------------------------------


def test_an_inbox_that_reduces_inside_put_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(inbox.Inbox, "put_input", lambda self, item: self._turn(item))
    bites(rules.check_inputs_enqueue)


# -- 3 -----------------------------------------------------------------------------------------------------------


def test_publishing_before_reducing_is_caught(monkeypatch: Patch) -> None:
    def turn(self: Any, item: Input) -> None:
        self._seq += 1
        stamped = Stamped(self._seq, self._clock(), item.cause, self._entropy(), item.event)
        before = self.state
        after = self._reduce(before, stamped)
        self._steps.on_next(Step(stamped, before, after))
        self.state = after

    monkeypatch.setattr(inbox.Inbox, "_turn", turn)
    bites(rules.check_reduced_before_published)


# -- 4 -----------------------------------------------------------------------------------------------------------


def test_errors_of_drivers_that_reach_the_stream_are_caught(monkeypatch: Patch) -> None:
    def start(perform: Perform, effect: Effect, cause: int, put: Any, completed: Any = None) -> Any:
        return perform(effect).subscribe(lambda event: put(Input(event, cause)), on_completed=completed)

    monkeypatch.setattr(operators, "_start", start)
    with pytest.raises((AssertionError, ValueError)):
        rules.check_driver_errors_are_events()


def test_an_epic_that_is_not_walled_off_is_caught(monkeypatch: Patch) -> None:
    from rxnet.engine import engine

    monkeypatch.setattr(engine._EpicRunner, "on_step", lambda self, step: self._steps.on_next(step))
    bites(rules.check_epic_errors_are_events)


def test_an_inbox_that_lets_reduce_raise_is_caught(monkeypatch: Patch) -> None:
    def turn(self: Any, item: Input) -> None:
        self._seq += 1
        stamped = Stamped(self._seq, self._clock(), item.cause, self._entropy(), item.event)
        before = self.state
        self.state = self._reduce(before, stamped)
        self._steps.on_next(Step(stamped, before, self.state))

    monkeypatch.setattr(inbox.Inbox, "_turn", turn)
    bites(rules.check_reduce_errors_are_events)


def test_a_feed_that_lets_subscribers_raise_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(feed._Delivery, "_deliver", lambda self, *_: self._hand_over())
    bites(rules.check_a_raising_subscriber_is_dropped_alone)


# -- 5 -----------------------------------------------------------------------------------------------------------


def test_pending_work_under_a_merge_is_caught() -> None:
    epics = with_perform(leaking(lambda effect: getattr(effect, "peer", None) is not None))
    bites(rules.check_closing_the_gate_cancels_at_once, lambda **options: Bench(epics=epics, **options))


def test_a_switch_that_merges_is_caught(monkeypatch: Patch) -> None:
    def merging(steps: Any, choose: Any, project: Any) -> Any:
        return operators._changes(steps, choose).pipe(ops.flat_map(lambda chosen: project(*chosen)))

    monkeypatch.setattr(pending, "switch", merging)
    bites(rules.check_closing_the_gate_cancels_at_once)


def test_a_missing_check_of_generations_is_caught() -> None:
    def forgetful(state: State, stamped: Stamped) -> State:
        event: Any = stamped.event
        held = state.peers.get(event.peer) if event.peer is not None else None
        current = {
            "signal": state.signal.generation,
            "management": state.management.generation,
            "peer": held.generation if held is not None else 0,
            "own": state.device.generation,
        }
        if hasattr(event, "generation"):
            stamped = replace(stamped, event=replace(event, generation=current[event.kind]))
        return reduce(state, stamped)

    bites(rules.check_late_results_are_dropped, lambda **options: Bench(reduce=forgetful, **options))


def test_a_result_taken_behind_a_closed_gate_is_caught() -> None:
    def gullible(state: State, stamped: Stamped) -> State:
        after = reduce(state, stamped)
        if type(stamped.event).__name__ == "PathSelected" and after is state:
            opened = replace(state, gate=replace(state.gate, open=True))
            return replace(reduce(opened, stamped), gate=state.gate)
        return after

    bites(rules.check_results_behind_a_closing_gate_are_dropped, lambda **options: Bench(reduce=gullible, **options))


# -- 6 -----------------------------------------------------------------------------------------------------------


def test_timers_that_outlive_their_state_are_caught() -> None:
    epics = with_perform(leaking(lambda effect: isinstance(effect, WaitUntil)))
    make = partial(Bench, epics=epics)
    bites(rules.check_nothing_is_left_after_down, make)
    bites(rules.check_a_closed_gate_costs_nothing, make)


def test_a_poll_is_caught() -> None:
    def polling(steps: Observable[Step], perform: Perform) -> Observable[Input]:
        return steps.pipe(
            ops.switch_map(lambda step: perform(WaitUntil("poll", step.stamped.at + 60.0))),
            ops.map(lambda event: Input(event, 1)),
        )

    def make(**options: Any) -> Bench:
        return Bench(epics={**EPICS, "polling": polling}, **options)

    for check in (rules.check_silence_costs_nothing, rules.check_a_closed_gate_costs_nothing):
        bites(check, make)


# -- 7 -----------------------------------------------------------------------------------------------------------


def test_work_that_looks_at_every_peer_is_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(pending, "touched", lambda step: tuple(sorted(step.after.peers)))
    bites(rules.check_cost_is_flat, Bench, (10, 200))


def test_news_that_compare_every_peer_are_caught(monkeypatch: Patch) -> None:
    from rxnet.engine import news

    monkeypatch.setattr(news, "touched", lambda step: tuple(sorted(step.after.peers)))
    bites(rules.check_cost_is_flat, Bench, (10, 200))


def test_a_peer_that_filters_the_stream_is_caught() -> None:
    def filtering(steps: Observable[Step], perform: Perform) -> Observable[Input]:
        return steps.pipe(
            ops.filter(lambda step: any(key == "nobody" for key in step.after.peers)), ops.ignore_elements()
        )

    bites(rules.check_cost_is_flat, partial(Bench, epics={**EPICS, "filtering": filtering}), (10, 200))


# -- 8 -----------------------------------------------------------------------------------------------------------


def test_early_messages_that_are_dropped_are_caught(monkeypatch: Patch) -> None:
    monkeypatch.setattr(messages, "keep_early", lambda state, key, event: state)
    bites(rules.check_early_messages_are_kept)


def test_early_messages_without_a_bound_are_caught(monkeypatch: Patch) -> None:
    def keep(state: State, key: PeerKey, event: Event) -> State:
        early = state.early
        held: Map[PeerKey, tuple[Event, ...]] = early.messages
        order = early.order if key in held else (*early.order, key)
        return replace(state, early=Early(held.set(key, (*held.get(key, ()), event)), order, early.dropped))

    monkeypatch.setattr(messages, "keep_early", keep)
    bites(rules.check_early_messages_are_bounded)


def test_a_feed_without_a_bound_is_caught(monkeypatch: Patch) -> None:
    def append(self: Any, entry: object) -> None:
        self._entries.append(entry)
        self.wake()

    monkeypatch.setattr(feed.Tap, "append", append)
    bites(rules.check_a_slow_subscriber_sees_its_gap)


def test_a_gap_that_is_not_told_is_caught(monkeypatch: Patch) -> None:
    def take_some(self: Any, most: int) -> list[Any]:
        return [self._entries.popleft() for _ in range(min(most, len(self._entries)))]

    monkeypatch.setattr(feed.Tap, "take_some", take_some)
    bites(rules.check_a_slow_subscriber_sees_its_gap)


# -- 9 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["news", "pending", "signal", "management"])
def test_a_cause_that_is_dropped_is_caught(name: str) -> None:
    def forgetful(steps: Observable[Step], perform: Perform) -> Observable[Input]:
        return EPICS[name](steps, perform).pipe(ops.map(lambda item: Input(item.event)))

    bites(rules.check_causes_lead_back, partial(Bench, epics={**EPICS, name: forgetful}))


def test_a_reduce_with_a_memory_or_a_clock_of_its_own_is_caught() -> None:
    count = 0

    def remembering(state: State, stamped: Stamped) -> State:
        nonlocal count
        count += 1
        return replace(reduce(state, stamped), map_serial=count)

    bites(rules.check_a_trace_replays, partial(Bench, reduce=remembering))


# -- 10 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", ["device", "paths"])
def test_a_restart_is_caught(restarted: str) -> None:
    """An engine that opens the interface, or takes up the paths, anew for every network, as NetBird's client does."""

    def restarting(steps: Observable[Step], perform: Perform) -> Observable[Input]:
        return operators.switch(
            steps, lambda state: state.link.network, lambda _network, _step: EPICS[restarted](steps, perform)
        )

    bites(rules.check_nothing_restarts, partial(Bench, epics={**EPICS, restarted: restarting}))
