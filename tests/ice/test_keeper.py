"""The watch over paths as such: agents that only count what they are asked, on virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from ice_wire import run, stall

from rxnet.ice.agent import Agent
from rxnet.ice.demux import Demux
from rxnet.ice.keeper import Keeper, Watched
from rxnet.model import PeerKey


def now() -> float:
    return asyncio.get_running_loop().time()


class FakePort:
    def __init__(self) -> None:
        self.demux = Demux()


class FakeAgent:
    """Notes when it was told to ask."""

    def __init__(self, controlling: bool) -> None:
        self.ice_controlling = controlling
        self.port = FakePort()
        self.asked: list[float] = []
        self.broken = False

    def ask(self) -> bytes | None:
        if self.broken:
            raise RuntimeError("broken")
        self.asked.append(now())
        return f"{id(self)} {len(self.asked)}".encode()


class Kept:
    """One watched path and what became of it."""

    def __init__(self, keeper: Keeper, name: str = "p", controlling: bool = True) -> None:
        self.keeper = keeper
        self.agent = FakeAgent(controlling)
        self.since = now()
        self.lost: list[tuple[float, str]] = []
        self.watched = Watched(PeerKey(name), cast(Agent, self.agent), self.since, self._lost)
        keeper.add(self.watched)

    def _lost(self, reason: str) -> None:
        self.lost.append((now(), reason))

    def hear(self) -> None:
        self.watched.sign_of_life(now())

    @property
    def asked(self) -> list[float]:
        return [when - self.since for when in self.agent.asked]

    @property
    def lost_after(self) -> float:
        ((when, _reason),) = self.lost
        return when - self.since


class Addresses:
    """The host's, as the keeper asks of them."""

    def __init__(self) -> None:
        self.there = True
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.there


def nothing_left(keeper: Keeper) -> bool:
    return (len(keeper), keeper._slots, list(keeper._ready), keeper._timer) == (0, {}, [], None)


# -- asking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("controlling", "first"), [(True, 2.0), (False, 3.0)])
def test_a_silent_peer_is_asked_and_then_lost(controlling: bool, first: float) -> None:
    async def body() -> None:
        keeper = Keeper()
        kept = Kept(keeper, controlling=controlling)
        await asyncio.sleep(20)
        assert kept.asked == [first + n for n in range(len(kept.asked))]
        assert len(kept.asked) >= 3
        assert 6 <= kept.lost_after <= 7.5
        assert "nothing authentic" in kept.lost[0][1]
        assert kept.agent.port.demux.transactions == {}
        assert nothing_left(keeper)

    run(body)


def test_a_peer_that_is_heard_of_is_never_asked() -> None:
    async def body() -> None:
        keeper = Keeper()
        kept = Kept(keeper)
        for _ in range(100):
            await asyncio.sleep(1.7)
            kept.hear()
        assert (kept.asked, kept.lost) == ([], [])
        keeper.remove(kept.watched)
        assert nothing_left(keeper)

    run(body)


def test_a_stall_of_this_process_is_no_silence_of_the_peers() -> None:
    async def body() -> None:
        keeper = Keeper()
        kept = Kept(keeper)
        stall(1, 100)
        await asyncio.sleep(101.5)
        assert len(kept.asked) == 2
        assert kept.lost == []
        kept.hear()
        await asyncio.sleep(4)
        assert kept.lost == []
        keeper.remove(kept.watched)

    run(body)


def test_one_agent_that_breaks_does_not_stop_the_watch_over_the_others() -> None:
    async def body() -> None:
        keeper = Keeper()
        broken, well = Kept(keeper, "broken"), Kept(keeper, "well")
        broken.agent.broken = True
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        await asyncio.sleep(20)
        assert len(well.asked) >= 3
        assert 6 <= well.lost_after <= 7.5
        # It cannot even ask: that is no excuse for a path of which nothing is heard.
        assert 6 <= broken.lost_after <= 7.5

    run(body)


# -- WireGuard's word --------------------------------------------------------------------------------------------


def test_a_path_that_is_heard_of_during_the_decision_stays_under_watch() -> None:
    async def body() -> None:
        kept: Kept

        async def received(peer: PeerKey) -> int | None:
            await asyncio.sleep(0.05)
            if len(kept.asked) >= 4 and not kept.lost and signs:
                kept.hear()
                signs.pop()
            await asyncio.sleep(0.01)
            return 5

        signs = [1]
        keeper = Keeper(received)
        kept = Kept(keeper)
        await asyncio.sleep(6.5)
        assert (signs, kept.lost, len(keeper)) == ([], [], 1)
        asked = len(kept.asked)
        # It falls silent for good, and that is noticed like any silence.
        await asyncio.sleep(20)
        assert len(kept.asked) - asked >= 3
        assert 12 <= kept.lost_after <= 14
        assert nothing_left(keeper)

    run(body)


def test_bytes_that_wireguard_received_are_a_sign_of_life() -> None:
    async def body() -> None:
        moving = True
        count = 0

        async def received(peer: PeerKey) -> int | None:
            nonlocal count
            count += moving
            return count

        keeper = Keeper(received)
        kept = Kept(keeper)
        await asyncio.sleep(100)
        assert kept.lost == []
        moving = False
        stopped = now()
        await asyncio.sleep(20)
        assert kept.lost[0][0] - stopped <= 14

    run(body)


def test_wireguard_is_asked_about_all_doubtful_paths_at_once() -> None:
    async def body() -> None:
        waiting = most = 0

        async def received(peer: PeerKey) -> int | None:
            nonlocal waiting, most
            waiting += 1
            most = max(most, waiting)
            await asyncio.sleep(0.9)
            waiting -= 1
            return 7

        keeper = Keeper(received)
        paths = [Kept(keeper, f"p{number}") for number in range(30)]
        await asyncio.sleep(20)
        assert most == 30
        # One after another would take 27 s.
        assert {path.lost_after for path in paths} == {paths[0].lost_after}
        assert paths[0].lost_after <= 8

    run(body)


async def _raise(peer: PeerKey) -> int | None:
    raise OSError("no such device")


async def _cancelled(peer: PeerKey) -> int | None:
    raise asyncio.CancelledError


async def _hang(peer: PeerKey) -> int | None:
    await asyncio.Event().wait()
    return 1


@pytest.mark.parametrize("trouble", [_raise, _cancelled, _hang])
def test_counters_that_cannot_be_had_count_as_silence(trouble: Callable[[PeerKey], Awaitable[int | None]]) -> None:
    async def body() -> None:
        count = 0

        async def received(peer: PeerKey) -> int | None:
            nonlocal count
            if peer == "dead":
                return await trouble(peer)
            count += 1
            return count

        keeper = Keeper(received)
        dead, busy = Kept(keeper, "dead"), Kept(keeper, "busy")
        await asyncio.sleep(20)
        assert 6 <= dead.lost_after <= 8.5
        # One that hangs does not take the word from another.
        assert busy.lost == []
        keeper.remove(busy.watched)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(body)


def test_a_baseline_that_could_not_be_had_is_asked_for_again() -> None:
    async def body() -> None:
        asked = 0

        async def received(peer: PeerKey) -> int | None:
            nonlocal asked
            asked += 1
            return None if asked == 1 else 1000 * asked

        keeper = Keeper(received)
        kept = Kept(keeper)
        await asyncio.sleep(8)
        assert kept.lost == []
        keeper.remove(kept.watched)

    run(body)


def test_paths_that_go_during_an_examination_leave_nothing() -> None:
    async def body() -> None:
        keeper = Keeper(_hang)
        kept = [Kept(keeper, f"p{number}") for number in range(3)]
        await asyncio.sleep(3.2)
        assert len(asyncio.all_tasks()) > 1
        for path in kept:
            keeper.remove(path.watched)
            keeper.remove(path.watched)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert nothing_left(keeper)
        await asyncio.sleep(60)
        assert [path.lost for path in kept] == [[], [], []]

    run(body)


# -- the host's own network --------------------------------------------------------------------------------------


def test_nobody_is_asked_while_the_host_has_no_address() -> None:
    async def body() -> None:
        addresses = Addresses()
        keeper = Keeper(None, addresses)
        kept = [Kept(keeper, f"p{number}") for number in range(100)]
        await asyncio.sleep(1)
        addresses.there = False
        addresses.asked = 0
        keeper.network_changed()
        await asyncio.sleep(20)
        assert {len(path.asked) for path in kept} == {0}
        # The state does not lie: what was not heard of for so long is not called connected.
        assert {path.lost_after for path in kept} == {6.0}
        assert "no address" in kept[0].lost[0][1]
        # In turns of 32: at once, and at the deadline. Nothing in between.
        assert addresses.asked == 8
        assert nothing_left(keeper)

    run(body)


def test_without_word_of_the_change_the_next_visit_notices_it() -> None:
    async def body() -> None:
        addresses = Addresses()
        keeper = Keeper(None, addresses)
        kept = Kept(keeper)
        addresses.there = False
        await asyncio.sleep(20)
        assert (kept.asked, kept.lost_after, addresses.asked) == ([], 6.0, 2)

    run(body)


def test_when_addresses_return_the_paths_are_asked_at_once() -> None:
    async def body() -> None:
        addresses = Addresses()
        keeper = Keeper(None, addresses)
        kept = Kept(keeper)
        await asyncio.sleep(4.5)
        assert kept.asked == [2, 3, 4]
        addresses.there = False
        keeper.network_changed()
        await asyncio.sleep(1)
        addresses.there = True
        keeper.network_changed()
        await asyncio.sleep(0.01)
        assert kept.asked == [2, 3, 4, 5.5]
        # What went unanswered before does not count: patience is over, and the peer still has time to answer.
        await asyncio.sleep(2)
        assert kept.lost == []
        assert kept.asked == [2, 3, 4, 5.5, 6.5, 7.5]
        kept.hear()
        await asyncio.sleep(3)
        assert kept.asked == [2, 3, 4, 5.5, 6.5, 7.5, 9.75]
        await asyncio.sleep(20)
        assert 13.5 <= kept.lost_after <= 15

    run(body)


def test_a_change_between_two_addresses_is_asked_about_at_once_and_in_turns() -> None:
    async def body() -> None:
        keeper = Keeper()
        kept = [Kept(keeper, f"p{number}") for number in range(100)]
        await asyncio.sleep(0.5)
        keeper.network_changed()
        turns = []
        for _ in range(6):
            await asyncio.sleep(0)
            turns.append(sum(len(path.asked) for path in kept))
        assert turns == [0, 32, 64, 96, 100, 100] or turns == [32, 64, 96, 100, 100, 100]
        for path in kept:
            path.hear()
            keeper.remove(path.watched)

    run(body)


def test_changes_without_end_do_not_keep_a_dead_path() -> None:
    async def body() -> None:
        addresses = Addresses()
        keeper = Keeper(None, addresses)
        flapping, moving = Kept(keeper, "flapping"), Kept(Keeper(), "moving")
        for number in range(40):
            await asyncio.sleep(0.4)
            addresses.there = number % 2 == 0
            keeper.network_changed()
            moving.keeper.network_changed()
        assert 5.99 <= flapping.lost_after <= 7
        assert 5.99 <= moving.lost_after <= 7.5

    run(body)


# -- whatever happens --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_no_path_ever_falls_out_of_the_watch(seed: int) -> None:
    """Signs of life, changes of network, slow counters and stalls as they come; then silence: all are lost."""

    async def body() -> None:
        luck = random.Random(seed)
        addresses = Addresses()
        ended = 0.0

        async def received(peer: PeerKey) -> int | None:
            await asyncio.sleep(luck.choice([0.0, 0.1, 0.6, 1.5]))
            return luck.choice([None, 5, 5, luck.randrange(10)]) if not ended else 5

        keeper = Keeper(received, addresses)
        kept = [Kept(keeper, f"p{number}", controlling=luck.random() < 0.5) for number in range(40)]
        quiet = luck.sample(kept, 10)
        for _ in range(300):
            await asyncio.sleep(luck.random() * 0.3)
            for path in kept:
                if path not in quiet and luck.random() < 0.06 and not path.lost:
                    path.hear()
            if luck.random() < 0.05:
                addresses.there = not addresses.there or luck.random() < 0.5
                if luck.random() < 0.8:
                    keeper.network_changed()
            if luck.random() < 0.02:
                stall(luck.randrange(3), luck.random() * 5)
            ahead = [watched for slot in keeper._slots.values() for watched in slot] + list(keeper._ready)
            assert [ahead.count(watched) for watched in keeper._watched] == [1] * len(keeper)
        addresses.there = True
        ended = now()
        await asyncio.sleep(40)
        assert [len(path.lost) for path in kept] == [1] * len(kept)
        assert max(path.lost[0][0] for path in kept) - ended <= 16
        assert nothing_left(keeper)

    run(body)
