"""A child process whose end is an event: no thread waits for it, and its output goes to the debug log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from rxnet.log import logger

_LINE = 300
"""Characters of a line of the child's that are kept."""


class Child:
    """Runs a program in a session of its own (so that Ctrl-C on the terminal reaches us and not it).

    :raises OSError: the program cannot be started.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], title: str) -> None:
        self._title = title
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        """Done with the return code (negative: the signal) as soon as the process has ended."""
        self.last_words: deque[str] = deque(maxlen=5)
        """The last lines that the program wrote."""
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.started = start_time(self.pid)
        """In clock ticks since boot; with the pid it names this process and no later one."""
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._rest = b""
        self._loop.add_reader(self._output.fileno(), self._read)
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def running(self) -> bool:
        """False once the process has ended."""
        return not self.ended.done()

    def _read(self) -> None:
        try:
            data = os.read(self._output.fileno(), 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._output.fileno())
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_LINE:]
        for line in lines:
            text = line.decode(errors="replace").strip()[:_LINE]
            # wireguard-go praises the kernel's WireGuard in a box of nine lines.
            if text and text[0] not in "┌│└":
                self.last_words.append(text)
                logger.debug("{}: {}", self._title, text)

    def _reap(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._read()
        self._loop.remove_reader(self._output.fileno())
        self._output.close()
        self.ended.set_result(code)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is still somebody to get it."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, patience: float = 2.0) -> None:
        """End the process: SIGTERM, then SIGKILL after `patience` seconds or when we are cancelled meanwhile."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait((self.ended,), timeout=patience)
        finally:
            self.signal(signal.SIGKILL)
        if self.running:
            await asyncio.wait((self.ended,), timeout=patience)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if it is gone (proc(5), /proc/pid/stat, field 22)."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
