"""The registry between loop and disk: cancelled callers, a full disk."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from server_client import Peer, channel, control_plane, run

from rxnet.errors import ConfigError
from rxnet.files import make_private
from rxnet.model import PeerKey, ServerAddress
from rxnet.server.network import Announced, NetworkView
from rxnet.server.registry import Registry
from rxnet.server.store import Store


def gated(function: Callable[..., Any], gate: threading.Event) -> Callable[..., Any]:
    def wait(*args: Any, **named: Any) -> Any:
        assert gate.wait(10)
        return function(*args, **named)

    return wait


def test_a_change_once_begun_reaches_the_view_though_its_caller_was_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_private(tmp_path / "cp")
    store = Store(tmp_path / "cp")
    gate = threading.Event()
    for name in ("register", "delete_peer", "update_peer"):
        monkeypatch.setattr(store, name, gated(getattr(store, name), gate))

    async def test() -> None:
        view = NetworkView(store.network, Announced(ServerAddress("h", 1), None))
        registry = Registry(store, view, most_peers=10)
        told: list[str] = []
        registry.subscribe(lambda: told.append("changed"), lambda key: told.append(f"deleted {key}"))
        text, _ = await registry.create_setup_key("k")
        key = PeerKey("key")

        async def cancelled(work: Any) -> None:
            gate.clear()
            caller = asyncio.ensure_future(work)
            await asyncio.sleep(0)  # begun: it now waits for the disk
            await asyncio.sleep(0)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            gate.set()
            await registry.setup_keys()  # queued behind it
            await asyncio.sleep(0)

        await cancelled(registry.register(key, text, "a", b"", b""))
        assert view.get(key) is not None and told == ["changed"]
        await cancelled(registry.update(key, "b", b"", b"ssh"))
        peer = view.get(key)
        assert peer is not None and peer.hostname == "b" and told == ["changed"] * 2
        await cancelled(registry.delete(key))
        assert view.get(key) is None and told[2:] == ["deleted key", "changed"]
        await registry.aclose()

    run(test())


def test_a_full_disk_fails_the_call_and_nothing_else(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            key = await plane.create_setup_key(reusable=True)
            first = Peer(to)
            await first.login(key, "first")
            database = plane.registry._store._connection
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            database.execute(f"PRAGMA max_page_count = {pages}")
            registered = 1
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                while True:
                    await Peer(to).login(key, f"p{registered}")
                    registered += 1
            assert failed.value.code() is grpc.StatusCode.INTERNAL
            assert failed.value.details() == "failed handling request"
            assert len(plane.peers()) == registered == (await plane.registry.setup_keys())[0].used
            await first.login(hostname="first")  # known peers still get in
            database.execute("PRAGMA max_page_count = 100000")
            await Peer(to).login(key, "after")
            assert len(plane.peers()) == registered + 1 == plane.registry.view.serial

    run(test())


def test_a_locked_data_base_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxnet.server.store._BUSY_TIMEOUT", 0.0)
    make_private(tmp_path / "cp")
    Store(tmp_path / "cp").close()
    other = sqlite3.connect(tmp_path / "cp" / "control-plane.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConfigError, match=r"cannot use .*locked; look at the disk"):
        Store(tmp_path / "cp")
    other.close()
    Store(tmp_path / "cp").close()
