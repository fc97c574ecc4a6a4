"""The engine alone: what an event costs, and what a closing gate costs.

    python benchmarks/engine.py [--peers 1000,10000] [--events 20000] [--json FILE]

Mix of events, with all epics attached and three subscribers on feeds, at each number of peers:
40 % candidates of a peer, 20 % offers and 20 % answers with known sessions, 10 % "messages sent" reports and 10 %
late reports of old agents. Sizes are measured alternately, round by round, and compared by their medians.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import statistics
import time
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network, ip_address

import reactivex
from reactivex.disposable import Disposable
from reactivex.scheduler.eventloop import AsyncIOScheduler

from rxnet.cli.collector import calm_collector
from rxnet.engine.effects import Effect
from rxnet.engine.engine import Engine
from rxnet.engine.feed import Feed
from rxnet.engine.inbox import Stamped
from rxnet.events import (
    AnswerReceived,
    CandidateReceived,
    DeviceOpened,
    Event,
    LoggedIn,
    MessagesSent,
    NegotiationFailed,
    NetworkCameUp,
    NetworkMapReceived,
    OfferReceived,
    SignalConnected,
    UpRequested,
)
from rxnet.model import Candidate, HostNetwork, LocalPeer, PeerKey, RemotePeer, ServerAddress, SessionId

ROUNDS = 7
OWN_KEY = PeerKey(base64.b64encode(bytes([255]) * 32).decode())
SESSION = SessionId("0102030405")
LOCAL = LocalPeer(IPv4Interface("100.64.0.1/10"))


def keys(count: int) -> list[PeerKey]:
    return [PeerKey(base64.b64encode(i.to_bytes(32)).decode()) for i in range(1, count + 1)]


def remote(index: int, key: PeerKey) -> RemotePeer:
    return RemotePeer(key, (IPv4Network((0x64400000 + 2 + index, 32)),), f"peer{index}.example")


class Bench:
    """An engine with `count` peers under an open gate, and three subscribers."""

    def __init__(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        self.live = 0
        scheduler = AsyncIOScheduler(loop)
        self.engine = Engine(
            OWN_KEY, self.perform, scheduler=scheduler, clock=loop.time, entropy=lambda: random.getrandbits(64)
        )
        feed: Feed[Stamped] = Feed(scheduler, on_failure=print)
        self.engine.steps.subscribe(lambda step: feed.publish(step.stamped))
        self.seen = [0, 0, 0]
        for i in range(3):
            feed.observable(1_000_000).subscribe(lambda _entry, i=i: self._count(i))
        self.keys = keys(count)
        put = self.engine.put
        put(UpRequested("bench"))
        put(NetworkCameUp(HostNetwork(True, (("e0", ip_address("10.0.0.2")),))))
        put(LoggedIn(1, LOCAL, ServerAddress("signal", 80)))
        put(SignalConnected(1))
        put(DeviceOpened(1, "wt0", 51820))
        listed = [remote(i, key) for i, key in enumerate(self.keys)]
        for i in range(0, count, 256):
            put(NetworkMapReceived(1, 1, LOCAL, tuple(listed[i : i + 256]), (), i + 256 >= count))

    def _count(self, index: int) -> None:
        self.seen[index] += 1

    def perform(self, effect: Effect) -> reactivex.Observable[Event]:
        def subscribe(observer: object, scheduler: object = None) -> Disposable:
            self.live += 1
            return Disposable(self._ended)

        return reactivex.Observable(subscribe)

    def _ended(self) -> None:
        self.live -= 1

    async def settled(self) -> None:
        while self.engine.depth:
            await asyncio.sleep(0)
        target = self.seen
        for _ in range(3):
            await asyncio.sleep(0)
        while len(set(target)) > 1:
            await asyncio.sleep(0)

    def establish(self) -> None:
        """Give every peer an agent, as after the first answers."""
        for key in self.keys:
            self.engine.put(AnswerReceived(key, SESSION, ufrag="u"))

    def events(self, count: int, seed: int) -> Iterator[Event]:
        dice = random.Random(seed)
        for n in range(count):
            key = self.keys[dice.randrange(len(self.keys))]
            throw = dice.random()
            if throw < 0.4:
                candidate = Candidate("1", 1, "10.0.0.9", 1000 + n % 8, "host")
                yield CandidateReceived(key, candidate)
            elif throw < 0.6:
                yield OfferReceived(key, SESSION, ufrag="u")
            elif throw < 0.8:
                yield AnswerReceived(key, SESSION, ufrag="u")
            elif throw < 0.9:
                peer = self.engine.state.peers[key]
                yield MessagesSent(key, tuple(m.id for m in peer.outbox.sending))
            else:
                yield NegotiationFailed(key, 0, "late")

    async def round(self, count: int, seed: int) -> float:
        """Seconds for one event."""
        batch = list(self.events(count, seed))
        before = self.seen[0]
        started = time.perf_counter()
        for event in batch:
            self.engine.put(event)
        while self.seen[0] - before < count or self.engine.depth:
            await asyncio.sleep(0)
        return (time.perf_counter() - started) / count


async def cost(sizes: list[int], count: int) -> dict[int, list[float]]:
    benches = {size: Bench(size) for size in sizes}
    for bench in benches.values():
        await bench.settled()
        bench.establish()
        await bench.settled()
        await bench.round(2000, 0)
    return {
        size: list(rounds)
        for size, rounds in zip(
            sizes,
            zip(*[[await benches[s].round(count, n) for s in sizes] for n in range(ROUNDS)], strict=True),
            strict=True,
        )
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="100,1000,10000")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--json")
    options = parser.parse_args()
    sizes = [int(size) for size in options.peers.split(",")]
    calm_collector()  # as `rxnet up` does
    results = asyncio.run(cost(sizes, options.events))
    print(f"{'peers':>8} {'us/event':>10} {'events/s':>10}   (median of {ROUNDS} rounds, 3 subscribers)")
    for size, rounds in results.items():
        median = statistics.median(rounds)
        print(
            f"{size:>8} {median * 1e6:>10.1f} {1 / median:>10.0f}   {min(rounds) * 1e6:.1f} to {max(rounds) * 1e6:.1f}"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"us_per_event": {s: [r * 1e6 for r in rs] for s, rs in results.items()}}, file, indent=1)


if __name__ == "__main__":
    main()
