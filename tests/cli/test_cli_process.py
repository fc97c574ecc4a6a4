"""Command lines as processes: one line, the documented code, quickly, and no secret anywhere."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KEY = "3f1c9a52-7d6b-4e0f-8a21-5b9c0d7e6f43"


def rxnet(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rxnet.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def imported(*arguments: str) -> set[str]:
    """The top-level modules that a command line imports."""
    program = (
        "import sys; from rxnet.cli.main import main; main(sys.argv[1:]);"
        "print('\\n'.join(sorted({m.partition('.')[0] for m in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=20)
    return set(done.stderr.split())


def test_version_imports_next_to_nothing() -> None:
    done = rxnet("version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    heavy = {"grpc", "google", "reactivex", "pyroute2", "nacl", "loguru", "asyncio", "aioice", "immutables"}
    assert imported("version") & heavy == set()


@pytest.mark.parametrize("verb", ["status", "down"])
def test_no_daemon(tmp_path: Path, verb: str) -> None:
    start = time.monotonic()
    done = rxnet(verb, "--daemon-addr", f"unix://{tmp_path}/none.sock")
    assert time.monotonic() - start < 1.5, "the budget of a command that has nobody to talk to"
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"rxnet: rxnet is not running: nobody listens at {tmp_path}/none.sock")
    assert done.stderr.count("\n") == 1
    assert imported(verb, "--daemon-addr", f"unix://{tmp_path}/none.sock") & {"grpc", "google", "reactivex"} == set()


def test_background_is_the_service_managers(tmp_path: Path) -> None:
    done = rxnet("up", "--config-dir", str(tmp_path / "c"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--foreground" in done.stderr and not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--setup-key", "nonsense-3"],
        ["--setup-key-file", "/nonexistent"],
        ["--management-url", "example"],
        ["--log-level", "loud"],
        ["--wireguard-port", "eighty"],
        ["--daemon-addr", "tcp://127.0.0.1:1"],
        ["--interface-name", "a b"],
        [],
    ],
)
def test_up_that_cannot_work_ends_before_it_touches_anything(tmp_path: Path, arguments: list[str]) -> None:
    done = rxnet("up", "--foreground", "--config-dir", str(tmp_path / "c"), *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "nonsense-3" not in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("arguments", "piece"),
    [
        (["--listen", "nonsense.invalid"], "'nonsense.invalid' is not an address and no name that can be resolved"),
        (["--listen", "192.0.2.77:0"], "is not an address: write HOST:PORT"),
        (["--listen", "192.0.2.77:33073"], "Cannot assign requested address"),
        (["--advertise", "h", "--domain", "a_b"], "is not a domain"),
    ],
)
def test_a_server_that_cannot_work_ends_before_it_touches_anything(
    tmp_path: Path, arguments: list[str], piece: str
) -> None:
    done = rxnet("server", "--directory", str(tmp_path / "s"), "--setup-key-file", str(tmp_path / "k"), *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert piece in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_key_in_the_environment_is_checked_too(tmp_path: Path) -> None:
    done = rxnet("up", "--foreground", "--config-dir", str(tmp_path / "c"), RXNET_SETUP_KEY="hunter-2")
    assert done.returncode == 2 and "RXNET_SETUP_KEY is not a setup key" in done.stderr
    assert "hunter-2" not in done.stderr


def test_cleanup_with_nothing_to_clean(tmp_path: Path) -> None:
    done = rxnet("cleanup", "--config-dir", str(tmp_path / "c"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"nothing to clean up in {tmp_path}/c/state\n"
    assert not (tmp_path / "c").exists()


def test_deregister_of_nobody(tmp_path: Path) -> None:
    done = rxnet("deregister", "--config-dir", str(tmp_path / "c"), "--daemon-addr", f"{tmp_path}/s")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "no peer to deregister" in done.stderr


def test_a_reader_that_goes_away() -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m rxnet.cli.main --help | true"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stderr == ""


# -- up, in the foreground, without a server


def start_up(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`up` with a WireGuard program that does not exist and a server that nobody can reach."""
    return subprocess.Popen(
        [sys.executable, "-m", "rxnet.cli.main", "up", "--foreground", "--config-dir", str(tmp_path / "c"),
         "--daemon-addr", f"unix://{tmp_path}/s", "--management-url", "http://127.0.0.1:9", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        env={**os.environ, "WIREGUARD_GO": "/nonexistent/wireguard-go", **environment},
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)
    process = start_up(tmp_path, "--setup-key-file", str(key))
    assert process.stderr is not None
    with process, process.stderr as err:
        lines = []
        for line in err:
            lines.append(line)
            if "management disconnected" in line:
                break
        second = rxnet("up", "--foreground", "--config-dir", str(tmp_path / "c"))
        assert second.returncode == 6 and f"process {process.pid}" in second.stderr
        other = rxnet("up", "--foreground", "--config-dir", str(tmp_path / "d"), "--daemon-addr", f"{tmp_path}/s")
        assert other.returncode == 6 and f"another rxnet answers at {tmp_path}/s" in other.stderr
        process.send_signal(number)
        lines += list(err)
        assert process.wait(20) == 0
    text = "".join(lines)
    assert "access rules of the network map are not enforced yet" in text
    assert f"stopping: {number.name} received" in text and "Traceback" not in text
    assert KEY not in text and (tmp_path / "c" / "private.key").read_text().strip() not in text
    assert not (tmp_path / "s").exists()


def test_down_waits_for_the_end_of_the_process(tmp_path: Path) -> None:
    process = start_up(tmp_path, RXNET_SETUP_KEY=KEY)
    assert process.stderr is not None
    with process, process.stderr as err:
        for line in err:
            if "management disconnected" in line:
                break
        done = rxnet("down", "--daemon-addr", f"unix://{tmp_path}/s")
        assert (done.returncode, done.stdout, done.stderr) == (0, "Disconnected\n", "")
        assert process.poll() == 0 or process.wait(1) == 0
        err.read()


def test_events_as_json(tmp_path: Path) -> None:
    process = start_up(tmp_path, "--json")
    assert process.stdout is not None and process.stderr is not None
    with process, process.stdout as out, process.stderr as err:
        assert '"event":"ManagementDisconnected"' in next(line for line in out if "ManagementDisconnected" in line)
        process.terminate()
        out.read()
        assert "management disconnected" not in err.read()
        assert process.wait(20) == 0


def test_the_journal_of_systemd_gets_priorities(tmp_path: Path) -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = os.fstat(theirs.fileno())
        process = subprocess.Popen(
            [sys.executable, "-c", "from rxnet.cli.logs import open_log; w = open_log('INFO');"
             "from loguru import logger; logger.warning('two\\nlines'); logger.info('x'); w.close()"],
            stderr=theirs, env={**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
        )  # fmt: skip
        assert process.wait(20) == 0
        assert ours.recv(1000) == b"<4>two lines\n<6>x\n"


def test_a_log_that_nobody_reads_holds_nobody_up(tmp_path: Path) -> None:
    from rxnet.cli.logs import LineWriter

    read, write = os.pipe()
    try:
        writer = LineWriter(write, "test")
        for n in range(30_000):
            writer.write(f"line {n} {'x' * 100}\n")
        assert writer.close(0.05) >= 10_000
        os.close(read)
        writer._thread.join(10)  # ends with a broken pipe
        assert writer.broken
    finally:
        os.close(write)
