"""Signal: routing, loop-back, eviction, slow receivers, off and on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from server_client import Peer, channel, control_plane, run

from rxnet.server import signal as signal_module
from rxnet.server.refusal import Refusal
from rxnet.server.signal import SignalService, _Budget, _Queue
from rxnet.wire import services
from rxnet.wire import signalexchange_pb2 as pb


async def received(call: Any) -> pb.EncryptedMessage:
    answer = await call.read()
    assert answer is not grpc.aio.EOF
    return pb.EncryptedMessage.FromString(answer)


def test_messages_reach_their_stream_unchanged_and_in_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            a, b = Peer(to), Peer(to)
            at_a, at_b = await a.connect_signal(), await b.connect_signal()
            for number in range(50):
                await a.send(b.key, f"to b {number}".encode())
            await b.send(a.key, b"to a")
            messages = [await received(at_b) for _ in range(50)]
            assert [message.body for message in messages] == [f"to b {n}".encode() for n in range(50)]
            assert {(message.key, message.remoteKey) for message in messages} == {(a.key, b.key)}
            assert (await received(at_a)).body == b"to a"

    run(test())


def test_a_message_to_oneself_comes_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            a = Peer(to)
            stream = await a.connect_signal()
            await a.send(a.key, b"heartbeat")  # the watchdog of Go clients lives on this
            assert (await received(stream)).body == b"heartbeat"

    run(test())


def test_the_newest_stream_of_a_key_gets_the_messages(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            a = Peer(to)
            first = await a.connect_signal()
            second = await a.connect_signal()
            with pytest.raises(grpc.aio.AioRpcError):
                await first.read()
            await a.send(a.key, b"x")  # after the clean-up of the first, which must not take the second with it
            assert (await received(second)).body == b"x"

    run(test())


def test_a_large_message_passes(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            a, b = Peer(to), Peer(to)
            stream = await b.connect_signal()
            await a.send(b.key, b"r" * 4_000_000)
            assert len((await received(stream)).body) == 4_000_000

    run(test())


def test_a_slow_receiver_loses_its_stream_and_holds_up_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        service = SignalService(most_streams=10, send_timeout=0.2)
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        server.add_generic_rpc_handlers((service.handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            slow_channel = grpc.aio.insecure_channel(
                f"127.0.0.1:{port}", options=(("grpc.use_local_subchannel_pool", 1),)
            )
            async with slow_channel, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as to:
                slow, quick = Peer(slow_channel), Peer(to)
                stuck = await slow.connect_signal()  # and never reads
                stream = await quick.connect_signal()
                while service.streams == 2:
                    await quick.send(slow.key, bytes(1_000_000))
                    await quick.send(quick.key, b"still served")
                    assert (await received(stream)).body == b"still served"
                dropped = service.dropped
                assert await quick.send(slow.key, b"late") == b"" and service.dropped == dropped + 1
                with pytest.raises(grpc.aio.AioRpcError) as ended:
                    while True:
                        await received(stuck)
                assert ended.value.code() is grpc.StatusCode.UNKNOWN
                assert "took nothing for 0.2 seconds" in (ended.value.details() or "")
        finally:
            await server.stop(None)

    run(test())


def test_a_full_queue_drops_instead_of_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal_module, "_ROOM_TIMEOUT", 0.01)
    monkeypatch.setattr(signal_module, "_QUEUE_BYTES", 100)
    monkeypatch.setattr(signal_module, "_ALL_BYTES", 150)

    async def test() -> None:
        budget = _Budget()
        one, two = _Queue(budget), _Queue(budget)
        assert await one.put(bytes(60)) and not await one.put(bytes(60))
        assert await two.put(bytes(90)) and not await two.put(bytes(1))  # all queues together are full
        assert await one.get() == bytes(60)
        assert await two.put(bytes(1))
        waiting = asyncio.ensure_future(one.put(bytes(50)))
        assert await waiting and budget.used == 141
        two.end(Refusal(grpc.StatusCode.UNKNOWN, "over"))
        assert budget.used == 50 and not await two.put(b"x")
        with pytest.raises(Refusal, match="over"):
            await two.get()

    run(test())


def test_a_sender_waits_for_room() -> None:
    async def test() -> None:
        queue = _Queue(_Budget())
        for _ in range(signal_module._QUEUE_MESSAGES):
            assert await queue.put(b"x")
        waiting = asyncio.ensure_future(queue.put(b"last"))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert await queue.get() == b"x"
        assert await waiting

    run(test())


def test_signal_off_and_on_while_management_runs(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            key = await plane.create_setup_key(reusable=True)
            a = Peer(to)
            await a.login(key)
            sync = await a.sync()
            await sync.next()
            stream = await a.connect_signal()
            await plane.stop_signal()
            assert not plane.signal_is_on
            with pytest.raises(grpc.aio.AioRpcError) as dropped:
                await stream.read()
            assert dropped.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await a.send(a.key, b"x")
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            call = to.stream_stream(services.SIGNAL_CONNECT_STREAM)(metadata=((services.HEADER_PEER_ID, a.key),))
            with pytest.raises(grpc.aio.AioRpcError):
                await call.read()
            await Peer(to).login(key, "b")
            await sync.until_peers(1)  # management never noticed
            await plane.start_signal()
            stream = await a.connect_signal()
            await a.send(a.key, b"back")
            assert (await received(stream)).body == b"back"

    run(test())


def test_streams_are_limited(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp", most_peers=1) as plane, channel(plane.address) as to:
            first = Peer(to)
            await first.connect_signal()
            await Peer(to).connect_signal()
            call = to.stream_stream(services.SIGNAL_CONNECT_STREAM)(metadata=((services.HEADER_PEER_ID, "third"),))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await first.connect_signal()  # one that is there may come again

    run(test())
