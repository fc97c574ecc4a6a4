"""The parent's side of `ice_host.py`: starts hosts in namespaces and plays signal between them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nacl.public import PrivateKey

ROOT = Path(__file__).parents[2]
LIMIT = 20.0


class HostProcess:
    """One `ice_host.py`. Answers are waited for with a limit."""

    def __init__(self, namespace: str, program: str, method: str, family: str = "") -> None:
        private = PrivateKey.generate()
        self.namespace = namespace
        self.key = base64.b64encode(bytes(private.public_key)).decode()
        environment = {
            **os.environ,
            "PRIVATE_KEY": base64.b64encode(bytes(private)).decode(),
            "WIREGUARD_GO": program,
            "METHOD": method,
            "ONLY_FAMILY": family,
            "PYTHONPATH": str(ROOT),
        }
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, str(Path(__file__).with_name("ice_host.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._seen: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def order(self, do: str, **what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self._process.stdin.flush()

    def hear(self, key: str, value: str | None = None, limit: float = LIMIT) -> dict[str, Any]:
        """The first line not yet heard that has `key`, with `value` if one is given."""
        end = time.monotonic() + limit
        while True:
            for line in self._seen:
                if key in line and (value is None or line[key] == value):
                    self._seen.remove(line)
                    return line
            try:
                self._seen.append(self._lines.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"{self.namespace} did not say {key}={value}; it said {self._seen}") from None

    def heard(self, key: str, value: str) -> bool:
        """Whether such a line has come and was not asked for."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._seen.append(self._lines.get_nowait())
        return any(line.get(key) == value for line in self._seen)

    def quit(self) -> dict[str, Any]:
        self.order("quit")
        said = self.hear("done", "quit")
        self._process.wait(LIMIT)
        return said

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        self._process.stdout.close()


@contextlib.contextmanager
def two_hosts(namespaces: list[str], program: str, method: str, family: str = "") -> Iterator[list[HostProcess]]:
    """Two hosts with open devices, overlay addresses and each other as a peer without endpoint. The first controls."""
    pair = [HostProcess(namespace, program, method, family) for namespace in namespaces]
    try:
        pair.sort(key=lambda host: host.key, reverse=True)
        for host in pair:
            host.order("open")
        for number, host in enumerate(pair, 1):
            opened = host.hear("event")
            assert opened["event"] == "DeviceOpened", opened
            host.order("address", address=f"100.64.0.{number}/24")
            host.hear("done", "address")
        for host, other, number in ((pair[0], pair[1], 2), (pair[1], pair[0], 1)):
            host.order("peers", changed=[[other.key, f"100.64.0.{number}/32", None, 0]])
            host.hear("done", "peers")
        yield pair
    finally:
        for host in pair:
            host.close()


def negotiate(pair: list[HostProcess], generation: int = 1, **more: Any) -> list[dict[str, Any]]:
    """Play signal: credentials, candidates; gives both sides' PathSelected."""
    said = []
    for host, other in (pair, pair[::-1]):
        host.order("credentials", peer=other.key)
        said.append(host.hear("credentials")["credentials"])
    for host, other, theirs, controlling in ((pair[0], pair[1], said[1], True), (pair[1], pair[0], said[0], False)):
        host.order("negotiate", peer=other.key, theirs=theirs, controlling=controlling, generation=generation, **more)
    for host, other in (pair, pair[::-1]):
        candidates = host.hear("event", "CandidatesGathered")["candidates"]
        other.order("candidates", peer=host.key, candidates=candidates, generation=generation)
        other.hear("done", "candidates")
        host.order("signalled", peer=other.key)
    return [host.hear("event", "PathSelected") for host in pair]


def use(pair: list[HostProcess], paths: list[dict[str, Any]], generation: int = 1) -> None:
    """What the engine does with a path: keep it; endpoint and keepalive where controlling, else the endpoint alone."""
    for number, (host, other) in enumerate((pair, pair[::-1])):
        host.order("keep", peer=other.key, generation=generation)
        address = f"100.64.0.{2 - number}/32"
        host.order("peers", changed=[[other.key, address, paths[number]["remote"], 25 if number == 0 else 0]])
        host.hear("done", "peers")
