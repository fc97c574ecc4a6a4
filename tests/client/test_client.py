"""`Client` as embedders use it, with drivers that touch nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from fake_drivers import FakeDrivers, config
from reactivex import operators as ops

import rxnet
from rxnet.engine.state import ConnectionStatus
from rxnet.events import (
    ManagementConnected,
    NetlinkOverran,
    NetworkCameUp,
    SignalConnected,
    UpRequested,
)


def played(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story with a limit; nothing may be left on the loop after it."""

    async def run() -> None:
        async with asyncio.timeout(20):
            await story()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    asyncio.run(run())


def connected(state: rxnet.State) -> bool:
    return state.gate.open


def test_the_first_event_is_told_to_whoever_subscribes_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        heard: list[rxnet.Stamped | rxnet.Gap] = []
        async with rxnet.Client(config(tmp_path), drivers=FakeDrivers) as client:  # type: ignore[arg-type]
            client.events.subscribe(heard.append)
            await client.wait_for(connected)
        entries = [entry for entry in heard if isinstance(entry, rxnet.Stamped)]
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        assert isinstance(entries[0].event, UpRequested)
        by_seq = {entry.seq: entry for entry in entries}
        signal = next(entry for entry in entries if isinstance(entry.event, SignalConnected))
        causes = []
        while signal.cause:
            signal = by_seq[signal.cause]
            causes.append(type(signal.event).__name__)
        assert causes[-1] == "UpRequested"

    played(story)


def test_states_begin_with_the_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        async with rxnet.Client(config(tmp_path), drivers=FakeDrivers) as client:  # type: ignore[arg-type]
            await client.wait_for(connected)
            states: list[rxnet.State | rxnet.Gap] = []
            client.states.pipe(ops.take(1)).subscribe(states.append)
            first = await anext(client.watch_states())
            await asyncio.sleep(0)
            assert states == [client.state]
            assert first is client.state

    played(story)


def test_an_iterator_filters_and_ends_with_the_client(tmp_path: Path) -> None:
    async def story() -> None:
        client = rxnet.Client(config(tmp_path), drivers=FakeDrivers)  # type: ignore[arg-type]
        await client.start()
        seen = client.watch_events(NetworkCameUp, ManagementConnected)
        names = []

        async def read() -> None:
            async for entry in seen:
                assert isinstance(entry, rxnet.Stamped)
                names.append(type(entry.event).__name__)

        reading = asyncio.create_task(read())
        await client.wait_for(connected)
        await client.stop()
        await reading
        assert names == ["NetworkCameUp", "ManagementConnected"]

    played(story)


def test_a_slow_iterator_sees_a_gap_and_the_engine_does_not_wait(tmp_path: Path) -> None:
    async def story() -> None:
        async with rxnet.Client(config(tmp_path), drivers=FakeDrivers) as client:  # type: ignore[arg-type]
            await client.wait_for(connected)
            slow = client.watch_events(NetlinkOverran, queue=8)
            for times in range(100):
                client._running().put(NetlinkOverran(times))
            while client._running().depth:
                await asyncio.sleep(0)
            gap = await anext(slow)
            assert gap == rxnet.Gap(92)
            rest = [await anext(slow) for _ in range(8)]
            told = [entry.event.times for entry in rest if isinstance(entry, rxnet.Stamped)]  # type: ignore[attr-defined]
            assert told == list(range(92, 100))
            await slow.aclose()

    played(story)


def test_a_subscriber_that_raises_is_dropped_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with rxnet.Client(config(tmp_path), drivers=FakeDrivers) as client:  # type: ignore[arg-type]
            calls: list[object] = []
            heard: list[object] = []

            def clumsy(entry: object) -> None:
                calls.append(entry)
                raise RuntimeError("a subscriber's defect")

            client.events.subscribe(clumsy)
            client.events.subscribe(heard.append)
            await client.wait_for(connected)
            assert len(calls) == 1
            assert len(heard) > 5

    played(story)


def test_stopping_cleans_up_before_the_drivers_go(tmp_path: Path) -> None:
    async def story() -> None:
        made: list[FakeDrivers] = []

        def make(given: rxnet.ClientConfig) -> FakeDrivers:
            made.append(FakeDrivers(given))
            return made[-1]

        async with rxnet.Client(config(tmp_path), drivers=make) as client:  # type: ignore[arg-type]
            await client.wait_for(connected)
        trail = made[0].trail
        assert trail[0] == "start"
        assert trail[-1] == "stop"
        started = {name[1:] for name in trail if name.startswith("+")}
        assert started == {"network", "management", "signal", "device"}
        assert {name[1:] for name in trail if name.startswith("-")} == started
        await client.stop()  # again: nothing happens
        assert trail.count("stop") == 1

    played(story)


def test_a_refused_login_ends_waiting_and_up_tries_again(tmp_path: Path) -> None:
    async def story() -> None:
        drivers = partial(FakeDrivers, refuse="the setup key is spent")
        async with rxnet.Client(config(tmp_path), drivers=drivers) as client:  # type: ignore[arg-type]
            with pytest.raises(rxnet.LoginError, match="the setup key is spent"):
                await client.wait_for(connected, limit=5)
            assert isinstance(await client.finished(), rxnet.LoginError)
            assert client.state.management.status is ConnectionStatus.REFUSED
            client._drivers.refuse = ""  # type: ignore[attr-defined]
            await client.request_up()
            await client.wait_for(connected, limit=5)
            with pytest.raises(TimeoutError):  # what was once final is so no more
                await asyncio.wait_for(client.finished(), 0.05)

    played(story)


def test_what_cannot_be_tried_again_is_an_end_too(tmp_path: Path) -> None:
    async def story() -> None:
        drivers = partial(FakeDrivers, end="the proxy speaks another language")
        async with rxnet.Client(config(tmp_path), drivers=drivers) as client:  # type: ignore[arg-type]
            error = await client.finished()
            assert isinstance(error, rxnet.ControlPlaneError)
            assert not isinstance(error, rxnet.LoginError)
            assert "another language" in str(error)

    played(story)


def test_after_the_end_commands_say_so_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with rxnet.Client(config(tmp_path), drivers=FakeDrivers) as client:  # type: ignore[arg-type]
            await client.wait_for(connected)
        with pytest.raises(rxnet.RxnetError, match="has stopped"):
            await client.request_up()
        with pytest.raises(rxnet.RxnetError, match="stopped"):
            await client.finished()

    played(story)


def test_a_stop_that_is_cancelled_still_lets_go_of_everything(tmp_path: Path) -> None:
    async def story() -> None:
        client = rxnet.Client(config(tmp_path), drivers=FakeDrivers)  # type: ignore[arg-type]
        await client.start()
        await client.wait_for(connected)
        stopping = asyncio.create_task(client.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait((stopping,))
        assert client._drivers.trail[-1] == "stop"  # type: ignore[attr-defined]
        assert await client._performer.idle(1)

    played(story)


def test_down_and_up_again_in_one_life(tmp_path: Path) -> None:
    async def story() -> None:
        async with rxnet.Client(config(tmp_path), drivers=FakeDrivers) as client:  # type: ignore[arg-type]
            await client.wait_for(connected)
            await client.request_down()
            await client.wait_for(lambda state: not state.wanted)
            assert await client._performer.idle()
            await client.request_up()
            await client.wait_for(connected)

    played(story)


def test_two_clients_share_a_loop_and_nothing_else(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        one = rxnet.Client(config(tmp_path / "a"), drivers=FakeDrivers)  # type: ignore[arg-type]
        other = rxnet.Client(config(tmp_path / "b"), drivers=FakeDrivers)  # type: ignore[arg-type]
        async with one, other:
            await one.wait_for(connected)
            await other.wait_for(connected)
            await one.stop()
            assert other.state.gate.open

    played(story)


def test_a_client_that_was_not_started_says_so(tmp_path: Path) -> None:
    client = rxnet.Client(config(tmp_path), drivers=FakeDrivers)  # type: ignore[arg-type]
    with pytest.raises(rxnet.RxnetError, match="not started"):
        _ = client.state


LOGGING = """
import loguru, rxnet.client, rxnet.log
heard = []
loguru.logger.remove()
loguru.logger.add(heard.append)
def say(): exec("logger.warning('x')", {"__name__": "rxnet.somewhere", "logger": loguru.logger})
say()
silent = len(heard)
loguru.logger.enable("rxnet")
import rxnet.server.app  # what is loaded later must not silence it again
say()
print(silent, len(heard))
"""


def test_the_library_logs_only_when_asked() -> None:
    done = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.split() == ["0", "1"], done.stdout + done.stderr
