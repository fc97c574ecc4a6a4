"""The effects on the device, with a device that only plays one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import ClassVar

from rxnet.engine.effects import OpenDevice, SetPeers
from rxnet.errors import DeviceError
from rxnet.events import DeviceFailed, DeviceOpened, DeviceRefused, Event
from rxnet.model import PeerKey, WireGuardPeer
from rxnet.wireguard.device import Device, PassingDeviceError, PeerStats, Refusal
from rxnet.wireguard.driver import DeviceDriver


class PlayedDevice(Device):
    kernel: ClassVar[bool] = False

    def __init__(self, log: list[str], trouble: DeviceError | None = None) -> None:
        self.log = log
        self.trouble = trouble
        self.refusals: list[Refusal] = []
        self.death = asyncio.get_running_loop().create_future()
        self.answer: asyncio.Future[None] | None = None

    async def open(self) -> None:
        self.log.append("open")
        if self.trouble is not None:
            raise self.trouble
        self.name, self.listen_port = "wt7", 4711

    async def close(self) -> None:
        self.log.append("close")

    async def failed(self) -> str:
        return str(await self.death)

    async def set_peers(self, changed: Sequence[WireGuardPeer], removed: Sequence[PeerKey] = ()) -> list[Refusal]:
        if self.trouble is not None:
            raise self.trouble
        return self.refusals

    async def stats(self) -> dict[PeerKey, PeerStats]:
        self.log.append("stats")
        if self.answer is not None:
            await self.answer
        return {PeerKey("k"): PeerStats(rx_bytes=5)}


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await test()

    asyncio.run(limited())


def driver_of(log: list[str], devices: list[PlayedDevice], trouble: DeviceError | None = None) -> DeviceDriver:
    def make() -> Device:
        devices.append(PlayedDevice(log, trouble))
        return devices[-1]

    return DeviceDriver(make, opened=lambda device: log.append("opened"), closing=lambda device: log.append("closing"))


async def stop(events: AsyncIterator[Event]) -> None:
    """End a generator the way a cancelled task does."""
    task = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_open_hold_and_dispose() -> None:
    async def body() -> None:
        log: list[str] = []
        driver = driver_of(log, [])
        events = driver.open_device(OpenDevice(3))
        assert await anext(events) == DeviceOpened(3, "wt7", 4711, False)
        assert driver.device is not None
        await stop(events)
        assert driver.device is None
        # Whoever shares the port lets go before the device closes.
        assert log == ["open", "opened", "closing", "close"]

    run(body)


def test_a_device_that_dies_is_cleaned_up_and_worth_another_try() -> None:
    async def body() -> None:
        log: list[str] = []
        devices: list[PlayedDevice] = []
        driver = driver_of(log, devices)
        events = driver.open_device(OpenDevice(3))
        await anext(events)
        devices[0].death.set_result("killed")
        assert await anext(events) == DeviceFailed(3, "killed", retry=True)
        assert driver.device is None
        assert log[-1] == "close"
        assert await anext(events, None) is None

    run(body)


def test_a_device_that_cannot_be_made() -> None:
    async def body() -> None:
        for error, retry in ((DeviceError("no tun"), False), (PassingDeviceError("slow"), True)):
            log: list[str] = []
            events = driver_of(log, [], error).open_device(OpenDevice(1))
            assert [event async for event in events] == [DeviceFailed(1, str(error), retry=retry)]
            assert log == ["open", "close"]

    run(body)


def test_refusals_become_events_and_are_bounded() -> None:
    async def body() -> None:
        devices: list[PlayedDevice] = []
        driver = driver_of([], devices)
        events = driver.open_device(OpenDevice(1))
        await anext(events)
        devices[0].refusals = [Refusal(PeerKey(f"k{n}"), "no") for n in range(30)]
        told = [event async for event in driver.set_peers(SetPeers(1, ()))]
        assert told[0] == DeviceRefused("peer k0", "no")
        assert told[-1] == DeviceRefused("10 more peers", "no")
        assert len(told) == 21
        # Late news for another device is left alone, and a device that does not answer has failed.
        assert [event async for event in driver.set_peers(SetPeers(2, ()))] == []
        devices[0].trouble = DeviceError("gone")
        told = [event async for event in driver.set_peers(SetPeers(1, (), (PeerKey("a"),)))]
        assert told == [DeviceFailed(1, "gone", retry=True)]
        await stop(events)
        assert [event async for event in driver.set_peers(SetPeers(1, ()))] == []

    run(body)


def test_many_askers_share_one_question() -> None:
    async def body() -> None:
        log: list[str] = []
        devices: list[PlayedDevice] = []
        driver = driver_of(log, devices)
        assert await driver.received_bytes(PeerKey("k")) is None
        events = driver.open_device(OpenDevice(1))
        await anext(events)
        devices[0].answer = asyncio.get_running_loop().create_future()
        asked = [asyncio.ensure_future(driver.received_bytes(PeerKey(key))) for key in ("k", "k", "other")]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        devices[0].answer.set_result(None)
        assert await asyncio.gather(*asked) == [5, 5, None]
        assert log.count("stats") == 1
        await stop(events)

    run(body)
