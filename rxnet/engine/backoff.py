"""How long to wait before the next attempt at a server that was lost: exponential, with full jitter.

Full jitter (anything between nothing and the present interval) keeps a thousand clients of one restarted server from
coming back as one wave. It is for servers that are lost; our own link coming back starts the first attempt at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rxnet.engine.chance import fraction


@dataclass(frozen=True, slots=True)
class Backoff:
    """Intervals grow from `base` by `factor` up to `cap`, in seconds; the wait is uniform in [0, interval)."""

    base: float
    factor: float
    cap: float

    def delay(self, attempt: int, bits: int) -> float:
        """Seconds before the attempt after `attempt` failures (1, 2 ...)."""
        exponent = min(attempt - 1, 64)  # the cap is reached long before; a float must not overflow after years
        return min(self.cap, self.base * self.factor**exponent) * fraction(bits)


SERVER: Final = Backoff(base=1.0, factor=1.7, cap=10.0)
"""For signal and management. NetBird's Go client: 0.8 s, x1.7, cap 10 s, up to twice the interval."""

DEVICE: Final = Backoff(base=1.0, factor=2.0, cap=60.0)
"""For a WireGuard interface that died under us."""

SLOW: Final = (120.0, 240.0)
"""Seconds, from and to, when a server bans or limits us (management document, 4.8)."""

HEALTHY_AFTER: Final = 10.0
"""Seconds a connection must have lasted for its loss to count as the first failure again."""
