"""A small network of namespaces with a control plane in the middle: where real processes are tested.

Everything lives in namespaces named after the test run and in a temporary directory; the machine's own network is
never touched. Every wait has a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from netbird_server import ENVIRONMENT, Api, write_configuration

SERVER_ADDRESS = "10.99.0.1"
URL = f"http://{SERVER_ADDRESS}:8080"


def run(*argv: str, namespace: str | None = None, check: bool = True, limit: float = 60) -> str:
    prefix = ["ip", "netns", "exec", namespace] if namespace else []
    done = subprocess.run([*prefix, *argv], capture_output=True, text=True, timeout=limit, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def until(what: str, condition: Callable[[], Any], limit: float = 20.0, pause: float = 0.05) -> Any:
    """Poll until the condition gives something true; the message names what did not come true."""
    end = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:g} s: {what}")
        time.sleep(pause)


class Process:
    """A program in a namespace, with its output in a file."""

    def __init__(self, namespace: str, log: Path, *argv: str, env: dict[str, str] | None = None) -> None:
        self.log = log
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
            )

    @property
    def pid(self) -> int:
        return self._process.pid  # `ip netns exec` becomes the program

    @property
    def code(self) -> int | None:
        return self._process.poll()

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait(self, limit: float = 20.0) -> int:
        return self._process.wait(limit)

    def stop(self, limit: float = 20.0) -> int:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(limit)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(20)


class Host:
    """A namespace with `e0` on the bridge, and the rxnet in it."""

    def __init__(self, network: Network, name: str, index: int) -> None:
        self.network = network
        self.name = name
        self.namespace = f"{network.tag}-{name}"
        self.link = f"p{index}"
        self.directory = network.directory / name
        self.directory.mkdir()
        self.process: Process | None = None
        ns = self.namespace
        run("ip", "netns", "add", ns)
        network.namespaces.append(ns)
        run("ip", "link", "add", "e0", "netns", ns, "type", "veth", "peer", "name", self.link, "netns", network.core)
        run("ip", "link", "set", self.link, "master", "br0", "up", namespace=network.core)
        run("ip", "link", "set", "lo", "up", namespace=ns)
        # No link-local address: it would come and settle by itself in the middle of a test.
        run("ip", "link", "set", "e0", "addrgenmode", "none", namespace=ns)
        run("ip", "addr", "add", f"10.99.0.{10 + index}/24", "dev", "e0", namespace=ns)
        run("ip", "-6", "addr", "add", f"fd99::{10 + index:x}/64", "dev", "e0", "nodad", namespace=ns)
        run("ip", "link", "set", "e0", "up", namespace=ns)
        run("ip", "route", "add", "default", "via", SERVER_ADDRESS, namespace=ns)

    def rxnet(self, *argv: str, check: bool = True, env: dict[str, str] | None = None, limit: float = 30) -> str:
        done = self.rxnet_result(*argv, env=env, limit=limit)
        if check and done.returncode:
            raise AssertionError(f"rxnet {' '.join(argv)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def rxnet_result(
        self, *argv: str, env: dict[str, str] | None = None, limit: float = 30
    ) -> subprocess.CompletedProcess[str]:
        command = ["ip", "netns", "exec", self.namespace, *rxnet(*argv)]
        environment = {**os.environ, **(env or {})}
        return subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)

    def up_arguments(self, *more: str, key: str | None = None) -> list[str]:
        arguments = ["up", "--foreground", "--management-url", URL, "--config-dir", str(self.directory / "config")]
        arguments += ["--daemon-addr", f"unix://{self.directory}/rxnet.sock", "--hostname", f"host-{self.name}"]
        if key is not None:
            file = self.directory / "setup-key"
            file.write_text(key + "\n")
            file.chmod(0o600)
            arguments += ["--setup-key-file", str(file)]
        return [*arguments, *more]

    def up(self, *more: str, key: str | None = None) -> Process:
        self.process = Process(self.namespace, self.directory / "log", *rxnet(*self.up_arguments(*more, key=key)))
        self.network.processes.append(self.process)
        return self.process

    def status(self) -> dict[str, Any]:
        answer = self.rxnet_result("status", "--json", "--daemon-addr", f"unix://{self.directory}/rxnet.sock")
        return json.loads(answer.stdout) if answer.returncode == 0 else {}

    def connected(self) -> int:
        return int(self.status().get("peers", {}).get("connected", 0))

    def overlay(self) -> tuple[str, str]:
        """Own overlay addresses, v4 and v6, without prefix lengths."""
        status = until(f"{self.name} has an address", lambda: self.status().get("netbirdIp") and self.status())
        return status["netbirdIp"].split("/")[0], status.get("netbirdIpv6", "").split("/")[0]

    def ping(self, address: str, count: int = 3) -> bool:
        """Whether every ping is answered."""
        command = ("ping", "-n", "-c", str(count), "-i", "0.2", "-W", "2", address)
        return f"{count} received" in run(*command, namespace=self.namespace, check=False)

    def reaches(self, address: str, limit: float = 10.0) -> None:
        until(f"{self.name} pings {address}", lambda: self.ping(address, 1), limit)
        assert self.ping(address), f"{self.name} pings {address}, but not every time"

    def picture(self) -> str:
        """The host's network as it would be seen afterwards: links, addresses, rules, routes."""
        shown = [run("ip", "-o", what, "show", namespace=self.namespace) for what in ("link", "addr", "rule")]
        routes = ("route", "show", "table", "all")
        return "\n".join(shown + [run("ip", family, *routes, namespace=self.namespace) for family in ("-4", "-6")])


class Network:
    """`core` holds a bridge and the control plane; hosts hang off it."""

    def __init__(self, directory: Path, tag: str) -> None:
        self.directory = directory
        self.tag = tag
        self.core = f"{tag}-core"
        self.namespaces = [self.core]
        self.processes: list[Process] = []
        self.hosts: dict[str, Host] = {}
        run("ip", "netns", "add", self.core)
        for command in (
            "ip link set lo up",
            "ip link add br0 type bridge",
            f"ip addr add {SERVER_ADDRESS}/24 dev br0",
            "ip -6 addr add fd99::1/64 dev br0 nodad",
            "ip link set br0 up",
        ):
            run(*command.split(), namespace=self.core)

    def host(self, name: str) -> Host:
        host = self.hosts[name] = Host(self, name, len(self.hosts) + 1)
        return host

    def start(self, name: str, *argv: str, env: dict[str, str] | None = None) -> Process:
        process = Process(self.core, self.directory / f"{name}.log", *argv, env=env)
        self.processes.append(process)
        return process

    def carrier(self, host: Host, state: str) -> None:
        run("ip", "link", "set", host.link, state, namespace=self.core)

    def close(self) -> None:
        for process in reversed(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.stop(10)
            process.kill()
        for namespace in self.namespaces:
            for pid in run("ip", "netns", "pids", namespace, check=False).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "del", namespace, check=False)


class EmbeddedPlane:
    """`rxnet server`."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._data = network.directory / "server"
        self.start()
        self.key = until("a setup key", self._read_key).strip()

    def _read_key(self) -> str:
        file = self._data.parent / "server-key"
        return file.read_text() if file.exists() else ""

    def start(self) -> None:
        self.process = self._network.start(
            "server",
            *rxnet("server", "--listen", f"{SERVER_ADDRESS}:8080", "--directory", str(self._data)),
            "--setup-key-file",
            str(self._data.parent / "server-key"),
        )

    def restart(self) -> None:
        self.process.kill()
        self.start()

    def register(self, count: int) -> None:
        """Fill the map with peers that never come."""
        script = str(Path(__file__).with_name("register_peers.py"))
        inside = ["ip", "netns", "exec", self._network.core]
        command = [*inside, sys.executable, script, SERVER_ADDRESS, "8080", str(count)]
        environment = {**os.environ, "RXNET_SETUP_KEY": self.key}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
        assert done.returncode == 0, done.stderr

    def admin(self, *argv: str) -> str:
        command = ["ip", "netns", "exec", self._network.core, *rxnet("server", *argv, "--directory", str(self._data))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def spent_key(self) -> str:
        """A one-off key that a peer has used."""
        return str(json.loads(self.admin("setup-keys", "create", "--name", "one", "--json"))["setup_key"])

    def expired_key(self) -> str:
        made = json.loads(self.admin("setup-keys", "create", "--name", "old", "--expires-in", "1", "--json"))
        time.sleep(1.5)
        return str(made["setup_key"])

    def delete_peer(self, address: str) -> None:
        self.admin("peers", "delete", address)


class NetBirdPlane:
    """NetBird's own combined server, named by RXNET_NB_SERVER."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._data = network.directory / "netbird"
        self._config = write_configuration(self._data, URL)
        self.api = Api(self._send)
        self.start()
        self.api.set_up()
        self.key = self.setup_key()
        account = self.api("GET", "/api/accounts")[0]
        account["settings"]["lazy_connection_enabled"] = False
        body = {"settings": account["settings"], "onboarding": account.get("onboarding")}
        self.api("PUT", f"/api/accounts/{account['id']}", body)

    def start(self) -> None:
        program = os.environ["RXNET_NB_SERVER"]
        self.process = self._network.start("server", program, "--config", str(self._config), env=ENVIRONMENT)
        until("the server answers", self._answers, 60)

    def _answers(self) -> bool:
        return bool(run("curl", "-fsS", "-m", "2", f"{URL}/api/instance", namespace=self._network.core, check=False))

    def restart(self) -> None:
        self.process.kill()
        self.start()

    def _send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> str:
        command = ["curl", "-fsS", "-m", "10", "-X", method, f"{URL}{path}"]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        command += ["-d", body.decode()] if body is not None else []
        return run(*command, namespace=self._network.core)

    def setup_key(self, kind: str = "reusable", expires_in: int = 86400) -> str:
        return str(self.api.setup_key(kind, expires_in)["key"])

    def spent_key(self) -> str:
        return self.setup_key("one-off")

    def expired_key(self) -> str:
        key = self.setup_key(expires_in=1)
        time.sleep(1.5)
        return key

    def delete_peer(self, address: str) -> None:
        self.api("DELETE", f"/api/peers/{self.api.peer('ip', address)['id']}")


def rxnet(*argv: str) -> list[str]:
    return [sys.executable, "-m", "rxnet.cli.main", *argv]


@contextlib.contextmanager
def network(directory: Path, tag: str) -> Iterator[Network]:
    made = Network(directory, tag)
    try:
        yield made
    finally:
        made.close()


def missing() -> str:
    """Why the end-to-end tests cannot run here; empty if they can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    for program in ("ip", "ping"):
        if shutil.which(program) is None:
            return f"needs the program {program}"
    if shutil.which(os.environ.get("WIREGUARD_GO") or "wireguard-go") is None:
        return "needs a userspace WireGuard: wireguard-go in PATH or named by WIREGUARD_GO"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    return ""
