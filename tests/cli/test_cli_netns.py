"""`rxnet up` for real: our control plane, WireGuard in a network namespace, and every way to end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

NAMESPACE = f"rxcli-{os.getpid()}"
ADDRESS = "10.96.0.1"

pytestmark = [
    pytest.mark.netns,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
    pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2"),
    pytest.mark.skipif(
        not (os.environ.get("WIREGUARD_GO") or shutil.which("wireguard-go")), reason="needs wireguard-go"
    ),
]


def inside(*command: str) -> list[str]:
    return ["ip", "netns", "exec", NAMESPACE, *command]


def ip(*arguments: str) -> str:
    return subprocess.run(inside("ip", *arguments), check=True, capture_output=True, text=True, timeout=20).stdout


class Lab:
    """One namespace with a server and, at a time, one client."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = f"unix://{directory}/s"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, log: str) -> subprocess.Popen[bytes]:
        with open(self.directory / log, "ab") as out:
            process = subprocess.Popen(
                inside(sys.executable, "-m", "rxnet.cli.main", *arguments),
                stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def up(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = self.start(
            "up", "--foreground", "--config-dir", f"{self.directory}/c", "--daemon-addr", self.socket,
            "--management-url", f"http://{ADDRESS}:8080", "--setup-key-file", f"{self.directory}/key", *arguments,
            log="up.log",
        )  # fmt: skip
        self.until_logged("connected as ", process)
        return process

    def until_logged(self, text: str, process: subprocess.Popen[bytes], log: str = "up.log") -> None:
        end = time.monotonic() + 20
        while text not in (self.directory / log).read_text():
            assert process.poll() is None and time.monotonic() < end, (self.directory / log).read_text()
            time.sleep(0.02)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = inside(sys.executable, "-m", "rxnet.cli.main", *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=40)

    def wireguard(self) -> int:
        """The process id of the WireGuard program, as the journal knows it."""
        lines = (self.directory / "c/state/changes.jsonl").read_text().splitlines()
        return int(next(json.loads(line)["fields"]["pid"] for line in reversed(lines) if '"pid"' in line))

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(20)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    found = Lab(tmp_path)
    try:
        ip("link", "set", "lo", "up")
        ip("link", "add", "e0", "type", "veth", "peer", "name", "e1")
        ip("addr", "add", f"{ADDRESS}/24", "dev", "e0")
        for name in ("e0", "e1"):  # without link-local addresses, whose routes come when they like
            ip("link", "set", name, "addrgenmode", "none")
            ip("link", "set", name, "up")
        server = found.start("server", "--listen", f"{ADDRESS}:8080", "--directory", f"{tmp_path}/server",
                             "--setup-key-file", f"{tmp_path}/key", log="server.log")  # fmt: skip
        found.until_logged("control plane at", server, "server.log")
        yield found
    finally:
        found.end()
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True)


def host() -> str:
    """Interfaces, addresses, routes and rules, without counters and lifetimes."""
    return ip("-br", "addr") + ip("route", "show", "table", "all") + ip("rule")


def runs(process: int) -> bool:
    """Whether a process is alive; one that only waits to be collected is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_up_status_down_and_up_again(lab: Lab) -> None:
    before = host()
    process = lab.up("--interface-name", "wt5")
    status = json.loads(lab.run("status", "--json", "--daemon-addr", lab.socket).stdout)
    assert status["daemonStatus"] == "Connected" and status["netbirdIp"] in ip("-br", "addr", "show", "wt5")
    named = ("--management-url", f"http://{ADDRESS}:8080", "--daemon-addr", f"{lab.directory}/t")
    other = lab.run("up", "--foreground", "--config-dir", f"{lab.directory}/d", "--interface-name", "wt5", *named)
    assert other.returncode == 6 and "interface wt5 exists already" in other.stderr
    key = lab.directory / "key"
    beside = lab.run("up", "--foreground", "--config-dir", f"{lab.directory}/e", "--setup-key-file", str(key), *named)
    assert beside.returncode == 6 and "overlaps" in beside.stderr
    assert "UDP port 51820 is taken" in beside.stderr
    done = lab.run("down", "--daemon-addr", lab.socket)
    assert (done.returncode, done.stdout) == (0, "Disconnected\n")
    assert process.wait(5) == 0 and host() == before
    key.unlink()
    (lab.directory / "up.log").write_text("")
    again = lab.start("up", "--foreground", "--config-dir", f"{lab.directory}/c", "--daemon-addr", lab.socket,
                      log="up.log")  # fmt: skip
    lab.until_logged("connected as ", again)
    second = json.loads(lab.run("status", "--json", "--daemon-addr", lab.socket).stdout)
    assert (second["publicKey"], second["netbirdIp"]) == (status["publicKey"], status["netbirdIp"])
    again.terminate()
    assert again.wait(20) == 0 and host() == before


def test_killed_and_cleaned_up(lab: Lab) -> None:
    before = host()
    process = lab.up()
    wireguard = lab.wireguard()
    process.kill()
    process.wait(5)
    assert (lab.directory / "s").is_socket() and (lab.directory / "c/state/changes.jsonl").stat().st_size
    assert lab.run("status", "--daemon-addr", lab.socket).returncode == 3
    done = lab.run("cleanup", "--config-dir", f"{lab.directory}/c")
    assert (done.returncode, done.stderr) == (0, "") and "wt0" in done.stdout
    assert not runs(wireguard) and host() == before
    assert lab.run("cleanup", "--config-dir", f"{lab.directory}/c").stdout.startswith("nothing to clean up")
    (lab.directory / "up.log").write_text("")
    again = lab.up()  # over the socket that the killed one left
    again.terminate()
    assert again.wait(20) == 0 and host() == before


def test_a_second_signal_ends_it_at_once_through_the_journal(lab: Lab) -> None:
    before = host()
    process = lab.up()
    wireguard = lab.wireguard()
    os.kill(wireguard, signal.SIGSTOP)  # a program that does not obey holds the clean-up up
    process.terminate()
    lab.until_logged("stopping: SIGTERM received", process)
    process.terminate()
    assert process.wait(10) == 130
    assert "SIGTERM received again" in (lab.directory / "up.log").read_text()
    assert not runs(wireguard) and host() == before
    assert "nothing to clean up" in lab.run("cleanup", "--config-dir", f"{lab.directory}/c").stdout


def test_a_setup_key_that_is_not_known(lab: Lab) -> None:
    key = lab.directory / "wrong"
    key.write_text("3f1c9a52-7d6b-4e0f-8a21-5b9c0d7e6f43")
    options = ["--config-dir", f"{lab.directory}/c", "--daemon-addr", lab.socket, "--setup-key-file", str(key)]
    done = lab.run("up", "--foreground", "--management-url", f"http://{ADDRESS}:8080", *options)
    assert done.returncode == 4 and "management refused the login" in done.stderr
    assert "3f1c9a52" not in done.stderr


def test_deregistered_peers_are_gone(lab: Lab) -> None:
    process = lab.up()
    assert "connected" in lab.run("server", "peers", "--directory", f"{lab.directory}/server").stdout
    done = lab.run("deregister", "--daemon-addr", lab.socket)
    assert (done.returncode, done.stdout) == (0, "Deregistered successfully\n")
    assert process.wait(20) == 0
    assert json.loads(lab.run("server", "peers", "--json", "--directory", f"{lab.directory}/server").stdout) == []
