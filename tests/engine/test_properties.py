"""Whatever happens: random events, with right and wrong generations, in any order and at any time."""

from __future__ import annotations

import random
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map

from rxnet.engine import backoff
from rxnet.engine.chance import fraction
from rxnet.engine.early import keep_early
from rxnet.engine.effects import OpenDevice, SetPeers
from rxnet.engine.inbox import Stamped, Step
from rxnet.engine.peers import offer_deadline
from rxnet.engine.reduce import reduce
from rxnet.engine.state import OFFER_GAPS, Outbox, State
from rxnet.events import (
    AnswerReceived,
    CandidateReceived,
    CandidatesGathered,
    ChecksReported,
    CommandTaken,
    DeadlineReached,
    DeviceFailed,
    DeviceOpened,
    DeviceRefused,
    DownRequested,
    EffectFailed,
    EpicFailed,
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
    NetworkMapFaulted,
    NetworkMapReceived,
    NetworkWentDown,
    OfferReceived,
    PathLost,
    PathSelected,
    ServersAnnounced,
    SignalConnected,
    SignalDisconnected,
    SignalMessageUnreadable,
    UpRequested,
)
from rxnet.model import Answer, Candidates, HostNetwork, Message, Offer, PeerKey, Retry, SessionId
from rxnet.testing import cast
from rxnet.testing.bench import Bench
from rxnet.testing.drivers import Work
from rxnet.testing.inputs import INPUTS
from rxnet.testing.invariants import broken_in_state, broken_in_work, broken_on_device

LETTERS = "apq"

_marks = [(lane, mark) for lane in ("user", "network", "management", "signal", "device") for mark in INPUTS[lane]]
_marks += [(letter, mark) for letter in LETTERS for mark in INPUTS["p"]]
_late = [(f"{lane} late", mark) for lane, mark in _marks if lane != "user" and mark not in "mx"]
_map = [("map", "apq"), *(("map", mark) for mark in "apqAPQ"), ("map part", "aQ"), ("map", "Ppa")]

_waits = [("wait", seconds) for seconds in ("0.5", "3", "20", "60", "1000")]

plays = st.one_of(
    st.sampled_from(_marks),
    st.sampled_from([mark for mark in _marks if len(mark[0]) == 1]),
    st.sampled_from([("p", mark) for mark in "oasgcn"]),
    st.sampled_from([("signal", "C"), ("device", "O"), ("network", "U"), ("network", "A")]),
    st.sampled_from(_late),
    st.sampled_from(_map),
    st.sampled_from(_waits),
)


STARTS = [
    (),
    ("up", "network"),
    ("up", "network", "login", "management", "signal", "peers ap"),
    ("up", "network", "login", "management", "device", "peers ap"),
    ("ready", "peers ap"),
    ("ready", "peers apq", "connected a"),
    ("ready", "peers apq", "connected a", "silence"),
]


LETHAL = [("user", "D"), ("management", "R"), ("management", "V"), ("device", "F")]
HELP = [("user", "U"), ("network", "U"), ("management", "L"), ("signal", "C"), ("device", "O"), ("map", "p")]


class Walk:
    """An engine, a device, and a check of everything after every step."""

    def __init__(self, ready: tuple[str, ...], **options: Any) -> None:
        self.told: dict[PeerKey, Any] = {}
        self.bench = Bench(self.tell, **options)
        self.bench.engine.steps.subscribe(self.see)
        self.bench.given(ready)

    def tell(self, work: Work) -> None:
        if isinstance(work.effect, SetPeers) and work.running:
            self.told.update((peer.key, peer) for peer in work.effect.changed)
            for key in work.effect.removed:
                self.told.pop(key, None)
        elif isinstance(work.effect, OpenDevice) and work.running:
            self.told.clear()  # a new one is empty; an old one may die before the engine learns of it

    def see(self, step: Step) -> None:
        at = self.bench.scheduler.clock()
        assert not isinstance(step.stamped.event, EpicFailed), step.stamped
        going_on = [work.effect for work in self.bench.drivers.running]
        for broken in (
            *broken_in_state(step.after, at),
            *broken_in_work(step.after, going_on),
            *broken_on_device(step.after, self.told),
        ):
            raise AssertionError(f"after {step.stamped.event!r}: {broken}")

    def go(self, script: list[tuple[tuple[str, str], bool]]) -> None:
        """Play marks, each alone or together with the next, and end with a command to be down."""
        bench = self.bench
        for (lane, mark), alone in script:
            if lane == "wait":
                bench.advance(float(mark))
            else:
                with suppress(KeyError) if mark in "mx" and len(lane) == 1 else nullcontext():
                    bench.hand.play(lane, mark)  # `m` and `x` need a message on its way
            if alone:
                # Otherwise the next event is in the inbox before this one is worked off.
                bench.scheduler.settle()
        bench.scheduler.settle()
        bench.play("user", "D")
        assert bench.drivers.running == []
        assert bench.scheduler.waiting == 0
        bench.close()


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    script=st.lists(st.tuples(plays, st.booleans()), min_size=10, max_size=80),
    ready=st.sampled_from(STARTS),
    by_hand=st.booleans(),
    jitter=st.floats(0.0, 0.9999),
    seed=st.integers(0, 1 << 32),
)
def test_no_sequence_of_events_breaks_an_invariant(
    script: list[tuple[tuple[str, str], bool]], ready: tuple[str, ...], by_hand: bool, jitter: float, seed: int
) -> None:
    Walk(ready, by_hand=by_hand, jitter=jitter, seed=seed).go(script)


@pytest.mark.parametrize("seed", range(40))
def test_no_long_walk_breaks_an_invariant(seed: int) -> None:
    """Longer than what hypothesis tries, with fewer ends and more middles."""
    chance = random.Random(seed)
    lively = [play for play in (*_marks, *_late, *_map, *_waits) if play not in LETHAL]
    script = []
    for _ in range(300):
        play = chance.choice(LETHAL) if chance.random() < 0.02 else chance.choice(lively)
        script.append((play, chance.random() < 0.7))
        if chance.random() < 0.2:
            script += [(play, False) for play in HELP]
    Walk(chance.choice(STARTS), by_hand=chance.random() < 0.5, jitter=chance.random() * 0.999, seed=seed).go(script)


# -- reduce alone ------------------------------------------------------------------------------------------------

peers = st.sampled_from([cast.key_of(letter) for letter in LETTERS] + [PeerKey(""), cast.OWN])
generations = st.integers(-1, 4)
sessions = st.one_of(st.none(), st.sampled_from([SessionId("0000000001"), SessionId("0000000002"), SessionId("")]))
ufrags = st.sampled_from(["", "u", "v"])
candidates = st.builds(cast.candidate, st.sampled_from(LETTERS), st.integers(0, 99))
networks = st.sampled_from([HostNetwork(), cast.network(0), cast.network(1), cast.network(1, 2)])
remotes = st.sampled_from([cast.remote(letter, version) for letter in LETTERS for version in (0, 1)])
ids = st.lists(st.integers(-2, 40), max_size=3).map(tuple)
names = st.sampled_from(
    ["offer", "silent peers", "network retry", "management retry", "signal retry", "device retry", "nonsense"]
)
effects = st.sampled_from(
    ["WatchNetwork", "OpenManagement", "OpenSignal", "OpenDevice", "SendMessages", "Negotiate", "KeepPath", "SetPeers"]
)
paths = st.builds(cast.path, st.sampled_from(LETTERS), st.integers(0, 3))

events: st.SearchStrategy[Event] = st.one_of(
    st.builds(UpRequested, st.just("1")),
    st.builds(DownRequested, st.just("2")),
    st.builds(CommandTaken, st.just("2")),
    st.builds(NetworkCameUp, networks),
    st.builds(NetworkWentDown, networks),
    st.builds(NetworkChanged, networks, st.just(())),
    st.builds(NetlinkOverran, st.integers(0, 3)),
    st.builds(LoggedIn, generations, st.just(cast.LOCAL), st.sampled_from([cast.SIGNAL, cast.OTHER_SIGNAL])),
    st.builds(ManagementConnected, generations),
    st.builds(ServersAnnounced, generations, st.just(())),
    st.builds(NetworkMapFaulted, generations, st.just(()), st.integers(0, 3)),
    st.builds(ChecksReported, generations, st.integers(0, 3)),
    st.builds(ManagementDisconnected, generations, st.just("gone"), st.sampled_from(Retry)),
    st.builds(LoginRefused, generations, st.just("no")),
    st.builds(SignalConnected, generations),
    st.builds(SignalDisconnected, generations, st.just("gone")),
    st.builds(SignalMessageUnreadable, st.just("x"), st.just("y")),
    st.builds(DeviceOpened, generations, st.just("wt0"), st.just(51820)),
    st.builds(DeviceFailed, generations, st.just("no"), st.booleans()),
    st.builds(DeviceRefused, st.just("x"), st.just("y")),
    st.builds(
        NetworkMapReceived,
        generations,
        st.integers(0, 9),
        st.sampled_from([None, cast.LOCAL]),
        st.lists(remotes, max_size=4).map(tuple),
        st.lists(peers, max_size=3).map(tuple),
        last=st.booleans(),
    ),
    st.builds(OfferReceived, peers, sessions, st.booleans(), ufrags),
    st.builds(AnswerReceived, peers, sessions, st.booleans(), ufrags),
    st.builds(CandidateReceived, peers, candidates),
    st.builds(GoIdleReceived, peers),
    st.builds(MessagesSent, peers, ids),
    st.builds(MessagesNotSent, peers, ids, st.just("no")),
    st.builds(CandidatesGathered, peers, generations, st.lists(candidates, max_size=2).map(tuple)),
    st.builds(PathSelected, peers, generations, paths),
    st.builds(NegotiationFailed, peers, generations, st.just("no")),
    st.builds(PathLost, peers, generations, st.just("no")),
    st.builds(EffectFailed, effects, generations, st.just("no"), st.one_of(st.none(), peers)),
    st.builds(DeadlineReached, names, st.floats(0, 100), st.one_of(st.none(), peers)),
)

TIMELESS = ("stuck", "next offer", "silent_round_at")
"""Without timers deadlines pass unnoticed: what `reduce` alone cannot be held to."""


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(events, st.integers(0, (1 << 64) - 1), st.floats(0, 5)), max_size=60))
def test_reduce_takes_any_event_in_any_state(script: list[tuple[Event, int, float]]) -> None:
    state, at = State(cast.OWN), 0.0
    for seq, (event, entropy, pause) in enumerate(script, 1):
        at += pause
        stamped = Stamped(seq, at, 0, entropy, event)
        after = reduce(state, stamped)
        assert after == reduce(state, stamped), "it is not a function of its arguments"
        state = after
        broken = [text for text in broken_in_state(state, at) if not any(word in text for word in TIMELESS)]
        assert not broken, f"after {event!r}: {broken}"


# -- figures -----------------------------------------------------------------------------------------------------

bits = st.integers(0, (1 << 64) - 1)


@given(attempt=st.integers(1, 10_000), entropy=bits)
def test_back_off_is_full_jitter_within_its_bound(attempt: int, entropy: int) -> None:
    for policy in (backoff.SERVER, backoff.DEVICE):
        interval = min(policy.cap, policy.base * policy.factor ** min(attempt - 1, 64))
        assert 0.0 <= policy.delay(attempt, entropy) < interval
        assert policy.delay(attempt, 0) == 0.0
        assert policy.delay(attempt, (1 << 64) - 1) > 0.999 * interval
        assert abs(policy.delay(attempt, 1 << 63) - interval / 2) < 1e-6


@given(entropy=bits)
def test_fractions_are_below_one(entropy: int) -> None:
    assert 0.0 <= fraction(entropy) < 1.0


@given(at=st.floats(0, 1e9), offers=st.integers(1, 20), entropy=bits)
def test_offers_are_repeated_within_ten_percent(at: float, offers: int, entropy: int) -> None:
    due = offer_deadline(at, offers, entropy)
    if offers > len(OFFER_GAPS):
        assert due is None
    else:
        assert due is not None
        gap = OFFER_GAPS[offers - 1]
        assert gap * 0.9 - 1e-6 <= due - at <= gap * 1.1 + 1e-6


@given(st.integers(0, (1 << 64) - 1))
def test_a_server_that_limits_us_is_left_alone_for_minutes(entropy: int) -> None:
    bench = Bench()
    bench.given(("ready",))
    stamped = Stamped(1, 10.0, 0, entropy, ManagementDisconnected(1, "limited", Retry.SLOWLY))
    retry_at = reduce(bench.state, stamped).management.retry_at
    assert retry_at is not None
    assert 130.0 <= retry_at <= 250.0


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Offer, st.integers(), st.just(SessionId("1"))),
    st.builds(Answer, st.integers(), st.just(SessionId("1"))),
    st.builds(Candidates, st.integers(), st.just(())),
)


@given(st.lists(messages, max_size=60))
def test_an_outbox_keeps_the_newest_offer_and_answer_and_is_bounded(script: list[Message]) -> None:
    outbox = Outbox()
    for message in script:
        outbox = outbox.put(message)
    assert len(outbox.sending) <= 1
    assert len(outbox.waiting) <= 32
    for kind in (Offer, Answer):
        waiting = [message for message in outbox.waiting if type(message) is kind]
        newest = [message for message in script[1:] if type(message) is kind][-1:]
        assert waiting == newest, "the newest offer and answer are never lost to candidates"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("ocacc")), max_size=120))
def test_early_messages_are_bounded_and_counted(script: list[tuple[str, str]]) -> None:
    state = State(cast.key_of("z"))
    for number, (letter, mark) in enumerate(script):
        key = cast.key_of(letter)
        made: Event = {
            "o": OfferReceived(key, None),
            "a": AnswerReceived(key, None),
            "c": CandidateReceived(key, cast.candidate(letter, number)),
        }[mark]
        state = keep_early(state, key, made)
    early = state.early
    assert isinstance(early.messages, Map)
    assert sorted(early.order) == sorted(early.messages)
    for held in early.messages.values():
        assert len(held) <= 33
        assert sum(not isinstance(event, CandidateReceived) for event in held) <= 1
