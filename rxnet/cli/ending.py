"""Ending `up`: gracefully on the first signal, by force, but through the journal, on the second or when time is up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from rxnet.cli.failure import Exit

CLOSE_LIMIT: Final = 25.0
"""Seconds for a graceful end, after which force is used."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending:
    """The wish to stop. `requested` is set by the first signal, by `request`, or by a call to the daemon API.

    :param state_directory: whose journal is worked off when force is needed.
    :param before_force: called then, to get out what is still to be said.
    """

    def __init__(self, state_directory: Path, before_force: Callable[[str], None]) -> None:
        self.requested = asyncio.Event()
        self.reason = ""
        self._state_directory = state_directory
        self._before_force = before_force
        self._loop = asyncio.get_running_loop()

    def install(self) -> None:
        """Handle the signals, from the event loop for the time being."""
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self.request, f"{number.name} received")

    def request(self, reason: str) -> None:
        """Stop gracefully; from now on a signal, or the lapse of `CLOSE_LIMIT`, ends it by force."""
        if self.requested.is_set():
            return
        self.reason = reason
        self.requested.set()
        # No longer through the loop: it may be what hangs.
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)
            signal.signal(number, self._on_second)
        signal.signal(signal.SIGALRM, self._on_lapse)
        signal.setitimer(signal.ITIMER_REAL, CLOSE_LIMIT)

    def finish(self) -> None:
        """The end is reached: nothing is left to force, and no signal shall spoil the exit code."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def _on_second(self, number: int, _frame: FrameType | None) -> None:
        self._force(f"{signal.Signals(number).name} received again: ending at once", Exit.KILLED)

    def _on_lapse(self, _number: int, _frame: FrameType | None) -> None:
        self._force(f"disconnecting took longer than {CLOSE_LIMIT:g} s: ending by force", Exit.UNFINISHED)

    def _force(self, text: str, code: Exit) -> NoReturn:
        """Become `rxnet cleanup`: with this process go its threads, sockets and locks, and the journal is free."""
        self._before_force(text)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        program = "import sys; from rxnet.cli.cleanup import forced; sys.exit(forced(sys.argv[1], int(sys.argv[2])))"
        arguments = [sys.executable, "-P", "-c", program, str(self._state_directory), str(int(code))]
        os.execve(sys.executable, arguments, environment)
