"""What a drawing cannot show: floods, crowds, every status, and what a slow world leaves behind."""

from __future__ import annotations

import gc
import random

import pytest
from reactivex import Observable
from reactivex import operators as ops

from rxnet.engine.effects import KeepPath, Negotiate, OpenManagement, OpenSignal, SendMessages, WaitUntil
from rxnet.engine.engine import EPICS, Engine
from rxnet.engine.feed import Feed, Gap
from rxnet.engine.inbox import Input, Step
from rxnet.engine.operators import Perform
from rxnet.events import (
    AnswerReceived,
    CandidateReceived,
    DeadlineReached,
    EpicFailed,
    NetlinkOverran,
    NetworkMapReceived,
    OfferReceived,
    PeerConnected,
    SignalConnected,
    SignalDisconnected,
)
from rxnet.model import PeerKey, RemotePeer
from rxnet.testing import cast
from rxnet.testing.bench import Bench, ready
from rxnet.testing.drivers import VirtualDrivers, Work
from rxnet.testing.virtual import VirtualScheduler, seeded_entropy

P, Q = cast.key_of("p"), cast.key_of("q")

STATUSES: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "never up": ((), ()),
    "no network yet": (("up",), ()),
    "management dialing": (("up", "network"), ()),
    "management waiting": (("up", "network"), (("management", "X"),)),
    "management limited": (("up", "network"), (("management", "S"),)),
    "management refused": (("up", "network"), (("management", "R"),)),
    "refused while connected": (("ready", "peers ap", "connected a"), (("management", "V"),)),
    "signal dialing, device opening": (("up", "network", "login"), ()),
    "signal waiting": (("ready", "peers ap", "connected a"), (("signal", "X"),)),
    "device waiting": (("ready", "peers ap", "connected a"), (("device", "X"),)),
    "device failed": (("ready", "peers ap", "connected a"), (("device", "F"),)),
    "network lost": (("ready", "peers ap", "connected a"), (("network", "D"),)),
    "watch waiting": (("ready", "peers ap", "connected a"), (("network", "E"),)),
    "connected": (("ready", "peers apq", "connected a"), (("p", "o"),)),
    "silent": (("ready", "peers apq", "connected a", "silence"), ()),
}


@pytest.mark.parametrize("name", STATUSES)
def test_down_in_every_status_leaves_nothing_and_up_starts_again(name: str) -> None:
    given, marks = STATUSES[name]
    bench = Bench()
    bench.given(given)
    for lane, mark in marks:
        bench.play(lane, mark)
    bench.play("user", "D")
    state = bench.state
    assert bench.drivers.running == []
    assert bench.scheduler.waiting == 0
    assert state.connected == 0
    assert not state.gate.open
    assert state.gate.reason in ("stopped", "not started")
    bench.given(("ready",))
    assert bench.state.gate.open, "up, and everything is as on the first day"
    bench.play("map", "z")
    bench.play("z", "o")
    bench.play("z", "s")
    assert bench.state.peers[cast.key_of("z")].connected


def test_a_flood_of_offers_from_one_peer_is_bounded_and_disturbs_nobody() -> None:
    """A hundred thousand offers while signal takes nothing: one answer waits, memory stays, the other peer connects."""
    bench = ready("peers pq", make=lambda: Bench(by_hand=True, keep_steps=False))
    bench.play("q", "o")
    objects: list[int] = []
    for number in range(10):
        for n in range(10_000):
            session = cast.session("p", 1 + (n // 100 if number % 2 else 0))
            bench.engine.put(OfferReceived(P, session, ufrag="u"))
        bench.scheduler.settle()
        peer = bench.state.peers[P]
        assert len(peer.outbox.sending) == 1
        assert len(peer.outbox.waiting) <= 2
        assert len([work for work in bench.drivers.running if work.peer == P]) <= 3
        gc.collect()
        objects.append(len(gc.get_objects()))
    assert max(objects[2:]) - objects[1] < 1_000, f"objects alive after each round: {objects}"
    bench.play("q", "s")
    assert bench.state.peers[Q].connected
    bench.play("p", "m")
    assert [type(m).__name__ for m in bench.state.peers[P].outbox.sending] == ["Answer"]


def test_a_flood_of_candidates_is_bounded() -> None:
    bench = ready("peers p")
    bench.play("p", "o")
    for n in range(5_000):
        bench.engine.put(CandidateReceived(P, cast.candidate("p", n)))
    bench.scheduler.settle()
    assert len(bench.state.peers[P].candidates) == 64
    assert bench.state.peers[P].candidates[-1][1] == cast.candidate("p", 4_999)


def test_a_thousand_silent_peers_cost_one_timer_and_one_batch() -> None:
    bench = ready()
    remotes = tuple(RemotePeer(PeerKey(f"x{n:04d}"), ()) for n in range(1_000))
    bench.put(NetworkMapReceived(1, 1, None, remotes))
    bench.advance(50.0)
    assert len(bench.state.silent) == 1_000
    assert bench.scheduler.waiting == 1
    offers = sum(isinstance(work.effect, SendMessages) for work in bench.drivers.works)
    assert offers == 5 * 1_000
    bench.advance(900.0)
    batch = [work for work in bench.drivers.works[-2_000:] if isinstance(work.effect, SendMessages)]
    batch = [work for work in batch if work.started > 100.0]
    assert len(batch) == 1_000
    assert len({work.started for work in batch}) == 1, "one instant"
    assert [work.peer for work in batch] == sorted(remote.key for remote in remotes), "in the order of keys"


def test_without_signal_a_thousand_peers_cost_nothing() -> None:
    bench = Bench()
    bench.given(("up", "network", "login", "management", "device"))
    bench.put(NetworkMapReceived(1, 1, None, tuple(RemotePeer(PeerKey(f"x{n:04d}"), ()) for n in range(1_000))))
    fired, started = bench.scheduler.fired, len(bench.drivers.works)
    bench.advance(86_400.0)
    assert bench.scheduler.fired == fired
    assert len(bench.drivers.works) == started


def test_an_opening_starts_each_peer_exactly_once_in_the_order_of_keys() -> None:
    bench = Bench()
    bench.given(("up", "network", "login", "management", "device"))
    keys = [PeerKey(f"x{n:04d}") for n in range(500)]
    shuffled = random.Random(3).sample(keys, len(keys))
    bench.put(NetworkMapReceived(1, 1, None, tuple(RemotePeer(key, ()) for key in shuffled)))
    bench.put(SignalConnected(1))
    sent = [work.peer for work in bench.drivers.works if isinstance(work.effect, SendMessages)]
    assert sent == keys


def test_sessions_of_one_opening_differ() -> None:
    """All of them are drawn from one entropy."""
    letters = "abcdefghijklmopqrstuvwxyz"
    bench = ready(f"peers {letters}", make=lambda: Bench(by_hand=True))
    sessions = {
        message.session  # type: ignore[union-attr]
        for work in bench.drivers.running
        if isinstance(work.effect, SendMessages)
        for message in work.effect.messages
    }
    assert len(sessions) == len(letters)


def test_a_negotiation_knows_both_sessions_and_its_role() -> None:
    bench = ready("peers ap")
    for letter in "ap":
        bench.play(letter, "o")
        work = bench.drivers.find(Negotiate, cast.key_of(letter))
        assert work is not None
        effect = work.effect
        assert isinstance(effect, Negotiate)
        assert effect.remote_session == cast.session(letter, 1)
        assert effect.session == bench.state.peers[cast.key_of(letter)].session
        assert effect.controlling is (letter < "n")


def test_repeated_offers_carry_the_same_session() -> None:
    """Another one would make the peer start its agent over each time."""
    bench = ready("peers p")
    bench.advance(60.0)
    sessions = [
        message.session  # type: ignore[union-attr]
        for work in bench.drivers.works
        if isinstance(work.effect, SendMessages)
        for message in work.effect.messages
    ]
    assert len(sessions) == 5
    assert len(set(sessions)) == 1


def test_an_answer_names_the_session_of_the_agent() -> None:
    bench = ready("peers p")
    bench.play("p", "o")
    bench.play("p", "n")
    agents = [work.effect.session for work in bench.drivers.works if isinstance(work.effect, Negotiate)]
    answers = [
        message.session  # type: ignore[union-attr]
        for work in bench.drivers.works
        if isinstance(work.effect, SendMessages)
        for message in work.effect.messages
    ][1:]
    assert answers == agents
    assert len(set(agents)) == 2, "a new session of the peer is a new session of ours"


def test_message_ids_are_unique_for_a_peer() -> None:
    bench = ready("peers p")
    for marks in ("ogs", "l", "noggf", "as", "l", "o"):
        for mark in marks:
            bench.play("p", mark)
        bench.advance(1.0)
    bench.play("map", "p")
    ids = [
        message.id
        for work in bench.drivers.works
        if isinstance(work.effect, SendMessages)
        for message in work.effect.messages
    ]
    assert len(ids) == len(set(ids))


def test_a_map_counts_when_its_last_part_is_there() -> None:
    bench = ready()
    bench.play("map part", "p")
    assert bench.state.map_serial is None
    assert P in bench.state.peers
    bench.play("map", "q")
    assert bench.state.map_serial == 2


def test_a_deadline_that_was_overtaken_does_nothing() -> None:
    """It was in the inbox already, behind the answer that ended it."""
    bench = ready("peers p")
    due = bench.state.peers[P].next_offer
    assert due is not None
    sent = len([work for work in bench.drivers.works if isinstance(work.effect, SendMessages)])
    bench.put(AnswerReceived(P, cast.session("p", 1), ufrag="u"), DeadlineReached("offer", due, P))
    assert len([work for work in bench.drivers.works if isinstance(work.effect, SendMessages)]) == sent
    assert bench.state.peers[P].next_offer is None


@pytest.mark.parametrize("message", [OfferReceived, AnswerReceived])
def test_a_message_behind_the_loss_of_signal_takes_no_path(message: type[OfferReceived | AnswerReceived]) -> None:
    """It cannot be answered, so the path that works stays; the peer will repeat itself."""
    bench = ready("peers p", "connected p")
    bench.put(
        SignalDisconnected(bench.state.signal.generation, "gone"),
        message(P, cast.session("p", 7), ufrag=cast.ufrag("p", 1)),
    )
    assert bench.state.connected == 1
    assert [type(work.effect) for work in bench.drivers.running if work.peer == P] == [KeepPath]


@pytest.mark.parametrize(
    ("lane", "mark", "name"),
    [
        ("management", "X", "management retry"),
        ("signal", "X", "signal retry"),
        ("device", "X", "device retry"),
        ("network", "E", "network retry"),
    ],
)
def test_a_deadline_of_another_time_does_nothing(lane: str, mark: str, name: str) -> None:
    bench = ready("peers p")
    bench.play(lane, mark)
    before, started = bench.state, len(bench.drivers.works)
    bench.put(DeadlineReached(name, 0.123), DeadlineReached("silent peers", 0.123))
    assert bench.state == before
    assert len(bench.drivers.works) == started


def test_each_epic_keeps_its_one_effect() -> None:
    """Saying the same effect again changes nothing: no connection is dialled twice for one reason."""
    bench = ready("peers ap", "connected a")
    for lane, mark in (("management", "L"), ("management", "C"), ("signal", "C"), ("device", "O"), ("user", "U")):
        bench.play(lane, mark)
    kinds = [type(work.effect) for work in bench.drivers.works]
    assert kinds.count(OpenManagement) == kinds.count(OpenSignal) == 1


def test_closing_ends_everything_and_takes_nothing_more() -> None:
    bench = ready("peers ap", "connected a")
    ended: list[bool] = []
    bench.engine.steps.subscribe(on_completed=lambda: ended.append(True))
    bench.close()
    assert bench.drivers.running == []
    assert ended == [True]
    steps = len(bench.steps)
    bench.play("p", "o")
    bench.advance(3_600.0)
    assert len(bench.steps) == steps
    assert bench.engine.closed


def test_a_perform_that_raises_costs_one_effect() -> None:
    """It promises not to; should it, the stream goes on."""

    def explode(_work: Work) -> None:
        raise ZeroDivisionError("a defect of a driver")

    bench = ready("peers p", make=lambda: Bench(on_start={OpenSignal: explode}))
    assert bench.state.signal.status.value == "waiting"
    bench.advance(30.0)
    assert bench.state.signal.attempt > 3
    assert bench.state.management.status.value == "connected"


def test_an_epic_that_always_raises_is_given_up_and_the_others_go_on() -> None:
    def hopeless(steps: Observable[Step], perform: Perform) -> Observable[Input]:
        def raising(step: Step) -> Input:
            raise ZeroDivisionError("a defect")

        return steps.pipe(ops.map(raising))

    bench = ready("peers p", make=lambda: Bench(epics={"hopeless": hopeless, **EPICS}))
    failed = [event.name for event in bench.events if isinstance(event, EpicFailed)]
    assert failed[-1] == "hopeless (given up)"
    steps = len(bench.steps)
    bench.play("p", "o")
    bench.play("p", "s")
    assert bench.state.connected == 1
    assert len(bench.steps) < steps + 10, "no storm of failures"


def test_an_observer_of_steps_that_raises_does_not_stop_the_engine() -> None:
    bench = ready("peers p")

    def clumsy(step: Step) -> None:
        if isinstance(step.stamped.event, NetlinkOverran):
            raise ZeroDivisionError("an observer's defect")

    bench.engine.steps.subscribe(clumsy)
    bench.engine.put(NetlinkOverran(1))
    bench.engine.put(OfferReceived(P, None))
    with pytest.raises(ZeroDivisionError):
        bench.scheduler.settle()
    bench.scheduler.settle()
    assert bench.state.peers[P].agent is not None
    assert bench.engine.depth == 0


def test_a_long_drain_lets_other_work_in() -> None:
    """Five milliseconds at a time: a flood of events does not starve the event loop."""
    scheduler = VirtualScheduler()
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.001
        return now

    drivers = VirtualDrivers(clock)
    engine = Engine(cast.OWN, drivers, scheduler=scheduler, clock=clock, entropy=seeded_entropy(1))
    seen: list[int] = []
    engine.steps.subscribe(lambda step: seen.append(step.stamped.seq))
    for _ in range(100):
        engine.put(NetlinkOverran(1))
    between: list[int] = []
    scheduler.schedule(lambda *_: between.append(len(seen)))
    scheduler.settle()
    assert between
    assert 0 < between[0] < 20
    assert seen == list(range(1, 101))


# -- feeds -------------------------------------------------------------------------------------------------------


def test_a_feed_starts_with_what_it_is_told_to_start_with() -> None:
    scheduler = VirtualScheduler()
    feed: Feed[str] = Feed(scheduler, on_failure=lambda error: None, first=lambda: "snapshot")
    feed.publish("before")
    seen: list[object] = []
    feed.observable().subscribe(seen.append)
    feed.publish("after")
    assert seen == [], "delivery is scheduled, never direct"
    scheduler.settle()
    assert seen == ["snapshot", "after"]


def test_a_feed_that_closes_completes_after_what_is_queued() -> None:
    scheduler = VirtualScheduler()
    feed: Feed[int] = Feed(scheduler, on_failure=lambda error: None)
    seen: list[object] = []
    feed.observable().subscribe(seen.append, on_completed=lambda: seen.append("end"))
    for entry in range(200):
        feed.publish(entry)
    feed.close()
    scheduler.settle()
    assert seen == [*range(200), "end"]
    late: list[object] = []
    feed.observable().subscribe(late.append, on_completed=lambda: late.append("end"))
    scheduler.settle()
    assert late == ["end"]


def test_leaving_a_feed_from_within_a_delivery() -> None:
    scheduler = VirtualScheduler()
    feed: Feed[int] = Feed(scheduler, on_failure=lambda error: None)
    seen: list[object] = []
    subscription = feed.observable().subscribe(lambda entry: (seen.append(entry), subscription.dispose()))
    for entry in range(5):
        feed.publish(entry)
    scheduler.settle()
    assert seen == [0]
    assert feed.subscribers == 0


def test_one_slow_subscriber_does_not_hold_up_another() -> None:
    """They take turns; a gap stands where entries were lost, and only for whom they were lost."""
    scheduler = VirtualScheduler()
    feed: Feed[int] = Feed(scheduler, on_failure=lambda error: None)
    slow, fast = feed.tap(3), feed.tap()
    for entry in range(8):
        feed.publish(entry)
    assert [slow.take() for _ in range(5)] == [Gap(5), 5, 6, 7, None]
    assert [fast.take() for _ in range(9)] == [*range(8), None]


def test_late_answers_after_a_path_are_harmless() -> None:
    bench = ready("peers p", "connected p")
    bench.put(AnswerReceived(P, cast.session("p", 1), ufrag=cast.ufrag("p", 1)))
    assert bench.state.peers[P].connected
    assert sum(isinstance(event, PeerConnected) for event in bench.events) == 1
    assert not [work for work in bench.drivers.running if isinstance(work.effect, WaitUntil)]
