"""Real command lines, ours and NetBird's, against the API of a client that has no drivers."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_subject import SETUP_KEY, UNREACHABLE, FakeSubject, config

from rxnet.daemon.api import serving_api
from rxnet.daemon.context import Context

LIMIT = 30.0
NETBIRD = os.environ.get("RXNET_NB_CLIENT", "")


@dataclass
class Result:
    code: int | None
    out: str
    err: str


async def run(*command: str, **environment: str) -> Result:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), LIMIT)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return Result(process.returncode, out.decode(), err.decode())


async def rxnet(*arguments: str, **environment: str) -> Result:
    return await run(sys.executable, "-m", "rxnet.cli.main", *arguments, **environment)


def with_daemon(tmp_path: Path, use: Callable[[str, FakeSubject], Awaitable[None]]) -> None:
    async def main() -> None:
        subject, stopped = FakeSubject(), asyncio.Event()
        path = tmp_path / "rxnet.sock"
        # Our own process must not look like the daemon's, which `down` waits for.
        context = Context(subject, config(tmp_path), stopped.set)
        async with serving_api(context, path):
            await use(f"unix://{path}", subject)

    asyncio.run(main())


def test_status_of_a_running_client(tmp_path: Path) -> None:
    async def use(address: str, subject: FakeSubject) -> None:
        found = await rxnet("status", "--json", "--daemon-addr", address)
        assert (found.code, found.err) == (0, "")
        status = json.loads(found.out)
        assert (status["peers"]["connected"], status["peers"]["total"]) == (1, 2)
        assert status["profileName"] == "default"
        plain = await rxnet("status", RXNET_DAEMON_ADDR=address)
        assert (plain.code, plain.err) == (0, "")
        assert "Peers count: 1/2 Connected\nNotice: access rules" in plain.out
        detail = await rxnet("status", "--detail", "--daemon-addr", address)
        assert "  Reason: no answer\n" in detail.out
        assert SETUP_KEY not in found.out + plain.out + detail.out

    with_daemon(tmp_path, use)


def test_deregistration_that_fails(tmp_path: Path) -> None:
    async def use(address: str, subject: FakeSubject) -> None:
        subject.log_out_error = UNREACHABLE
        found = await rxnet("deregister", "--daemon-addr", address)
        assert (found.code, found.out, found.err) == (7, "", f"rxnet: {UNREACHABLE}\n")

    with_daemon(tmp_path, use)


def test_a_daemon_that_accepts_and_never_answers(tmp_path: Path) -> None:
    """The kernel completes connections to a stopped process's socket; only HTTP/2 tells."""

    async def main() -> Result:
        with closing(socket.socket(socket.AF_UNIX)) as frozen:
            frozen.bind(str(tmp_path / "s"))
            frozen.listen(5)
            return await rxnet("status", "--daemon-addr", f"unix://{tmp_path}/s")

    found = asyncio.run(main())
    assert (found.code, found.out) == (3, "")
    assert found.err == f"rxnet: nothing answers at {tmp_path}/s within 1 s, although it is open\n"


def test_a_daemon_whose_queue_is_full(tmp_path: Path) -> None:
    async def main() -> Result:
        with contextlib.ExitStack() as stack:
            busy = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            busy.bind(str(tmp_path / "s"))
            busy.listen(0)
            for _ in range(8):
                waiting = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
                waiting.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    waiting.connect(str(tmp_path / "s"))
            return await rxnet("status", "--daemon-addr", f"unix://{tmp_path}/s")

    found = asyncio.run(main())
    assert (found.code, found.err.count("\n")) == (3, 1)


@pytest.mark.netbird
@pytest.mark.skipif(not NETBIRD, reason="RXNET_NB_CLIENT does not name NetBird's client")
def test_netbirds_own_command_line(tmp_path: Path) -> None:
    async def use(address: str, subject: FakeSubject) -> None:
        async def netbird(*arguments: str) -> Result:
            home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
            return await run(NETBIRD, *arguments, "--daemon-addr", address, **home)

        ours = await rxnet("status", "--json", "--daemon-addr", address, TZ="UTC")
        theirs = await netbird("status", "--json")
        assert theirs.code == 0, theirs.err
        mine, other = json.loads(ours.out), json.loads(theirs.out)
        del mine["cliVersion"], other["cliVersion"]
        assert json.dumps(mine) == json.dumps(other), "the same keys in the same order with the same values"
        plain_ours = (await rxnet("status", "--daemon-addr", address)).out.splitlines()
        plain_theirs = (await netbird("status")).out.splitlines()
        assert [x for x in plain_ours if not x.startswith(("CLI version", "Notice"))] == [
            x for x in plain_theirs if not x.startswith("CLI version")
        ]
        assert "host/prflx" in (await netbird("status", "-d")).out
        assert (await netbird("status", "-4")).out.strip() == "100.64.0.9"
        for check in ("live", "ready", "startup"):
            assert (await netbird("status", "--check", check)).code == 0, check
        assert "Already connected" in (await netbird("up")).out
        config_ = await netbird("debug", "config")
        assert json.loads(config_.out)["managementUrl"] == "http://m.example:8080"
        assert (await netbird("down")).code == 0
        assert not subject.state.wanted
        assert (await netbird("status")).code == 0
        again = await netbird("up")
        assert again.code == 1 and "rxnet does not offer SetConfig" in again.err
        assert (await netbird("deregister")).code == 0 and subject.logged_out

    with_daemon(tmp_path, use)
