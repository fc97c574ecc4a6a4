"""The daemon API of a running client, as one context manager."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rxnet.daemon.context import Context
from rxnet.daemon.control import serving
from rxnet.daemon.netbird import NetBirdService
from rxnet.daemon.own import OwnService


@asynccontextmanager
async def serving_api(context: Context, path: Path) -> AsyncIterator[None]:
    """Offer both services on a unix socket of mode 0600 while inside.

    :raises ResourceTaken: if another process answers at the socket.
    :raises ConfigError: if the socket cannot be made.
    """
    follower = asyncio.create_task(context.follow())
    try:
        async with serving(path, [NetBirdService(context).handler(), OwnService(context).handler()]):
            yield
    finally:
        follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower
