"""The engine alone: what an event costs, at different numbers of peers.

    python benchmarks/engine.py [--peers 1000,10000] [--events 20000] [--rounds 7] [--json FILE]

All epics are attached and three subscribers read through feeds of their default length; a lost entry ends the
benchmark. The world is simulated: it answers `SendMessages` with `MessagesSent` as a driver does, in a later turn of
the loop, and feeds the engine the mix of `traffic.py`, each event about a peer whose state it fits. Counted is every
event that the engine takes in, publishes and hands to the subscribers, its own news included. Time is compressed: the
engine's clock runs ahead so that each peer is heard of every two seconds, at any number of peers.

Each number of peers has a process of its own; they work in turns, round by round, and medians are compared. `calm` is
the garbage collector as `rxnet up` sets it (rxnet/cli/collector.py), `default` as Python does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import reactivex
from reactivex.disposable import Disposable
from reactivex.scheduler.eventloop import AsyncIOScheduler
from traffic import LOCAL, PATH, Traffic, keys, remote

from rxnet.cli.collector import calm_collector
from rxnet.engine.direct import Direct
from rxnet.engine.effects import AssignAddresses, Effect, GiveCandidates, SendMessages, SetPeers
from rxnet.engine.engine import Engine
from rxnet.engine.feed import Feed
from rxnet.engine.inbox import Stamped, Step
from rxnet.events import (
    AddressesAssigned,
    AnswerReceived,
    DeviceOpened,
    Event,
    LoggedIn,
    MessagesSent,
    NetworkCameUp,
    NetworkMapReceived,
    PathSelected,
    SignalConnected,
    UpRequested,
)
from rxnet.model import HostNetwork, PeerKey, ServerAddress, SessionId

OWN_KEY = PeerKey("/" * 42 + "8=")
CHUNK = 200
"""Events put at once: with all that follows from them far fewer than a feed holds."""
PACE = 2.0
"""Seconds of the engine's clock between two events about one peer."""
MAP_PART = 256


class Subscriber:
    """Reads everything, in order, or ends the benchmark."""

    def __init__(self, last: int) -> None:
        self.last = last

    def __call__(self, entry: Any) -> None:
        if entry.seq != self.last + 1:  # a Gap has no `seq` at all
            raise RuntimeError(f"after {self.last} came {entry.seq}")
        self.last = entry.seq


class Bench:
    """An engine with `count` peers under an open gate, two thirds of them connected, and three subscribers."""

    def __init__(self, count: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.ahead = 0.0
        self.unanswered = 0
        self.effects = 0
        self.failure: Exception | None = None
        scheduler = AsyncIOScheduler(self.loop)
        dice = random.Random(1)
        self.engine = Engine(
            OWN_KEY,
            self.perform,
            scheduler=scheduler,
            clock=lambda: self.loop.time() + self.ahead,
            entropy=lambda: dice.getrandbits(64),
        )
        self.published = 0
        self.feed: Feed[Stamped] = Feed(scheduler, on_failure=self._failed)
        self.engine.steps.subscribe(self._publish)
        self.subscribers: list[Subscriber] = []
        self.keys = keys(count)
        self.traffic = Traffic(self.keys)

    def _publish(self, step: Step) -> None:
        self.published = step.stamped.seq
        self.feed.publish(step.stamped)

    def _failed(self, error: Exception) -> None:
        self.failure = error

    # -- the world

    def perform(self, effect: Effect) -> reactivex.Observable[Event]:
        def start(put: Callable[[Event], object], completed: Callable[[], object]) -> Disposable:
            self.effects += 1
            if not isinstance(effect, SendMessages | SetPeers | GiveCandidates | AssignAddresses):
                return Disposable()  # goes on until it is disposed of
            self.unanswered += 1
            answered = False

            def answer() -> None:
                settle()
                if isinstance(effect, SendMessages):
                    put(MessagesSent(effect.peer, tuple(message.id for message in effect.messages)))
                elif isinstance(effect, AssignAddresses):
                    put(AddressesAssigned(effect.generation, effect.attempt))
                completed()

            def settle() -> None:
                nonlocal answered
                if not answered:
                    answered = True
                    self.unanswered -= 1
                    handle.cancel()

            handle = self.loop.call_soon(answer)
            return Disposable(settle)

        return Direct(start)  # as in production, see rxnet/perform.py

    async def start(self) -> None:
        """Up to the state of a client that has been connected for a while."""
        put = self.engine.put
        put(UpRequested("bench"))
        put(NetworkCameUp(HostNetwork(True, (("e0", ip_address("10.0.0.2")),))))
        put(LoggedIn(1, LOCAL, ServerAddress("signal", 80)))
        put(DeviceOpened(1, "wt0", 51820))
        await self.settled()
        listed = [remote(i, key) for i, key in enumerate(self.keys)]
        for i in range(0, len(listed), MAP_PART):
            put(NetworkMapReceived(1, 1, LOCAL, tuple(listed[i : i + MAP_PART]), (), i + MAP_PART >= len(listed)))
        await self.settled()
        put(SignalConnected(self.engine.state.signal.generation))
        await self.settled()
        assert self.engine.state.gate.open, self.engine.state.gate.reason
        for i, key in enumerate(self.keys):
            put(AnswerReceived(key, SessionId("0102030405"), ufrag="u"))
            if i % CHUNK == 0:
                await self.settled()
        await self.settled()
        for i, key in enumerate(self.keys):
            agent = self.engine.state.peers[key].agent
            assert agent is not None
            if i % 3:
                put(PathSelected(key, agent.generation, PATH))
            if i % CHUNK == 0:
                await self.settled()
        await self.settled()
        # Only now: the opening of the gate for 10,000 peers is more than a feed holds, and not what is measured.
        self.subscribers = [Subscriber(self.published) for _ in range(3)]
        for subscriber in self.subscribers:
            self.feed.observable().subscribe(subscriber)

    async def settled(self) -> None:
        """Wait until nothing is on its way: inbox, answers of the world, subscribers."""
        subscribers = self.subscribers
        while (
            self.engine.depth or self.unanswered or any(s.last != self.published for s in subscribers)
        ) and self.failure is None:
            await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure

    # -- measuring

    async def round(self, count: int, seed: int) -> float:
        """Seconds for one event."""
        dice = random.Random(seed)
        taken = 0.0
        await self.settled()
        before = self.published
        for _ in range(0, count, CHUNK):
            self.ahead += CHUNK * PACE / len(self.keys)
            chunk = self.traffic.chunk(self.engine.state, CHUNK, dice)
            started = time.perf_counter()
            for event in chunk:
                self.engine.put(event)
            await self.settled()
            taken += time.perf_counter() - started
        return taken / (self.published - before)

    async def mix(self, count: int) -> dict[str, float]:
        """What came through in a round that is not measured, as shares; and effects started for each event."""
        found: Counter[str] = Counter()
        watch = self.engine.steps.subscribe(lambda step: found.update((type(step.stamped.event).__name__,)))
        before = self.effects
        await self.round(count, 0)
        watch.dispose()
        assert not any(peer.outbox.sending for peer in self.engine.state.peers.values()), "an outbox is stuck"
        shares = {name: number / found.total() for name, number in found.most_common()}
        return {**shares, "effects": (self.effects - before) / found.total()}


def work(line: Connection, peers: int, events: int, calm: bool) -> None:
    """A process: makes its engine, tells the mix, then measures a round for each seed it is sent."""
    if calm:
        calm_collector()

    async def serve() -> None:
        bench = Bench(peers)
        await bench.start()
        line.send(await bench.mix(events))
        while (seed := line.recv()) is not None:  # blocks the loop: it is another one's turn
            line.send(await bench.round(events, seed))
        bench.engine.close()

    asyncio.run(serve())


def measure(sizes: list[int], events: int, rounds: int) -> tuple[dict[str, dict[int, list[float]]], dict[str, float]]:
    """Microseconds for one event, by collector and number of peers; and the mix at the first size."""
    context = multiprocessing.get_context("spawn")
    lines: dict[tuple[str, int], Connection] = {}
    workers = []
    mix: dict[str, float] = {}
    for collector in ("calm", "default"):
        for size in sizes:
            line, theirs = context.Pipe()
            worker = context.Process(target=work, args=(theirs, size, events, collector == "calm"), daemon=True)
            worker.start()
            theirs.close()
            workers.append(worker)
            lines[collector, size] = line
            told = line.recv()
            mix = mix or told
    results: dict[str, dict[int, list[float]]] = {"calm": {s: [] for s in sizes}, "default": {s: [] for s in sizes}}
    for seed in range(1, rounds + 1):
        for (collector, size), line in lines.items():
            line.send(seed)
            results[collector][size].append(line.recv() * 1e6)
    for line in lines.values():
        line.send(None)
    for worker in workers:
        worker.join(20)
    return results, mix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="1000,10000", help=f"each at least {2 * CHUNK}")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    options = parser.parse_args()
    sizes = [int(size) for size in options.peers.split(",")]
    if min(sizes) < 2 * CHUNK:
        parser.error(f"--peers: at least {2 * CHUNK}, or the events do not find as many peers as they need")
    try:
        results, mix = measure(sizes, options.events, options.rounds)
    except EOFError:
        sys.exit("a process of the benchmark failed: see above")
    print(f"{'collector':9} {'peers':>8} {'us/event':>9} {'events/s':>9}   (median of {options.rounds} rounds)")
    for collector, by_size in results.items():
        for size, taken in by_size.items():
            median = statistics.median(taken)
            spread = f"{min(taken):.1f} to {max(taken):.1f}"
            print(f"{collector:9} {size:>8} {median:>9.1f} {1e6 / median:>9.0f}   {spread}")
    print(f"mix at {sizes[0]} peers, 3 subscribers, {mix['effects']:.2f} effects started for each event:")
    print("  " + ", ".join(f"{name} {share:.1%}" for name, share in mix.items() if name != "effects"))
    if options.json:
        Path(options.json).write_text(json.dumps({"us_per_event": results, "mix": mix}, indent=1))


if __name__ == "__main__":
    main()
