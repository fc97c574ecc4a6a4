"""One host of the tests, run in a network namespace: a WireGuard device and the ICE driver, told what to do by lines.

Input and output are JSON, one object a line. Input {"do": NAME, ...}; output {"event": CLASS, ...} or {"done": NAME}.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from rxnet.candidates import format_candidate, parse_candidate
from rxnet.credentials import CredentialStore, IceCredentials
from rxnet.engine.effects import GiveCandidates, KeepPath, Negotiate, OpenDevice, SetPeers
from rxnet.events import CandidatesGathered, Event, PathSelected
from rxnet.ice.driver import IceDriver
from rxnet.ice.port import PortHolder
from rxnet.model import Endpoint, PeerKey, ServerAddress, SessionId, WireGuardPeer
from rxnet.wireguard.driver import DeviceDriver
from rxnet.wireguard.userspace import UserspaceDevice


def addresses() -> list[IPv4Address | IPv6Address]:
    links = json.loads(subprocess.run(["ip", "-j", "addr", "show", "e0"], capture_output=True, check=True).stdout)
    found = [ip_address(info["local"]) for link in links for info in link["addr_info"] if info["scope"] == "global"]
    only = os.environ.get("ONLY_FAMILY")
    return [address for address in found if not only or address.version == int(only)]


def left_over() -> list[str]:
    """Open files and children that a quiet process does not have: all but standard ones and the event loop's."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue  # the directory that was listed
    sockets = [name for name in names if name.startswith("socket:")]
    odd = [name for name in names if name.startswith(("anon_inode:[pidfd", "/proc", "/dev/net"))]
    children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "comm="], capture_output=True, text=True)
    # The loop wakes itself by a pair of sockets.
    return sockets[2:] + odd + [name for name in children.stdout.split() if name != "ps"]


def time_to_live(sock: socket.socket) -> int:
    """TTL or hop limit of what a socket sends."""
    if sock.family == socket.AF_INET6:
        return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
    return sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL)


def run(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True)


class Host:
    def __init__(self, private_key: bytes, method: str) -> None:
        self.credentials = CredentialStore()
        self.locals = addresses()
        self.port = PortHolder(method)
        self.device = DeviceDriver(
            lambda: UserspaceDevice(private_key),
            opened=self.port.device_opened,
            closing=self.port.device_closing,
        )
        self.ice = IceDriver(
            self.credentials,
            self.port,
            lambda: self.locals,
            overlay=lambda: [ip_network("100.64.0.0/10")],
            received_bytes=self.device.received_bytes,
        )
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def say(self, **what: Any) -> None:
        print(json.dumps(what), flush=True)

    def start(self, name: str, events: AsyncIterator[Event]) -> None:
        async def run() -> None:
            async for event in events:
                fields: dict[str, Any] = {"event": type(event).__name__}
                for field in ("reason", "name", "port", "retry", "what"):
                    if hasattr(event, field):
                        fields[field] = getattr(event, field)
                if isinstance(event, CandidatesGathered):
                    fields["candidates"] = [format_candidate(candidate) for candidate in event.candidates]
                if isinstance(event, PathSelected):
                    path = event.path
                    fields |= {"local": str(path.local), "remote": [path.remote.host, path.remote.port]}
                    fields |= {"types": [path.local_type, path.remote_type], "rtt": path.round_trip}
                self.say(**fields)

        self.tasks[name] = asyncio.get_running_loop().create_task(run())

    async def stop(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.wait((task,))

    async def do(self, name: str, order: dict[str, Any]) -> None:
        peer = PeerKey(order.get("peer", ""))
        generation = order.get("generation", 1)
        if name == "open":
            self.start("device", self.device.open_device(OpenDevice(1)))
        elif name == "credentials":
            ours = self.credentials.ours(peer)
            self.say(credentials=[ours.ufrag, ours.pwd])
        elif name == "address":
            device = self.device.device
            assert device is not None
            command = f"ip addr add {order['address']} dev {device.name} && ip link set mtu 1280 dev {device.name}"
            run(command)
            self.say(done=name)
        elif name == "peers":
            peers = tuple(
                WireGuardPeer(PeerKey(key), (ip_network(ip),), Endpoint(*endpoint) if endpoint else None, keepalive)
                for key, ip, endpoint, keepalive in order["changed"]
            )
            async for event in self.device.set_peers(SetPeers(1, peers)):
                self.say(event=type(event).__name__)
            self.say(done=name)
        elif name == "negotiate":
            self.credentials.remember(peer, SessionId("r"), IceCredentials(*order["theirs"]))
            stuns = tuple(ServerAddress(host, port) for host, port in order.get("stuns", ()))
            effect = Negotiate(peer, generation, SessionId("s"), SessionId("r"), order["controlling"], stuns)
            self.start(f"negotiate {peer}", self.ice.negotiate(effect))
        elif name == "candidates":
            candidates = tuple(parse_candidate(text) for text in order["candidates"])
            async for _ in self.ice.give_candidates(GiveCandidates(peer, generation, candidates)):
                pass
            self.say(done=name)
        elif name == "signalled":
            self.ice.candidates_signalled(peer)
        elif name == "keep":
            # As the engine does it: both in one step, the cancelled one cleans up first.
            task = self.tasks.pop(f"negotiate {peer}")
            task.cancel()
            self.start(f"keep {peer}", self.ice.keep_path(KeepPath(peer, generation)))
        elif name == "drop":
            for key in [key for key in self.tasks if key != "device"]:
                await self.stop(key)
            await asyncio.sleep(0.01)
            tasks = [task.get_name() for task in asyncio.all_tasks()]
            port = self.port()
            assert port is not None
            left = len(port.demux.transactions)
            self.say(done=name, agents=len(self.ice), routes=len(port.demux), transactions=left, tasks=len(tasks))
        elif name == "stats":
            stats = await self.device.stats()
            self.say(stats={k: [s.rx_bytes, s.tx_bytes, s.last_handshake, str(s.endpoint)] for k, s in stats.items()})
        elif name == "counters":
            port = self.port()
            assert port is not None
            counters = port.counters
            self.say(
                method=port.method,
                received=counters.stun_received,
                sent=counters.stun_sent,
                dropped=counters.dropped,
                taken=counters.wireguard_taken,
                ttls=[time_to_live(sock) for sock in port._sockets.values()],
            )
        elif name == "kill":
            assert self.device.device is not None and self.device.device.pid is not None
            os.kill(self.device.device.pid, 9)
        elif name == "quit":
            for key in [key for key in self.tasks if key != "device"]:
                await self.stop(key)
            if "device" in self.tasks:
                await self.stop("device")
            self.ice.close()
            gc.collect()
            self.say(done=name, tasks=len(asyncio.all_tasks()), left=left_over())


async def main() -> None:
    if os.environ.get("ICE_HOST_LOG"):
        from loguru import logger

        logger.enable("rxnet")
    host = Host(base64.b64decode(os.environ["PRIVATE_KEY"]), os.environ.get("METHOD", ""))
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = json.loads(line)
        await host.do(order.pop("do"), order)
        if host.tasks.get("device") is None and line.startswith(b'{"do": "quit"'):
            return


if __name__ == "__main__":
    asyncio.run(main())
