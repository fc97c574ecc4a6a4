"""TLS and proxies: whom the signal driver trusts and which way it goes; the same as management's does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing

import pytest
from certificates import Authority, authority
from connect_proxy import Proxy, proxying
from misbehaving_signal import FakeSignal

from rxnet.credentials import CredentialStore
from rxnet.engine.effects import OpenSignal
from rxnet.events import Event, SignalConnected, SignalDisconnected
from rxnet.model import ServerAddress
from rxnet.signal.client import SignalDriver
from rxnet.signal.limits import SignalLimits

NAME = "signal.invalid"
"""Only a proxy knows it."""


def run(work: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await work

    asyncio.run(limited())


async def first(server: ServerAddress, *, proxy: str | None = None, roots: bytes | None = None) -> Event:
    """Open signal, give the first event and hang up."""
    limits = SignalLimits(dial=10.0)
    driver = SignalDriver(
        bytes([1]) * 32, CredentialStore(), "0.80.0", root_certificates=roots, proxy=proxy, limits=limits
    )
    async with aclosing(driver.open_signal(OpenSignal(1, server))) as events:  # type: ignore[type-var]
        async for event in events:
            return event
    raise AssertionError("the effect reported nothing")


def secured(ours: Authority, name: str | None = None) -> FakeSignal:
    server = FakeSignal()
    server.credentials = ours.server(name=name)
    return server


def test_a_custom_authority_is_trusted_and_no_other() -> None:
    async def main() -> None:
        ours = authority()
        async with secured(ours) as server:
            assert isinstance(await first(server.address, roots=ours.pem), SignalConnected)
            refused = await first(server.address, roots=authority("Another").pem)
            assert isinstance(refused, SignalDisconnected)
            assert "authority that this host does not trust" in refused.reason

    run(main())


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", None])
@pytest.mark.parametrize("tls", [True, False])
def test_a_proxy_is_used(monkeypatch: pytest.MonkeyPatch, name: str | None, tls: bool) -> None:
    """Named by a variable or (None) by the option."""

    async def main() -> None:
        ours = authority()
        async with secured(ours, NAME) if tls else FakeSignal() as server:
            proxy = Proxy(server.address)
            async with proxying(proxy) as address:
                if name is not None:
                    monkeypatch.setenv(name, f"http://{address}")
                option = f"http://{address}" if name is None else None
                event = await first(ServerAddress(NAME, 443, tls), proxy=option, roots=ours.pem)
        assert event == SignalConnected(1)
        assert proxy.asked == [f"{NAME}:443"]

    run(main())


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with FakeSignal() as server:
            proxy, other = Proxy(server.address), Proxy(server.address)
            async with proxying(proxy) as address, proxying(other) as wrong:
                monkeypatch.setenv("HTTPS_PROXY", f"http://{wrong}")
                event = await first(ServerAddress(NAME, 443), proxy=f"http://{address}")
        assert event == SignalConnected(1)
        assert (len(proxy.asked), other.asked) == (1, [])

    run(main())


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_a_host_of_no_proxy_is_reached_directly(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    async def main() -> None:
        ours = authority()
        async with secured(ours) as server:
            proxy = Proxy(server.address)
            async with proxying(proxy) as address:
                monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
                monkeypatch.setenv(variable, "example.org,127.0.0.1")
                event = await first(server.address, roots=ours.pem)
        assert event == SignalConnected(1)
        assert proxy.asked == []

    run(main())


def test_a_proxy_that_refuses() -> None:
    async def main() -> None:
        proxy = Proxy(ServerAddress("127.0.0.1", 1), "407 Who are you")
        async with proxying(proxy) as address:
            event = await first(ServerAddress(NAME, 443), proxy=f"http://user:secret@{address}")
        assert isinstance(event, SignalDisconnected)
        assert "user name" in event.reason
        assert "secret" not in event.reason

    run(main())


def test_a_proxy_of_another_kind_is_refused_not_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setenv("HTTPS_PROXY", "socks5://user:secret@127.0.0.1:1080")
        async with FakeSignal() as server:
            event = await first(server.address)
            assert server.queues == {}, "it was reached directly"
        assert isinstance(event, SignalDisconnected)
        assert "socks5" in event.reason
        assert "secret" not in event.reason

    run(main())
