"""Register peers that will never come: a map with many entries, without as many processes.

RXNET_SETUP_KEY=KEY python register_peers.py HOST PORT COUNT
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing

from rxnet.engine.effects import OpenManagement
from rxnet.events import LoggedIn
from rxnet.management.client import ManagementDriver
from rxnet.management.sysinfo import system_meta
from rxnet.model import ServerAddress
from rxnet.wire.box import generate_private_key


async def register(server: ServerAddress, number: int, setup_key: str) -> None:
    driver = ManagementDriver(
        server, generate_private_key(), lambda: system_meta(f"silent-{number}"), lambda: setup_key
    )
    async with aclosing(driver.open_management(OpenManagement(1, login=True))) as events:  # type: ignore[type-var]
        async for event in events:
            if not isinstance(event, LoggedIn) or not event.registered:
                raise RuntimeError(f"not registered: {event}")
            return


async def main(host: str, port: int, count: int) -> None:
    server, setup_key = ServerAddress(host, port), os.environ["RXNET_SETUP_KEY"]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(register(server, number, setup_key))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
