"""When to push a map: pure arithmetic over times given from outside."""

from __future__ import annotations

_QUIET = 1.0
_LONGEST = 5.0


class Debounce:
    """The first change is pushed at once, those after it when a second passed without another (management, 4.2).

    Changes that never pause do not wait for ever: five seconds after the first of them a push is due anyway.
    """

    __slots__ = ("_changed", "_pending_since", "_pushed")

    def __init__(self) -> None:
        self._pushed: float | None = None
        self._pending_since: float | None = None
        self._changed = 0.0

    def changed(self, now: float) -> None:
        """Something changed at `now` (seconds of a monotonic clock)."""
        if self._pending_since is None:
            self._pending_since = now
        self._changed = now

    def pushed(self, now: float) -> None:
        """All changes so far went out at `now`."""
        self._pending_since = None
        self._pushed = now

    def due(self) -> float | None:
        """When the next push should be, possibly in the past; None if nothing changed."""
        since = self._pending_since
        if since is None:
            return None
        if self._pushed is None or since - self._pushed >= _QUIET:
            return since
        return min(max(self._changed, self._pushed) + _QUIET, since + _LONGEST)
