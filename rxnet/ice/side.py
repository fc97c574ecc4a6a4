"""What an aioice connection takes for its sockets, one for each local address on the shared port, and its queues."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import aioice
from aioice import stun
from aioice.candidate import candidate_foundation
from aioice.ice import StunProtocol

from rxnet.ice.packets import Address
from rxnet.ice.port import StunPort


@lru_cache(maxsize=256)
def _local_candidate(local: str, port: int, priority: int) -> aioice.Candidate:
    """What aioice wants to know of a local address: the same for all agents, and never changed."""
    return aioice.Candidate(candidate_foundation("host", "udp", local), 1, "udp", priority, local, port, "host")


class _Unread:
    """For the queues that `connect` and readers of data use: none do here, and they are most of an agent's memory."""

    def put_nowait(self, item: object) -> None:
        """Forget it."""


UNREAD: Final[Any] = _Unread()


class Side(StunProtocol):
    """What aioice takes for a socket of one local address."""

    def __init__(self, agent: aioice.Connection, port: StunPort, local: str, priority: int) -> None:
        super().__init__(agent)
        self._port = port
        self.local = local
        self.local_candidate = _local_candidate(local, port.port, priority)
        self.round_trips: dict[Address, float] = {}
        """Seconds, of the last answer from there."""
        self.mapped: dict[Address, Address] = {}
        """Our address as seen from there."""

    def send_stun(self, message: stun.Message, addr: Address) -> None:
        self._port.send(bytes(message), self.local, addr)

    async def close(self) -> None:
        """There is no socket to close; `Agent.discard` does the rest."""
