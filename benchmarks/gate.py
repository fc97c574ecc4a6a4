"""A closing gate: how long until the pending offers of all peers are cancelled and their agents are closed.

    python benchmarks/gate.py [--peers 1000] [--rounds 7] [--json FILE]

Real engine, real performer, real ICE agents (each checking a peer that never answers, over a port that sends
nowhere). Time runs from the event that closes the gate until no effect is left and the ICE driver holds no agent.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Interface, IPv4Network, ip_address
from typing import Any

from reactivex.scheduler.eventloop import AsyncIOScheduler

from rxnet.cli.collector import calm_collector
from rxnet.credentials import CredentialStore, new_credentials
from rxnet.engine import effects
from rxnet.engine.engine import Engine
from rxnet.events import (
    AddressesAssigned,
    AnswerReceived,
    CandidateReceived,
    DeviceOpened,
    Event,
    LoggedIn,
    MessagesSent,
    NetworkCameUp,
    NetworkMapReceived,
    NetworkWentDown,
    SignalConnected,
    UpRequested,
)
from rxnet.ice.driver import IceDriver
from rxnet.ice.port import StunPort
from rxnet.model import Candidate, HostNetwork, LocalPeer, PeerKey, RemotePeer, ServerAddress, SessionId
from rxnet.perform import Performer
from rxnet.wire.box import generate_private_key, public_key

NETWORK = HostNetwork(True, (("e0", ip_address("10.0.0.2")),))
SESSION = SessionId("0102030405")


class Nowhere(StunPort):
    """A port whose datagrams go nowhere."""

    method = "none"

    @property
    def is_open(self) -> bool:
        return True

    def can_send_from(self, local: str) -> bool:
        return True

    def _receive(self, sock: object) -> None: ...

    def _send(self, data: bytes, local: str, target: object) -> None: ...


async def forever(_effect: Any) -> AsyncIterator[Event]:
    await asyncio.Event().wait()
    yield NetworkWentDown(HostNetwork())


async def sent(effect: effects.SendMessages) -> AsyncIterator[Event]:
    yield MessagesSent(effect.peer, tuple(message.id for message in effect.messages))


async def assigned(effect: effects.AssignAddresses) -> AsyncIterator[Event]:
    yield AddressesAssigned(effect.generation, effect.attempt)


async def nothing(_effect: Any) -> AsyncIterator[Event]:
    return
    yield


class Bench:
    def __init__(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        self.credentials = CredentialStore()
        port = Nowhere(51820)
        self.ice = IceDriver(self.credentials, lambda: port, lambda: [ip_address("10.0.0.2")])
        self.performer = Performer(
            {
                effects.WatchNetwork: forever,
                effects.OpenManagement: forever,
                effects.OpenSignal: forever,
                effects.OpenDevice: forever,
                effects.SendMessages: sent,
                effects.AssignAddresses: assigned,
                effects.SetPeers: nothing,
                effects.Negotiate: self.ice.negotiate,
                effects.GiveCandidates: self.ice.give_candidates,
                effects.KeepPath: self.ice.keep_path,
            }
        )
        self.engine = Engine(
            public_key(generate_private_key()),
            self.performer,
            scheduler=AsyncIOScheduler(loop),
            clock=loop.time,
            entropy=lambda: random.getrandbits(64),
        )
        self.peers = [
            RemotePeer(public_key(generate_private_key()), (IPv4Network((0x64400002 + i, 32)),)) for i in range(count)
        ]

    async def start(self) -> None:
        local = LocalPeer(IPv4Interface("100.64.0.1/10"))
        put = self.engine.put
        put(UpRequested("bench"))
        put(NetworkCameUp(NETWORK))
        put(LoggedIn(1, local, ServerAddress("signal", 80)))
        put(DeviceOpened(1, "wt0", 51820))
        put(NetworkMapReceived(1, 1, local, tuple(self.peers)))
        await self.quiet()

    async def quiet(self) -> None:
        while self.engine.depth:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)

    async def open(self) -> None:
        """Open the gate and answer every offer, so that every peer has an agent that checks."""
        self.engine.put(NetworkCameUp(NETWORK))
        await self.quiet()
        self.engine.put(SignalConnected(self.engine.state.signal.generation))
        await self.quiet()
        for peer in self.peers:
            self.answer(peer.key)
        while len(self.ice) < len(self.peers):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)

    def answer(self, key: PeerKey) -> None:
        theirs = new_credentials()
        self.credentials.remember(key, SESSION, theirs)
        self.engine.put(AnswerReceived(key, SESSION, ufrag=theirs.ufrag))
        self.engine.put(CandidateReceived(key, Candidate("1", 2130706431, "10.0.0.3", 51820, "host")))

    async def close(self) -> tuple[float, float]:
        """Milliseconds until the last subscription is disposed, and until the last agent is closed."""
        disposed: list[float] = []
        watch = self.engine.steps.subscribe(lambda step: disposed.append(time.perf_counter()))
        gc.collect()
        started = time.perf_counter()
        self.engine.put(NetworkWentDown(HostNetwork()))
        await asyncio.sleep(0)
        while len(self.ice) or self.performer.running > 3:  # network, device and nothing else go on
            await asyncio.sleep(0)
        ended = time.perf_counter()
        watch.dispose()
        return (disposed[0] - started) * 1e3, (ended - started) * 1e3


async def measure(count: int, rounds: int) -> list[tuple[float, float]]:
    bench = Bench(count)
    await bench.start()
    results = []
    for _ in range(rounds):
        await bench.open()
        results.append(await bench.close())
    bench.ice.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    options = parser.parse_args()
    calm_collector()  # as `rxnet up` does
    results = asyncio.run(measure(options.peers, options.rounds))
    closed = [r[1] for r in results]
    print(f"{options.peers} pending peers, each with an agent that checks; {options.rounds} rounds")
    print(f"  reduced and disposed   {statistics.median(r[0] for r in results):6.1f} ms (median)")
    print(
        f"  last agent closed      {statistics.median(closed):6.1f} ms (median), {min(closed):.1f} to {max(closed):.1f}"
    )
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"peers": options.peers, "closed_ms": closed, "disposed_ms": [r[0] for r in results]}, file)


if __name__ == "__main__":
    main()
