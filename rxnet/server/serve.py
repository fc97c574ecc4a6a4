"""`rxnet server` as functions: run a control plane until cancelled, and administer one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from rxnet.errors import ConfigError
from rxnet.files import read_private, write_private
from rxnet.server.administration import Json
from rxnet.server.app import DEFAULT_MOST_PEERS, DEFAULT_STUN_PORT, ControlPlane
from rxnet.server.control import administer
from rxnet.server.network import DEFAULT_DOMAIN, Rules
from rxnet.server.records import new_setup_key_text, normal_setup_key

DEFAULT_PORT = 33073


async def serve(
    directory: Path,
    *,
    host: str = "::",
    port: int = DEFAULT_PORT,
    advertised_host: str | None = None,
    stun_port: int | None = DEFAULT_STUN_PORT,
    domain: str = DEFAULT_DOMAIN,
    certificate: Path | None = None,
    private_key: Path | None = None,
    setup_key_file: Path | None = None,
    rules: Rules = Rules.EXPLICIT,
    most_peers: int = DEFAULT_MOST_PEERS,
    ready: Callable[[ControlPlane], None] | None = None,
) -> None:
    """Run a control plane until cancelled; see `ControlPlane` for the arguments. Raises `ConfigError`.

    With `setup_key_file` a reusable setup key is in that file (made with mode 0600 if it is missing) and is valid.
    `ready` is called once, when clients can connect.
    """
    plane = ControlPlane(
        directory,
        host=host,
        port=port,
        advertised_host=advertised_host,
        stun_port=stun_port,
        domain=domain,
        certificate=certificate,
        private_key=private_key,
        rules=rules,
        most_peers=most_peers,
    )
    async with plane:
        if setup_key_file is not None:
            await keep_setup_key(plane, setup_key_file)
        if ready is not None:
            ready(plane)
        await asyncio.Event().wait()


async def keep_setup_key(plane: ControlPlane, path: Path) -> None:
    """Make the reusable setup key in `path` valid; make the file if there is none. Raises `ConfigError`.

    The file is written before the data base knows the key: whatever kills us in between, the next start mends.
    """
    text = await asyncio.to_thread(_load_or_make_setup_key, path)
    normal = normal_setup_key(text)
    if normal is None:
        raise ConfigError(f"{path} does not hold a setup key; remove it and a new one is made there")
    key = await plane.registry.add_setup_key(normal, f"of {path.name}", reusable=True)
    if not plane.registry.is_valid(key):
        raise ConfigError(f"the setup key in {path} was revoked or has expired; remove the file to get a new one")


def _load_or_make_setup_key(path: Path) -> str:
    # Anywhere: who runs a laboratory puts it into /tmp. Reading checks the file itself, whoever can write beside it.
    content = read_private(path, secret=True, anywhere=True)
    if content is not None:
        return content.decode(errors="replace")
    text = new_setup_key_text()
    try:
        write_private(path, f"{text}\n".encode(), replace=False, anywhere=True)
    except FileExistsError:
        raise ConfigError(f"{path} appeared just now: does another program write it?") from None
    return text


# -- administration, the verbs below `rxnet server`: each blocks for ten seconds at most and raises as `administer`


def peers(directory: Path) -> list[Json]:
    """All registered peers: key, address, address_v6, fqdn, hostname, version, connected, created, last_seen."""
    return cast(list[Json], administer(directory, {"do": "peers"}))


def delete_peer(directory: Path, which: str) -> Json:
    """Remove the peer with this key, name or address; gives what it was."""
    return cast(Json, administer(directory, {"do": "delete-peer", "peer": which}))


def setup_keys(directory: Path) -> list[Json]:
    """All setup keys: id, name, hint, usage_limit, used, created, expires, revoked."""
    return cast(list[Json], administer(directory, {"do": "setup-keys"}))


def create_setup_key(
    directory: Path,
    name: str = "setup key",
    *,
    reusable: bool = False,
    usage_limit: int = 0,
    expires_in: float | None = None,
) -> Json:
    """Make a setup key; `setup_key` of the answer is its text, which is told only here."""
    request: dict[str, Any] = {"do": "create-setup-key", "name": name, "reusable": reusable}
    return cast(Json, administer(directory, {**request, "usage_limit": usage_limit, "expires_in": expires_in}))


def revoke_setup_key(directory: Path, number: int) -> Json:
    """Make a setup key useless from now on; its peers stay."""
    return cast(Json, administer(directory, {"do": "revoke-setup-key", "id": number}))
