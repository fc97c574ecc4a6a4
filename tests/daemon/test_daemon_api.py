"""Both services over a real unix socket, with a client that has no drivers."""

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from fake_subject import FAR, NEAR, UNREACHABLE, FakeSubject, config, connected_state

from rxnet.daemon.api import serving_api
from rxnet.daemon.context import Context, HostChanges
from rxnet.daemon.control import clear_stale, probe
from rxnet.daemon.own import DOWN, EVENTS, LIST_HOST_CHANGES, STATUS
from rxnet.engine.feed import Gap
from rxnet.engine.state import Connection, ConnectionStatus
from rxnet.errors import ConfigError, ResourceTaken
from rxnet.events import PeerDisconnected, SignalConnected, SignalDisconnected
from rxnet.model import ServerAddress
from rxnet.v1 import daemon_pb2 as v1
from rxnet.wire import daemon_pb2 as wire
from rxnet.wire.services import DAEMON_METHODS

LIMIT = 20.0


class Api:
    """The API of a fake client at a socket, and a caller."""

    def __init__(self, path: Path, subject: FakeSubject, channel: grpc.aio.Channel) -> None:
        self.path = path
        self.subject = subject
        self.channel = channel
        self.stopped = asyncio.Event()

    async def call(self, path: str, request: Any, answer: Any) -> Any:
        unary = self.channel.unary_unary(
            path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=answer.FromString
        )
        return await unary(request, timeout=10)

    async def daemon(self, name: str, **fields: Any) -> Any:
        method = DAEMON_METHODS[name]
        return await self.call(method.path, getattr(wire, method.request)(**fields), getattr(wire, method.response))

    def events(self, **fields: Any) -> Any:
        return self.channel.unary_stream(
            EVENTS,
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=v1.EventsResponse.FromString,
        )(v1.EventsRequest(**fields), timeout=10)


def with_api(tmp_path: Path, use: Callable[[Api], Awaitable[None]], subject: FakeSubject | None = None) -> None:
    async def run() -> None:
        chosen = subject or FakeSubject()
        path = tmp_path / "run" / "r x%41.sock"  # characters that an address must quote
        async with asyncio.timeout(LIMIT):
            channel = grpc.aio.insecure_channel(f"unix:{quote(str(path))}")
            api = Api(path, chosen, channel)
            context = Context(
                chosen, config(tmp_path), api.stopped.set, HostChanges(lambda: ("link wt0",), Path("/j")), lambda: 5
            )
            async with serving_api(context, path), channel:
                await use(api)
        assert not path.exists() and os.listdir(path.parent) == []
        assert chosen.watchers == [], "no subscription is left behind"

    asyncio.run(run())


def test_the_socket_is_private(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        found = api.path.stat()
        assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600
        assert stat.S_IMODE(api.path.parent.stat().st_mode) == 0o700
        assert os.listdir(api.path.parent) == [api.path.name]

    old = os.umask(0)
    try:
        with_api(tmp_path, use)
    finally:
        os.umask(old)


def test_status_as_netbird_reads_it(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        short = await api.daemon("Status")
        assert short.status == "Connected" and not short.HasField("fullStatus")
        answer = await api.daemon("Status", getFullPeerStatus=True)
        full = answer.fullStatus
        assert full.HasField("managementState") and full.HasField("signalState")
        assert (full.managementState.URL, full.managementState.connected) == ("http://m.example:8080", True)
        assert full.signalState.URL == "https://s.example:443"
        assert (full.localPeerState.IP, full.localPeerState.ipv6) == ("100.64.0.9/16", "fd00:64::9/64")
        near, far = full.peers
        assert (near.pubKey, near.IP, near.ipv6, near.connStatus) == (NEAR, "100.64.0.2", "fd00:64::2", "Connected")
        assert (near.localIceCandidateEndpoint, near.remoteIceCandidateEndpoint) == (
            "10.0.0.1:51820",
            "[fd00::9]:51821",
        )
        assert (near.bytesRx, near.bytesTx, near.latency.nanos, near.relayed) == (212, 156, 1175303, False)
        assert near.lastWireguardHandshake.ToNanoseconds() == 1_700_000_000_500_000_000
        assert (far.connStatus, far.lastWireguardHandshake.seconds) == ("Connecting", -62135596800)

    with_api(tmp_path, use)


def test_a_stun_server_that_does_not_answer_is_not_called_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rxnet.daemon.relays.LIMIT", 0.1)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]

        async def use(api: Api) -> None:
            (relay,) = (await api.daemon("Status", getFullPeerStatus=True)).fullStatus.relays
            assert f"stun:127.0.0.1:{port}" == relay.URI
            assert not relay.available and relay.error == "no answer within 0.1 s"
            assert silent.recv(100)[:2] == b"\0\1"

        with_api(tmp_path, use, FakeSubject(connected_state((ServerAddress("127.0.0.1", port),))))


def test_a_stun_server_that_answers(tmp_path: Path) -> None:
    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(b"\1\1\0\0" + data[4:8] + bytes(12), addr)  # somebody else's answer
            self.transport.sendto(b"\1\1\0\0" + data[4:20], addr)

    async def use(api: Api) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        api.subject.state = replace(api.subject.state, stuns=(ServerAddress("127.0.0.1", port),))
        (relay,) = (await api.daemon("Status", getFullPeerStatus=True)).fullStatus.relays
        transport.close()
        assert relay.available and relay.error == ""
        assert (await api.daemon("Status", getFullPeerStatus=True)).fullStatus.relays[0].available, "a fresh answer"

    with_api(tmp_path, use)


def test_hanging_statistics_do_not_hang_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxnet.daemon.context.STATISTICS_LIMIT", 0.05)
    subject = FakeSubject()
    subject.statistics_hang = True

    async def use(api: Api) -> None:
        peers = (await api.daemon("Status", getFullPeerStatus=True)).fullStatus.peers
        assert [p.bytesRx for p in peers] == [0, 0]

    with_api(tmp_path, use, subject)


def test_many_peers_in_one_answer(tmp_path: Path) -> None:
    subject = FakeSubject()
    one = subject.state.peers[FAR]
    subject.state = replace(subject.state, peers=subject.state.peers.update({f"{i:043}=": one for i in range(3000)}))

    async def use(api: Api) -> None:
        assert len((await api.daemon("Status", getFullPeerStatus=True)).fullStatus.peers) == 3002
        assert len((await api.call(STATUS, v1.StatusRequest(), v1.StatusResponse)).peers) == 3002

    with_api(tmp_path, use, subject)


def test_waiting_for_ready(tmp_path: Path) -> None:
    subject = FakeSubject()
    ready = subject.state
    subject.state = replace(ready, management=Connection(ConnectionStatus.DIALING))

    async def use(api: Api) -> None:
        assert (await api.daemon("Status")).status == "Connecting"
        waiting = asyncio.create_task(api.daemon("Status", waitForReady=True))
        await subject.until_watched_by(2)
        assert not waiting.done()
        subject.state = ready
        subject.publish(SignalConnected(1))
        assert (await waiting).status == "Connected"
        subject.state = replace(ready, wanted=False)
        assert (await api.daemon("Status", waitForReady=True)).status == "Idle", "nothing is being connected"

    with_api(tmp_path, use, subject)


def test_down_answers_when_the_interface_is_gone_then_stops(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        await api.daemon("Down")
        assert not api.subject.state.wanted and api.subject.state.device.name == ""
        await api.stopped.wait()
        await api.daemon("Down")  # once more does no harm

    with_api(tmp_path, use)


def test_down_that_hangs_is_told_and_stops_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxnet.daemon.context.DOWN_LIMIT", 0.05)
    subject = FakeSubject()
    subject.down_hangs = True

    async def use(api: Api) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await api.call(DOWN, v1.DownRequest(), v1.DownResponse)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(caught.value.trailing_metadata())["rxnet-exit-code"] == "8"
        await api.stopped.wait()

    with_api(tmp_path, use, subject)


def test_log_out(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        api.subject.log_out_error = UNREACHABLE
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await api.daemon("Logout")
        assert caught.value.details() == str(UNREACHABLE) and not api.stopped.is_set()
        assert dict(caught.value.trailing_metadata())["rxnet-exit-code"] == "7"
        api.subject.log_out_error = None
        await api.daemon("Logout")
        assert api.subject.logged_out
        await api.stopped.wait()

    with_api(tmp_path, use)


def test_configuration_without_secrets(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        found = await api.daemon("GetConfig", profileName="default", username="root")
        assert (found.managementUrl, found.interfaceName, found.preSharedKey) == ("http://m.example:8080", "wt0", "")
        assert api.subject.state.own_key not in str(found) and "3f1c9a52" not in str(found)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await api.daemon("GetConfig", profileName="work")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert (await api.daemon("GetActiveProfile")).profileName == "default"
        assert (await api.daemon("GetFeatures")).disable_update_settings

    with_api(tmp_path, use)


def test_what_is_not_offered_says_so(tmp_path: Path) -> None:
    offered = {"Status", "Down", "GetConfig", "GetFeatures", "GetActiveProfile", "Logout"}

    async def use(api: Api) -> None:
        for name, method in DAEMON_METHODS.items():
            if name in offered or method.server_streaming:
                continue
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await api.daemon(name)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED, name

    with_api(tmp_path, use)


def test_our_own_status(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        answer = await api.call(STATUS, v1.StatusRequest(), v1.StatusResponse)
        assert answer.process_id == os.getpid() and answer.packets_through_python == 5
        assert "not enforced" in answer.notices[0]
        near, far = answer.peers
        assert near.path.remote_type == "prflx" and near.reason == ""
        assert (far.status, far.reason, far.offers) == ("Connecting", "no answer", 3)
        assert not far.HasField("path")
        short = await api.call(STATUS, v1.StatusRequest(summary=True), v1.StatusResponse)
        assert (len(short.peers), short.peers_total, short.peers_connected) == (0, 2, 1)
        changes = await api.call(LIST_HOST_CHANGES, v1.ListHostChangesRequest(), v1.ListHostChangesResponse)
        assert (list(changes.changes), changes.journal) == (["link wt0"], "/j")

    with_api(tmp_path, use)


def test_the_events_begin_with_a_snapshot(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        api.subject.publish(SignalConnected(1))
        stream = api.events()
        first = await stream.read()
        assert first.snapshot.status == "Connected" and len(first.snapshot.peers) == 2
        api.subject.publish(SignalDisconnected(1, "lost\nit"), cause=1)
        api.subject.put(Gap(3))
        api.subject.publish(PeerDisconnected(NEAR, "no answer", "near.test"))
        event = (await stream.read()).event
        assert (event.sequence, event.cause, event.kind, event.name) == (2, 1, "signal", "SignalDisconnected")
        assert event.text == "signal disconnected: lost it"
        assert (await stream.read()).gap.dropped == 3
        event = (await stream.read()).event
        assert (event.peer, event.text) == (NEAR, "near.test disconnected: no answer")
        assert '"reason":"no answer"' in event.json
        stream.cancel()

    with_api(tmp_path, use)


def test_events_of_some_kinds(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        stream = api.events(kinds=["own"], summary=True)
        assert len((await stream.read()).snapshot.peers) == 0
        api.subject.publish(SignalConnected(1))
        api.subject.publish(PeerDisconnected(NEAR, "no answer"))
        assert (await stream.read()).event.name == "PeerDisconnected"
        stream.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await api.events(kinds=["everything"]).read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    with_api(tmp_path, use)


def test_recent_events_are_bounded(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        for n in range(30):
            api.subject.publish(SignalDisconnected(n, f"reason {n}"))
        for _ in range(100):
            if (await api.call(STATUS, v1.StatusRequest(summary=True), v1.StatusResponse)).sequence == 30:
                break
        events = (await api.daemon("Status", getFullPeerStatus=True)).fullStatus.events
        assert [e.message for e in events] == [f"signal disconnected: reason {n}" for n in range(20, 30)]
        assert events[0].severity == wire.SystemEvent.WARNING

    with_api(tmp_path, use)


def test_the_same_change_has_the_same_time_in_every_answer(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        answers = [await api.daemon("Status", getFullPeerStatus=True) for _ in range(20)]
        assert len({a.fullStatus.peers[0].connStatusUpdate.ToNanoseconds() // 1000 for a in answers}) <= 2

    with_api(tmp_path, use)


# -- the socket


def test_a_live_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with closing(socket.socket(socket.AF_UNIX)) as live:
        live.bind(str(path))
        live.listen()
        with pytest.raises(ResourceTaken, match=f"another rxnet answers at {path}"):
            clear_stale(path)
        assert probe(path)
    assert not probe(path)


def test_a_stale_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))
    clear_stale(path)
    assert not path.exists()
    clear_stale(path)


def test_something_else_at_its_place_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is not a socket"):
        clear_stale(path)
    assert path.read_text() == "precious"


def test_two_at_one_socket(tmp_path: Path) -> None:
    async def use(api: Api) -> None:
        second = Context(FakeSubject(), config(tmp_path), lambda: None)
        with pytest.raises(ResourceTaken):
            async with serving_api(second, api.path):
                pass
        assert (await api.daemon("Status")).status == "Connected", "the first one still answers"

    with_api(tmp_path, use)


def test_a_socket_that_took_our_place_survives_our_end(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "s"
        async with serving_api(Context(FakeSubject(), config(tmp_path), lambda: None), path):
            path.unlink()
            with closing(socket.socket(socket.AF_UNIX)) as other:
                other.bind(str(path))
        assert path.exists()

    asyncio.run(run())


def test_bad_places(tmp_path: Path) -> None:
    async def serve(path: Path) -> None:
        async with serving_api(Context(FakeSubject(), config(tmp_path), lambda: None), path):
            pass

    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ConfigError, match="chmod go-w"):
        asyncio.run(serve(shared / "s"))
    shared.chmod(0o1777)
    asyncio.run(serve(shared / "s"))
    with pytest.raises(ConfigError, match="too long"):
        asyncio.run(serve(tmp_path / ("x" * 100)))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not a directory"):
        asyncio.run(serve(tmp_path / "file" / "s"))
