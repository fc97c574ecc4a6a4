"""The signal driver's receiving side against servers that behave, misbehave and vanish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc
import pytest
from misbehaving_signal import (
    END_WITHOUT_TRAILERS,
    NO_MORE_REQUEST,
    SETTINGS,
    FakeSignal,
    RawServer,
    TcpRelay,
)

from rxnet.credentials import CredentialStore, IceCredentials
from rxnet.engine.effects import OpenSignal
from rxnet.events import (
    CandidateReceived,
    Event,
    GoIdleReceived,
    OfferReceived,
    SignalConnected,
    SignalDisconnected,
    SignalMessageUnreadable,
)
from rxnet.model import Candidate, Candidates, Message, Offer, ServerAddress, SessionId
from rxnet.signal.client import SignalDriver
from rxnet.signal.codec import encode
from rxnet.signal.connection import SignalConnection
from rxnet.signal.limits import SignalLimits
from rxnet.wire.box import Sealer
from rxnet.wire.signalexchange_pb2 import Body, EncryptedMessage

OUR_KEY = bytes([1]) * 32
OURS = Sealer(OUR_KEY)
BOB = Sealer(bytes([2]) * 32)
SESSION = SessionId("00055ed085")
CREDENTIALS = IceCredentials("ufrag", "password")
CANDIDATE = Candidate("1", 2130706431, "10.0.0.5", 51820, "host")
QUICK = SignalLimits(silence=0.1, probe=0.1)

T = TypeVar("T")


def run(work: Awaitable[T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(limited())


def driver(limits: SignalLimits | None = None, store: CredentialStore | None = None, **more: object) -> SignalDriver:
    return SignalDriver(OUR_KEY, store or CredentialStore(), "0.80.0", limits=limits, **more)  # type: ignore[arg-type]


def say(*messages: Message) -> list[bytes]:
    return encode(
        messages, sealer=BOB, peer=OURS.public_key, credentials=CREDENTIALS, wireguard_port=51820, version="0.77.1"
    )


GO_IDLE = EncryptedMessage(
    key=BOB.public_key,
    remoteKey=OURS.public_key,
    body=BOB.seal(OURS.public_key, Body(type=Body.GO_IDLE).SerializeToString()),
).SerializeToString()


class Opened:
    """An `open_signal` that runs in a task, as the performer runs it; its events come out one by one."""

    def __init__(self, it: SignalDriver, server: ServerAddress, generation: int = 1) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        self.task = asyncio.create_task(self._perform(it, OpenSignal(generation, server)))

    async def _perform(self, it: SignalDriver, effect: OpenSignal) -> None:
        events = it.open_signal(effect)
        try:
            async for event in events:
                self.events.put_nowait(event)
        finally:
            await events.aclose()  # type: ignore[attr-defined]
            self.events.put_nowait(None)

    async def next(self) -> Event:
        event = await self.events.get()
        assert event is not None, "the effect ended"
        return event

    async def rest(self) -> list[Event]:
        found = []
        while (event := await self.events.get()) is not None:
            found.append(event)
        return found

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@asynccontextmanager
async def connected(it: SignalDriver, server: ServerAddress, generation: int = 1) -> AsyncIterator[Opened]:
    opened = Opened(it, server, generation)
    try:
        assert await opened.next() == SignalConnected(generation)
        yield opened
    finally:
        await opened.cancel()


async def refused(it: SignalDriver, server: ServerAddress) -> str:
    """Open, expect no connection, give the reason."""
    [event] = await Opened(it, server, 7).rest()
    assert isinstance(event, SignalDisconnected)
    assert event.generation == 7
    return event.reason


def only_disconnected(events: list[Event]) -> str:
    [event] = events
    assert isinstance(event, SignalDisconnected)
    return event.reason


# -- connecting --------------------------------------------------------------------------------------------------


def test_messages_become_events_in_order_and_credentials_are_there_before() -> None:
    async def main() -> None:
        store = CredentialStore()
        async with FakeSignal() as server, connected(driver(store=store), server.address) as opened:
            for message in [*say(Offer(1, SESSION), Candidates(2, (CANDIDATE,))), GO_IDLE]:
                await server.push(OURS.public_key, message)
            bob = BOB.public_key
            assert await opened.next() == OfferReceived(bob, SESSION, True, "ufrag", 51820, "0.77.1")
            assert store.theirs(bob, SESSION) == CREDENTIALS
            assert await opened.next() == CandidateReceived(bob, CANDIDATE)
            assert await opened.next() == GoIdleReceived(bob)

    run(main())


def test_credentials_are_remembered_before_the_event_is_yielded() -> None:
    async def main() -> None:
        store = CredentialStore()
        async with FakeSignal() as server:
            events = driver(store=store).open_signal(OpenSignal(1, server.address))
            async for event in events:
                if isinstance(event, SignalConnected):
                    await server.push(OURS.public_key, say(Offer(1, SESSION))[0])
                elif isinstance(event, OfferReceived):
                    assert store.theirs(event.peer, event.session) == CREDENTIALS
                    break
            await events.aclose()  # type: ignore[attr-defined]
            await server.until(lambda: server.streams_over == 1)

    run(main())


def test_cancelling_ends_the_stream_at_the_server() -> None:
    async def main() -> None:
        async with FakeSignal() as server:
            async with connected(driver(), server.address) as opened:
                pass
            assert await opened.rest() == []
            await server.until(lambda: server.streams_over == 1)

    run(main())


def test_cancelling_while_dialling() -> None:
    async def main() -> None:
        async with RawServer(b"") as server:
            opened = Opened(driver(), server.address)
            await asyncio.sleep(0)
            await opened.cancel()
            assert opened.task.cancelled()
            assert await opened.rest() == []

    run(main())


def test_one_driver_connects_again_and_again() -> None:
    async def main() -> None:
        it = driver()
        async with FakeSignal() as server:
            for generation in (1, 2, 3):
                async with connected(it, server.address, generation) as opened:
                    await server.push(OURS.public_key, GO_IDLE)
                    assert await opened.next() == GoIdleReceived(BOB.public_key)

    run(main())


def test_server_that_does_not_register() -> None:
    async def main() -> None:
        async with FakeSignal() as server:
            server.with_header = False
            assert "x-wiretrustee-peer-registered" in await refused(driver(), server.address)
            await server.until(lambda: server.streams_over == 1)

    run(main())


def test_server_that_refuses() -> None:
    async def main() -> None:
        async with FakeSignal() as server:
            server.refuse = (grpc.StatusCode.FAILED_PRECONDITION, "missing\nconnection header: \x1b " + "x" * 1000)
            reason = await refused(driver(), server.address)
            assert "FAILED_PRECONDITION: missing connection header: ?" in reason
            assert len(reason) < 300 and reason.isprintable()

    run(main())


def test_nobody_listens() -> None:
    async def main() -> None:
        async with FakeSignal() as server:
            pass
        # Well under the dial limit: refused is refused.
        reason = await refused(driver(SignalLimits(dial=25.0)), server.address)
        assert f"{server.address} cannot be reached: nothing listens there" in reason

    run(main())


@pytest.mark.parametrize("host", ["no-such-host.invalid", "", "a b", "1.2.3.4.5"])
def test_host_that_is_none(host: str) -> None:
    assert "signal" in run(refused(driver(SignalLimits(dial=5.0)), ServerAddress(host, 1)))


def test_server_that_never_answers() -> None:
    async def main() -> None:
        async with RawServer(b"") as server:
            assert "did not answer within 0.2 s" in await refused(driver(SignalLimits(dial=0.2)), server.address)

    run(main())


def test_server_of_another_protocol() -> None:
    async def main() -> None:
        async with RawServer(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") as server:
            assert "signal" in await refused(driver(SignalLimits(dial=5.0)), server.address)

    run(main())


# -- the end of a stream -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "details", "wanted"),
    [
        (grpc.StatusCode.UNKNOWN, "peer registered again", "UNKNOWN: peer registered again"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", "RESOURCE_EXHAUSTED"),
        (grpc.StatusCode.OK, "", "without an error"),
    ],
)
def test_server_ends_the_stream(code: grpc.StatusCode, details: str, wanted: str) -> None:
    async def main() -> None:
        async with FakeSignal() as server, connected(driver(), server.address) as opened:
            await server.push(OURS.public_key, GO_IDLE)
            await server.end_stream(OURS.public_key, code, details)
            first, *rest = await opened.rest()
            assert first == GoIdleReceived(BOB.public_key), "what came before the end is not lost"
            assert wanted in only_disconnected(rest)

    run(main())


def test_end_without_trailers() -> None:
    async def main() -> None:
        async with RawServer(SETTINGS) as server, connected(driver(), server.address) as opened:
            server.say(END_WITHOUT_TRAILERS + NO_MORE_REQUEST)
            assert "ended the stream" in only_disconnected(await opened.rest())

    run(main())


def test_half_an_end_is_left_to_the_watchdog() -> None:
    """gRPC reports the end only when both directions are closed, and ours stays open for the sake of old servers."""

    async def main() -> None:
        async with RawServer(SETTINGS) as server, connected(driver(QUICK), server.address) as opened:
            server.say(END_WITHOUT_TRAILERS)
            assert "half-dead" in only_disconnected(await opened.rest())

    run(main())


def test_server_stops() -> None:
    async def main() -> None:
        async with FakeSignal() as server, connected(driver(), server.address) as opened:
            await server.stop()
            assert "ended the stream" in only_disconnected(await opened.rest())

    run(main())


def test_connection_is_reset() -> None:
    async def main() -> None:
        async with (
            FakeSignal() as server,
            TcpRelay(server.address) as relay,
            connected(driver(), relay.address) as opened,
        ):
            await relay.kill()
            assert "ended the stream: the connection was " in only_disconnected(await opened.rest())

    run(main())


def test_connection_that_swallows_everything() -> None:
    async def main() -> None:
        async with (
            FakeSignal() as server,
            TcpRelay(server.address) as relay,
            connected(driver(QUICK), relay.address) as opened,
        ):
            relay.hang()
            assert "half-dead" in only_disconnected(await opened.rest())

    run(main())


# -- heartbeats --------------------------------------------------------------------------------------------------


def test_heartbeats_that_come_back_keep_the_stream_and_are_no_events() -> None:
    async def main() -> None:
        async with FakeSignal() as server, connected(driver(QUICK), server.address) as opened:
            await server.until(lambda: server.heartbeats >= 4)
            assert opened.events.empty()
            await server.push(OURS.public_key, GO_IDLE)
            assert await opened.next() == GoIdleReceived(BOB.public_key)

    run(main())


def test_heartbeats_that_do_not_come_back_end_it() -> None:
    async def main() -> None:
        async with FakeSignal() as server, connected(driver(QUICK), server.address) as opened:
            server.brings_heartbeats_back = False
            assert "half-dead" in only_disconnected(await opened.rest())
            assert server.heartbeats == 1
            await server.until(lambda: server.streams_over == 1)

    run(main())


# -- floods and garbage ------------------------------------------------------------------------------------------


def test_flood_neither_starves_the_loop_nor_loses_messages() -> None:
    total = 20_000

    async def main() -> None:
        turns = 0

        async def bystander() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with FakeSignal() as server:
            events = driver().open_signal(OpenSignal(1, server.address))
            assert await anext(events) == SignalConnected(1)
            task = asyncio.create_task(bystander())
            for _ in range(total):
                await server.push(OURS.public_key, GO_IDLE)
            seen, turns_before = 0, turns
            last = turns
            async for event in events:
                assert event == GoIdleReceived(BOB.public_key)
                seen += 1
                if seen % 1000 == 0:
                    assert turns > last, f"no turn for others between message {seen - 1000} and {seen}"
                    last = turns
                if seen == total:
                    break
            assert turns - turns_before >= total / 1000
            await events.aclose()  # type: ignore[attr-defined]
            task.cancel()

    run(main())


def test_messages_that_need_no_waiting_leave_turns_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_connection: SignalConnection) -> bytes:
        return GO_IDLE

    async def main() -> None:
        turns = 0

        async def bystander() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with FakeSignal() as server:
            events = driver(SignalLimits(burst=10)).open_signal(OpenSignal(1, server.address))
            assert await anext(events) == SignalConnected(1)
            monkeypatch.setattr(SignalConnection, "receive", at_once)
            task = asyncio.create_task(bystander())
            for _ in range(100):
                await anext(events)
            assert turns >= 8, "one turn for each burst but the first and the last"
            task.cancel()
            await events.aclose()  # type: ignore[attr-defined]

    run(main())


def test_a_consumer_that_stops_holds_the_server_back() -> None:
    async def main() -> None:
        big = EncryptedMessage(key=BOB.public_key, remoteKey=OURS.public_key, body=bytes(100_000)).SerializeToString()
        async with FakeSignal() as server:
            events = driver(SignalLimits(report=0.0)).open_signal(OpenSignal(1, server.address))
            assert await anext(events) == SignalConnected(1)
            for _ in range(2000):
                await server.push(OURS.public_key, big)
            # Wait until writing has come to rest: bounded by the windows, not by what the server has.
            before = -1
            while before != server.written:
                before = server.written
                await asyncio.sleep(0.3)
            assert server.written < 500, "flow control holds back 200 MB"
            for _ in range(600):
                assert isinstance(await anext(events), SignalMessageUnreadable)
            await events.aclose()  # type: ignore[attr-defined]

    run(main())


def test_garbage_is_counted_and_reported_seldom() -> None:
    async def main() -> None:
        async with FakeSignal() as server, connected(driver(SignalLimits(report=1000)), server.address) as opened:
            foreign = EncryptedMessage(key=BOB.public_key, body=bytes(100)).SerializeToString()
            await server.push(OURS.public_key, foreign)
            first = await opened.next()
            assert isinstance(first, SignalMessageUnreadable)
            assert (first.sender, first.count) == (BOB.public_key, 1)
            for _ in range(250):
                await server.push(OURS.public_key, foreign)
                await server.push(OURS.public_key, b"\xff\xff garbage")
            await server.push(OURS.public_key, GO_IDLE)
            assert await opened.next() == GoIdleReceived(BOB.public_key), "no second report so soon"
            await server.end_stream(OURS.public_key, grpc.StatusCode.UNKNOWN, "bye")
            last, *rest = await opened.rest()
            assert isinstance(last, SignalMessageUnreadable)
            assert last.count == 500, "nothing is lost silently"
            assert "bye" in only_disconnected(rest)

    run(main())


def test_garbage_of_every_kind() -> None:
    async def main() -> None:
        async with FakeSignal() as server, connected(driver(SignalLimits(report=0)), server.address) as opened:
            for message in [
                b"",
                b"\x00",
                b"\x12\x01\xff",
                EncryptedMessage(key="nobody", body=bytes(100)).SerializeToString(),
                EncryptedMessage(key=BOB.public_key, body=b"").SerializeToString(),
                EncryptedMessage(key=BOB.public_key, body=bytes(4_000_000)).SerializeToString(),
                EncryptedMessage(
                    key=BOB.public_key, body=BOB.seal(OURS.public_key, Body(payload="x").SerializeToString())
                ).SerializeToString(),
            ]:
                await server.push(OURS.public_key, message)
                event = await opened.next()
                assert isinstance(event, SignalMessageUnreadable) and event.count == 1, message[:50]
            await server.push(OURS.public_key, GO_IDLE)
            assert await opened.next() == GoIdleReceived(BOB.public_key)

    run(main())


def test_report_waits_for_its_interval() -> None:
    async def main() -> None:
        async with FakeSignal() as server, connected(driver(SignalLimits(report=0.2)), server.address) as opened:
            total = 0
            while total < 2:  # the second report needs 0.2 s of garbage
                await server.push(OURS.public_key, b"\xff")
                await asyncio.sleep(0.02)
                while not opened.events.empty():
                    event = await opened.next()
                    assert isinstance(event, SignalMessageUnreadable)
                    total += 1
                    last = event.count
            assert last > 1

    run(main())
