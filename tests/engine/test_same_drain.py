"""Events that come together are worked off in one drain: each epic has started its work before the next event."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rxnet.engine.effects import OpenDevice, SetPeers
from rxnet.engine.inbox import Step
from rxnet.events import (
    AnswerReceived,
    CandidatesGathered,
    DeviceOpened,
    Event,
    NetworkChanged,
    NetworkMapReceived,
    OfferReceived,
    PathSelected,
    SignalConnected,
    SignalDisconnected,
)
from rxnet.testing import cast
from rxnet.testing.bench import Bench
from rxnet.testing.drivers import Work
from rxnet.testing.invariants import broken_in_state, broken_in_work, broken_on_device

P = cast.key_of("p")


class Told:
    """What a device was told, in one place."""

    def __init__(self) -> None:
        self.peers: dict[object, object] = {}

    def see(self, work: Work) -> None:
        if isinstance(work.effect, SetPeers) and work.running:
            self.peers.update((peer.key, peer) for peer in work.effect.changed)
            for key in work.effect.removed:
                self.peers.pop(key, None)
        if isinstance(work.effect, OpenDevice) and work.running:
            self.peers.clear()


def listed(letters: str, removed: str = "", serial: int = 9) -> NetworkMapReceived:
    return NetworkMapReceived(
        1, serial, None, tuple(map(cast.remote, letters)), tuple(cast.key_of(letter) for letter in removed)
    )


BURSTS: dict[str, tuple[tuple[str, ...], Callable[[Bench], tuple[Event, ...]]]] = {
    "device opens, map lists": (
        ("up", "network", "login", "management", "signal", "peers a"),
        lambda bench: (DeviceOpened(1, "wt0", 1), listed("pq"), listed("", "a")),
    ),
    "signal connects, map lists, an offer comes": (
        ("up", "network", "login", "management", "device", "peers a"),
        lambda bench: (
            SignalConnected(1),
            listed("p"),
            OfferReceived(P, cast.session("p", 1), ufrag="u"),
            AnswerReceived(P, cast.session("p", 2), ufrag="u"),
            OfferReceived(cast.key_of("a"), None),
        ),
    ),
    "map lists, removes, lists again": (
        ("ready", "peers a"),
        lambda bench: (listed("p"), listed("", "pa"), listed("ap")),
    ),
    "an agent's whole life": (
        ("ready", "peers ap"),
        lambda bench: (
            OfferReceived(P, cast.session("p", 1), ufrag="u"),
            CandidatesGathered(P, 1, (cast.own_candidate(1),)),
            PathSelected(P, 1, cast.path("p", 1)),
            OfferReceived(P, cast.session("p", 2), ufrag="v"),
            PathSelected(P, 2, cast.path("p", 2)),
        ),
    ),
    "signal flaps, the network moves": (
        ("ready", "peers ap", "connected a"),
        lambda bench: (
            OfferReceived(P, cast.session("p", 1), ufrag="u"),
            SignalDisconnected(1, "gone"),
            NetworkChanged(cast.network(1), ("moved",)),
            SignalConnected(2),
            OfferReceived(P, cast.session("p", 2), ufrag="u"),
            NetworkChanged(cast.network(1, 1), ("more",)),
        ),
    ),
}


@pytest.mark.parametrize("name", BURSTS)
def test_a_burst_of_events_leaves_nothing_behind(name: str) -> None:
    given, burst = BURSTS[name]
    told = Told()
    bench = Bench(told.see)
    bench.given(given)

    def look(step: Step) -> None:
        going_on = [work.effect for work in bench.drivers.running]
        at = bench.scheduler.clock()
        assert not list(broken_in_state(step.after, at))
        assert not list(broken_in_work(step.after, going_on))
        assert not list(broken_on_device(step.after, told.peers))  # type: ignore[arg-type]

    bench.engine.steps.subscribe(look)
    bench.put(*burst(bench))
    assert len(bench.steps) > 5
