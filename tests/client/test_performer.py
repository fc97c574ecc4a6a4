"""`Performer`: effects as tasks, resources that never overlap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from rxnet.engine.effects import Effect
from rxnet.events import EffectFailed, Event, NetlinkOverran
from rxnet.perform import Performer


@dataclass(frozen=True, slots=True)
class Work(Effect):
    number: int
    generation: int = 7

    @property
    def resource(self) -> tuple[str, ...] | None:
        return ("work",)


def played(story: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(10):
            await story()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_nothing_starts_before_somebody_subscribes_and_disposing_cancels() -> None:
    async def story() -> None:
        trail: list[str] = []

        async def work(effect: Work) -> AsyncIterator[Event]:
            trail.append("begun")
            try:
                yield NetlinkOverran(1)
                await asyncio.Event().wait()
            finally:
                trail.append("cleaned")

        heard: list[Event] = []
        performer = Performer({Work: work})
        cold = performer(Work(1))
        await asyncio.sleep(0)
        assert trail == []
        subscription = cold.subscribe(heard.append)
        while not heard:
            await asyncio.sleep(0)
        subscription.dispose()
        assert await performer.idle(1)
        assert trail == ["begun", "cleaned"]
        assert heard == [NetlinkOverran(1)]
        assert performer.running == 0

    played(story)


def test_work_that_was_disposed_before_it_began_never_begins() -> None:
    async def story() -> None:
        begun: list[int] = []

        async def work(effect: Work) -> AsyncIterator[Event]:
            begun.append(effect.number)
            yield NetlinkOverran(1)

        performer = Performer({Work: work})
        performer(Work(1)).subscribe().dispose()
        assert await performer.idle(1)
        assert begun == []

    played(story)


def test_the_next_work_on_a_resource_waits_for_the_clean_up_before_it() -> None:
    async def story() -> None:
        trail: list[str] = []
        clean = asyncio.Event()

        async def work(effect: Work) -> AsyncIterator[Event]:
            trail.append(f"begin {effect.number}")
            try:
                yield NetlinkOverran(effect.number)
                await asyncio.Event().wait()
            finally:
                await clean.wait()
                trail.append(f"end {effect.number}")

        performer = Performer({Work: work})
        first = performer(Work(1)).subscribe()
        while not trail:
            await asyncio.sleep(0)
        # As switch_map does it: the next is subscribed to in the same breath.
        first.dispose()
        second = performer(Work(2)).subscribe()
        third_trail = len(trail)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(trail) == third_trail
        clean.set()
        while len(trail) < 3:
            await asyncio.sleep(0)
        assert trail == ["begin 1", "end 1", "begin 2"]
        second.dispose()
        assert await performer.idle(1)

    played(story)


def test_an_unexpected_error_is_an_event() -> None:
    async def story() -> None:
        async def work(effect: Work) -> AsyncIterator[Event]:
            yield NetlinkOverran(1)
            raise ValueError("a driver's defect")

        heard: list[Event] = []
        ended: list[str] = []
        performer = Performer({Work: work})
        performer(Work(1)).subscribe(heard.append, lambda error: ended.append("error"), lambda: ended.append("done"))
        assert await performer.idle(1)
        (failed,) = heard[1:]
        assert isinstance(failed, EffectFailed)
        assert (failed.effect, failed.generation, failed.peer) == ("Work", 7, None)
        assert failed.reason.startswith("ValueError in work")
        assert "defect" not in failed.reason, "nobody knows what an exception's text may quote"
        assert ended == ["done"]

    played(story)


def test_idle_has_a_limit() -> None:
    async def story() -> None:
        async def work(effect: Work) -> AsyncIterator[Event]:
            await asyncio.Event().wait()
            yield NetlinkOverran(1)

        performer = Performer({Work: work})
        going_on = performer(Work(1)).subscribe()
        assert not await performer.idle(0.01)
        going_on.dispose()
        assert await performer.idle(1)

    played(story)


def test_one_that_was_cancelled_while_it_waited_lets_nobody_pass() -> None:
    async def story() -> None:
        trail: list[str] = []
        clean = asyncio.Event()

        async def work(effect: Work) -> AsyncIterator[Event]:
            trail.append(f"begin {effect.number}")
            try:
                yield NetlinkOverran(effect.number)
                await asyncio.Event().wait()
            finally:
                await clean.wait()
                trail.append(f"end {effect.number}")

        performer = Performer({Work: work})
        first = performer(Work(1)).subscribe()
        while not trail:
            await asyncio.sleep(0)
        first.dispose()
        performer(Work(2)).subscribe().dispose()
        waiting = performer(Work(3)).subscribe()
        await asyncio.sleep(0)
        waiting.dispose()
        last = performer(Work(4)).subscribe()
        for _ in range(10):
            await asyncio.sleep(0)
        assert trail == ["begin 1"]
        clean.set()
        while len(trail) < 3:
            await asyncio.sleep(0)
        assert trail == ["begin 1", "end 1", "begin 4"]
        last.dispose()
        assert await performer.idle(1)
        assert performer._last == {}

    played(story)


def test_work_that_is_not_cancelled_is_waited_for_in_order_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxnet.perform.CLEAN_UP_LIMIT", 0.01)

    async def story() -> None:
        trail: list[str] = []
        release = asyncio.Event()

        async def work(effect: Work) -> AsyncIterator[Event]:
            trail.append(f"begin {effect.number}")
            await release.wait()
            trail.append(f"end {effect.number}")
            yield NetlinkOverran(effect.number)

        performer = Performer({Work: work})
        for number in (1, 2, 3):
            performer(Work(number)).subscribe()
        await asyncio.sleep(0.05)  # five times the limit for cleaning up
        assert trail == ["begin 1"]
        release.set()
        assert await performer.idle(1)
        assert trail == ["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]

    played(story)


def test_a_clean_up_that_hangs_is_passed_after_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxnet.perform.CLEAN_UP_LIMIT", 0.01)

    async def story() -> None:
        begun: list[int] = []
        never = asyncio.Event()

        async def work(effect: Work) -> AsyncIterator[Event]:
            begun.append(effect.number)
            try:
                yield NetlinkOverran(effect.number)
                await asyncio.Event().wait()
            finally:
                if effect.number == 1:
                    await never.wait()

        performer = Performer({Work: work})
        hanging = performer(Work(1)).subscribe()
        while not begun:
            await asyncio.sleep(0)
        second = performer(Work(2)).subscribe()
        await asyncio.sleep(0.03)
        assert begun == [1]
        hanging.dispose()
        while len(begun) < 2:
            await asyncio.sleep(0)
        never.set()
        second.dispose()
        assert await performer.idle(1)

    played(story)
