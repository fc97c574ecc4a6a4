"""Virtual time and virtual drivers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import reactivex
from reactivex import operators as ops

from rxnet.engine.chance import fraction
from rxnet.engine.effects import OpenSignal, SendMessages, WaitUntil
from rxnet.events import SignalConnected, SignalDisconnected
from rxnet.testing import cast, virtual
from rxnet.testing.drivers import Ending, VirtualDrivers
from rxnet.testing.virtual import VirtualScheduler, even_entropy, seeded_entropy


def test_actions_run_in_order_of_time_then_of_scheduling() -> None:
    scheduler = VirtualScheduler()
    seen: list[tuple[str, float]] = []

    def note(name: str) -> None:
        seen.append((name, scheduler.clock()))

    scheduler.at(2.0, lambda: note("c"))
    scheduler.at(1.0, lambda: note("a"))
    scheduler.at(
        1.0, lambda: (note("b"), scheduler.after(0.0, lambda: note("b'")), scheduler.after(0.5, lambda: note("b''")))
    )
    scheduler.advance_to(1.9999)
    assert seen == [("a", 1.0), ("b", 1.0), ("b'", 1.0), ("b''", 1.5)]
    scheduler.advance(1.0)
    assert seen[-1] == ("c", 2.0)
    assert scheduler.clock() == 1.9999 + 1.0


def test_waits_keep_every_bit_of_their_float() -> None:
    """Reactivex's own schedulers round to microseconds."""
    scheduler = VirtualScheduler()
    due = 1.0 / 3.0
    times: list[float] = []
    scheduler.schedule_relative(due, lambda *_: times.append(scheduler.clock()))
    scheduler.advance(1.0)
    assert times == [due]


def test_cancelled_actions_are_gone() -> None:
    scheduler = VirtualScheduler()
    ran: list[int] = []
    held = scheduler.after(1.0, lambda: ran.append(1))
    assert scheduler.waiting == 1
    held.dispose()
    held.dispose()
    assert scheduler.waiting == 0
    scheduler.advance(2.0)
    assert ran == []
    assert scheduler.fired == 0


def test_an_instant_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "ACTIONS_AN_INSTANT", 1_000)
    scheduler = VirtualScheduler()

    def again(*_: object) -> None:
        scheduler.schedule(again)

    scheduler.schedule(again)
    with pytest.raises(RuntimeError, match="virtual time stands still at 0"):
        scheduler.advance(1.0)


def test_reactivex_operators_run_on_it() -> None:
    scheduler = VirtualScheduler(at=5.0)
    seen: list[tuple[int, float]] = []
    reactivex.interval(2.0, scheduler=scheduler).pipe(ops.take(3)).subscribe(
        lambda n: seen.append((n, scheduler.clock())), scheduler=scheduler
    )
    scheduler.advance(60.0)
    assert seen == [(0, 7.0), (1, 9.0), (2, 11.0)]
    assert scheduler.waiting == 0


def test_it_takes_dates_and_spans() -> None:
    scheduler = VirtualScheduler()
    times: list[float] = []
    scheduler.schedule_absolute(datetime.fromtimestamp(3, tz=UTC), lambda *_: times.append(scheduler.clock()))
    scheduler.schedule_relative(timedelta(seconds=1.5), lambda *_: times.append(scheduler.clock()))
    scheduler.schedule_relative(-1.0, lambda *_: times.append(scheduler.clock()))
    scheduler.advance(5.0)
    assert times == [0.0, 1.5, 3.0]
    assert scheduler.now == datetime.fromtimestamp(5, tz=UTC)


def test_entropy_is_a_sequence_of_its_seed() -> None:
    first, second, other = seeded_entropy(7), seeded_entropy(7), seeded_entropy(8)
    drawn = [first() for _ in range(5)]
    assert drawn == [second() for _ in range(5)]
    assert drawn != [other() for _ in range(5)]
    assert all(0 <= bits < 1 << 64 for bits in drawn)


@pytest.mark.parametrize("wanted", [0.0, 0.5, 0.999])
def test_even_entropy_gives_one_fraction_and_many_values(wanted: float) -> None:
    entropy = even_entropy(1, wanted)
    drawn = [entropy() for _ in range(50)]
    assert all(abs(fraction(bits) - wanted) < 1e-8 for bits in drawn)
    assert len(set(drawn)) == 50


def test_drivers_write_down_starts_and_ends() -> None:
    scheduler = VirtualScheduler()
    told: list[tuple[object, Ending | None]] = []
    drivers = VirtualDrivers(scheduler.clock, None, lambda work: told.append((work.effect, work.ending)))
    effect = OpenSignal(1, cast.SIGNAL)
    events: list[object] = []
    cold = drivers(effect)
    assert drivers.works == []
    subscription = cold.subscribe(events.append)
    scheduler.advance(2.0)
    (work,) = drivers.running
    assert drivers.find(OpenSignal) is work
    work.report(SignalConnected(1))
    assert work.running
    scheduler.advance(1.0)
    subscription.dispose()
    assert (work.started, work.ended, work.ending) == (0.0, 3.0, Ending.CANCELLED)
    assert drivers.running == []
    assert drivers.find(OpenSignal) is None
    work.report(SignalDisconnected(1, "late"))
    assert events == [SignalConnected(1)], "who was disposed of reaches nobody"
    assert told == [(effect, None), (effect, Ending.CANCELLED)]


def test_work_that_ends_by_itself_is_not_cancelled() -> None:
    scheduler = VirtualScheduler()
    drivers = VirtualDrivers(scheduler.clock)
    completed: list[bool] = []
    subscription = drivers(OpenSignal(1, cast.SIGNAL)).subscribe(on_completed=lambda: completed.append(True))
    (work,) = drivers.running
    work.report(SignalDisconnected(1, "over"))
    subscription.dispose()
    assert work.ending is Ending.FINISHED
    assert completed == [True]


def test_messages_are_sent_at_once_unless_the_test_says_otherwise() -> None:
    scheduler = VirtualScheduler()
    events: list[object] = []
    VirtualDrivers(scheduler.clock)(SendMessages(cast.key_of("p"), (), 0)).subscribe(events.append)
    assert len(events) == 1
    drivers = VirtualDrivers(scheduler.clock, {WaitUntil: lambda work: None})
    drivers(SendMessages(cast.key_of("p"), (), 0)).subscribe(events.append)
    assert len(events) == 1
    assert len(drivers.running) == 1


def test_only_the_latest_works_are_kept_if_so_wanted() -> None:
    scheduler = VirtualScheduler()
    drivers = VirtualDrivers(scheduler.clock, {WaitUntil: lambda work: None}, keep=10)
    for _ in range(1_000):
        drivers(OpenSignal(1, cast.SIGNAL)).subscribe().dispose()
    assert len(drivers.works) <= 20
    assert drivers.running == []
