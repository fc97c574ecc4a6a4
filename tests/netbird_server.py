"""NetBird's own combined server for tests: its configuration, its process, its REST API.

Who starts it sees to it that it is alone in a network namespace: it listens at fixed ports.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

URL = "http://127.0.0.1:8080"
ENVIRONMENT = {"NB_SETUP_PAT_ENABLED": "true", "NB_DISABLE_GEOLOCATION": "true"}
START_LIMIT = 60.0


def write_configuration(directory: Path, url: str = URL) -> Path:
    """Prepare a directory for a server that is reached at `url`, port 8080; the configuration file in it."""
    data = directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    server = {
        "listenAddress": ":8080",
        "exposedAddress": url,
        "stunPorts": [3478],
        "metricsPort": 9090,
        "healthcheckAddress": "127.0.0.1:9000",
        "logLevel": "info",
        "logFile": "console",
        "authSecret": "relay-test-secret",
        "dataDir": str(data),
        "disableAnonymousMetrics": True,
        "disableGeoliteUpdate": True,
        "auth": {"issuer": f"{url}/oauth2"},
        "store": {"engine": "sqlite", "encryptionKey": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
    }
    path = directory / "config.json"  # JSON is YAML
    path.write_text(json.dumps({"server": server}))
    return path


Send = Callable[[str, str, dict[str, str], bytes | None], str]
"""Performs an HTTP request: method, path, headers and body; the text of the answer. Raises if it is an error."""


class Api:
    """The REST API, through `send`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._token = ""

    def __call__(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Token {self._token}"
        text = self._send(method, path, headers, None if body is None else json.dumps(body).encode())
        return json.loads(text) if text.strip() else None

    def set_up(self) -> None:
        """Make the first account, whose token is used from now on."""
        person = {"email": "admin@example.test", "password": "Passw0rd-123", "name": "Admin"}
        answer = self("POST", "/api/setup", person | {"create_pat": True, "pat_expire_in": 30})
        self._token = answer["personal_access_token"]

    def setup_key(self, kind: str = "reusable", expires_in: int = 86400) -> dict[str, Any]:
        wish = {"name": "test", "type": kind, "expires_in": expires_in, "auto_groups": [], "usage_limit": 0}
        made: dict[str, Any] = self("POST", "/api/setup-keys", wish | {"ephemeral": False})
        return made

    def peer(self, field: str, value: str) -> dict[str, Any]:
        """The one peer whose field has this value."""
        (found,) = [peer for peer in self("GET", "/api/peers") if peer[field] == value]
        return dict(found)


class Server:
    """The server as a child in our own network namespace; it can be stopped in order, killed and started again."""

    def __init__(self, program: str, directory: Path) -> None:
        self.api = Api(_send)
        self._command = [program, "--config", str(write_configuration(directory))]
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT | {"HOME": str(self._directory)},
            )
        end = time.monotonic() + START_LIMIT
        while True:
            try:
                self.api("GET", "/api/instance")
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("the server did not start; see server.log") from None
                time.sleep(0.1)
            else:
                return

    def end(self, *, kill: bool = False) -> None:
        """Have it end; `gone` waits for that."""
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()

    def gone(self) -> None:
        """Wait for its end, which is forced after a while."""
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None

    def stop(self) -> None:
        self.end()
        self.gone()


def _send(method: str, path: str, headers: dict[str, str], body: bytes | None) -> str:
    request = urllib.request.Request(URL + path, method=method, headers=headers)
    with urllib.request.urlopen(request, body, timeout=10) as answer:
        return str(answer.read(), "utf-8")
