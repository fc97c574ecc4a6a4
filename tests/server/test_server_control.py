"""Administration, with the server running and without."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from pathlib import Path

import pytest
from server_client import Peer, channel, control_plane, run

from rxnet.errors import ConfigError, ControlPlaneError
from rxnet.server import serve
from rxnet.server.control import administer
from rxnet.server.store import hold


def test_every_operation_against_a_running_server(tmp_path: Path) -> None:
    directory = tmp_path / "cp"

    async def test() -> None:
        async with control_plane(directory) as plane, channel(plane.address) as to:
            made = await asyncio.to_thread(serve.create_setup_key, directory, "lab", reusable=True, usage_limit=2)
            a, b = Peer(to), Peer(to)
            await a.login(made["setup_key"], "a")
            await b.login(made["setup_key"], "b")
            stream = await a.sync("a")
            await stream.until_peers(1)
            listed = await asyncio.to_thread(serve.peers, directory)
            assert [(peer["key"], peer["connected"]) for peer in listed] == [(a.key, True), (b.key, False)]
            assert listed[0]["fqdn"] == "a.rxnet.internal" and listed[0]["version"] == "0.77.1"
            (key,) = await asyncio.to_thread(serve.setup_keys, directory)
            assert (key["name"], key["used"], key["usage_limit"], key["revoked"]) == ("lab", 2, 2, False)
            assert made["setup_key"] not in json.dumps(key)
            assert (await asyncio.to_thread(serve.delete_peer, directory, "b"))["key"] == b.key
            await stream.until_peers(0)  # the running server knows at once
            await asyncio.to_thread(serve.revoke_setup_key, directory, key["id"])
            assert (await asyncio.to_thread(serve.setup_keys, directory))[0]["revoked"]

    run(test())


def test_every_operation_without_a_server(tmp_path: Path) -> None:
    directory = tmp_path / "cp"

    async def register(text: str = "") -> list[str]:
        async with control_plane(directory) as plane, channel(plane.address) as to:
            if text:
                for name in "ab":
                    await Peer(to).login(text, name)
            return [info.fqdn for info in plane.peers()]

    run(register())
    made = serve.create_setup_key(directory, reusable=True, expires_in=3600)
    assert run(register(made["setup_key"])) == ["a.rxnet.internal", "b.rxnet.internal"]
    listed = serve.peers(directory)
    assert [peer["connected"] for peer in listed] == [False, False]
    serve.delete_peer(directory, listed[0]["address"])
    serve.revoke_setup_key(directory, made["id"])
    assert run(register()) == ["b.rxnet.internal"]
    assert serve.setup_keys(directory)[0]["revoked"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    directory = tmp_path / "cp"
    with pytest.raises(ConfigError, match=r"no control plane in .*; `rxnet server` makes one"):
        serve.peers(directory)
    assert not directory.exists()  # looking makes nothing

    async def test() -> None:
        async with control_plane(directory):
            for wrong, complaint in (
                ({"do": "dance"}, "no operation; there are peers, delete-peer"),
                ({"do": "delete-peer", "peer": "nobody"}, "there is no peer 'nobody'"),
                ({"do": "delete-peer"}, "there is no peer None"),
                ({"do": "revoke-setup-key", "id": "1"}, "there is no setup key '1'"),
                ({"do": "create-setup-key", "usage_limit": "many"}, "are numbers"),
                ({"do": "create-setup-key", "usage_limit": -1}, "makes no sense"),
                ({"do": "create-setup-key", "usage_limit": 2}, "needs a reusable setup key"),
                ({"do": "create-setup-key", "expires_in": -5}, "time in the future"),
                ({"do": "create-setup-key", "expires_in": float("nan")}, "time in the future"),
            ):
                with pytest.raises(ConfigError, match=complaint):
                    await asyncio.to_thread(administer, directory, wrong)

    run(test())


def test_a_running_server_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    directory = tmp_path / "cp"

    async def make() -> None:
        async with control_plane(directory):
            pass

    run(make())
    with hold(directory), pytest.raises(ControlPlaneError, match="runs but does not answer"):
        administer(directory, {"do": "peers"}, timeout=0.1)


def test_the_socket_is_private_bounded_and_fits_long_directories(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120) / "cp"

    async def test() -> None:
        async with control_plane(directory):
            path = directory / "control.sock"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert await asyncio.to_thread(serve.peers, directory) == []
            for garbage in (b"{" * 5000 + b"\n", b"\xff\xfe\n", b"[]\n"):
                assert "error" in json.loads(await asyncio.to_thread(_exchange, directory, garbage))
            assert await asyncio.to_thread(_exchange, directory, b"x" * (1 << 20)) == b""  # a line without end
            assert await asyncio.to_thread(serve.peers, directory) == []
        assert not path.exists()

    run(test())


def _exchange(directory: Path, line: bytes) -> bytes:
    descriptor = os.open(directory, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(f"/proc/self/fd/{descriptor}/control.sock")
        os.close(descriptor)
        try:
            sock.sendall(line)
            return sock.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            return b""


def test_serve_makes_and_reuses_the_setup_key_file(tmp_path: Path) -> None:
    directory, shared = tmp_path / "cp", tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)  # as /tmp, where laboratories put it
    file = shared / "setup-key"

    async def serving() -> None:
        """Serve until ready, register a peer with the key of the file, stop by cancelling."""
        ready: asyncio.Queue[object] = asyncio.Queue()
        task = asyncio.ensure_future(
            serve.serve(
                directory, host="127.0.0.1", port=0, stun_port=None, setup_key_file=file, ready=ready.put_nowait
            )
        )
        getting = asyncio.ensure_future(ready.get())
        await asyncio.wait({task, getting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            getting.cancel()
            task.result()
            raise AssertionError("it ended by itself")
        plane = getting.result()
        async with channel(plane.address) as to:  # type: ignore[attr-defined]
            await Peer(to).login(file.read_text().strip())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(serving())
    text = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    run(serving())
    assert file.read_text() == text
    (key,) = serve.setup_keys(directory)
    assert key["used"] == 2
    # The file alone is enough for a new data base: killed between the file and the commit, or a copied key.
    (directory / "control-plane.db").unlink()
    run(serving())
    assert serve.setup_keys(directory)[0]["used"] == 1
    serve.revoke_setup_key(directory, serve.setup_keys(directory)[0]["id"])
    with pytest.raises(ConfigError, match="was revoked or has expired; remove the file"):
        run(serving())
    file.write_text("hello")
    with pytest.raises(ConfigError, match="does not hold a setup key"):
        run(serving())
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        run(serving())
