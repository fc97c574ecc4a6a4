"""Sending: pipelined, in order of asking, with a bound on what is in flight.

Each message is one unary call. Calls are issued one after the other and answered in any order, so ten candidates cost
one round trip. One queue for all peers is enough to keep each peer's order, and it hands out the slots fairly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rxnet.signal.connection import SignalConnection


class Sender:
    """Shared by all sends of a driver. `in_flight` messages at once; `deadline` seconds for each `send`."""

    def __init__(self, in_flight: int, deadline: float) -> None:
        self._slots = asyncio.Semaphore(in_flight)
        self._turn = asyncio.Lock()
        self._deadline = deadline

    async def send(self, connection: SignalConnection, messages: Sequence[bytes]) -> str | None:
        """Send `messages` in order; None when the server took all of them, else the reason of the first failure."""
        until = asyncio.get_running_loop().time() + self._deadline
        calls: list[asyncio.Task[str | None]] = []
        try:
            async with asyncio.timeout_at(until):
                # Whoever asked first issues all it has before the next does: also what keeps a peer's order.
                async with self._turn:
                    for message in messages:
                        await self._slots.acquire()
                        call = asyncio.create_task(_deliver(connection, message, until))
                        call.add_done_callback(self._free_slot)
                        calls.append(call)
                return next((reason for reason in await asyncio.gather(*calls) if reason is not None), None)
        except TimeoutError:
            return f"signal did not take the messages within {self._deadline:g} s"
        finally:
            await _cancel(calls)

    def _free_slot(self, call: asyncio.Task[str | None]) -> None:
        # By callback and not within the task, which does not even begin if it is cancelled early.
        self._slots.release()


async def _deliver(connection: SignalConnection, message: bytes, until: float) -> str | None:
    loop = asyncio.get_running_loop()
    failure = await connection.send(message, until - loop.time())
    if failure is not None and failure.transient:
        failure = await connection.send(message, until - loop.time())
    return None if failure is None else failure.reason


async def _cancel(calls: Sequence[asyncio.Task[str | None]]) -> None:
    unfinished = [call for call in calls if not call.done()]
    for call in unfinished:
        call.cancel()
    if unfinished:
        await asyncio.wait(unfinished)
