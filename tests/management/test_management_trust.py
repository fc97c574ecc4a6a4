"""TLS and proxies: whom the driver trusts, what it says when it does not, and which way it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import authority
from connect_proxy import Proxy, proxying
from lying_management import LyingManagement, collect, driver, run, serving

from rxnet.errors import ConfigError
from rxnet.events import Event, ManagementConnected, ManagementDisconnected
from rxnet.model import Retry, ServerAddress
from rxnet.wire.channel import environment_proxy
from rxnet.wire.trust import system_root_certificates


async def attempt(credentials: grpc.ServerCredentials | None, *, tls: bool = True, **more: Any) -> list[Event]:
    management = LyingManagement()
    management.known = True
    async with serving(management, credentials, "localhost") as server:
        return await collect(driver(ServerAddress("localhost", server.port, tls), **more), login=False)


def reason(events: list[Event]) -> str:
    (end,) = events
    assert isinstance(end, ManagementDisconnected)
    assert end.retry is Retry.BACK_OFF
    assert end.reason.isprintable()
    return end.reason


def test_a_custom_authority_is_trusted() -> None:
    async def work() -> None:
        ours = authority()
        events = await attempt(ours.server(), root_certificates=ours.pem)
        assert isinstance(events[0], ManagementConnected)

    run(work)


def test_the_system_s_authorities_are_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = authority()
    file = tmp_path / "bundle.pem"
    file.write_bytes(authority("Another").pem + ours.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    assert system_root_certificates() == file.read_bytes()

    async def work() -> None:
        assert isinstance((await attempt(ours.server()))[0], ManagementConnected)

    run(work)


def test_a_directory_of_authorities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, two = authority("One"), authority("Two")
    (tmp_path / "one.pem").write_bytes(one.pem)
    (tmp_path / "two.crt").write_bytes(two.pem)
    (tmp_path / "other.pem").write_bytes(b"no certificate")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    found = system_root_certificates()
    assert found is not None
    assert one.pem in found
    assert two.pem in found
    assert b"no certificate" not in found


def test_without_authorities_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    assert system_root_certificates() is None


@pytest.mark.parametrize(
    ("begins", "ends", "name", "piece"),
    [
        (-9, -1, None, "has expired (or this host's clock is wrong: check it)"),
        (1, 9, None, "not valid yet: check the clock"),
        (-1, 1, "other.example.org", "for another name"),
    ],
)
def test_a_bad_certificate_is_explained(begins: int, ends: int, name: str | None, piece: str) -> None:
    async def work() -> None:
        ours = authority()
        assert piece in reason(await attempt(ours.server(begins, ends, name), root_certificates=ours.pem))

    run(work)


@pytest.mark.parametrize("same_name", [True, False])
def test_another_authority_is_not_trusted(same_name: bool) -> None:
    async def work() -> None:
        other = authority() if same_name else authority("Other")
        text = reason(await attempt(authority().server(), root_certificates=other.pem))
        assert "authority that this host does not trust" in text

    run(work)


def test_tls_to_a_server_without_tls() -> None:
    async def work() -> None:
        assert "begin with http://" in reason(await attempt(None, root_certificates=authority().pem))

    run(work)


def test_plain_text_to_a_server_with_tls() -> None:
    async def work() -> None:
        assert "management cannot be reached" in reason(await attempt(authority().server(), tls=False))

    run(work)


# -- proxies


async def through(environment: dict[str, str], explicit: str | None, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Ask for a server whose name only the proxy knows."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return await collect(driver(ServerAddress("management.invalid", 4433), proxy=explicit), login=False)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", "", "http://user:secret@"])
def test_the_environment_s_proxy_is_used(monkeypatch: pytest.MonkeyPatch, name: str, scheme: str) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        async with serving(management) as server:
            proxy = Proxy(server)
            async with proxying(proxy) as address:
                events = await through({name: scheme + address}, None, monkeypatch)
        assert isinstance(events[0], ManagementConnected)
        assert proxy.asked == ["management.invalid:4433"]
        assert bool(proxy.credentials) == ("@" in scheme)

    run(work)


def test_the_explicit_proxy_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        async with serving(management) as server:
            proxy, other = Proxy(server), Proxy(server)
            async with proxying(proxy) as address, proxying(other) as wrong:
                events = await through({"HTTPS_PROXY": f"http://{wrong}"}, f"http://{address}", monkeypatch)
        assert isinstance(events[0], ManagementConnected)
        assert len(proxy.asked) == 1
        assert other.asked == []

    run(work)


def test_a_host_of_no_proxy_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        async with serving(management) as server:
            proxy = Proxy(server)
            async with proxying(proxy) as address:
                monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
                monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
                events = await collect(driver(server), login=False)
        assert isinstance(events[0], ManagementConnected)
        assert proxy.asked == []

    run(work)


@pytest.mark.parametrize(("status", "piece"), [("407 Who are you", "user name"), ("403 No", "proxy refused")])
def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch, status: str, piece: str) -> None:
    async def work() -> None:
        proxy = Proxy(ServerAddress("127.0.0.1", 1), status)
        async with proxying(proxy) as address:
            text = reason(await through({}, f"http://user:secret@{address}", monkeypatch))
        assert piece in text
        assert "secret" not in text

    run(work)


def test_a_proxy_of_another_kind_is_refused_not_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        (end,) = await through({"HTTPS_PROXY": "socks5://user:secret@127.0.0.1:1080"}, None, monkeypatch)
        assert isinstance(end, ManagementDisconnected)
        assert end.retry is Retry.NEVER
        assert "socks5" in end.reason
        assert "secret" not in end.reason

    run(work)
    with pytest.raises(ConfigError):
        environment_proxy(ServerAddress("management.invalid", 443))


@pytest.mark.parametrize("explicit", [True, False])
def test_tls_through_a_proxy(monkeypatch: pytest.MonkeyPatch, explicit: bool) -> None:
    async def work() -> None:
        ours = authority()
        management = LyingManagement()
        management.known = True
        async with serving(management, ours.server(name="management.invalid")) as server:
            proxy = Proxy(server)
            async with proxying(proxy) as address:
                if not explicit:
                    monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
                one = driver(
                    ServerAddress("management.invalid", 443, tls=True),
                    proxy=f"http://{address}" if explicit else None,
                    root_certificates=ours.pem,
                )
                events = await collect(one, login=False)
        assert isinstance(events[0], ManagementConnected)
        assert proxy.asked == ["management.invalid:443"]

    run(work)
