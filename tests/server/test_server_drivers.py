"""rxnet's own management and signal drivers against the control plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from server_client import control_plane, run

from rxnet import events as ev
from rxnet.credentials import CredentialStore
from rxnet.engine.effects import OpenManagement, OpenSignal, SendMessages
from rxnet.events import Event
from rxnet.management.client import ManagementDriver
from rxnet.management.codec import SystemMeta
from rxnet.model import Offer, PeerKey, Retry, SessionId
from rxnet.server.app import ControlPlane
from rxnet.signal.client import SignalDriver
from rxnet.wire.box import generate_private_key, public_key

_Event = TypeVar("_Event", bound=Event)


class Running:
    """A driver's effect in a task, its events in order."""

    def __init__(self, effect: AsyncIterator[Event]) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Event()
        self.task = asyncio.ensure_future(self._run(effect))

    async def _run(self, effect: AsyncIterator[Event]) -> None:
        async for event in effect:
            self.events.append(event)
            self._news.set()

    async def wait(self, kind: type[_Event], check: Callable[[_Event], bool] = lambda event: True) -> _Event:
        while True:
            for event in self.events:
                if isinstance(event, kind) and check(event):
                    return event
            self._news.clear()
            waiting = asyncio.ensure_future(self._news.wait())
            await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
            if self.task.done() and not waiting.done():
                waiting.cancel()
                raise AssertionError(f"over without {kind.__name__}: {self.events}")

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


def management(plane: ControlPlane, private: bytes, hostname: str, setup_key: str | None) -> ManagementDriver:
    return ManagementDriver(plane.address, private, lambda: SystemMeta(hostname), lambda: setup_key)


def test_both_drivers_from_registration_to_an_offer_and_deletion(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp", stun_port=0) as plane:
            setup_key = await plane.create_setup_key(reusable=True)
            privates = [generate_private_key() for _ in "ab"]
            keys: list[PeerKey] = [public_key(private) for private in privates]
            drivers = [management(plane, p, n, setup_key) for p, n in zip(privates, "ab", strict=True)]
            a, b = (Running(driver.open_management(OpenManagement(1, True))) for driver in drivers)
            logged_in = await a.wait(ev.LoggedIn)
            assert logged_in.registered and logged_in.signal == plane.address
            assert logged_in.local.fqdn == "a.rxnet.internal"
            announced = await a.wait(ev.ServersAnnounced)
            assert plane.stun_address is not None and announced.stuns[0].port == plane.stun_address.port
            added = await a.wait(ev.NetworkMapReceived, lambda e: any(p.key == keys[1] for p in e.changed))
            (remote,) = added.changed
            (info,) = [info for info in plane.peers() if info.key == keys[1]]
            assert str(remote.allowed_ips[0].network_address) == str(info.address)
            await b.wait(ev.NetworkMapReceived, lambda e: any(p.key == keys[0] for p in e.changed))

            signals = [SignalDriver(private, CredentialStore(), "0.77.1") for private in privates]
            sa, sb = (Running(driver.open_signal(OpenSignal(1, logged_in.signal))) for driver in signals)
            await sa.wait(ev.SignalConnected)
            await sb.wait(ev.SignalConnected)
            offer = Offer(7, SessionId("0123456789"))
            sent = [event async for event in signals[0].send_messages(SendMessages(keys[1], (offer,), 51820))]
            assert sent == [ev.MessagesSent(keys[1], (7,))]
            got = await sb.wait(ev.OfferReceived)
            assert (got.peer, got.session, got.wireguard_port) == (keys[0], "0123456789", 51820)

            await plane.stop_signal()
            await sa.wait(ev.SignalDisconnected)
            await sb.wait(ev.SignalDisconnected)
            await plane.start_signal()
            again = Running(signals[0].open_signal(OpenSignal(2, logged_in.signal)))
            await again.wait(ev.SignalConnected)

            await plane.delete_peer(keys[1])
            await a.wait(ev.NetworkMapReceived, lambda e: e.removed == (keys[1],))
            assert (await b.wait(ev.ManagementDisconnected)).retry in (Retry.BACK_OFF, Retry.LOG_IN)
            faults = [event for event in (*a.events, *b.events) if isinstance(event, ev.NetworkMapFaulted)]
            assert not faults
            for running in (a, b, sa, sb, again):
                await running.cancel()

    run(test())


@pytest.mark.parametrize("setup_key", [None, "3F2504E0-4F89-11D3-9A0C-0305E82C3301"])
def test_a_refused_login_is_final(tmp_path: Path, setup_key: str | None) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane:
            driver = management(plane, generate_private_key(), "a", setup_key)
            running = Running(driver.open_management(OpenManagement(1, True)))
            await running.wait(ev.LoginRefused)
            await running.cancel()

    run(test())


def test_a_stopping_server_makes_drivers_back_off(tmp_path: Path) -> None:
    async def test() -> None:
        private = generate_private_key()
        async with control_plane(tmp_path / "cp") as plane:
            driver = management(plane, private, "a", await plane.create_setup_key())
            first = Running(driver.open_management(OpenManagement(1, True)))
            local = (await first.wait(ev.LoggedIn)).local
            await first.wait(ev.ManagementConnected)
            port = plane.address.port
        assert (await first.wait(ev.ManagementDisconnected)).retry is Retry.BACK_OFF
        async with control_plane(tmp_path / "cp", port=port):
            second = Running(driver.open_management(OpenManagement(2, True)))
            back = await second.wait(ev.LoggedIn)
            assert back.local == local and not back.registered
            await second.cancel()

    run(test())
