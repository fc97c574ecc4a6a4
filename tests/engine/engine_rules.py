"""The rules of the engine (docs/engine.md) as checks: each takes the maker of a bench and raises AssertionError.

`test_rules.py` runs them against the engine, `test_rules_bite.py` against engines that are broken on purpose.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from reactivex import operators as ops

from rxnet.engine.effects import KeepPath, Negotiate, OpenDevice, OpenManagement, WaitUntil
from rxnet.engine.engine import EPICS
from rxnet.engine.feed import Feed, Gap
from rxnet.engine.inbox import Step
from rxnet.events import (
    CandidateReceived,
    EffectFailed,
    EpicFailed,
    Event,
    NetlinkOverran,
    NetworkChanged,
    OfferReceived,
    PathSelected,
    PeerConnected,
    SignalConnected,
    SignalDisconnected,
    UpRequested,
)
from rxnet.model import PeerKey
from rxnet.testing import cast
from rxnet.testing.bench import Bench, ready
from rxnet.testing.drivers import Work
from rxnet.testing.virtual import VirtualScheduler

Make = Callable[..., Bench]
P, Q = cast.key_of("p"), cast.key_of("q")


# -- 1: inputs enqueue, they never call --------------------------------------------------------------------------


def check_inputs_enqueue(make: Make = Bench) -> None:
    """An observer and a driver that emit inside an emission do not nest: all observers see the one order."""
    at_once = {OpenManagement: lambda work: work.report(EffectFailed("OpenManagement", work.effect.generation, "no"))}
    bench = make(on_start=at_once)
    first: list[int] = []
    second: list[int] = []
    busy = False

    def eager(step: Step) -> None:
        nonlocal busy
        assert not busy, "an event was published inside the publication of another"
        busy = True
        first.append(step.stamped.seq)
        if isinstance(step.stamped.event, UpRequested):
            before = bench.state
            bench.engine.put(NetlinkOverran(1))
            assert bench.state is before, "putting an event reduced it"
        busy = False

    bench.engine.steps.subscribe(eager)
    bench.engine.steps.subscribe(lambda step: second.append(step.stamped.seq))
    bench.play("user", "U")
    bench.play("network", "U")
    bench.advance(5.0)
    assert len(first) > 5
    assert first == second == list(range(1, len(first) + 1))


# -- 3: reduce first, publish after ------------------------------------------------------------------------------


def check_reduced_before_published(make: Make = Bench) -> None:
    """Whoever sees an event sees the state that contains it."""
    bench = make()
    seen: list[bool] = []

    def look(step: Step) -> None:
        assert bench.state is step.after, "the event was published before the state contained it"
        if isinstance(step.stamped.event, SignalConnected):
            seen.append(bench.state.signal.status.value == "connected")

    bench.engine.steps.subscribe(look)
    bench.given(("ready", "peers pq", "connected p"))
    assert seen == [True]
    for step, following in zip(bench.steps, bench.steps[1:], strict=False):
        assert step.after is following.before


# -- 4: errors are events ----------------------------------------------------------------------------------------


def _alive(bench: Bench) -> None:
    """The engine still does its work."""
    bench.play("map", "z")
    bench.play("z", "o")
    bench.play("z", "s")
    assert bench.state.peers[cast.key_of("z")].connected, "the engine no longer connects peers"


def check_driver_errors_are_events(make: Make = Bench) -> None:
    """A driver's observable that errors, at once or later, costs one effect."""
    failing: list[Work] = []

    def fail(work: Work) -> None:
        if work.peer == P:
            work.observer.on_error(ValueError("at once"))
        elif work.peer == Q:
            failing.append(work)

    bench = ready("peers pq", make=lambda: make(on_start={Negotiate: fail}))
    bench.play("p", "o")
    bench.play("q", "o")
    assert failing, "the failure of one peer's driver kept another's from starting"
    bench.scheduler.after(0.0, lambda: failing[0].observer.on_error(ValueError("later")))
    bench.scheduler.settle()
    failed = [event for event in bench.events if isinstance(event, EffectFailed)]
    assert [event.peer for event in failed] == [P, Q]
    assert not any(isinstance(event, EpicFailed) for event in bench.events)
    _alive(bench)


def check_epic_errors_are_events(make: Make = Bench) -> None:
    """An epic that raises does not end the stream: it is said, the others go on, and it starts again."""
    tripped: list[int] = []

    def trip(step: Step) -> Step:
        if isinstance(step.stamped.event, NetworkChanged) and len(tripped) < 2:  # each of the two epics once
            tripped.append(step.stamped.seq)
            raise ZeroDivisionError("a defect")
        return step

    epics = {**EPICS, "signal": lambda steps, perform: EPICS["signal"](steps.pipe(ops.map(trip)), perform)}
    epics["clumsy"] = lambda steps, perform: steps.pipe(ops.map(trip), ops.filter(lambda _: False))
    bench = ready("peers p", make=lambda: make(epics=epics))
    bench.play("network", "A")
    assert len(tripped) == 2
    failed = [event.name for event in bench.events if isinstance(event, EpicFailed)]
    assert "clumsy" in failed
    bench.play("network", "A")
    bench.play("signal", "C")
    _alive(bench)


def check_reduce_errors_are_events(make: Make = Bench) -> None:
    """An event that `reduce` cannot take leaves the state as it is, and says so."""
    from rxnet.engine.reduce import reduce

    def touchy(state: Any, stamped: Any) -> Any:
        if isinstance(stamped.event, NetlinkOverran):
            raise ZeroDivisionError("a defect")
        return reduce(state, stamped)

    bench = ready("peers p", make=lambda: make(reduce=touchy))
    before = bench.state
    bench.put(NetlinkOverran(1))
    assert bench.state.peers is before.peers
    assert [event.name for event in bench.events if isinstance(event, EpicFailed)] == ["reduce"]
    _alive(bench)


def check_a_raising_subscriber_is_dropped_alone() -> None:
    """A feed's subscriber that raises leaves; the others miss nothing."""
    scheduler = VirtualScheduler()
    failures: list[Exception] = []
    feed: Feed[int] = Feed(scheduler, on_failure=failures.append)
    good: list[object] = []
    after: list[object] = []

    def bad(entry: object) -> None:
        raise ZeroDivisionError("a subscriber's defect")

    feed.observable().subscribe(good.append)
    feed.observable().subscribe(bad)
    feed.observable().subscribe(after.append)
    for entry in range(3):
        feed.publish(entry)
    scheduler.settle()
    assert good == after == [0, 1, 2]
    assert feed.subscribers == 2
    assert [type(error) for error in failures] == [ZeroDivisionError]


# -- 5: cancel by switching --------------------------------------------------------------------------------------


def check_closing_the_gate_cancels_at_once(make: Make = Bench) -> None:
    """All that is pending for all peers ends in the instant in which the gate closes."""
    letters = "abcdefghijklmopqrstuvwxyz"
    for lane, mark in (("signal", "X"), ("network", "D"), ("user", "D"), ("device", "X"), ("device", "F")):
        bench = ready(f"peers {letters}", make=make)
        for letter in "abcd":
            bench.play(letter, "o")
        bench.advance(1.0)
        pending = [work for work in bench.drivers.running if work.peer is not None]
        assert {work.peer for work in pending} == {cast.key_of(letter) for letter in letters}
        bench.play(lane, mark)
        assert not bench.state.gate.open
        left = [work.effect for work in bench.drivers.running if work.peer is not None]
        assert not left, f"{lane} {mark} left pending: {left[:3]}"
        assert {work.ended for work in pending} == {1.0}
        bench.close()


def check_late_results_are_dropped(make: Make = Bench) -> None:
    """What a cancelled driver says afterwards is news of another time."""
    bench = ready("peers pq", "connected q", make=make)
    bench.play("p", "o")
    bench.play("p", "n")
    for lane, marks in (("p", "sflg"), ("signal", "CX"), ("management", "LCXRV"), ("device", "XF")):
        for mark in marks:
            before, started = bench.state, len(bench.drivers.works)
            bench.play(f"{lane} late", mark)
            assert bench.state == before, f"the late {lane} {mark} was taken"
            assert len(bench.drivers.works) == started, f"the late {lane} {mark} started something"


def check_results_behind_a_closing_gate_are_dropped(make: Make = Bench) -> None:
    """The result was in the inbox already, behind the event that cancelled its work."""
    bench = ready("peers p", make=make)
    bench.play("p", "o")
    generation = bench.state.peers[P].generation
    bench.put(
        SignalDisconnected(bench.state.signal.generation, "gone"),
        PathSelected(P, generation, cast.path("p", 1)),
    )
    assert bench.state.connected == 0
    assert not [work.effect for work in bench.drivers.running if work.peer == P]


# -- 6: no periodic checks ---------------------------------------------------------------------------------------


def check_nothing_is_left_after_down(make: Make = Bench) -> None:
    """Down: no timer, no work, nothing that would ever wake us."""
    for waits in (("signal", "X"), ("management", "X"), ("device", "X"), ("network", "E"), ("network", "D")):
        bench = ready("peers pqr", "connected q", make=make)
        bench.play("r", "o")
        bench.play(*waits)
        bench.play("user", "D")
        assert bench.drivers.running == []
        assert bench.scheduler.waiting == 0
        fired = bench.scheduler.fired
        bench.advance(86_400.0)
        assert bench.scheduler.fired == fired
        bench.close()


def check_silence_costs_nothing(make: Make = Bench) -> None:
    """An offline peer has no timer after its last offer; all of them together have one."""
    bench = ready("peers abcdefg", make=make)
    bench.advance(50.0)
    assert len(bench.state.silent) == 7
    assert [work.effect.name for work in bench.drivers.running if isinstance(work.effect, WaitUntil)] == [
        "silent peers"
    ]
    assert bench.scheduler.waiting == 1
    fired = bench.scheduler.fired
    bench.advance(800.0)
    assert bench.scheduler.fired == fired


def check_a_closed_gate_costs_nothing(make: Make = Bench) -> None:
    """Without signal or network nobody is offered anything and nothing wakes us for a peer."""
    for lane, mark in (("network", "D"), ("device", "F")):
        bench = ready("peers abcdefg", make=make)
        bench.play(lane, mark)
        started, fired = len(bench.drivers.works), bench.scheduler.fired
        bench.advance(86_400.0)
        assert bench.scheduler.fired == fired
        assert len(bench.drivers.works) == started
        bench.close()


# -- 7: the cost of an event does not depend on the number of peers ----------------------------------------------


class CountedKey(str):
    """A peer key that counts what maps and sorts do with it."""

    uses = 0

    def __hash__(self) -> int:
        CountedKey.uses += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        CountedKey.uses += 1
        return super().__eq__(other)

    def __lt__(self, other: str) -> bool:
        CountedKey.uses += 1
        return super().__lt__(other)


def count_calls(act: Callable[[], object]) -> int:
    """Count the Python and C functions that are called on the way, and the uses of keys by maps and sorts."""
    calls = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    CountedKey.uses = 0
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        act()
    finally:
        sys.setprofile(before)
    return calls + CountedKey.uses


def _crowd(peers: int, make: Make) -> Bench:
    """A bench with that many peers; those that take part in the measurement are there besides."""
    from rxnet.events import NetworkMapReceived
    from rxnet.model import RemotePeer

    bench = ready(make=make)
    remotes = [RemotePeer(PeerKey(CountedKey(f"x{n:05d}")), ()) for n in range(peers)]
    bench.put(NetworkMapReceived(1, 1, None, (*remotes, cast.remote("p"), cast.remote("q"))))
    bench.advance(1.0)
    return bench


COSTED: dict[str, tuple[tuple[str, str], ...]] = {
    "an offer, a path, its loss": (("p", "o"), ("p", "g"), ("p", "c"), ("p", "s"), ("p", "l")),
    "a refused negotiation": (("p", "o"), ("p", "f")),
    "a change of the map": (("map", "q"), ("map", "Q"), ("map", "q")),
    "management is lost": (("management", "X"),),
    "a stranger": (("z", "o"), ("z", "c")),
}


def check_cost_is_flat(make: Make = Bench, sizes: tuple[int, ...] = (10, 1_000, 5_000)) -> dict[str, list[int]]:
    """Count operations, not time: the same for each event at any number of peers, but for a map's depth."""
    costs: dict[str, list[int]] = {name: [] for name in COSTED}
    for size in sizes:
        bench = _crowd(size, make)
        for name, marks in COSTED.items():
            costs[name].append(count_calls(lambda marks=marks, bench=bench: [bench.play(*mark) for mark in marks]))
        bench.close()
    for name, counts in costs.items():
        assert max(counts) <= min(counts) * 1.1 + 20, f"{name} costs {counts} operations at {sizes} peers"
    return costs


# -- 8: nothing is lost silently ---------------------------------------------------------------------------------


def check_early_messages_are_kept(make: Make = Bench) -> None:
    """What a peer said before the map lists it counts when it does."""
    bench = ready(make=make)
    bench.play("p", "c")
    bench.play("p", "o")
    bench.play("p", "c")
    bench.play("map", "p")
    peer = bench.state.peers[P]
    assert peer.agent is not None, "the early offer was lost"
    assert len(peer.candidates) == 2, "early candidates were lost"
    assert bench.state.early.order == ()


def check_early_messages_are_bounded(make: Make = Bench) -> None:
    """Whoever floods us with keys or messages gets no memory of ours, and others keep their place."""
    bench = ready(make=make)
    for n in range(2_000):
        bench.engine.put(OfferReceived(PeerKey(f"k{n:05d}"), None))
    for n in range(2_000):
        bench.engine.put(CandidateReceived(P, cast.candidate("p", n)))
    bench.scheduler.settle()
    early = bench.state.early
    assert len(early.messages) == len(early.order) <= 256
    assert sum(len(messages) for messages in early.messages.values()) <= 256 + 32
    assert early.dropped == (2_001 - 256) + (2_000 - 32)


def check_a_slow_subscriber_sees_its_gap() -> None:
    """A bounded queue; what was lost is said, where it was lost."""
    scheduler = VirtualScheduler()
    feed: Feed[int] = Feed(scheduler, on_failure=lambda error: None)
    slow: list[object] = []
    feed.observable(4).subscribe(slow.append)
    for entry in range(10):
        feed.publish(entry)
    scheduler.settle()
    feed.publish(10)
    scheduler.settle()
    assert slow == [Gap(6), 6, 7, 8, 9, 10]


# -- 9: every event knows its cause ------------------------------------------------------------------------------


def check_causes_lead_back(make: Make = Bench) -> None:
    """From the news of a connection back to the user's command, without a gap."""
    bench = make()
    bench.given(("ready", "peers p"))
    bench.advance(4.0)
    bench.play("p", "a")
    bench.play("p", "g")
    bench.play("p", "s")
    by_seq = {step.stamped.seq: step.stamped for step in bench.steps}
    stamped = next(s for s in by_seq.values() if isinstance(s.event, PeerConnected))
    chain: list[type[Event]] = []
    while stamped.cause:
        assert stamped.cause < stamped.seq
        chain.append(type(stamped.event))
        stamped = by_seq[stamped.cause]
    chain.append(type(stamped.event))
    assert [cls.__name__ for cls in chain] == [
        "PeerConnected",
        "PathSelected",
        "AnswerReceived",
        "LoggedIn",
        "NetworkCameUp",
        "UpRequested",
    ]
    for each in by_seq.values():
        assert each.cause or isinstance(each.event, UpRequested), f"{each} came from nowhere"


def check_a_trace_replays(make: Make = Bench) -> None:
    """Folding the recorded events again, without drivers, gives every state again."""
    from rxnet.engine.reduce import reduce
    from rxnet.engine.state import State

    bench = ready("peers apq", "connected a", make=make)
    for lane, marks in (("p", "cogf"), ("signal", "X"), ("network", "DUA"), ("a", "l"), ("map", "P")):
        for mark in marks:
            bench.play(lane, mark)
        bench.advance(7.0)
    state = State(cast.OWN)
    for step in bench.steps:
        assert step.before == state
        state = reduce(state, step.stamped)
        assert step.after == state, f"{step.stamped} does not replay"


# -- 10: no restart ----------------------------------------------------------------------------------------------


def check_nothing_restarts(make: Make = Bench) -> None:
    """Another address, another overlay address, servers lost and back, another map: interface and paths go on."""
    bench = ready("peers pq", "connected p", make=make)
    device, path = bench.drivers.find(OpenDevice), bench.drivers.find(KeepPath, P)
    assert device is not None
    assert path is not None
    for lane, marks in (("network", "A"), ("management", "A"), ("signal", "X"), ("management", "X"), ("map", "Q")):
        for mark in marks:
            bench.play(lane, mark)
        bench.advance(30.0)
    bench.play("network", "DU")
    assert device.running, "the interface was closed"
    assert path.running, "a path that works was dropped"
    assert bench.state.peers[P].connected


BENCH_CHECKS: tuple[Callable[..., object], ...] = (
    check_inputs_enqueue,
    check_reduced_before_published,
    check_driver_errors_are_events,
    check_epic_errors_are_events,
    check_reduce_errors_are_events,
    check_closing_the_gate_cancels_at_once,
    check_late_results_are_dropped,
    check_results_behind_a_closing_gate_are_dropped,
    check_nothing_is_left_after_down,
    check_silence_costs_nothing,
    check_a_closed_gate_costs_nothing,
    check_cost_is_flat,
    check_early_messages_are_kept,
    check_early_messages_are_bounded,
    check_causes_lead_back,
    check_a_trace_replays,
    check_nothing_restarts,
)
"""Those that take a maker."""

FEED_CHECKS: tuple[Callable[[], None], ...] = (
    check_a_raising_subscriber_is_dropped_alone,
    check_a_slow_subscriber_sees_its_gap,
)
