"""The invariants of simulated worlds bite: each broken state is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from immutables import Map

from rxnet.engine.effects import Effect, KeepPath, Negotiate, SendMessages, WaitUntil
from rxnet.engine.state import Outbox, State
from rxnet.engine.tunnels import wireguard_peer
from rxnet.model import Answer, SessionId
from rxnet.testing import cast
from rxnet.testing.bench import ready
from rxnet.testing.invariants import broken_in_state, broken_in_work, broken_on_device

P, Q = cast.key_of("p"), cast.key_of("q")


def good() -> State:
    """Peer `p` is connected, `q` has a negotiation, `a` an offer."""
    bench = ready("peers apq", "connected p")
    bench.play("q", "o")
    return bench.state


def with_peer(state: State, letter: str, **changes: object) -> State:
    key = cast.key_of(letter)
    return replace(state, peers=state.peers.set(key, replace(state.peers[key], **changes)))


BROKEN: dict[str, Callable[[State], State]] = {
    "state.connected is 2": lambda state: replace(state, connected=2),
    "has a path, but the device is closed": lambda state: replace(
        state, device=replace(state.device, status=type(state.device.status).CLOSED)
    ),
    "the gate is open against its conditions": lambda state: replace(state, wanted=False),
    "the gate is closed against its conditions": lambda state: replace(state, gate=replace(state.gate, open=False)),
    "the silent set is": lambda state: replace(state, silent=Map({P: None})),
    "silent_round_at is 5.0 with 0 silent peers": lambda state: replace(state, silent_round_at=5.0),
    "holds 65 candidates": lambda state: with_peer(
        state, "q", candidates=tuple((0.0, cast.candidate("q", n)) for n in range(65))
    ),
    "holds 1 + 40 messages": lambda state: with_peer(
        state, "q", outbox=Outbox((Answer(1, SessionId("1")),), (Answer(2, SessionId("1")),) * 40)
    ),
    "is connected, and why not: 'tired'": lambda state: with_peer(state, "p", reason="tired"),
    "is not connected, and why not: ''": lambda state: with_peer(state, "q", reason=""),
    "signal is connected with retry_at 3.0": lambda state: replace(state, signal=replace(state.signal, retry_at=3.0)),
    "management is connected, and why not: 'x'": lambda state: replace(
        state, management=replace(state.management, reason="x")
    ),
    "has a path without an agent": lambda state: with_peer(state, "p", agent=None),
    "has its next offer at 500.0": lambda state: with_peer(state, "q", agent=None, next_offer=500.0),
    "has its next offer at -1.0": lambda state: with_peer(state, "q", agent=None, next_offer=-1.0),
}


def test_a_good_state_is_not_blamed() -> None:
    state = good()
    assert list(broken_in_state(state, 0.0)) == []
    told = {key: wireguard_peer(state, key) for key in state.peers}
    assert list(broken_on_device(state, told)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("complaint", BROKEN)
def test_a_broken_state_is_named(complaint: str) -> None:
    assert any(complaint in text for text in broken_in_state(BROKEN[complaint](good()), 0.0))


def test_work_without_a_reason_is_named() -> None:
    state = good()
    closed = replace(state, gate=replace(state.gate, open=False))
    pending: tuple[Effect, ...] = (SendMessages(Q, (), 0), Negotiate(Q, 1, SessionId("1"), None, True))
    assert list(broken_in_work(state, pending)) == []
    assert len(list(broken_in_work(closed, pending))) == 2
    unowned: tuple[Effect, ...] = (
        WaitUntil("signal retry", 3.0),
        WaitUntil("poll", 1.0),
        WaitUntil("offer", 9.0, Q),
        WaitUntil("offer", 9.0, cast.key_of("z")),
        KeepPath(P, 99),
        KeepPath(Q, 1),
    )
    assert len(list(broken_in_work(state, unowned))) == len(unowned)


def test_a_device_that_differs_is_named() -> None:
    state = good()
    told = {key: wireguard_peer(state, key) for key in state.peers}
    told[cast.key_of("z")] = told.pop(P)
    texts = list(broken_on_device(state, told))  # type: ignore[arg-type]
    assert len(texts) == 2
    assert "was told None" in texts[0]
    assert "still holds" in texts[1]
