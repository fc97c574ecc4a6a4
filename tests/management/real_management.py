"""Run inside a network namespace by test_real_management.py: NetBird's own server and our driver, scenario by scenario.

    python real_management.py SERVER_PROGRAM RUN_DIRECTORY

Prints one JSON line for each scenario: its name and what went wrong, or null.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from netbird_server import Server

from rxnet.engine.effects import OpenManagement
from rxnet.events import (
    ChecksReported,
    Event,
    LoggedIn,
    LoginRefused,
    ManagementConnected,
    ManagementDisconnected,
    NetworkMapFaulted,
    NetworkMapReceived,
    ServersAnnounced,
)
from rxnet.management.client import ManagementDriver
from rxnet.management.codec import SystemMeta
from rxnet.management.sysinfo import system_meta
from rxnet.model import Retry, ServerAddress
from rxnet.wire.box import generate_private_key, public_key

SERVER = ServerAddress("127.0.0.1", 8080)


class Peer:
    """A driver whose events are kept, and can be waited for."""

    def __init__(self, name: str, setup_key: str | None = None, private_key: bytes | None = None) -> None:
        self.name = name
        self.private_key = private_key or generate_private_key()
        self.key = public_key(self.private_key)
        self.setup_key = setup_key
        self.driver = ManagementDriver(SERVER, self.private_key, self.meta, lambda: self.setup_key)
        self.events: list[Event] = []
        self.peers: dict[str, Any] = {}
        self.news = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def meta(self) -> SystemMeta:
        return system_meta(self.name)

    async def attempt(self, login: bool = True) -> list[Event]:
        """One attempt until it ends by itself."""
        self.events = []
        async for event in self.driver.open_management(OpenManagement(1, login)):
            self.events.append(event)
            if isinstance(event, NetworkMapReceived):
                for key in event.removed:
                    del self.peers[key]
                self.peers |= {peer.key: peer for peer in event.changed}
            self.news.set()
        return self.events

    def open(self, login: bool = True) -> None:
        async def work() -> None:
            await self.attempt(login)

        self.task = asyncio.create_task(work())

    async def until(self, true: Callable[[], bool], limit: float = 15.0) -> None:
        async with asyncio.timeout(limit):
            while not true():
                if self.task is not None and self.task.done():
                    await self.task
                    if not true():
                        raise AssertionError(f"{self.name} ended: {self.events[-1]}")
                self.news.clear()
                try:
                    async with asyncio.timeout(0.2):
                        await self.news.wait()
                except TimeoutError:
                    continue

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def saw(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def final(events: list[Event]) -> ManagementDisconnected | LoginRefused:
    assert isinstance(events[-1], ManagementDisconnected | LoginRefused), events
    return events[-1]


async def registers_and_gets_a_map(server: Server) -> None:
    one = Peer("one", server.api.setup_key()["key"])
    one.open()
    try:
        await one.until(lambda: bool(one.saw(NetworkMapReceived)))
        login, servers = one.saw(LoggedIn)[0], one.saw(ServersAnnounced)[0]
        assert login.registered
        assert login.signal == SERVER
        assert login.local.fqdn == "one.netbird.selfhosted"
        assert str(login.local.address).endswith("/16")
        assert login.local.address_v6 is not None
        assert servers.stuns == (ServerAddress("127.0.0.1", 3478),)
        part = one.saw(NetworkMapReceived)[-1]
        assert part.last
        assert part.local == login.local
        assert one.saw(ManagementConnected)
        assert not one.saw(NetworkMapFaulted)
        assert server.api.peer("hostname", "one")["version"].startswith("0.77.0+rxnet")
        assert server.api.peer("hostname", "one")["kernel_version"] == os.uname().release
    finally:
        await one.close()


async def a_known_peer_needs_no_key(server: Server) -> None:
    one = Peer("known", server.api.setup_key()["key"])
    one.open()
    await one.until(lambda: bool(one.saw(NetworkMapReceived)))
    await one.close()
    again = Peer("known", None, one.private_key)
    again.open()
    try:
        await again.until(lambda: bool(again.saw(NetworkMapReceived)))
        assert not again.saw(LoggedIn)[0].registered
        assert again.saw(LoggedIn)[0].local == one.saw(LoggedIn)[0].local
    finally:
        await again.close()


async def an_unknown_peer_without_key_is_refused(server: Server) -> None:
    end = final(await Peer("nobody").attempt())
    assert isinstance(end, LoginRefused)
    assert "not registered" in end.reason


async def bad_setup_keys_are_refused(server: Server) -> None:
    revoked, spent, expired = (
        server.api.setup_key(),
        server.api.setup_key("one-off"),
        server.api.setup_key(expires_in=1),
    )
    server.api("PUT", f"/api/setup-keys/{revoked['id']}", {"revoked": True, "auto_groups": []})
    first = Peer("first", spent["key"])
    first.open()
    await first.until(lambda: bool(first.saw(LoggedIn)))
    await first.close()
    await asyncio.sleep(1.5)  # the expired one expires
    for key in ("a2c8e62b-38f5-4553-b31e-dd66c696cebb", revoked["key"], spent["key"], expired["key"]):
        end = final(await Peer("late", key).attempt())
        assert isinstance(end, LoginRefused), end
        assert end.reason.startswith("setup key refused"), end
        assert key not in repr(end)


async def two_peers_see_each_other(server: Server) -> None:
    key = server.api.setup_key()["key"]
    one, two = Peer("left", key), Peer("right", key)
    one.open()
    await one.until(lambda: bool(one.saw(NetworkMapReceived)))
    two.open()
    try:
        await one.until(lambda: two.key in one.peers)
        await two.until(lambda: one.key in two.peers)
        seen, told = one.peers[two.key], two.saw(LoggedIn)[0].local
        assert seen.fqdn == "right.netbird.selfhosted"
        assert {str(ip) for ip in seen.allowed_ips} == {f"{told.address.ip}/32", f"{told.address_v6.ip}/128"}
        assert seen.agent_version.startswith("0.77.0+rxnet")
        # What was there before does not come again.
        last = [part for part in one.saw(NetworkMapReceived) if part.changed][-1]
        assert [peer.key for peer in last.changed] == [two.key]
    finally:
        await one.close()
        await two.close()


async def a_deleted_peer(server: Server) -> None:
    one = Peer("doomed", server.api.setup_key()["key"])
    one.open()
    await one.until(lambda: bool(one.saw(NetworkMapReceived)))
    await asyncio.to_thread(server.api, "DELETE", f"/api/peers/{server.api.peer('hostname', 'doomed')['id']}")
    assert one.task is not None
    async with asyncio.timeout(10):
        await one.task
    assert one.peers == {}
    assert isinstance(final(one.events), ManagementDisconnected)
    end = final(await one.attempt(login=False))
    assert isinstance(end, ManagementDisconnected)
    assert end.retry is Retry.LOG_IN, end
    end = final(await one.attempt(login=True))
    assert isinstance(end, LoginRefused), end
    assert "deleted" in end.reason
    assert not [peer for peer in server.api("GET", "/api/peers") if peer["hostname"] == "doomed"]


async def logout_deletes_us(server: Server) -> None:
    key = server.api.setup_key()["key"]
    one, two = Peer("leaver", key), Peer("stayer", key)
    two.open()
    one.open()
    await two.until(lambda: one.key in two.peers)
    await one.driver.logout()
    await two.until(lambda: one.key not in two.peers)
    assert one.task is not None
    async with asyncio.timeout(10):
        await one.task
    await one.driver.logout()  # once more is no error
    await one.close()
    await two.close()


async def posture_checks_are_answered(server: Server) -> None:
    body = {"linux_path": "/bin/sh", "mac_path": "", "windows_path": ""}
    check = server.api(
        "POST",
        "/api/posture-checks",
        {"name": "shell", "description": "", "checks": {"process_check": {"processes": [body]}}},
    )
    (policy,) = server.api("GET", "/api/policies")
    rule = policy["rules"][0]
    groups = {name: [group["id"] for group in rule[name]] for name in ("sources", "destinations")}
    server.api(
        "PUT",
        f"/api/policies/{policy['id']}",
        {
            "name": policy["name"],
            "description": "",
            "enabled": True,
            "source_posture_checks": [check["id"]],
            "rules": [
                {
                    "id": rule["id"],
                    "name": rule["name"],
                    "enabled": True,
                    "action": "accept",
                    "bidirectional": True,
                    "protocol": "all",
                    **groups,
                }
            ],
        },
    )
    one = Peer("checked", server.api.setup_key()["key"])
    one.open()
    try:
        # Known from Login, so told at once with Sync; or named by a map and told with SyncMeta.
        await one.until(lambda: bool(one.saw(NetworkMapReceived)))
        assert one.driver._checks == ("/bin/sh",)
        assert one.driver._checks_told == ("/bin/sh",)
        other = {"linux_path": "/usr/bin/env", "mac_path": "", "windows_path": ""}
        await asyncio.to_thread(
            server.api,
            "PUT",
            f"/api/posture-checks/{check['id']}",
            {"name": "shell", "description": "", "checks": {"process_check": {"processes": [body, other]}}},
        )
        await one.until(lambda: bool(one.saw(ChecksReported)))
        assert one.saw(ChecksReported)[0].paths == 2
    finally:
        await one.close()


async def the_server_restarts_with_a_new_key(server: Server) -> None:
    one = Peer("patient", server.api.setup_key()["key"])
    one.open()
    await one.until(lambda: bool(one.saw(NetworkMapReceived)))
    await asyncio.to_thread(server.stop)
    assert one.task is not None
    async with asyncio.timeout(10):
        await one.task
    assert isinstance(final(one.events), ManagementDisconnected)
    end = final(await one.attempt(login=False))
    assert isinstance(end, ManagementDisconnected)
    assert "nothing listens there" in end.reason, end
    await asyncio.to_thread(server.start)
    one.open(login=False)
    await one.until(lambda: bool(one.saw(NetworkMapReceived)))
    await one.close()


SCENARIOS: list[Callable[[Server], Awaitable[None]]] = [
    registers_and_gets_a_map,
    a_known_peer_needs_no_key,
    an_unknown_peer_without_key_is_refused,
    bad_setup_keys_are_refused,
    two_peers_see_each_other,
    a_deleted_peer,
    logout_deletes_us,
    the_server_restarts_with_a_new_key,
    posture_checks_are_answered,
]
NAMES = [scenario.__name__ for scenario in SCENARIOS]


def main() -> None:
    server = Server(sys.argv[1], Path(sys.argv[2]))
    try:
        server.start()
        server.api.set_up()
        for scenario in SCENARIOS:
            problem = None
            try:
                asyncio.run(asyncio.wait_for(scenario(server), 40))
            except Exception:
                problem = traceback.format_exc()
            print(json.dumps({"name": scenario.__name__, "problem": problem}), flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
