"""The control plane as a whole: starting, stopping, restarting, being killed, growing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest
from server_client import Peer, channel, control_plane, meta, run

from rxnet.errors import ConfigError
from rxnet.model import PeerKey, ServerAddress
from rxnet.server import management as management_module
from rxnet.server.app import ControlPlane
from rxnet.server.network import NetworkView
from rxnet.wire.box import encode_key


def test_addresses_and_the_server_key_survive_a_restart(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            key = await plane.create_setup_key(reusable=True)
            a, b = Peer(to), Peer(to)
            first = [await a.login(key, "a"), await b.login(key, "b")]
            before, server_key = plane.peers(), a.server_key
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            a, b = Peer(to, a.private), Peer(to, b.private)
            again = [await a.login(hostname="a"), await b.login(hostname="b")]
            assert a.server_key == server_key
            assert [x.peerConfig.SerializeToString() for x in first] == [
                x.peerConfig.SerializeToString() for x in again
            ]
            assert [(i.key, i.address, i.fqdn) for i in plane.peers()] == [(i.key, i.address, i.fqdn) for i in before]

    run(test())


_SERVE = """
import asyncio, sys
from pathlib import Path
from rxnet.server.serve import serve
directory = Path(sys.argv[1])
asyncio.run(serve(directory, host="127.0.0.1", port=0, stun_port=None, setup_key_file=directory.parent / "setup-key",
                  ready=lambda plane: print(plane.address.port, flush=True)))
"""


def test_killed_in_the_middle_of_registrations(tmp_path: Path) -> None:
    directory = tmp_path / "cp"
    told: dict[PeerKey, str] = {}

    async def one(to: grpc.aio.Channel, setup_key: str, number: int) -> None:
        peer = Peer(to)
        try:
            answer = await peer.login(setup_key, f"p{number}")
        except grpc.aio.AioRpcError:
            return
        told[peer.key] = answer.peerConfig.address

    async def storm(port: int, process: subprocess.Popen[str]) -> None:
        setup_key = (tmp_path / "setup-key").read_text().strip()
        before = len(told)
        async with channel(ServerAddress("127.0.0.1", port)) as to:
            tasks = {asyncio.ensure_future(one(to, setup_key, number)) for number in range(60)}
            pending = tasks
            while pending:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                if len(told) - before >= 10:
                    process.send_signal(signal.SIGKILL)  # with the others in flight

    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(directory)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            assert process.stdout is not None
            run(storm(int(process.stdout.readline()), process))
        finally:
            process.kill()
            process.communicate(timeout=20)
        assert process.returncode == -signal.SIGKILL

    async def look() -> None:
        async with control_plane(directory) as plane:
            kept = {info.key: f"{info.address}/16" for info in plane.peers()}
            assert len(told) >= 30 and told.items() <= kept.items()
            assert len(set(kept.values())) == len(kept)
            (setup_key,) = await plane.registry.setup_keys()
            assert setup_key.used == len(kept) == plane.registry.view.serial

    run(look())


def test_a_port_in_use_is_one_clear_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "one") as plane:
            second = ControlPlane(tmp_path / "two", port=plane.address.port, stun_port=None)
            with pytest.raises(
                ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{plane.address.port}; stop the program"
            ):
                await second.start()
        await second.start()  # nothing was left open: it starts now
        await second.stop()

    run(test())


def test_a_stun_port_in_use_leaves_nothing_open_either(tmp_path: Path) -> None:
    async def test() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            plane = ControlPlane(tmp_path / "cp", stun_port=taken.getsockname()[1])
            with pytest.raises(ConfigError, match="STUN"):
                await plane.start()
        await plane.start()
        await plane.stop()

    run(test())


def test_two_servers_cannot_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxnet.server.app._LOCK_TIMEOUT", 0.0)

    async def test() -> None:
        async with control_plane(tmp_path / "cp"):
            with pytest.raises(ConfigError, match="in use by another rxnet server"):
                await ControlPlane(tmp_path / "cp", stun_port=None).start()

    run(test())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"host": "0.0.0.0"}, "peers cannot reach 0.0.0.0; say under which name"),
        ({"host": "::"}, "peers cannot reach ::"),
        ({"certificate": Path("c.pem")}, "both a certificate and its private key"),
        ({"domain": "no_such domain"}, "is not a domain"),
        ({"most_peers": 70_000}, "between 1 and 60000"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ControlPlane(tmp_path / "cp", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("no-such-host.invalid", "'no-such-host.invalid' is not an address and no name that can be resolved"),
        ("a b", "'a b' is not an address"),
        ("x" * 300, "is not an address"),
        ("192.0.2.77", r"cannot listen on 192\.0\.2\.77:0: Cannot assign requested address; name one of this host"),
    ],
)
def test_an_address_that_is_not_ours_is_named_before_anything_is_made(
    tmp_path: Path, host: str, complaint: str
) -> None:
    async def test() -> None:
        with pytest.raises(ConfigError, match=complaint):
            await ControlPlane(tmp_path / "cp", host=host, stun_port=None).start()

    run(test())
    assert not (tmp_path / "cp").exists()


def test_certificates_that_are_none_are_named_before_anything_is_made(tmp_path: Path) -> None:
    async def test() -> None:
        file = tmp_path / "cert.pem"
        file.write_text("no certificate")
        plane = ControlPlane(tmp_path / "cp", stun_port=None, certificate=file, private_key=file)
        with pytest.raises(ConfigError, match="are not a certificate and its private key"):
            await plane.start()

    run(test())
    assert not (tmp_path / "cp").exists()


def test_missing_certificates_are_named(tmp_path: Path) -> None:
    async def test() -> None:
        missing = tmp_path / "cert.pem"
        plane = ControlPlane(tmp_path / "cp", stun_port=None, certificate=missing, private_key=missing)
        with pytest.raises(ConfigError, match=r"cannot read .*cert\.pem for TLS"):
            await plane.start()

    run(test())
    assert not (tmp_path / "cp").exists()


def test_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    command = ["openssl", "req", *kind, *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)

    async def test() -> None:
        options = {"advertised_host": "localhost", "certificate": certificate, "private_key": key}
        async with control_plane(tmp_path / "cp", **options) as plane:
            assert str(plane.address) == f"https://localhost:{plane.address.port}"
            trust = grpc.ssl_channel_credentials(certificate.read_bytes())
            to = grpc.aio.secure_channel(f"localhost:{plane.address.port}", trust)
            async with to:
                answer = await Peer(to).login(await plane.create_setup_key())
            assert answer.netbirdConfig.signal.uri == f"localhost:{plane.address.port}"
            assert answer.netbirdConfig.signal.protocol == 3  # HTTPS

    run(test())


def test_stopping_tells_clients_to_come_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane:
            to = channel(plane.address)
            a = Peer(to)
            await a.login(await plane.create_setup_key())
            sync, signal_stream = await a.sync(), await a.connect_signal()
            await sync.next()
        for reading in (sync.next(), signal_stream.read()):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await reading
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        await to.close()

    run(test())


def test_ipv6_addresses_are_announced_in_brackets(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp", host="::1", stun_port=0) as plane:
            port = plane.address.port
            async with grpc.aio.insecure_channel(f"[::1]:{port}") as to:
                answer = await Peer(to).login(await plane.create_setup_key())
            assert answer.netbirdConfig.signal.uri == f"[::1]:{port}"
            assert answer.netbirdConfig.stuns[0].uri.startswith("stun:[::1]:")

    run(test())


async def _grow(plane: ControlPlane, count: int) -> None:
    """Put peers into the view as if they had registered; registering them one by one waits for the disk."""
    template = plane.registry.view.get(plane.peers()[0].key)
    assert template is not None

    def fill() -> None:
        from dataclasses import replace

        for number in range(count):
            plane.registry.view.put(
                replace(
                    template,
                    key=encode_key(number.to_bytes(32, "big")),
                    address=template.address + number + 1,
                    address_v6=template.address_v6 + number + 1,
                    label=f"grown-{number}",
                )
            )

    await asyncio.to_thread(fill)


def test_a_large_network_is_assembled_from_ready_parts_and_sealed_off_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            key = await plane.create_setup_key(reusable=True)
            a = Peer(to)
            await a.login(key, "a")
            await _grow(plane, 5000)

            def no_more(*arguments: object, **named: object) -> bytes:
                raise AssertionError("a part was serialized to build a map")

            sealers: list[int] = []
            seal = management_module.Sealer.seal

            def where(self: object, to_key: PeerKey, plain: bytes) -> bytes:
                sealers.append(threading.get_ident() if len(plain) > 100_000 else 0)
                return seal(self, to_key, plain)  # type: ignore[arg-type]

            monkeypatch.setattr(management_module.Sealer, "seal", where)
            with monkeypatch.context() as patch:
                patch.setattr(NetworkView, "_part", no_more)
                stream = await a.sync("a")
                message = await stream.next()
            assert message is not None and len(message.NetworkMap.remotePeers) == 5000
            assert len(message.NetworkMap.FirewallRules) == 20_000
            assert len({peer.wgPubKey for peer in message.NetworkMap.remotePeers}) == 5000
            await Peer(to).login(key, "joined")
            await stream.until_peers(5001)
            large = [ident for ident in sealers if ident]
            assert large and threading.get_ident() not in large

    run(test())


def test_a_thousand_peers_register_and_are_all_seen(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp", most_peers=1001) as plane, channel(plane.address) as to:
            key = await plane.create_setup_key(reusable=True)
            watcher = Peer(to)
            await watcher.login(key, "watcher")
            stream = await watcher.sync("watcher")
            await stream.next()
            peers = [Peer(to) for _ in range(1000)]
            await peers[0].fetch_key()
            for peer in peers:
                peer.server_key = peers[0].server_key
            await asyncio.gather(*(peer.login(key, meta=meta("same-name")) for peer in peers))
            message = await stream.until_peers(1000)
            assert {peer.wgPubKey for peer in message.NetworkMap.remotePeers} == {peer.key for peer in peers}
            assert len({peer.fqdn for peer in message.NetworkMap.remotePeers}) == 1000
            assert message.NetworkMap.Serial == 1001

    run(test(), 55)
