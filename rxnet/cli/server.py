"""`rxnet server`: run a control plane, and administer its peers and setup keys."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rxnet.cli.failure import Exit
from rxnet.cli.logs import open_log, parse_level, silence_log
from rxnet.cli.prepare import SETUP_KEY_VARIABLE
from rxnet.cli.usage import Command, usage

if TYPE_CHECKING:
    from rxnet.server.app import ControlPlane

_ANY: Final = "::"


def run(command: Command) -> int:
    """Serve or administer; see docs/cli.md."""
    os.environ.pop(SETUP_KEY_VARIABLE, None)
    directory = data_directory(command.text("--directory"), os.environ, os.geteuid())
    if command.flag("peers") or command.flag("setup-keys"):
        silence_log()
    if command.flag("peers"):
        return _peers(command, directory)
    if command.flag("setup-keys"):
        return _setup_keys(command, directory)
    return _serve(command, directory)


def data_directory(given: str | None, environment: Mapping[str, str], user: int) -> Path:
    """The server's data: as given, else system-wide for root and in the XDG state directory for others."""
    if given:
        return Path(given).absolute()
    if user == 0:
        return Path("/var/lib/rxnet-server")
    base = environment.get("XDG_STATE_HOME", "")
    state = Path(base) if base.startswith("/") else Path(environment.get("HOME") or "/nonexistent") / ".local/state"
    return state / "rxnet-server"


def parse_listen(text: str | None) -> tuple[str, int | None]:
    """Split HOST:PORT, :PORT, HOST or [IPV6]:PORT; the port is None if it is not named.

    :raises Failure: if it is none of these.
    """
    if text is None:
        return _ANY, None
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]*))(?::([0-9]{1,5}))?", text)
    if not text or found is None or int(found[3] or 1) not in range(1, 65536):
        raise usage(f"--listen {text!r} is not an address: write HOST:PORT, :PORT or [IPV6]:PORT")
    return found[1] or found[2] or _ANY, int(found[3]) if found[3] else None


def _serve(command: Command, directory: Path) -> int:
    level = parse_level(command.text("--log-level"))
    options = _serve_options(command)
    log = open_log(level)
    try:
        return asyncio.run(_until_signal(directory, options))
    finally:
        log.close()


def _serve_options(command: Command) -> dict[str, Any]:
    host, port = parse_listen(command.text("--listen"))
    options: dict[str, Any] = {"host": host, "advertised_host": command.text("--advertise")}
    if port is not None:
        options["port"] = port
    if command.text("--stun-port") == "off":
        options["stun_port"] = None
    elif command.text("--stun-port") is not None:
        options["stun_port"] = command.number("--stun-port", 1, 65535)
    if command.text("--domain") is not None:
        options["domain"] = command.text("--domain")
    names = {"--tls-certificate": "certificate", "--tls-key": "private_key", "--setup-key-file": "setup_key_file"}
    return options | {name: Path(text) for option, name in names.items() if (text := command.text(option))}


async def _until_signal(directory: Path, options: Mapping[str, Any]) -> int:
    from rxnet.log import logger
    from rxnet.server.serve import serve

    def ready(plane: ControlPlane) -> None:
        stun = plane.stun_address
        logger.info("control plane at {}, STUN {}", plane.address, f"at {stun.host}:{stun.port}" if stun else "off")

    loop = asyncio.get_running_loop()
    serving = asyncio.create_task(serve(directory, **options, ready=ready))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        logger.info("stopped")
    return Exit.OK


def _peers(command: Command, directory: Path) -> int:
    from rxnet.server import serve

    if command.flag("delete"):
        gone = serve.delete_peer(directory, command.text("PEER") or "")
        print(f"{gone['fqdn']} deleted")
        return Exit.OK
    peers = serve.peers(directory)
    if command.flag("--json"):
        print(json.dumps(peers))
        return Exit.OK
    rows = [
        (p["fqdn"], p["address"], "connected" if p["connected"] else "away", _time(p["last_seen"]), p["key"])
        for p in peers
    ]
    _table(("NAME", "ADDRESS", "STATE", "LAST SEEN", "KEY"), rows)
    return Exit.OK


def _setup_keys(command: Command, directory: Path) -> int:
    from rxnet.server import serve

    if command.flag("revoke"):
        number = command.number("ID", 0, 999_999_999)
        serve.revoke_setup_key(directory, number or 0)
        print(f"setup key {number} revoked")
        return Exit.OK
    if command.flag("create"):
        made = serve.create_setup_key(
            directory,
            command.text("--name") or "setup key",
            reusable=command.flag("--reusable"),
            usage_limit=command.number("--usage-limit", 1, 60_000) or 0,
            expires_in=command.number("--expires-in", 1, 999_999_999),
        )
        print(json.dumps(made) if command.flag("--json") else made["setup_key"])
        return Exit.OK
    keys = serve.setup_keys(directory)
    if command.flag("--json"):
        print(json.dumps(keys))
        return Exit.OK
    rows = [
        (str(k["id"]), k["name"], f"{k['used']}/{k['usage_limit'] or 'any'}", _time(k["expires"]), _valid(k))
        for k in keys
    ]
    _table(("ID", "NAME", "USED", "EXPIRES", "STATE"), rows)
    return Exit.OK


def _valid(key: Mapping[str, Any]) -> str:
    return "revoked" if key["revoked"] else "valid"


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else "never"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as their widest entry."""
    lines = [head, *(tuple("".join(c if c.isprintable() else " " for c in cell) for cell in row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
