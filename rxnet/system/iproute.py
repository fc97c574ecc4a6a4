"""pyroute2, with which the host is configured, loaded when it is first needed: 200 ms and 30 MB that an embedder who
never configures a host shall not pay."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator
from typing import Any


@contextlib.asynccontextmanager
async def open_iproute() -> AsyncIterator[Any]:
    """A `pyroute2.AsyncIPRoute` in this process's network namespace. Its calls raise `NetlinkError`, see `refusal`."""
    module = await asyncio.to_thread(importlib.import_module, "pyroute2")
    async with module.AsyncIPRoute() as route:
        yield route


def refusal(error: BaseException) -> int:
    """The errno of a pyroute2 error or OSError; anything else is raised again."""
    code = getattr(error, "code", None) or getattr(error, "errno", None)
    if not isinstance(code, int):
        raise error
    return code
