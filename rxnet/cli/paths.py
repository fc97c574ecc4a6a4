"""Where rxnet keeps its files: system-wide for root, by the XDG rules for others, all in one place on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rxnet.errors import ConfigError

SOCKET_NAME = "rxnet.sock"


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one installation."""

    config: Path
    """TOML, see config.py."""
    identity: Path
    """The private key, see identity.py."""
    state: Path
    """Directory: journal of host changes, lock."""
    socket: Path
    """Of the daemon API, unless `--daemon-addr` names another."""


def find_paths(config_dir: str | None, environment: Mapping[str, str], user: int) -> Paths:
    """Choose the paths: everything inside `config_dir` if given, except the socket, which has its own option.

    :raises ConfigError: if the directory is named by an empty text.
    """
    socket = _runtime(environment, user) / SOCKET_NAME
    if config_dir is not None:
        if not config_dir:
            raise ConfigError("--config-dir is empty: name a directory")
        base = Path(config_dir).absolute()
        return Paths(base / "config.toml", base / "private.key", base / "state", socket)
    if user == 0:
        state = Path("/var/lib/rxnet")
        return Paths(Path("/etc/rxnet/config.toml"), state / "private.key", state, socket)
    home = Path(environment.get("HOME") or "/nonexistent")
    config = _xdg(environment, "XDG_CONFIG_HOME", home / ".config") / "rxnet"
    state = _xdg(environment, "XDG_STATE_HOME", home / ".local/state") / "rxnet"
    return Paths(config / "config.toml", state / "private.key", state, socket)


def _runtime(environment: Mapping[str, str], user: int) -> Path:
    if user == 0:
        return Path("/run/rxnet")
    fallback = Path(environment.get("HOME") or "/nonexistent") / ".local/state/rxnet/run"
    base = environment.get("XDG_RUNTIME_DIR", "")
    return Path(base) / "rxnet" if base.startswith("/") else fallback


def _xdg(environment: Mapping[str, str], name: str, fallback: Path) -> Path:
    """A base directory; relative values are to be ignored (XDG Base Directory Specification)."""
    value = environment.get(name, "")
    return Path(value) if value.startswith("/") else fallback


def parse_daemon_address(text: str) -> Path:
    """Parse `unix:///path`, `unix:path` or a plain absolute path.

    :raises ConfigError: if it is anything else: the API is offered on a unix socket only.
    """
    path = text.removeprefix("unix:")
    if path.startswith("//"):
        path = path[2:]
    if not path.startswith("/") or "\0" in path:
        raise ConfigError(f"--daemon-addr {text!r} is not a unix socket: write unix:///path/to/{SOCKET_NAME}")
    if len(path.encode()) > 107:
        raise ConfigError(f"--daemon-addr: the path has {len(path.encode())} bytes, a socket takes 107: shorten it")
    return Path(path)
