"""The ICE driver on virtual time: two peers, a wire, and what may happen to it."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from typing import NoReturn

import aioice
import pytest
from aioice import stun
from ice_sides import PORT, Side, exchange, pair, side
from ice_wire import RTT, Wire, run, stall

from rxnet.candidates import host_candidate
from rxnet.credentials import IceCredentials
from rxnet.engine.effects import GiveCandidates, KeepPath, Negotiate
from rxnet.events import CandidatesGathered, NegotiationFailed, PathLost, PathSelected
from rxnet.ice.agent import PRIVATE_NAMES
from rxnet.ice.packets import parse_stun
from rxnet.model import Endpoint, PeerKey, ServerAddress, SessionId
from rxnet.perform import Performer

STUN_SERVER = ServerAddress("192.0.2.3", 3478)


def test_the_private_names_of_aioice_exist() -> None:
    assert aioice.__version__.startswith("0.13.")
    connection = aioice.Connection(ice_controlling=True)
    assert [name for name in PRIVATE_NAMES if not hasattr(connection, name)] == []


def now() -> float:
    return asyncio.get_running_loop().time()


async def connected(wire: Wire, a_controls: bool = True) -> tuple[Side, Side]:
    """Two peers whose path is kept, as the engine leaves them."""
    a, b = pair(wire)
    tasks = [a.negotiate(b, a_controls), b.negotiate(a, not a_controls)]
    await exchange(a, b)
    await a.hear(PathSelected), await b.hear(PathSelected)
    a.kept, b.kept = a.keep(b), b.keep(a)
    for task in tasks:
        task.cancel()
    return a, b


# -- negotiation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("addresses", [("10.0.0.1", "10.0.0.2"), ("fd77::1", "fd77::2")])
def test_two_peers_find_one_path(addresses: tuple[str, str]) -> None:
    async def body() -> None:
        wire = Wire()
        a, b = side(wire, "a", addresses[0]), side(wire, "b", addresses[1])
        a.negotiate(b, True), b.negotiate(a, False)
        await exchange(a, b)
        begun = now()
        paths = []
        for peer in (a, b):
            event = await peer.hear(PathSelected)
            assert isinstance(event, PathSelected)
            assert event.generation == 1
            paths.append(event.path)
        here, there = (Endpoint(address, PORT) for address in addresses)
        assert [(path.local, path.remote) for path in paths] == [(here, there), (there, here)]
        assert paths[0].round_trip == pytest.approx(RTT)
        # A check and its answer, then the nomination.
        assert now() - begun <= 2.5 * RTT
        nominations = [m for m in wire.messages(addresses[0]) if "USE-CANDIDATE" in m.attributes]
        assert len({message.transaction_id for message in nominations}) == 1
        await asyncio.sleep(5)
        assert not [event for event in (*a.events, *b.events) if isinstance(event, PathSelected)]

    run(body)


async def told_but_not_signalled(wire: Wire) -> tuple[Side, Side]:
    """Two peers: a's agent knows where b is, and a's candidates are on their way to signal."""
    a, b = pair(wire)
    await a.give(b, (host_candidate("10.0.0.2", PORT, ufrag="x"),))
    a.negotiate(b, True)
    told = await a.hear(CandidatesGathered)
    assert isinstance(told, CandidatesGathered)
    assert [candidate.address for candidate in told.candidates] == ["10.0.0.1"]
    assert dict(told.candidates[0].extensions)["ufrag"] == a.credentials.ours(b.key).ufrag
    return a, b


def test_no_check_overtakes_our_candidates() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = await told_but_not_signalled(wire)
        await asyncio.sleep(0.09)
        assert wire.sent == []
        a.driver.candidates_signalled(PeerKey("another"))
        await asyncio.sleep(0.005)
        assert wire.sent == []
        a.driver.candidates_signalled(b.key)
        # Called from the engine's drain, where nothing may be sent.
        assert wire.sent == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [target for _, target, _ in wire.sent] == [("10.0.0.2", PORT)]
        a.driver.candidates_signalled(b.key)
        await asyncio.sleep(0.1)
        assert len(wire.sent) == 1

    run(body)


def test_checks_wait_for_signal_no_longer_than_a_tenth_of_a_second() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = await told_but_not_signalled(wire)
        await asyncio.sleep(0.099)
        assert wire.sent == []
        await asyncio.sleep(0.002)
        assert [target for _, target, _ in wire.sent] == [("10.0.0.2", PORT)]
        a.driver.candidates_signalled(b.key)
        await asyncio.sleep(0.1)
        assert len(wire.sent) == 1

    run(body)


def test_word_that_comes_before_the_wait_is_not_forgotten() -> None:
    """The candidates may be signalled while whoever iterates still handles their event."""

    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)
        await a.give(b, (host_candidate("10.0.0.2", PORT, ufrag="x"),))
        a.credentials.remember(b.key, SessionId("r"), b.credentials.ours(a.key))
        events = a.driver.negotiate(Negotiate(b.key, 1, SessionId("s"), SessionId("r"), True))
        assert isinstance(await anext(events), CandidatesGathered)
        a.driver.candidates_signalled(b.key)
        await asyncio.sleep(3)
        assert wire.sent == []
        # Asking for the next event says that the first was handed over.
        following = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [target for _, target, _ in wire.sent] == [("10.0.0.2", PORT)]
        following.cancel()

    run(body)


def test_a_check_that_comes_during_the_wait_is_answered_at_once_and_returned_afterwards() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)
        # Its candidates never come: a knows b by b's check alone.
        a.negotiate(b, False), b.negotiate(a, True)
        told = await a.hear(CandidatesGathered)
        assert isinstance(told, CandidatesGathered)
        await b.give(a, told.candidates)
        b.driver.candidates_signalled(a.key)
        await asyncio.sleep(RTT)
        assert {message.message_class for message in wire.messages("10.0.0.1")} == {stun.Class.RESPONSE}
        a.driver.candidates_signalled(b.key)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wire.messages("10.0.0.1")[-1].message_class is stun.Class.REQUEST
        assert await a.hear(PathSelected) and await b.hear(PathSelected)

    run(body)


def test_what_is_cancelled_during_the_wait_sends_nothing() -> None:
    async def body() -> None:
        for signalled in (True, False):
            wire = Wire()
            a, b = await told_but_not_signalled(wire)
            if signalled:
                a.driver.candidates_signalled(b.key)
            a.driver.close()
            a.driver.candidates_signalled(b.key)
            await asyncio.sleep(60)
            assert wire.sent == []
            assert (len(a.driver), a.port.demux.transactions) == (0, {})

    run(body)


def test_candidates_that_come_before_their_agent_are_kept() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)
        b.negotiate(a, False)
        event = await b.hear(CandidatesGathered)
        assert isinstance(event, CandidatesGathered)
        await a.give(b, event.candidates)
        a.negotiate(b, True)
        # b was told nothing: it learns a's address from a's check.
        assert await a.hear(PathSelected) and await b.hear(PathSelected)

    run(body)


def test_holes_are_punched_however_late_one_side_is() -> None:
    """Both sides' routers let in only answers. Ours may have backed off for long: their check must wake it at once."""

    async def body() -> None:
        for late in (0.0, 0.3, 0.7, 1.3, 2.9, 4.1, 8.0, 8.9):
            wire = Wire()
            opened: set[tuple[str, str]] = set()

            def passes(source: tuple[str, int], target: tuple[str, int], opened: set[tuple[str, str]] = opened) -> bool:
                opened.add((source[0], target[0]))
                return (target[0], source[0]) in opened

            wire.passes = passes
            a, b = pair(wire)
            first = a.negotiate(b, True)
            told = await a.hear(CandidatesGathered)
            assert isinstance(told, CandidatesGathered)
            await a.give(b, (host_candidate("10.0.0.2", PORT, ufrag="x"),))
            a.driver.candidates_signalled(b.key)
            await asyncio.sleep(late)
            second = b.negotiate(a, False)
            begun = now()
            await b.hear(CandidatesGathered)
            b.driver.candidates_signalled(a.key)
            await b.give(a, told.candidates)
            await a.hear(PathSelected), await b.hear(PathSelected)
            # When both begin at the same instant, both first checks are lost: then it takes the second.
            assert now() - begun < (0.25 if late < 0.1 else 4 * RTT), late
            first.cancel(), second.cancel()
            a.driver.close(), b.driver.close()

    run(body)


def test_lost_packets_are_sent_again() -> None:
    async def body() -> None:
        wire = Wire()
        luck = random.Random(7)
        wire.passes = lambda source, target: luck.random() < 0.5
        a, b = pair(wire)
        a.negotiate(b, True), b.negotiate(a, False)
        await exchange(a, b)
        begun = now()
        await a.hear(PathSelected), await b.hear(PathSelected)
        assert now() - begun < 8

    run(body)


@pytest.mark.parametrize("role", [True, False])
def test_a_conflict_of_roles_is_resolved(role: bool) -> None:
    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)
        a.negotiate(b, role), b.negotiate(a, role)
        await exchange(a, b)
        await a.hear(PathSelected), await b.hear(PathSelected)

    run(body)


def test_negotiation_fails_at_its_limit_and_leaves_nothing() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)
        a.negotiate(b, True)
        await a.hear(CandidatesGathered)
        a.driver.candidates_signalled(b.key)
        begun = now()
        await a.give(b, (host_candidate("10.0.0.99", PORT, ufrag="x"),))
        failed = await a.hear(NegotiationFailed)
        assert isinstance(failed, NegotiationFailed)
        assert failed.generation == 1
        assert "15 s" in failed.reason
        assert now() - begun == pytest.approx(15)
        await asyncio.sleep(0)
        sent = len(wire.sent)
        # Not silent, and not a flood.
        assert 8 <= sent <= 25
        await asyncio.sleep(60)
        assert len(wire.sent) == sent
        assert (len(a.driver), len(a.port.demux), a.port.demux.transactions) == (0, 0, {})
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(body)


def test_reasons_why_there_can_be_no_agent() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)

        async def reason(remote: str = "r") -> str:
            events = a.driver.negotiate(Negotiate(b.key, 1, SessionId("s"), SessionId(remote), True))
            (event,) = [event async for event in events]
            assert isinstance(event, NegotiationFailed)
            return event.reason

        assert "not known" in await reason()
        for ufrag, pwd in (("with:colon", "p" * 22), ("", "p" * 22), ("u" * 300, "p" * 22), ("user", "")):
            a.credentials.remember(b.key, SessionId("bad"), IceCredentials(ufrag, pwd))
            assert "malformed" in await reason("bad")
        a.credentials.remember(b.key, SessionId("r"), b.credentials.ours(a.key))
        a.locals = ["127.0.0.1", "100.64.0.1", "fe80::1"]
        assert "no address" in await reason()
        a.port.close()
        assert "port" in await reason()
        assert len(a.driver) == 0

    run(body)


def test_an_unexpected_error_leaves_no_agent_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("unexpected")

    async def body() -> None:
        for place in ("rxnet.ice.driver.host_candidates", "rxnet.ice.reflexive.ReflexiveAddresses.find"):
            a, b = pair(Wire())
            with monkeypatch.context() as patch:
                patch.setattr(place, fail)
                task = a.negotiate(b, True, 1, (STUN_SERVER,))
                await asyncio.wait((task,))
                assert str(task.exception()) == "unexpected"
            assert (len(a.driver), len(a.port.demux)) == (0, 0)

    run(body)


def test_nonsense_candidates_are_refused_and_counted() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)
        a.negotiate(b, True)
        await a.hear(CandidatesGathered)
        await a.give(
            b, tuple(host_candidate(text, PORT, ufrag="x") for text in ("127.0.0.1", "100.64.0.7", "10.0.0.2"))
        )
        await asyncio.sleep(1)
        assert a.driver.refused_candidates == 2
        assert {target[0] for _, target, _ in wire.sent} == {"10.0.0.2"}

    run(body)


def test_strangers_get_no_answer() -> None:
    """Neither who does not know the user fragments, nor who does not know the password."""

    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)
        a.negotiate(b, True)
        await a.hear(CandidatesGathered)
        ours, theirs = a.credentials.ours(b.key), b.credentials.ours(a.key)
        names = [f"{ours.ufrag}:{theirs.ufrag}", f"{ours.ufrag}:other", "x:y"]
        for name in names:
            request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
            request.attributes["USERNAME"] = name
            request.attributes["PRIORITY"] = 1
            request.attributes["ICE-CONTROLLED"] = 1
            request.add_message_integrity(b"a wrong password")
            wire.send(bytes(request), ("10.0.0.66", 1), ("10.0.0.1", PORT))
        without_priority = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        without_priority.attributes["USERNAME"] = names[0]
        without_priority.add_message_integrity(ours.pwd.encode())
        wire.send(bytes(without_priority), ("10.0.0.66", 1), ("10.0.0.1", PORT))
        await asyncio.sleep(1)
        assert a.port.counters.dropped == 4
        assert wire.messages("10.0.0.1") == []

    run(body)


# -- server reflexive addresses ----------------------------------------------------------------------------------


def test_reflexive_candidates_are_trickled_and_asked_once() -> None:
    async def body() -> None:
        wire = Wire()
        askers = wire.stun_server(("192.0.2.3", 3478), ("203.0.113.9", 4000))
        a, b = pair(wire)
        for generation in range(50):
            a.negotiate(b, True, generation, (STUN_SERVER,))
        for _ in range(50):
            event = await a.hear(CandidatesGathered)
            assert isinstance(event, CandidatesGathered)
            assert [candidate.type for candidate in event.candidates] == ["host"]
        for _ in range(50):
            event = await a.hear(CandidatesGathered)
            assert isinstance(event, CandidatesGathered)
            (found,) = event.candidates
            assert (found.type, found.address, found.port) == ("srflx", "203.0.113.9", 4000)
        assert askers == [("10.0.0.1", PORT)]
        await asyncio.sleep(26)
        a.negotiate(b, True, 51, (STUN_SERVER,))
        await asyncio.sleep(1)
        assert len(askers) == 2
        a.driver.close()

    run(body)


def test_a_reflexive_candidate_equal_to_the_host_is_left_out() -> None:
    async def body() -> None:
        wire = Wire()
        askers = wire.stun_server(("192.0.2.3", 3478), ("10.0.0.1", PORT))
        a, b = pair(wire)
        a.negotiate(b, True, 1, (STUN_SERVER, ServerAddress("192.0.2.4", 3478)))
        await a.hear(CandidatesGathered)
        await asyncio.sleep(10)
        assert askers
        assert not [event for event in a.events if isinstance(event, CandidatesGathered)]
        a.driver.close()
        assert a.port.demux.transactions == {}

    run(body)


# -- from Negotiate to KeepPath ----------------------------------------------------------------------------------


def test_the_path_is_taken_over_in_whatever_order() -> None:
    async def body() -> None:
        for keep_first in (True, False):
            wire = Wire()
            a, b = pair(wire)
            tasks = [a.negotiate(b, True), b.negotiate(a, False)]
            await exchange(a, b)
            await a.hear(PathSelected), await b.hear(PathSelected)
            if keep_first:
                kept = a.keep(b)
                tasks[0].cancel()
            else:
                tasks[0].cancel()
                # The cancelled one has cleaned up before the other's task is even made.
                await asyncio.wait((tasks[0],))
                kept = a.keep(b)
            await asyncio.sleep(5)
            assert not kept.done()
            assert len(a.driver) == 1
            kept.cancel()
            await asyncio.wait((kept,))
            assert (len(a.driver), len(a.port.demux), a.port.demux.transactions) == (0, 0, {})
            b.driver.close()

    run(body)


def test_a_stall_of_the_loop_does_not_cost_the_path() -> None:
    """The performer's way: the keeper's task waits for the negotiation's, and the loop stalls in between."""

    async def body() -> None:
        for stalled_turn in range(12):
            a, b = pair(Wire())
            performer = Performer({Negotiate: a.driver.negotiate, KeepPath: a.driver.keep_path})
            a.credentials.remember(b.key, SessionId("r"), b.credentials.ours(a.key))
            negotiation = performer(Negotiate(b.key, 1, SessionId("s"), SessionId("r"), True)).subscribe(a.take)
            other = b.negotiate(a, False)
            await exchange(a, b)
            await a.hear(PathSelected), await b.hear(PathSelected)
            b.kept = b.keep(a)
            keeping = performer(KeepPath(b.key, 1)).subscribe(a.take)
            negotiation.dispose()
            stall(stalled_turn, 1.0)
            await asyncio.sleep(3)
            assert (len(a.driver), a.events) == (1, []), stalled_turn
            keeping.dispose()
            await performer.idle()
            assert len(a.driver) == 0
            other.cancel(), b.kept.cancel()

    run(body)


def test_an_agent_that_nobody_takes_over_goes() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)
        tasks = [a.negotiate(b, True), b.negotiate(a, False)]
        await exchange(a, b)
        await a.hear(PathSelected), await b.hear(PathSelected)
        tasks[0].cancel()
        await asyncio.sleep(1)
        assert (len(a.driver), len(a.port.demux)) == (0, 0)
        a.keep(b)
        lost = await a.hear(PathLost)
        assert lost == PathLost(b.key, 1, "the agent that found the path is gone")

    run(body)


def test_a_thousand_pending_agents_go_at_once() -> None:
    async def body() -> None:
        wire = Wire()
        a, _ = pair(wire)
        tasks = []
        for number in range(1000):
            peer = PeerKey(f"peer {number}")
            a.credentials.remember(peer, SessionId("r"), IceCredentials("ufrag", "p" * 22))
            effect = Negotiate(peer, 1, SessionId("s"), SessionId("r"), True, (STUN_SERVER,))
            tasks.append(a.run(a.driver.negotiate(effect)))
        await asyncio.sleep(1)
        assert len(a.driver) == 1000
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (len(a.driver), len(a.port.demux)) == (0, 0)
        assert all(task.done() for task in tasks)
        a.driver.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert a.port.demux.transactions == {}

    run(body)


def test_the_memory_of_closed_agents_goes_without_the_collector() -> None:
    async def body() -> None:
        a, b = pair(Wire())
        askers = a.port.wire.stun_server(("192.0.2.3", 3478), ("203.0.113.9", 4000))
        tasks = []
        for number in range(200):
            peer = PeerKey(f"peer {number}")
            a.credentials.remember(peer, SessionId("r"), IceCredentials("ufrag", "p" * 22))
            effect = Negotiate(peer, 1, SessionId("s"), SessionId("r"), True, (STUN_SERVER,))
            tasks.append(a.run(a.driver.negotiate(effect)))
            candidates = (host_candidate("10.0.0.2", PORT, ufrag="x"),)
            a.run(a.driver.give_candidates(GiveCandidates(peer, 1, candidates)))
        tasks.append(a.negotiate(b, True))
        other = b.negotiate(a, False)
        await asyncio.sleep(0)
        await exchange(a, b)
        await a.hear(PathSelected)
        tasks.append(a.keep(b))
        await asyncio.sleep(1)
        sessions = [weakref.ref(session.agent) for session in a.driver._sessions.values()]
        assert (len(sessions), len(askers)) == (201, 1)
        a.events.clear()
        for task in tasks:
            task.cancel()
        other.cancel()
        tasks.clear()
        del task
        await asyncio.sleep(0.3)
        assert len(a.driver) == 0
        assert [ref() for ref in sessions if ref() is not None] == []

    gc.collect()
    gc.disable()
    try:
        run(body)
    finally:
        gc.enable()


def test_an_old_and_a_new_agent_of_one_peer_live_side_by_side() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = await connected(wire)
        await asyncio.sleep(3)
        a.negotiate(b, True, 2), b.negotiate(a, False, 2)
        await exchange(a, b, 2)
        selected = await a.hear(PathSelected), await b.hear(PathSelected)
        assert [event.generation for event in selected if isinstance(event, PathSelected)] == [2, 2]
        await asyncio.sleep(20)
        assert not a.kept.done() and not b.kept.done()

    run(body)


# -- watching the path -------------------------------------------------------------------------------------------


def test_a_path_is_kept_with_few_checks() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = await connected(wire)
        wire.sent.clear()
        await asyncio.sleep(100)
        assert a.events == b.events == []
        # The controlling side asks each 2 s, the other answers and need not ask.
        assert 40 <= len(wire.messages("10.0.0.1")) <= 50
        assert len(wire.messages("10.0.0.2")) == len(wire.messages("10.0.0.1"))
        # WireGuard is asked in doubt only.
        assert a.asked_bytes == b.asked_bytes == 0
        a.driver.close(), b.driver.close()

    run(body)


def test_a_cut_path_is_lost_soon_and_one_lost_check_is_not_the_end() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = await connected(wire)
        for silence in (2.5, 4.5):
            wire.passes = lambda source, target: False
            await asyncio.sleep(silence)
            wire.passes = lambda source, target: True
            await asyncio.sleep(10)
            assert a.events == b.events == []
        # Of both sides' signs of life the last is an answer to a's check; b heard that check half a round trip before.
        last = now()

        def passes(source: tuple[str, int], target: tuple[str, int]) -> bool:
            nonlocal last
            last = now()
            return True

        wire.passes = passes
        await asyncio.sleep(3)
        wire.passes = lambda source, target: False
        for peer in (a, b):
            lost = await peer.hear(PathLost)
            assert isinstance(lost, PathLost)
            assert "nothing authentic" in lost.reason
            assert 6 <= now() - last <= 8
        assert (len(a.driver), len(b.driver)) == (0, 0)
        assert a.port.demux.transactions == {}
        sent = len(wire.sent)
        await asyncio.sleep(60)
        assert len(wire.sent) == sent
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(body)


def test_a_host_without_addresses_asks_nobody_and_asks_at_once_when_it_has_one_again() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = await connected(wire)
        await asyncio.sleep(2.5)
        wire.passes = lambda source, target: False
        a.locals.clear()
        a.driver.network_changed()
        wire.sent.clear()
        await asyncio.sleep(4)
        assert wire.messages("10.0.0.1") == a.events == []
        wire.passes = lambda source, target: True
        a.locals.append("10.0.0.1")
        a.driver.network_changed()
        await asyncio.sleep(RTT / 2)
        assert len(wire.messages("10.0.0.1")) == 1
        await asyncio.sleep(60)
        assert a.events == b.events == []
        wire.passes = lambda source, target: False
        a.locals.clear()
        a.driver.network_changed()
        begun = now()
        wire.sent.clear()
        lost = await a.hear(PathLost)
        assert isinstance(lost, PathLost)
        assert "no address" in lost.reason
        assert now() - begun <= 6.5
        assert wire.messages("10.0.0.1") == []

    run(body)


def test_wireguards_bytes_are_a_sign_of_life() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = await connected(wire)
        wire.passes = lambda source, target: False
        b.received[a.key] = 1000  # there, and not rising

        async def traffic() -> None:
            while True:
                a.received[b.key] = a.received.get(b.key, 0) + 100
                await asyncio.sleep(1)

        busy = asyncio.ensure_future(traffic())
        await b.hear(PathLost)
        await asyncio.sleep(60)
        assert a.events == []
        busy.cancel()
        stopped = now()
        await a.hear(PathLost)
        assert now() - stopped <= 14

    run(body)


def test_a_peer_that_checks_by_itself_is_never_asked() -> None:
    """Go peers check each 2 s, controlling or not."""

    async def body() -> None:
        wire = Wire()
        await connected(wire, a_controls=False)
        await asyncio.sleep(1)
        wire.sent.clear()
        await asyncio.sleep(60)
        assert {message.message_class for message in wire.messages("10.0.0.1")} == {stun.Class.RESPONSE}

    run(body)


def test_an_address_that_came_later_answers_too() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = await connected(wire)
        wire.listen["10.0.0.9", PORT] = a.port.demux.dispatch
        check = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        ours, theirs = a.credentials.ours(b.key), b.credentials.ours(a.key)
        check.attributes["USERNAME"] = f"{ours.ufrag}:{theirs.ufrag}"
        check.attributes["PRIORITY"] = 1
        check.attributes["ICE-CONTROLLED"] = 1
        check.add_message_integrity(ours.pwd.encode())
        wire.send(bytes(check), ("10.0.0.2", PORT), ("10.0.0.9", PORT))
        await asyncio.sleep(0.1)
        assert not wire.messages("10.0.0.9")
        a.locals.append("10.0.0.9")
        wire.send(bytes(check), ("10.0.0.2", PORT), ("10.0.0.9", PORT))
        await asyncio.sleep(0.1)
        assert stun.Class.RESPONSE in [message.message_class for message in wire.messages("10.0.0.9")]
        # Its own address has gone: the other asks in its place.
        a.locals.remove("10.0.0.1")
        wire.sent.clear()
        await asyncio.sleep(10)
        assert {source[0] for source, _, data in wire.sent if source[0] != "10.0.0.2"} == {"10.0.0.9"}
        assert a.events == []

    run(body)


def test_many_kept_paths_are_asked_in_turns() -> None:
    """A hundred paths that were selected in the same instant do not all ask in one turn of the loop."""

    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)
        for number in range(100):
            one, other = PeerKey(f"a{number}"), PeerKey(f"b{number}")
            for me, them, theirs, role in (
                (a, other, b.credentials.ours(one), True),
                (b, one, a.credentials.ours(other), False),
            ):
                me.credentials.remember(them, SessionId("r"), theirs)
                me.run(me.driver.negotiate(Negotiate(them, 1, SessionId("s"), SessionId("r"), role)))
                address = "10.0.0.2" if me is a else "10.0.0.1"
                me.run(me.driver.give_candidates(GiveCandidates(them, 1, (host_candidate(address, PORT, ufrag="x"),))))
        for _ in range(100):
            await a.hear(PathSelected), await b.hear(PathSelected)
        for number in range(100):
            a.run(a.driver.keep_path(KeepPath(PeerKey(f"b{number}"), 1)))
        burst, bursts = 0, []

        def count(source: tuple[str, int], target: tuple[str, int]) -> bool:
            nonlocal burst
            burst += source[0] == "10.0.0.1"
            if burst == 1:
                asyncio.get_running_loop().call_soon(turn)
            return True

        def turn() -> None:
            nonlocal burst
            bursts.append(burst)
            burst = 0

        wire.passes = count
        await asyncio.sleep(2.6)
        assert sum(bursts) == 100
        assert max(bursts) <= 32
        a.driver.close(), b.driver.close()

    run(body)


def test_what_the_agents_say_never_carries_a_password() -> None:
    async def body() -> None:
        wire = Wire()
        a, b = pair(wire)
        a.negotiate(b, True), b.negotiate(a, False)
        await exchange(a, b)
        await asyncio.sleep(1)
        secret = a.credentials.ours(b.key).pwd
        assert secret not in repr(a.events) + repr(a.driver.__dict__)
        assert all(secret.encode() not in data for _, _, data in wire.sent)
        for _, _, data in wire.sent:
            parsed = parse_stun(data)
            assert parsed is not None
            assert secret not in repr(parsed)

    run(body)
