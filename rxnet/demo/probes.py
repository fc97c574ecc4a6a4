"""Pings that go on from act to act, from h1 to each other host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from rxnet.demo.prober import Echo, Ping

_INTERVAL: Final = 0.01
"""Seconds between two pings to one host, while the hosts are few."""
_FEW: Final = 5


class Probes:
    """Continuous pings; nothing happens before `start`."""

    def __init__(self) -> None:
        self.echoes: dict[str, Echo] = {}
        """By the name of the host that is pinged."""
        self._stack = ExitStack()
        self._sender: asyncio.Task[None] | None = None

    def start(self, namespace: str, targets: Mapping[str, str]) -> None:
        """Ping these addresses, by name, from now on; less often if they are many.

        :raises OSError: if the namespace cannot be entered.
        """
        for name, address in targets.items():
            self.echoes[name] = self._stack.enter_context(Echo(namespace, address))
        self._sender = asyncio.create_task(self._send(_INTERVAL * max(1.0, len(targets) / _FEW)))

    async def stop(self) -> None:
        """Ping no more. Idempotent."""
        if self._sender is not None:
            self._sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sender
            self._sender = None
        self._stack.close()

    def first_answered(self, name: str, since: float) -> Ping | None:
        """The first ping to a host that was sent from a time on and answered."""
        found = None
        for ping in reversed(self.echoes[name].pings):
            if ping.sent < since:
                break
            if ping.answered is not None:
                found = ping
        return found

    def between(self, begin: float, end: float, answered_before: float = float("inf")) -> tuple[int, int]:
        """How many pings were sent in [begin, end), and how many of these were answered."""
        pings = [ping for echo in self.echoes.values() for ping in echo.pings if begin <= ping.sent < end]
        return len(pings), sum(ping.answered is not None and ping.answered < answered_before for ping in pings)

    async def _send(self, interval: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            for echo in self.echoes.values():
                echo.send()
            due = max(due + interval, loop.time())
            await asyncio.sleep(max(0.0, due - loop.time()))
