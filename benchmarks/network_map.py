"""A network map of 10,000 peers: from bytes to the state, and to the WireGuard device; and one that differs in a peer.

    sudo python benchmarks/network_map.py [--peers 10000] [--rounds 5] [--json FILE]

Real map reader, engine, performer and device driver with a userspace WireGuard, in a network namespace of its own
(without root or a WireGuard program the device is left out). Device alone: the same peers in one call of the same
driver on a fresh interface. Blocked: the longest time that a timer of 1 ms came late.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import ctypes
import gc
import json
import os
import shutil
import statistics
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Interface, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from reactivex.scheduler.eventloop import AsyncIOScheduler

from rxnet.cli.collector import calm_collector
from rxnet.engine import effects
from rxnet.engine.engine import Engine
from rxnet.events import AddressesAssigned, Event, LoggedIn, NetworkCameUp, UpRequested
from rxnet.management.map_reader import MapReader
from rxnet.model import HostNetwork, LocalPeer, PeerKey, ServerAddress, WireGuardPeer
from rxnet.perform import Performer
from rxnet.wire import management_pb2 as pb
from rxnet.wire.box import generate_private_key, public_key
from rxnet.wireguard.driver import DeviceDriver
from rxnet.wireguard.userspace import UserspaceDevice

CLONE_NEWNET = 0x40000000


def peer_key(index: int) -> PeerKey:
    return PeerKey(base64.b64encode(index.to_bytes(32, "big")).decode())


def network_map(count: int, serial: int, renamed: int = -1) -> bytes:
    response = pb.SyncResponse()
    found = response.NetworkMap
    found.Serial = serial
    found.peerConfig.address = "100.64.0.1/10"
    found.peerConfig.fqdn = "bench.example"
    for i in range(count):
        peer = found.remotePeers.add()
        peer.wgPubKey = peer_key(i + 1)
        peer.allowedIps.extend((f"100.{65 + (i >> 16)}.{i >> 8 & 255}.{i & 255}/32", f"fd00::{i + 16:x}/128"))
        peer.fqdn = f"{'renamed' if i == renamed else 'peer'}-{i}.netbird.selfhosted"
        peer.agentVersion = "0.77.1"
    return response.SerializeToString()


class Late:
    """How late a timer of one millisecond comes at worst."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.perf_counter() - before - 0.001)

    def stop(self) -> float:
        self._task.cancel()
        return self.worst


async def forever(_effect: Any) -> AsyncIterator[Event]:
    await asyncio.Event().wait()
    yield NetworkCameUp(HostNetwork())


async def assigned(effect: effects.AssignAddresses) -> AsyncIterator[Event]:
    yield AddressesAssigned(effect.generation, effect.attempt)


class Bench:
    def __init__(self, with_device: bool) -> None:
        loop = asyncio.get_running_loop()
        self.driver = DeviceDriver(lambda: UserspaceDevice(generate_private_key(), name="wtbench"))
        self.performer = Performer(
            {
                effects.WatchNetwork: forever,
                effects.OpenManagement: forever,
                effects.OpenSignal: forever,
                effects.OpenDevice: self.driver.open_device if with_device else forever,
                effects.SetPeers: self.driver.set_peers,
                effects.AssignAddresses: assigned,
            }
        )
        self.own = public_key(generate_private_key())
        self.engine = Engine(
            self.own, self.performer, scheduler=AsyncIOScheduler(loop), clock=loop.time, entropy=lambda: 1
        )
        self.reader = MapReader(self.own)
        self.reader.new_stream(1)
        self.engine.put(UpRequested("bench"))
        self.engine.put(NetworkCameUp(HostNetwork(True)))
        local = LocalPeer(IPv4Interface("100.64.0.1/10"))
        self.engine.put(LoggedIn(1, local, ServerAddress("signal", 80)))

    async def read(self, data: bytes) -> None:
        """As the management driver does: a breath after each event."""
        for event in self.reader.read(data):
            if isinstance(event, Event):
                self.engine.put(event)
            await asyncio.sleep(0)
        while self.engine.depth:
            await asyncio.sleep(0)


async def once(count: int, with_device: bool) -> dict[str, float]:
    bench = Bench(with_device)
    full, differing = network_map(count, 2), network_map(count, 3, renamed=count // 2)
    result: dict[str, float] = {"bytes": len(full)}
    if with_device:
        while bench.driver.device is None:
            await asyncio.sleep(0.01)
    gc.collect()
    late = Late()
    started = time.perf_counter()
    await bench.read(full)
    result["state_s"] = time.perf_counter() - started
    if with_device:
        while bench.performer.running > 4:
            await asyncio.sleep(0.002)
        result["device_s"] = time.perf_counter() - started
    result["blocked_ms"] = late.stop() * 1e3
    assert len(bench.engine.state.peers) == count
    started = time.perf_counter()
    await bench.read(differing)
    result["one_differs_ms"] = (time.perf_counter() - started) * 1e3
    bench.engine.close()
    await bench.performer.idle()
    if with_device:
        result["device_alone_s"] = await alone(count)
    return result


async def alone(count: int) -> float:
    device = UserspaceDevice(generate_private_key(), name="wtalone")
    await device.open()
    peers = [
        WireGuardPeer(
            peer_key(i + 1),
            (
                IPv4Network(f"100.{65 + (i >> 16)}.{i >> 8 & 255}.{i & 255}/32"),
                IPv6Network(f"fd00::{i + 16:x}/128"),
            ),
        )
        for i in range(count)
    ]
    started = time.perf_counter()
    await device.set_peers(peers)
    taken = time.perf_counter() - started
    await device.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    program = shutil.which(os.environ.get("WIREGUARD_GO") or "wireguard-go")
    with_device = os.geteuid() == 0 and program is not None
    if with_device and ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        with_device = False
    calm_collector()  # as `rxnet up` does
    results = [asyncio.run(once(options.peers, with_device)) for _ in range(options.rounds)]
    print(f"{options.peers} peers, {results[0]['bytes'] / 1e6:.2f} MB; median and worst of {options.rounds} rounds")
    for name in results[0]:
        values = [result[name] for result in results]
        if name != "bytes":
            print(f"  {name:16} {statistics.median(values):8.3f} {max(values):8.3f}")
    if not with_device:
        print("  device: left out (needs root and a WireGuard program)")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
