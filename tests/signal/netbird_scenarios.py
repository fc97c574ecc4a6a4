"""Scenarios with NetBird's real server, run as a program in a network namespace of its own.

    unshare --net --pid --fork --kill-child python netbird_scenarios.py SERVER DIRECTORY

prints one JSON object: for each scenario its name and either "" or what went wrong.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from netbird_server import Server

from rxnet.credentials import CredentialStore
from rxnet.engine.effects import OpenSignal, SendMessages
from rxnet.events import (
    AnswerReceived,
    CandidateReceived,
    Event,
    MessagesSent,
    OfferReceived,
    SignalConnected,
    SignalDisconnected,
    SignalMessageUnreadable,
)
from rxnet.model import Answer, Candidate, Candidates, Message, Offer, PeerKey, ServerAddress, SessionId
from rxnet.signal.client import SignalDriver
from rxnet.signal.connection import SignalConnection
from rxnet.signal.limits import SignalLimits
from rxnet.wire.box import Sealer, generate_private_key
from rxnet.wire.signalexchange_pb2 import EncryptedMessage

ADDRESS = ServerAddress("127.0.0.1", 8080)
SESSION = SessionId("00055ed085")


class Peer:
    """A driver with an open connection and its events."""

    def __init__(self, key: bytes | None = None, limits: SignalLimits | None = None) -> None:
        self.private_key = key or generate_private_key()
        self.key: PeerKey = Sealer(self.private_key).public_key
        self.store = CredentialStore()
        self.driver = SignalDriver(self.private_key, self.store, "0.80.0", limits=limits)
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Peer]:
        async def hold() -> None:
            async for event in self.driver.open_signal(OpenSignal(1, ADDRESS)):
                self.events.put_nowait(event)

        task = asyncio.create_task(hold())
        try:
            first = await self.events.get()
            assert isinstance(first, SignalConnected), first
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def send(self, to: PeerKey, *messages: Message) -> None:
        [event] = [event async for event in self.driver.send_messages(SendMessages(to, messages, 51820))]
        assert event == MessagesSent(to, tuple(message.id for message in messages)), event

    async def disconnected(self) -> str:
        event = await self.events.get()
        assert isinstance(event, SignalDisconnected), event
        return event.reason


def candidates(count: int) -> Candidates:
    return Candidates(9, tuple(Candidate("1", 2130706431, "10.0.0.5", port, "host") for port in range(1, count + 1)))


async def exchange(_: Server) -> None:
    async with Peer().connected() as alice, Peer().connected() as bob:
        await alice.send(bob.key, Offer(1, SESSION))
        offer = await bob.events.get()
        assert isinstance(offer, OfferReceived) and offer.peer == alice.key and offer.session == SESSION
        assert bob.store.theirs(alice.key, SESSION) == alice.store.ours(bob.key)
        await bob.send(alice.key, Answer(2, SESSION), candidates(5))
        received = [await alice.events.get() for _ in range(6)]
        answers = [event for event in received if isinstance(event, AnswerReceived)]
        assert len(answers) == 1 and answers[0].wireguard_port == 51820 and answers[0].version == "0.80.0"
        assert alice.store.theirs(bob.key, SESSION) == bob.store.ours(alice.key)
        ports = {event.candidate.port for event in received if isinstance(event, CandidateReceived)}
        assert ports == {1, 2, 3, 4, 5}


async def many_messages(_: Server) -> None:
    async with Peer().connected() as alice, Peer().connected() as bob:
        await alice.send(bob.key, candidates(2000))
        ports: list[int] = []
        while len(ports) < 2000:
            event = await bob.events.get()
            assert isinstance(event, CandidateReceived), event
            ports.append(event.candidate.port)
        assert sorted(ports) == list(range(1, 2001))
        swapped = sum(a > b for a, b in itertools.pairwise(ports))
        print(f"many_messages: {swapped} of 2000 overtook the one before", file=sys.stderr)


async def unknown_destination(_: Server) -> None:
    async with Peer().connected() as alice:
        await alice.send(Peer().key, Offer(1, SESSION))


async def eviction(_: Server) -> None:
    first = Peer()
    async with first.connected(), Peer(first.private_key).connected() as second, Peer().connected() as bob:
        assert "peer registered again" in await first.disconnected()
        await bob.send(second.key, Offer(1, SESSION))
        assert isinstance(await second.events.get(), OfferReceived)


async def heartbeats_come_back(_: Server) -> None:
    async with Peer(limits=SignalLimits(silence=0.2, probe=1.0)).connected() as alice:
        try:
            async with asyncio.timeout(4):
                event = await alice.events.get()
        except TimeoutError:
            return  # at least three probes, and never half-dead
        raise AssertionError(event)


async def garbage(_: Server) -> None:
    async with Peer().connected() as alice:
        raw = SignalConnection(ADDRESS, limits=SignalLimits())
        try:
            for body in (b"", b"x", bytes(1_500_000)):
                message = EncryptedMessage(key=Peer().key, remoteKey=alice.key, body=body)
                assert await raw.send(message.SerializeToString(), 10.0) is None
        finally:
            await raw.close()
        event = await alice.events.get()
        assert isinstance(event, SignalMessageUnreadable), event


async def restart(server: Server, kill: bool) -> None:
    alice, bob = Peer(), Peer()
    async with alice.connected(), bob.connected():
        server.end(kill=kill)
        async with asyncio.timeout(10):  # well before the watchdog
            for reason in (await alice.disconnected(), await bob.disconnected()):
                print(f"restart, kill={kill}: {reason}", file=sys.stderr)
                assert "ended the stream" in reason
    await asyncio.to_thread(server.gone)
    events = alice.driver.open_signal(OpenSignal(2, ADDRESS))
    [refused] = [event async for event in events]
    assert isinstance(refused, SignalDisconnected) and "cannot be reached" in refused.reason, refused
    await asyncio.to_thread(server.start)
    async with alice.connected(), bob.connected():
        await alice.send(bob.key, Offer(1, SESSION))
        assert isinstance(await bob.events.get(), OfferReceived)


async def restart_in_order(server: Server) -> None:
    await restart(server, kill=False)


async def restart_after_kill(server: Server) -> None:
    await restart(server, kill=True)


SCENARIOS: dict[str, Callable[[Server], Awaitable[None]]] = {
    scenario.__name__: scenario
    for scenario in (
        exchange,
        many_messages,
        unknown_destination,
        eviction,
        heartbeats_come_back,
        garbage,
        restart_in_order,
        restart_after_kill,
    )
}


async def main(program: str, directory: Path) -> dict[str, str]:
    outcome = {}
    server = Server(program, directory)
    await asyncio.to_thread(server.start)
    try:
        for name, scenario in SCENARIOS.items():
            try:
                async with asyncio.timeout(90):
                    await scenario(server)
                outcome[name] = ""
            except Exception:
                outcome[name] = traceback.format_exc()
    finally:
        server.end(kill=True)
        await asyncio.to_thread(server.gone)
    return outcome


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2])))))
