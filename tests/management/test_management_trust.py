"""TLS and proxies: whom the driver trusts, what it says when it does not, and which way it goes."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lying_management import LyingManagement, collect, driver, run, serving

from rxnet.errors import ConfigError
from rxnet.events import Event, ManagementConnected, ManagementDisconnected
from rxnet.model import Retry, ServerAddress
from rxnet.wire.channel import environment_proxy
from rxnet.wire.trust import system_root_certificates

PEM = serialization.Encoding.PEM


@dataclass
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    def server(self, begins: int = -1, ends: int = 1, name: str | None = None) -> grpc.ServerCredentials:
        """Credentials of a server whose certificate is valid between two days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(name or "localhost")]
        if name is None:
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        certificate = (
            _builder("server", self.certificate.subject, begins, ends)
            .public_key(key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return grpc.ssl_server_credentials([(private, certificate.public_bytes(PEM))])


def _builder(subject: str, issuer: x509.Name | None, begins: int, ends: int) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=begins))
        .not_valid_after(now + datetime.timedelta(days=ends))
    )


def authority(name: str = "Test authority") -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name, None, -100, 100)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


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


class Proxy:
    """An HTTP proxy that connects to one place, whatever it is asked for."""

    def __init__(self, target: ServerAddress, status: str = "200 OK") -> None:
        self.target = target
        self.status = status
        self.asked: list[str] = []
        self.credentials: list[str] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        self.asked.append(head[0].split()[1])
        self.credentials += [line.split()[-1] for line in head if line.lower().startswith("proxy-authorization:")]
        writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
        if not self.status.startswith("200"):
            await writer.drain()
            writer.close()
            return
        back_reader, back_writer = await asyncio.open_connection(self.target.host, self.target.port)
        try:
            await asyncio.gather(_pump(reader, back_writer), _pump(back_reader, writer))
        finally:
            back_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def proxying(proxy: Proxy) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await proxy.talk(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


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


def test_tls_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        ours = authority()
        management = LyingManagement()
        management.known = True
        async with serving(management, ours.server(name="management.invalid")) as server:
            proxy = Proxy(server)
            async with proxying(proxy) as address:
                one = driver(
                    ServerAddress("management.invalid", 443, tls=True),
                    proxy=f"http://{address}",
                    root_certificates=ours.pem,
                )
                events = await collect(one, login=False)
        assert isinstance(events[0], ManagementConnected)

    run(work)
