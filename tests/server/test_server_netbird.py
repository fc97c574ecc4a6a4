"""NetBird's own Go client against the embedded control plane, in network namespaces of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CLIENT = os.environ.get("RXNET_NB_CLIENT", "")
PREFIX = "rxv"
SERVER = """
import asyncio, sys
from pathlib import Path
from rxnet.server.serve import serve
directory = Path(sys.argv[1])
asyncio.run(serve(directory, host="0.0.0.0", port=33073, advertised_host="10.98.0.1",
                  setup_key_file=directory.parent / "setup-key", ready=lambda plane: print("ready", flush=True)))
"""


def sh(command: str, namespace: str | None = None, *, check: bool = True) -> str:
    where = ["ip", "netns", "exec", namespace] if namespace else []
    done = subprocess.run([*where, "bash", "-c", command], capture_output=True, text=True, timeout=90, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command!r} in {namespace}: {done.stderr.strip()} {done.stdout.strip()}")
    return done.stdout


def eventually(what: str, check: Callable[[], Any], limit: float = 45.0) -> Any:
    """Ask a program from outside, which has no event for us, until it says yes."""
    deadline = time.monotonic() + limit
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {limit:.0f} s"
        time.sleep(0.2)


class Lab:
    """A bridge with the control plane at 10.98.0.1 and hosts on it."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.tag = f"{PREFIX}-{os.getpid()}"
        self.core = f"{self.tag}-core"
        self.namespaces: list[str] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def namespace(self, name: str) -> str:
        sh(f"ip netns add {name} && ip -n {name} link set lo up")
        self.namespaces.append(name)
        # `ip netns exec` binds this over /etc: what a Go client writes to resolv.conf stays in the lab.
        etc = Path("/etc/netns") / name
        (etc / "ssh").mkdir(parents=True)
        (etc / "resolv.conf").write_text("nameserver 10.98.0.1\n")
        return name

    def build(self) -> None:
        self.namespace(self.core)
        sh("ip link add br0 type bridge && ip addr add 10.98.0.1/24 dev br0 && ip link set br0 up", self.core)

    def host(self, name: str, index: int) -> str:
        namespace = self.namespace(f"{self.tag}-{name}")
        sh(f"ip link add e0 netns {namespace} type veth peer name p{index} netns {self.core}")
        sh(f"ip link set p{index} master br0 up", self.core)
        sh(
            f"ip addr add 10.98.0.{10 + index}/24 dev e0 && ip link set e0 up && ip route add default via 10.98.0.1",
            namespace,
        )
        return namespace

    def spawn(self, key: str, namespace: str, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        with open(self.run / f"{key}.log", "ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                cwd=self.run,
            )
        self.processes[key] = process
        return process

    def start_server(self) -> None:
        (self.run / "server.log").write_bytes(b"")
        self.spawn("server", self.core, [sys.executable, "-c", SERVER, str(self.run / "cp")], PYTHONPATH=os.getcwd())
        eventually("server", lambda: b"ready" in (self.run / "server.log").read_bytes(), 20)

    def kill_server(self) -> None:
        self.processes["server"].kill()
        self.processes.pop("server").wait()

    def go_client(self, namespace: str) -> None:
        home = self.run / namespace
        home.mkdir()
        socket = f"unix://{home}/nb.sock"
        environment = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "NB_STATE_DIR": str(home),
            "NB_LOG_LEVEL": "info",
            "NB_DISABLE_SSH_CONFIG": "true",
            "NB_DNS_STATE_FILE": str(home / "dns.json"),
        }
        config = str(home / "config.json")
        self.spawn(
            namespace,
            namespace,
            [CLIENT, "service", "run", "--daemon-addr", socket, "--log-file", "console", "--config", config],
            **environment,
        )
        eventually("daemon", (home / "nb.sock").exists, 20)
        key = (self.run / "setup-key").read_text().strip()
        sh(
            f"timeout 60 {CLIENT} up --daemon-addr {socket} -m http://10.98.0.1:33073 -k {key} -n {namespace}"
            " --interface-name wt0 --wireguard-port 51820 --disable-dns",
            namespace,
        )

    def status(self, namespace: str) -> dict[str, Any]:
        text = sh(f"{CLIENT} status --daemon-addr unix://{self.run}/{namespace}/nb.sock --json", namespace, check=False)
        return json.loads(text) if text.startswith("{") else {}

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in self.namespaces:
            sh(f"ip netns del {name}", check=False)
            shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if not CLIENT:
        pytest.skip("RXNET_NB_CLIENT does not name NetBird's Go client")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    lab = Lab(tmp_path)
    try:
        lab.build()
        yield lab
    finally:
        lab.close()


def _connected_peers(status: dict[str, Any]) -> int:
    return int(status.get("peers", {}).get("connected", 0))


@pytest.mark.netns
@pytest.mark.netbird
@pytest.mark.timeout(240)
def test_go_clients_join_ping_and_survive_a_killed_server(lab: Lab) -> None:
    lab.start_server()
    hosts = [lab.host(name, index) for index, name in enumerate("ab")]
    for host in hosts:
        lab.go_client(host)
    statuses = [
        eventually("both peers connected", lambda h=host: (s := lab.status(h)) and _connected_peers(s) == 1 and s)
        for host in hosts
    ]
    for status in statuses:
        assert status["management"]["connected"] and status["signal"]["connected"]
        assert status["fqdn"].endswith(".rxnet.internal")
    addresses = [status["netbirdIp"].split("/")[0] for status in statuses]
    for host, far in zip(hosts, reversed(addresses), strict=True):
        eventually(
            "ping over the overlay", lambda h=host, f=far: sh(f"ping -c1 -W1 {f}", h, check=False).count("1 received")
        )

    lab.kill_server()
    lab.start_server()
    for host, address in zip(hosts, addresses, strict=True):

        def back(h: str = host) -> Any:
            status = lab.status(h)
            return status and status["management"]["connected"] and status["signal"]["connected"] and status

        status = eventually("connected again after the server was killed", back)
        assert status["netbirdIp"].split("/")[0] == address
    assert sh(f"ping -c3 -i0.2 -W2 {addresses[1]}", hosts[0]).count("3 received")
