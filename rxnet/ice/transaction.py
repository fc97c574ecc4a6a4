"""One STUN request on the shared port: sent, sent again, answered (RFC 8489 section 6.2.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aioice import stun

from rxnet.ice.packets import Address, parse_stun
from rxnet.ice.port import StunPort

_FIRST_PAUSE = 0.2
"""Seconds until the second sending. Go peers check each 200 ms; the RFC's 500 ms make a lost first packet felt."""
_LONGEST_PAUSE = 2.0
_FACTOR = 1.5
_PER_REQUEST = 0.0005
"""Seconds added to the pauses for each request that is under way on the port: 1,000 negotiations at once must not
drown the host (RFC 8445 section 14.3 does the same with Ta * N)."""
_LAST = 0.01
"""Seconds before the end in which sending again makes no sense (and a timer may fire a hair early)."""
_NUDGE = 0.03
"""Seconds that must lie between two sendings, however good the reason."""


Answer = tuple[stun.Message, Address, float]
"""A message, where it came from, and the round trip in seconds."""


class Transaction:
    """Sends `request` from `local` to `target` until an authentic answer comes or `limit` seconds are over.

    Calls `on_end` exactly once, with the answer, its source and the round trip in seconds, or with None; never after
    `cancel`. A round trip counts from the last sending before the answer, so it is rather too short than too long.
    """

    __slots__ = (
        "_data",
        "_end",
        "_id",
        "_key",
        "_local",
        "_loop",
        "_on_end",
        "_pause",
        "_port",
        "_sent_at",
        "_target",
        "_timer",
    )

    def __init__(
        self,
        port: StunPort,
        local: str,
        target: Address,
        request: stun.Message,
        on_end: Callable[[Answer | None], None],
        *,
        key: bytes | None = None,
        limit: float = 30.0,
    ) -> None:
        self._port = port
        self._local = local
        self._target = target
        self._id = request.transaction_id
        self._data = bytes(request)
        self._key = key
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + limit
        self._pause = max(_FIRST_PAUSE, len(port.demux.transactions) * _PER_REQUEST)
        self._timer: asyncio.TimerHandle | None = None
        self._sent_at = 0.0
        port.demux.transactions[self._id] = self._answered
        self._send()

    def cancel(self) -> None:
        """Forget the request. Idempotent."""
        self._port.demux.transactions.pop(self._id, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def nudge(self) -> None:
        """Send again now: something says that the way is open (RFC 8445 section 7.3.1.4)."""
        if self._timer is not None and self._loop.time() - self._sent_at >= _NUDGE:
            self._timer.cancel()
            self._pause = _FIRST_PAUSE
            self._send()

    def _send(self) -> None:
        self._sent_at = self._loop.time()
        if self._sent_at >= self._end - _LAST:
            self.cancel()
            self._on_end(None)
            return
        self._timer = self._loop.call_at(min(self._sent_at + self._pause, self._end), self._send)
        self._pause = min(self._pause * _FACTOR, max(_LONGEST_PAUSE, self._pause))
        self._port.send(self._data, self._local, self._target)

    def _answered(self, data: bytes, source: Address) -> None:
        message = parse_stun(data)
        # What is not authentic is dropped, and the request goes on (RFC 8489 section 9.1.4).
        if message is None or (self._key is not None and not message.check_message_integrity(self._key)):
            self._port.counters.dropped += 1
            return
        self.cancel()
        self._on_end((message, source, self._loop.time() - self._sent_at))
