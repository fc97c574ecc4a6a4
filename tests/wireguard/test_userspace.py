"""wireguard-go as a device: real processes in network namespaces."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from wg_namespaces import hosts_on_a_lan, missing, run, wireguard_programs

from rxnet.errors import DeviceError
from rxnet.model import PeerKey, WireGuardPeer
from rxnet.wireguard.control import Control
from rxnet.wireguard.uapi import Answer, key_to_hex
from rxnet.wireguard.userspace import UserspaceDevice, find_program

ROOT = str(Path(__file__).parents[2])
PROGRAMS = wireguard_programs() or [""]

netns = [
    pytest.mark.netns,
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
    pytest.mark.skipif(not wireguard_programs(), reason="no WireGuard program: set WIREGUARD_GO"),
]

PRELUDE = """
import asyncio, base64, json, os, signal, socket, subprocess, sys, time
from ipaddress import ip_network
from rxnet.errors import DeviceError
from rxnet.model import Endpoint, PeerKey, WireGuardPeer
from rxnet.wireguard import host
from rxnet.wireguard.userspace import UserspaceDevice
KEY = bytes(range(32))
def key(n): return PeerKey(base64.b64encode(n.to_bytes(32, "big")).decode())
def say(**what): print(json.dumps(what), flush=True)
class Book:
    def __init__(self): self.log = []
    def record(self, *, kind, **fields): self.log.append(["record", kind, fields]); return 7
    def update(self, id, **fields): self.log.append(["update", id, fields])
    def done(self, id): self.log.append(["done", id])
"""


def program_source(body: str) -> str:
    indented = textwrap.indent(textwrap.dedent(body), "    ")
    return f"{PRELUDE}async def main():\n{indented}\nasyncio.run(main())\n"


def inside(namespace: str, program: str, body: str) -> list[dict[str, Any]]:
    """Run a coroutine body in a namespace; what it `say`s."""
    source = (
        PRELUDE + "async def main():\n" + textwrap.indent(textwrap.dedent(body), "    ") + "\nasyncio.run(main())\n"
    )
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, sys.executable, "-W", "error", "-c", source],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": ROOT, "WIREGUARD_GO": program},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


class TestDevice:
    pytestmark: ClassVar = [*netns, pytest.mark.parametrize("program", PROGRAMS)]

    def test_opens_counts_and_goes_without_a_trace(self, program: str) -> None:
        with hosts_on_a_lan(1) as (host,):
            said = inside(
                host,
                program,
                """
                book = Book()
                device = UserspaceDevice(KEY, journal=book)
                await device.open()
                peers = [WireGuardPeer(key(n), (ip_network(f"100.64.0.{n}/32"),)) for n in range(1, 4)]
                refused = await device.set_peers(peers)
                bad = WireGuardPeer(PeerKey("nonsense"), ())
                moved = WireGuardPeer(key(2), peers[1].allowed_ips, Endpoint("fd77::9", 7), 0)
                refused += await device.set_peers([bad, moved], [key(1)])
                stats = await device.stats()
                say(name=device.name, port=device.listen_port, refused=[r.key for r in refused],
                    peers={k: str(s.endpoint) for k, s in stats.items()}, free=host.port_is_free(51820))
                pid = device.pid
                await device.close(); await device.close()
                say(interfaces=[n for _, n in socket.if_nameindex()], alive=os.path.exists(f"/proc/{pid}"), pid=pid,
                    free=host.port_is_free(51820), log=book.log, common=os.path.exists("/run/wireguard/wt0.sock"),
                    descriptors=len(os.listdir("/proc/self/fd")))
                """,
            )
        opened, closed = said
        assert (opened["name"], opened["port"], opened["free"]) == ("wt0", 51820, False)
        assert opened["refused"] == ["nonsense"]
        assert opened["peers"] == {
            base64.b64encode(int.to_bytes(2, 32, "big")).decode(): "[fd77::9]:7",
            base64.b64encode(int.to_bytes(3, 32, "big")).decode(): "None",
        }
        assert closed["interfaces"] == ["lo", "e0"]
        assert not closed["alive"] and closed["free"] and not closed["common"]
        kinds = [(entry[0], entry[1]) for entry in closed["log"]]
        assert kinds == [("record", "userspace-wireguard"), ("update", 7), ("done", 7)]
        assert closed["log"][1][2]["pid"] == closed["pid"]
        assert closed["log"][1][2]["started"] > 0
        # Standard input, output, error, the directory just read, and the loop's three.
        assert closed["descriptors"] == 7

    def test_two_namespaces_may_use_one_name_at_once(self, program: str) -> None:
        """Control sockets live in /run, which network namespaces share; ours do not meet."""
        body = """
        port = %d
        device = UserspaceDevice(KEY, port=port)
        await device.open()
        await device.set_peers([WireGuardPeer(key(port), (ip_network("100.64.0.9/32"),))])
        say(name=device.name)
        sys.stdin.readline()
        say(peers=list(await device.stats()))
        await device.close()
        """
        with hosts_on_a_lan(2) as hosts, contextlib.ExitStack() as stack:
            running = []
            for number, host in enumerate(hosts):
                process = subprocess.Popen(
                    ["ip", "netns", "exec", host, sys.executable, "-c", program_source(body % (7001 + number))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "PYTHONPATH": ROOT, "WIREGUARD_GO": program},
                )
                stack.enter_context(process)
                stack.callback(process.kill)
                running.append(process)
            names = [json.loads(process.stdout.readline())["name"] for process in running if process.stdout]
            peers = [json.loads(process.communicate("\n", timeout=20)[0])["peers"] for process in running]
        assert names == ["wt0", "wt0"]
        assert [len(found) for found in peers] == [1, 1]
        assert peers[0] != peers[1]

    def test_taken_names_and_ports(self, program: str) -> None:
        with hosts_on_a_lan(1) as (host,):
            run("ip link add wt0 type veth peer name other", host)
            said = inside(
                host,
                program,
                """
                other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); other.bind(("0.0.0.0", 51820))
                device = UserspaceDevice(KEY)
                await device.open()
                say(name=device.name, port=device.listen_port)
                named = UserspaceDevice(KEY, name="wt0", port=0)
                try:
                    await named.open()
                except DeviceError as error:
                    say(error=str(error))
                await named.close(); await device.close(); other.close()
                """,
            )
        assert said[0]["name"] == "wt1"
        assert said[0]["port"] not in (0, 51820)
        assert "wt0 exists already" in said[1]["error"]

    def test_death_is_an_event_and_it_dies_with_us(self, program: str) -> None:
        with hosts_on_a_lan(1) as (host,):
            said = inside(
                host,
                program,
                """
                device = UserspaceDevice(KEY)
                await device.open()
                waiting = asyncio.create_task(device.failed())
                os.kill(device.pid, signal.SIGKILL)
                say(reason=await asyncio.wait_for(waiting, 5))
                await device.close()
                say(interfaces=[n for _, n in socket.if_nameindex()])
                again = UserspaceDevice(KEY)
                await again.open()
                say(name=again.name, port=again.listen_port, pid=again.pid)
                sys.stdout.flush()
                os._exit(0)
                """,
            )
            assert "signal 9" in said[0]["reason"]
            assert said[1]["interfaces"] == ["lo", "e0"]
            assert (said[2]["name"], said[2]["port"]) == ("wt0", 51820)
            # Killed by the kernel in the instant its parent went; gone as soon as it has closed its files.
            for _ in range(500):
                if not os.path.exists(f"/proc/{said[2]['pid']}"):
                    break
                run("sleep 0.01")
            assert not os.path.exists(f"/proc/{said[2]['pid']}")
            assert "wt0" not in run("ip -br link", host)

    def test_ten_thousand_peers_do_not_hold_up_the_loop(self, program: str) -> None:
        with hosts_on_a_lan(1) as (host,):
            said = inside(
                host,
                program,
                """
                device = UserspaceDevice(KEY)
                await device.open()
                turns = 0
                async def count():
                    nonlocal turns
                    while True:
                        turns += 1
                        await asyncio.sleep(0)
                counting = asyncio.create_task(count())
                peers = [WireGuardPeer(key(n), (ip_network(f"100.{64 + n // 65536}.{n // 256 % 256}.{n % 256}/32"),))
                         for n in range(1, 10001)]
                refused = await device.set_peers(peers)
                stats = await device.stats()
                counting.cancel()
                say(refused=len(refused), peers=len(stats), turns=turns)
                await device.set_peers([], [peer.key for peer in peers])
                say(left=len(await device.stats()))
                await device.close()
                """,
            )
        assert (said[0]["refused"], said[0]["peers"], said[1]["left"]) == (0, 10_000, 0)
        # At the very least one turn for each of the 20 requests and their answers.
        assert said[0]["turns"] > 40

    def test_a_cancelled_open_leaves_nothing(self, program: str) -> None:
        with hosts_on_a_lan(1) as (host,):
            said = inside(
                host,
                program,
                """
                for turns in (1, 3, 10, 30):
                    device = UserspaceDevice(KEY)
                    task = asyncio.create_task(device.open())
                    for _ in range(turns):
                        await asyncio.sleep(0.001)
                    task.cancel()
                    await asyncio.wait((task,))
                    await device.close()
                say(interfaces=[n for _, n in socket.if_nameindex()], descriptors=len(os.listdir("/proc/self/fd")),
                    children=subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True).stdout.split()[1:])
                """,
            )
        assert said == [{"interfaces": ["lo", "e0"], "descriptors": 7, "children": []}]


def test_missing_program_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIREGUARD_GO", "/nowhere/wireguard-go")
    with pytest.raises(DeviceError, match=r"/nowhere/wireguard-go is missing.*WIREGUARD_GO"):
        find_program()
    monkeypatch.delenv("WIREGUARD_GO")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="install wireguard-go"):
        find_program()


@pytest.mark.netns
@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
def test_a_program_that_is_none_ends_with_its_own_words(tmp_path: Path) -> None:
    program = tmp_path / "wireguard-go"
    program.write_text("#!/bin/sh\necho the moon is wrong\nexit 3\n")
    program.chmod(0o755)
    with hosts_on_a_lan(1) as (host,):
        said = inside(
            host,
            str(program),
            """
            device = UserspaceDevice(KEY)
            try:
                await device.open()
            except DeviceError as error:
                say(error=str(error))
            await device.close()
            """,
        )
    assert "code 3" in said[0]["error"]
    assert "the moon is wrong" in said[0]["error"]


class PlayedControl(Control):
    """Takes all requests but those that name `poison`."""

    def __init__(self, poison: Sequence[str]) -> None:
        super().__init__("")
        self.poison = [key_to_hex(key) for key in poison]
        self.peers: list[int] = []
        self.stuck: asyncio.Future[None] | None = None

    async def request(self, data: bytes) -> Answer:
        text = data.decode()
        self.peers.append(text.count("public_key="))
        if self.stuck is not None:
            await self.stuck
        return Answer(22 if any(key in text for key in self.poison) else 0)


def played_device(control: Control) -> UserspaceDevice:
    device = UserspaceDevice(bytes(32))
    device._control = control
    return device


def numbered(count: int) -> list[WireGuardPeer]:
    keys = (base64.b64encode(number.to_bytes(32, "big")).decode() for number in range(count))
    return [WireGuardPeer(PeerKey(key), ()) for key in keys]


def test_refused_peers_do_not_keep_others_out() -> None:
    async def body() -> None:
        peers = numbered(1200)
        bad = [peers[3].key, peers[499].key, peers[1100].key]
        control = PlayedControl(bad)
        device = played_device(control)
        assert [refusal.key for refusal in await device.set_peers(peers)] == bad
        # Requests of a bounded size; the guilty are found by halving.
        assert max(control.peers) == 500
        assert len(control.peers) < 70
        # Only those that were refused are told again.
        control.peers.clear()
        control.poison.clear()
        assert await device.set_peers(peers) == []
        assert control.peers == [3]

    asyncio.run(body())


def test_a_request_cut_off_in_the_middle_is_told_again_in_full() -> None:
    async def body() -> None:
        control = PlayedControl([])
        device = played_device(control)
        peers = numbered(2)
        await device.set_peers(peers[:1])
        control.stuck = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(device.set_peers(peers))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        control.stuck = None
        control.peers.clear()
        await device.set_peers(peers)
        assert control.peers == [1]

    asyncio.run(body())


def test_without_the_right_to_make_interfaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "wireguard-go"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr("rxnet.wireguard.host.has_capability", lambda number: False)

    async def body() -> None:
        device = UserspaceDevice(bytes(32), program=str(program))
        with pytest.raises(DeviceError, match="CAP_NET_ADMIN"):
            await device.open()
        await device.close()

    asyncio.run(body())
