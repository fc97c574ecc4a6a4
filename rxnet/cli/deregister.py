"""`rxnet deregister`: delete this peer from the network, through the running rxnet or, if none runs, by itself."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from rxnet.cli.call import Daemon, connected, socket_path
from rxnet.cli.down import END_LIMIT, ended, watched
from rxnet.cli.failure import Exit, Failure
from rxnet.cli.logs import open_log, parse_level
from rxnet.cli.paths import Paths
from rxnet.cli.prepare import SetupKey, client_config, demand_free, paths_of
from rxnet.cli.usage import Command
from rxnet.config import ClientConfig, load_settings
from rxnet.errors import ConfigError
from rxnet.identity import load_identity

_LOG_OUT = "/daemon.DaemonService/Logout"
_LIMIT: Final = 30.0
"""Seconds for management's answer and the disconnection after it."""


def run(command: Command) -> int:
    """Delete the peer; see docs/cli.md."""
    level = parse_level(command.text("--log-level"))
    try:
        with connected(socket_path(command)) as daemon:
            _through(daemon)
    except Failure as failure:
        if failure.code is not Exit.NOT_RUNNING:
            raise
        paths = paths_of(command, os.environ)
        demand_free(paths)  # a running rxnet that we cannot talk to
        config = _config(paths)
        log = open_log(level)
        try:
            asyncio.run(_log_out(config))
        finally:
            log.close()
    print("Deregistered successfully")
    return Exit.OK


def _through(daemon: Daemon) -> None:
    from rxnet.wire import daemon_pb2 as wire

    with watched(daemon.process) as process:
        daemon.call(_LOG_OUT, wire.LogoutRequest(), wire.LogoutResponse, _LIMIT)
        ended(process, END_LIMIT)


def _config(paths: Paths) -> ClientConfig:
    settings = load_settings(paths.config)
    private_key = load_identity(paths.identity)
    if private_key is None or settings.management_url is None:
        raise ConfigError(f"there is no peer to deregister in {paths.config.parent}: name its --config-dir")
    return client_config(settings, private_key, paths, SetupKey(), os.environ)


async def _log_out(config: ClientConfig) -> None:
    from rxnet.management.client import ManagementDriver
    from rxnet.management.codec import SystemMeta

    certificates = config.root_certificates
    driver = ManagementDriver(
        config.management,
        config.private_key,
        lambda: SystemMeta(config.hostname),
        root_certificates=certificates.read_bytes() if certificates else None,
        proxy=config.proxy,
    )
    await driver.logout()
