"""The driver against a server that tells the truth or lies: what it reports, and that it always ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from loguru import logger
from lying_management import (
    QUICK,
    SETUP_KEY,
    Context,
    LyingManagement,
    collect,
    driver,
    network_map,
    remote,
    run,
    serving,
)

from rxnet.engine.effects import OpenManagement
from rxnet.errors import ControlPlaneError
from rxnet.events import (
    ChecksReported,
    Event,
    LoggedIn,
    LoginRefused,
    ManagementConnected,
    ManagementDisconnected,
    NetworkMapFaulted,
    NetworkMapReceived,
    ServersAnnounced,
)
from rxnet.management import client, posture
from rxnet.management.codec import FileState
from rxnet.model import Retry, ServerAddress
from rxnet.wire import box, services
from rxnet.wire import management_pb2 as pb

STATUSES = json.loads((Path(__file__).parents[1] / "vectors" / "status_codes.json").read_text())


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def ending(events: list[Event]) -> ManagementDisconnected | LoginRefused:
    """The one final event: nothing after it, none before it, one line for people."""
    finals = [event for event in events if isinstance(event, ManagementDisconnected | LoginRefused)]
    assert len(finals) == 1
    assert events[-1] is finals[0]
    reason = finals[0].reason
    assert reason
    assert reason.isprintable()
    assert len(reason) < 600
    return finals[0]


def disconnected(events: list[Event], retry: Retry = Retry.BACK_OFF) -> str:
    end = ending(events)
    assert isinstance(end, ManagementDisconnected), end
    assert end.retry is retry
    return end.reason


def refused(events: list[Event]) -> str:
    end = ending(events)
    assert isinstance(end, LoginRefused), end
    return end.reason


async def attempt(management: LyingManagement, *, login: bool = True, **more: Any) -> list[Event]:
    async with serving(management) as server:
        return await collect(driver(server, **more), login=login)


# -- the truth


def test_a_known_peer_logs_in_and_gets_its_map() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        events = await attempt(management, setup_key=SETUP_KEY)
        assert kinds(events) == [
            "LoggedIn", "ServersAnnounced", "ManagementConnected", "NetworkMapReceived", "ManagementDisconnected",
        ]  # fmt: skip
        login, servers, _, part, _ = events
        assert isinstance(login, LoggedIn)
        assert not login.registered
        assert login.signal == ServerAddress("signal.example.org", 10000, tls=True)
        assert isinstance(servers, ServersAnnounced)
        assert servers.stuns == (ServerAddress("192.0.2.1", 3478),)
        assert isinstance(part, NetworkMapReceived)
        assert (part.serial, part.last, [peer.fqdn for peer in part.changed]) == (5, True, ["peer-1.example.org"])
        assert all(getattr(event, "generation", 7) == 7 for event in events)
        # A known peer needs no key, so none is sent.
        assert [one.setupKey for one in management.logins] == [""]
        assert management.key_calls == 2
        assert "another one replaced it" in disconnected(events)

    run(work)


def test_an_unknown_peer_registers_with_its_setup_key() -> None:
    async def work() -> None:
        management = LyingManagement()
        events = await attempt(management, setup_key=SETUP_KEY)
        assert isinstance(events[0], LoggedIn)
        assert events[0].registered
        assert [one.setupKey for one in management.logins] == ["", SETUP_KEY]
        assert management.logins[0].meta == management.logins[1].meta == management.syncs[0].meta

    run(work)


def test_without_login_the_stream_is_opened_at_once() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        events = await attempt(management, login=False)
        assert kinds(events) == ["ManagementConnected", "NetworkMapReceived", "ManagementDisconnected"]
        assert management.logins == []
        assert management.key_calls == 1

    run(work)


def test_two_drivers_of_one_process_do_not_share_anything() -> None:
    async def work() -> None:
        one, two = LyingManagement(), LyingManagement()
        one.known = True
        async with serving(one) as here, serving(two) as there:
            good, bad = await asyncio.gather(collect(driver(here)), collect(driver(there)))
        assert isinstance(good[0], LoggedIn)
        refused(bad)

    run(work)


# -- setup keys and deleted peers


def test_without_setup_key_an_unknown_peer_is_refused() -> None:
    async def work() -> None:
        reason = refused(await attempt(LyingManagement()))
        assert "not registered" in reason
        assert "setup key" in reason

    run(work)


def test_a_wrong_setup_key_is_refused_and_named_nowhere() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.setup_key = "another"
        reason = refused(await attempt(management, setup_key=SETUP_KEY))
        assert reason.startswith("setup key refused: unknown, revoked, expired or used up")
        assert SETUP_KEY not in reason

    run(work)


def test_a_deleted_peer_does_not_come_back_by_itself() -> None:
    async def work() -> None:
        management = LyingManagement()
        async with serving(management) as server:
            one = driver(server, SETUP_KEY)
            assert isinstance((await collect(one))[0], LoggedIn)
            management.known = False  # somebody deleted it
            reason = disconnected(await collect(one, login=False), Retry.LOG_IN)
            assert "not registered" in reason
            reason = refused(await collect(one))
            assert "deleted on the server" in reason
            assert [login.setupKey for login in management.logins] == ["", SETUP_KEY, ""]
            # The user acts: a new attempt may use the key.
            events = await collect(one)
            assert isinstance(events[0], LoggedIn)
            assert events[0].registered

    run(work)


def test_a_login_whose_answer_was_lost_is_not_an_error() -> None:
    """The key registers us, the answer says it is spent: a plain login then finds us known (3.5)."""

    async def work() -> None:
        management = LyingManagement()
        honest = management.login

        async def login(request: bytes, context: Context) -> bytes:
            answer = await honest(request, context)
            if management.logins[-1].setupKey:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "peer has been already registered")
            return answer

        management.answers[services.LOGIN] = login
        events = await attempt(management, setup_key=SETUP_KEY)
        assert isinstance(events[0], LoggedIn)
        assert events[0].registered

    run(work)


def test_the_setup_key_is_hidden_even_when_the_server_repeats_it() -> None:
    async def work() -> None:
        lines = io.StringIO()
        sink = logger.add(lines, level=0, backtrace=True, diagnose=True)
        logger.enable("rxnet")
        try:
            for code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED):
                management = LyingManagement()
                honest = management.login

                async def login(
                    request: bytes,
                    context: Context,
                    management: LyingManagement = management,
                    honest: Callable[..., Any] = honest,
                    code: grpc.StatusCode = code,
                ) -> bytes:
                    _, plaintext = await management.opened(request, context)
                    if pb.LoginRequest.FromString(plaintext).setupKey:
                        await context.abort(code, f"cannot register with {SETUP_KEY.upper()}")
                    answer: bytes = await honest(request, context)
                    return answer

                management.answers[services.LOGIN] = login
                events = await attempt(management, setup_key=SETUP_KEY)
                assert SETUP_KEY not in repr(events).lower()
        finally:
            logger.remove(sink)
            logger.disable("rxnet")
        assert "management" in lines.getvalue()
        assert SETUP_KEY not in lines.getvalue().lower()

    run(work)


# -- statuses

R = Retry
LOGIN_VERDICTS: dict[str, tuple[str, Retry | None]] = {
    "PERMISSION_DENIED": ("", None),
    "NOT_FOUND": ("management refused the login", R.BACK_OFF),
    "FAILED_PRECONDITION": ("meta has to be provided", R.BACK_OFF),
    "INTERNAL": ("failed to handle", R.BACK_OFF),
    "INVALID_ARGUMENT": ("cannot open what we seal", R.SLOWLY),
}


def _statuses(call: str) -> list[Any]:
    seen = {(case["code"], case["message"]) for case in STATUSES if case["call"] == call and case["code"] != "OK"}
    return [pytest.param(code, text, id=f"{code}-{text[:40]}") for code, text in sorted(seen)]


@pytest.mark.parametrize(("code", "text"), _statuses("Login"))
def test_recorded_refusals_of_login(code: str, text: str) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.abort(services.LOGIN, grpc.StatusCode[code], text)
        events = await attempt(management)
        piece, retry = LOGIN_VERDICTS[code]
        if "peer system meta" not in text and code == "FAILED_PRECONDITION":
            piece = "DNS labels"
        reason = refused(events) if retry is None else disconnected(events, retry)
        assert piece in reason

    run(work)


@pytest.mark.parametrize(("code", "text"), _statuses("Login"))
def test_recorded_refusals_of_a_registration(code: str, text: str) -> None:
    async def work() -> None:
        management = LyingManagement()
        honest = management.login

        async def login(request: bytes, context: Context) -> bytes:
            _, plaintext = await management.opened(request, context)
            if pb.LoginRequest.FromString(plaintext).setupKey:
                await context.abort(grpc.StatusCode[code], text)
            answer: bytes = await honest(request, context)
            return answer

        management.answers[services.LOGIN] = login
        events = await attempt(management, setup_key=SETUP_KEY)
        if code == "NOT_FOUND":
            assert "make a new one in the dashboard" in refused(events)
        elif code in ("PERMISSION_DENIED", "FAILED_PRECONDITION"):
            assert "refused to register" in refused(events)
        else:
            disconnected(events, LOGIN_VERDICTS[code][1] or Retry.BACK_OFF)

    run(work)


@pytest.mark.parametrize(("code", "text"), _statuses("Sync"))
def test_recorded_refusals_of_sync(code: str, text: str) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        management.abort(services.SYNC, grpc.StatusCode[code], text)
        events = await attempt(management, login=False)
        assert kinds(events) == ["ManagementDisconnected"]
        disconnected(events, Retry.LOG_IN if code == "PERMISSION_DENIED" else Retry.SLOWLY)

    run(work)


BANNED = "peer with the same public key is already logged in"


@pytest.mark.parametrize(
    ("path", "code", "text", "retry", "piece"),
    [
        (services.GET_SERVER_KEY, "UNAVAILABLE", "gone", R.BACK_OFF, "cannot be reached"),
        (services.GET_SERVER_KEY, "UNIMPLEMENTED", "unknown service", R.BACK_OFF, "no NetBird management server"),
        (services.GET_SERVER_KEY, "INTERNAL", "x", R.BACK_OFF, "INTERNAL: x"),
        (services.LOGIN, "UNKNOWN", BANNED, R.SLOWLY, "bans this peer"),
        (services.LOGIN, "UNKNOWN", "whatever", R.BACK_OFF, "whatever"),
        (services.LOGIN, "UNAVAILABLE", "", R.BACK_OFF, "went away"),
        (services.LOGIN, "DEADLINE_EXCEEDED", "", R.BACK_OFF, "did not answer"),
        (services.LOGIN, "CANCELLED", "by somebody", R.BACK_OFF, "CANCELLED"),
        (services.LOGIN, "RESOURCE_EXHAUSTED", "too many", R.BACK_OFF, "too many"),
        (services.LOGIN, "UNAUTHENTICATED", "jwt", None, "single sign-on"),
        (services.LOGIN, "PERMISSION_DENIED", "peer login has expired", None, "expired"),
        (services.LOGIN, "PERMISSION_DENIED", "user is blocked\n\x1b[2J", None, "blocked"),
        (services.LOGIN, "PERMISSION_DENIED", "Received http2 header with status: 403", R.BACK_OFF, "in front of it"),
        (services.LOGIN, "UNIMPLEMENTED", "Received http2 header with status: 404", R.BACK_OFF, "in front of it"),
        (services.SYNC, "PERMISSION_DENIED", BANNED, R.SLOWLY, "bans this peer"),
        (services.SYNC, "PERMISSION_DENIED", "peer login has expired", R.LOG_IN, "expired"),
        (services.SYNC, "NOT_FOUND", "settings", R.BACK_OFF, "settings"),
        (services.SYNC, "INTERNAL", "x", R.BACK_OFF, "ended the stream"),
        (services.SYNC, "UNKNOWN", "x", R.BACK_OFF, "ended the stream"),
        (services.SYNC, "FAILED_PRECONDITION", "x", R.BACK_OFF, "x"),
        (services.SYNC, "RESOURCE_EXHAUSTED", "too many syncs", R.BACK_OFF, "too many syncs"),
        (services.SYNC, "CANCELLED", "", R.BACK_OFF, "CANCELLED"),
    ],
)
def test_other_statuses(path: str, code: str, text: str, retry: Retry | None, piece: str) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        management.abort(path, grpc.StatusCode[code], text)
        events = await attempt(management)
        assert piece in (refused(events) if retry is None else disconnected(events, retry))

    run(work)


def test_a_status_in_the_middle_of_the_stream() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        honest = management.sync

        async def sync(request: bytes, context: Context) -> AsyncIterator[bytes]:
            async for message in honest(request, context):
                yield message
            await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

        management.answers[services.SYNC] = sync
        events = await attempt(management, login=False)
        assert kinds(events) == ["ManagementConnected", "NetworkMapReceived", "ManagementDisconnected"]
        assert "restarting" in disconnected(events)

    run(work)


# -- the server's key


@pytest.mark.parametrize("path", [services.LOGIN, services.SYNC])
def test_a_key_that_became_stale_is_fetched_again(path: str) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        stale = box.Sealer(box.generate_private_key()).public_key
        honest = management.answers[path]
        told = []

        async def get_server_key(request: bytes, context: Context) -> bytes:
            # The old key until the sealed call was refused once.
            key = management.sealer.public_key if refusals else stale
            told.append(key)
            return pb.ServerKeyResponse(key=key).SerializeToString()

        refusals = 0

        async def unary(request: bytes, context: Context) -> bytes:
            nonlocal refusals
            refusals += 1
            answer: bytes = await honest(request, context)
            return answer

        async def stream(request: bytes, context: Context) -> AsyncIterator[bytes]:
            nonlocal refusals
            refusals += 1
            async for message in honest(request, context):
                yield message

        management.answers[services.GET_SERVER_KEY] = get_server_key
        management.answers[path] = stream if path == services.SYNC else unary
        events = await attempt(management, login=path == services.LOGIN)
        assert "NetworkMapReceived" in kinds(events)
        assert told[0] == stale
        assert refusals == 2

    run(work)


@pytest.mark.parametrize("key", ["", "x", "A" * 44, "\x1b[2J" * 11, box.encode_key(bytes(32))])
def test_a_bad_server_key(key: str) -> None:
    async def work() -> None:
        management = LyingManagement()

        async def get_server_key(request: bytes, context: Context) -> bytes:
            return pb.ServerKeyResponse(key=key).SerializeToString()

        management.answers[services.GET_SERVER_KEY] = get_server_key
        assert "key" in disconnected(await attempt(management))

    run(work)


# -- bodies that cannot be read


def _garbage(management: LyingManagement, what: str, key: str) -> bytes:
    stranger = box.Sealer(box.generate_private_key())
    return {
        "no envelope": b"\xff\xff\xff",
        "empty": b"",
        "not sealed": pb.EncryptedMessage(body=b"x" * 200).SerializeToString(),
        "sealed by a stranger": pb.EncryptedMessage(
            body=stranger.seal(box.parse_key(key), network_map(remote(1)))
        ).SerializeToString(),
        "no message": management.sealed(key, b"\xff\xff\xff"),
    }[what]


GARBAGE = ["no envelope", "empty", "not sealed", "sealed by a stranger", "no message"]


@pytest.mark.parametrize("what", GARBAGE)
def test_an_unreadable_login(what: str) -> None:
    async def work() -> None:
        management = LyingManagement()

        async def login(request: bytes, context: Context) -> bytes:
            key, _ = await management.opened(request, context)
            return _garbage(management, what, key)

        management.answers[services.LOGIN] = login
        disconnected(await attempt(management))

    run(work)


@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize("first", [True, False])
def test_an_unreadable_message_ends_the_stream(what: str, first: bool) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True

        async def sync(request: bytes, context: Context) -> AsyncIterator[bytes]:
            key, _ = await management.opened(request, context)
            if not first:
                yield management.sealed(key, network_map(remote(1)))
            yield _garbage(management, what, key)
            yield management.sealed(key, network_map(remote(2), serial=2))
            await asyncio.Event().wait()

        management.answers[services.SYNC] = sync
        events = await attempt(management, login=False)
        parts = [event for event in events if isinstance(event, NetworkMapReceived)]
        assert len(parts) == (not first)
        # Only the first message that decrypts makes a stream count as healthy.
        assert ("ManagementConnected" in kinds(events)) == (not first or what == "no message")
        disconnected(events, Retry.SLOWLY if what == "no message" else Retry.BACK_OFF)

    run(work)


def test_a_login_that_names_no_signal_server() -> None:
    async def work() -> None:
        management = LyingManagement()

        async def login(request: bytes, context: Context) -> bytes:
            key, _ = await management.opened(request, context)
            return management.sealed(
                key, pb.LoginResponse(peerConfig=pb.PeerConfig(address="100.64.0.1/16")).SerializeToString()
            )

        management.answers[services.LOGIN] = login
        assert "signal" in disconnected(await attempt(management))

    run(work)


def test_a_refused_entry_is_reported_and_the_rest_applied() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        management.messages = [network_map(remote(1), remote(2, allowedIps=["0.0.0.0/0"]))]
        events = await attempt(management, login=False)
        assert kinds(events)[1:3] == ["NetworkMapReceived", "NetworkMapFaulted"]
        assert isinstance(events[2], NetworkMapFaulted)
        assert events[2].count == 1

    run(work)


# -- time


@pytest.mark.parametrize("path", [services.GET_SERVER_KEY, services.LOGIN, services.SYNC])
def test_a_call_that_is_never_answered_ends(path: str) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        management.hang(path)
        limits = replace(QUICK, server_key=0.2, login=0.2, first_message=0.2)
        disconnected(await attempt(management, limits=limits))

    run(work)


@asynccontextmanager
async def listening(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
) -> AsyncIterator[ServerAddress]:
    """A plain TCP server."""
    tasks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await talk(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield ServerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_a_server_that_accepts_and_says_nothing() -> None:
    async def work() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        async with listening(talk) as server:
            events = await collect(driver(server, limits=replace(QUICK, connect=0.3)))
        assert "no connection within 0.3 s" in disconnected(events)

    run(work)


def test_a_web_server_that_does_not_speak_grpc() -> None:
    async def work() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

        async with listening(talk) as server:
            assert "does not speak gRPC" in disconnected(await collect(driver(server)))

    run(work)


def test_nobody_listens() -> None:
    async def work() -> None:
        async with listening(lambda reader, writer: asyncio.sleep(0)) as server:
            pass
        assert "nothing listens there" in disconnected(await collect(driver(server)))

    run(work)


def test_a_name_that_does_not_exist() -> None:
    async def work() -> None:
        server = ServerAddress("management.invalid", 80)
        assert "management" in disconnected(await collect(driver(server)))

    run(work)


class Wire:
    """A TCP relay in front of the server that can be cut, or fall silent."""

    def __init__(self, behind: ServerAddress) -> None:
        self.behind = behind
        self.silent = asyncio.Event()
        self.cut_after: int | None = None
        """Bytes to the client after which the connection is reset."""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(self.behind.host, self.behind.port)
        passed = 0

        async def down() -> None:
            nonlocal passed
            while data := await back_reader.read(1000):
                if self.silent.is_set():
                    continue
                if self.cut_after is not None and passed + len(data) >= self.cut_after:
                    writer.write(data[: self.cut_after - passed])
                    await writer.drain()
                    writer.transport.abort()
                    return
                passed += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()

        async def up() -> None:
            while data := await reader.read(1000):
                if not self.silent.is_set():
                    back_writer.write(data)
                    await back_writer.drain()
            back_writer.close()

        try:
            await asyncio.gather(down(), up(), return_exceptions=True)
        finally:
            back_writer.transport.abort()


@pytest.mark.parametrize("cut_after", [1, 60, 200, 400, 3_000, 30_000])
def test_a_connection_that_is_reset_in_the_middle_of_a_message(cut_after: int) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        management.messages = [network_map(*(remote(n) for n in range(1, 600)))]
        management.stay_open = True
        async with serving(management) as behind:
            wire = Wire(behind)
            wire.cut_after = cut_after
            async with listening(wire.talk) as server:
                events = await collect(driver(server))
        assert "NetworkMapReceived" not in kinds(events)
        disconnected(events)

    run(work)


@pytest.mark.parametrize("settled", [0.0, 0.7])
def test_a_half_dead_stream_is_found(settled: float) -> None:
    """While gRPC measures bandwidth with pings of its own (at first), and later."""

    async def work() -> None:
        management = LyingManagement()
        management.known = True
        management.stay_open = True
        async with serving(management) as behind:
            wire = Wire(behind)
            async with listening(wire.talk) as server:
                limits = replace(QUICK, ping_after=0.3, ping_answer=0.3)
                events = []
                async for event in driver(server, limits=limits).open_management(OpenManagement(1, False)):
                    events.append(event)
                    if isinstance(event, NetworkMapReceived):
                        asyncio.get_running_loop().call_later(settled, wire.silent.set)
        assert "does not answer any more" in disconnected(events)

    run(work)


# -- much


def test_a_large_map_lets_others_run() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        management.messages = [network_map(*(remote(n) for n in range(1, 3001)))]
        turns = 0

        async def ticker() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with serving(management) as server:
            other = asyncio.create_task(ticker())
            before: list[int] = []
            sizes = []
            async for event in driver(server).open_management(OpenManagement(1, False)):
                if isinstance(event, NetworkMapReceived):
                    before.append(turns)
                    sizes.append(len(event.changed))
            other.cancel()
        assert sum(sizes) == 3000
        assert max(sizes) == 256
        assert all(earlier < later for earlier, later in pairwise(before))

    run(work)


def test_a_flood_waits_until_we_read() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        sent = 0

        async def sync(request: bytes, context: Context) -> AsyncIterator[bytes]:
            nonlocal sent
            key, _ = await management.opened(request, context)
            message = management.sealed(key, network_map(*(remote(n) for n in range(1, 300))))
            while True:
                yield message
                sent += 1

        management.answers[services.SYNC] = sync
        async with serving(management) as server:
            events = driver(server).open_management(OpenManagement(1, False))
            taken = 0
            async for event in events:
                taken += isinstance(event, NetworkMapReceived)
                if taken == 3:
                    break
            # We hold still: the server must come to a stop, too.
            quiet = 0
            last = -1
            while quiet < 5:
                await asyncio.sleep(0.05)
                quiet = quiet + 1 if sent == last else 0
                last = sent
            assert sent < 2000
            await events.aclose()  # type: ignore[attr-defined]

    run(work)


def test_a_message_beyond_the_limit() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        management.messages = [pb.SyncResponse(NetworkMap=pb.NetworkMap(sshAuth=pb.SSHAuth(
            UserIDClaim="x" * (17 << 20)))).SerializeToString()]  # fmt: skip
        assert "limit" in disconnected(await attempt(management, login=False), Retry.SLOWLY)

    run(work)


# -- cancelling


@pytest.mark.parametrize("path", [None, services.GET_SERVER_KEY, services.LOGIN, services.SYNC])
def test_cancelling_ends_the_conversation(path: str | None) -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        management.stay_open = True
        asked = asyncio.Event()
        if path is not None:
            management.hang(path)
        async with serving(management) as server:
            seen: list[Event] = []

            async def consume() -> None:
                async for event in driver(server).open_management(OpenManagement(1, True)):
                    seen.append(event)
                    if isinstance(event, NetworkMapReceived):
                        asked.set()

            task = asyncio.create_task(consume())
            if path is None:
                await asked.wait()
            else:
                await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not any(isinstance(event, ManagementDisconnected) for event in seen)
            if path is None:
                await management.sync_ended.wait()
            assert [one for one in asyncio.all_tasks() if "rxnet/management" in repr(one)] == []

    run(work)


def test_after_a_cancelled_map_the_rest_comes_with_the_next_stream() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        management.messages = [network_map(*(remote(n) for n in range(1, 1001)))]
        async with serving(management) as server:
            one = driver(server)
            events = one.open_management(OpenManagement(1, False))
            first: set[str] = set()
            async for event in events:
                if isinstance(event, NetworkMapReceived):
                    first |= {peer.key for peer in event.changed}
                    break
            await events.aclose()  # type: ignore[attr-defined]
            second = {
                peer.key
                for event in await collect(one, login=False)
                if isinstance(event, NetworkMapReceived)
                for peer in event.changed
            }
        assert len(first) == 256
        assert len(second) == 744
        assert not first & second

    run(work)


# -- posture checks


def test_checks_are_answered_at_sync_and_when_they_change(tmp_path: Path) -> None:
    async def work() -> None:
        here = tmp_path / "file"
        here.write_text("")
        management = LyingManagement()
        management.known = True
        management.checks = [str(here)]
        paths = [str(here), str(tmp_path / "none"), "C:\\x.exe", "/bad\0path"]
        management.messages = [
            network_map(remote(1), serial=1, checks=[str(here)]),
            network_map(remote(1), serial=2, checks=paths),
            network_map(remote(1), serial=3, checks=paths),
            network_map(remote(1), serial=4),
        ]
        events = await attempt(management)
        (file,) = management.syncs[0].meta.files
        assert (file.path, file.exist, file.processIsRunning) == (str(here), True, False)
        (told,) = management.metas
        assert [(file.path, file.exist) for file in told.meta.files] == list(
            zip(paths, [True, False, False, False], strict=True)
        )
        assert [event.paths for event in events if isinstance(event, ChecksReported)] == [4]
        # The map comes first, the answer to its checks afterwards.
        assert kinds(events)[3:6] == ["NetworkMapReceived", "NetworkMapReceived", "ChecksReported"]

    run(work)


def test_a_failed_answer_to_checks_is_repeated_with_the_next_map() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        honest = management.sync_meta
        failures = 0

        async def sync_meta(request: bytes, context: Context) -> bytes:
            nonlocal failures
            if not failures:
                failures += 1
                await context.abort(grpc.StatusCode.NOT_FOUND, "account not found: index lookup failed")
            return await honest(request, context)

        management.answers[services.SYNC_META] = sync_meta
        management.messages = [network_map(remote(1), serial=n, checks=["/bin/sh"]) for n in (1, 2)]
        events = await attempt(management, login=False)
        assert len(management.metas) == 1
        assert kinds(events).count("ChecksReported") == 1

    run(work)


def test_files_that_cannot_be_looked_at_in_time_count_as_absent() -> None:
    async def work() -> None:
        stuck = threading.Event()

        def look(path: str, running: frozenset[str]) -> FileState:
            if path == "hangs":
                stuck.wait(10)
            return FileState(path, True, False)

        states = await posture.look_at_all(["good", "hangs", "later"], 0.2, look=look)
        stuck.set()
        assert [state.exists for state in states] == [True, False, False]

    run(work)


def test_a_running_program_is_recognised() -> None:
    async def work() -> None:
        program = os.readlink("/proc/self/exe")
        (state,) = await posture.look_at_all([program], 5.0)
        assert state == FileState(program, exists=True, running=True)

    run(work)


# -- logout


def test_logout_deletes_the_peer() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.known = True
        async with serving(management) as server:
            one = driver(server)
            await one.logout()
            assert not management.known
            await one.logout()  # unknown by now, which is what was wanted

    run(work)


def test_logout_says_why_it_failed() -> None:
    async def work() -> None:
        management = LyingManagement()
        management.abort(services.LOGOUT, grpc.StatusCode.PERMISSION_DENIED, "no")
        async with serving(management) as server:
            with pytest.raises(ControlPlaneError, match="no"):
                await driver(server).logout()
            management.hang(services.LOGOUT)
            with pytest.raises(ControlPlaneError, match=r"0\.3 s"):
                await driver(server, limits=replace(QUICK, logout=0.3)).logout()
        with pytest.raises(ControlPlaneError, match="cannot be reached"):
            await driver(server).logout()

    run(work)


def test_the_driver_does_not_show_its_private_key() -> None:
    private_key = box.generate_private_key()
    one = driver(ServerAddress("m", 1), SETUP_KEY, private_key=private_key)
    assert box.encode_key(private_key) not in repr(one)
    assert SETUP_KEY not in repr(one)
    assert isinstance(one, client.ManagementDriver)
    assert ManagementConnected(1).kind == "management"
