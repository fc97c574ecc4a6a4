"""Network namespaces of these tests, and Python programs in them. Never touches the machine's own network."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT = 20.0
_numbers = itertools.count()


def missing() -> str:
    """Why tests with namespaces cannot run here; empty if they can."""
    if os.geteuid() != 0:
        return "needs root"
    return "" if shutil.which("ip") else "needs iproute2"


def run(command: str, namespace: str) -> str:
    """Run a shell command in a namespace; its output."""
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, "sh", "-ec", command], capture_output=True, text=True, timeout=LIMIT
    )
    if done.returncode:
        raise RuntimeError(f"{command!r}: {done.returncode} {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def host() -> Iterator[str]:
    """A namespace with `e0` (down, 10.0.0.7/24), whose other end is `p0` (up); new addresses are usable at once."""
    name = f"rxy-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=LIMIT)
    try:
        run(
            "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0; ip link set lo up;"
            "ip link add e0 type veth peer name p0; ip link set p0 up; ip addr add 10.0.0.7/24 dev e0",
            name,
        )
        yield name
    finally:
        pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, timeout=LIMIT)
        for pid in pids.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", name], check=True, timeout=LIMIT)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def python(namespace: str, program: str, *arguments: str) -> str:
    """Run a Python program in a namespace; its output."""
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", program, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    complaints = "\n".join(line for line in done.stderr.splitlines() if "| DEBUG" not in line)
    if done.returncode or complaints:
        raise RuntimeError(f"{done.returncode}: {complaints}")
    return done.stdout


_WATCH = """
import asyncio, json, sys
from rxnet.engine.effects import WatchNetwork
from rxnet.system.monitor import NetworkMonitor

async def main():
    options = json.loads(sys.argv[1])
    own = options.pop("own", ["mesh0"])
    async for event in NetworkMonitor(lambda: own, **options).watch_network(WatchNetwork()):
        told = {"event": type(event).__name__}
        if hasattr(event, "network"):
            told["addresses"] = [f"{name} {address}" for name, address in event.network.addresses]
            told["routes"] = [list(route) for route in event.network.default_routes]
        if hasattr(event, "differences"):
            told["differences"] = list(event.differences)
        print(json.dumps(told), flush=True)

asyncio.run(main())
"""


class Watcher:
    """A NetworkMonitor in a process of its own in a namespace."""

    def __init__(self, namespace: str, **options: Any) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, "-c", _WATCH, json.dumps(options)],
            env=environment(),
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._rest = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def next(self) -> dict[str, Any]:
        """The next event; fails if none comes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                assert selector.select(LIMIT), "no event"
                data = self._output.read()
                assert data, "the watcher ended"
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    def context_switches(self) -> int:
        """How often the process went to sleep, that is, was woken."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("voluntary")))

    def processor_time(self) -> float:
        """Seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()
