"""The log of the command line: one line a message on stderr, and JSON lines on stdout, neither of which can block us.

A terminal that is stopped and a pipe that nobody reads hold a writer up for as long as they like. The engine must not
wait for them: a thread writes, and lines beyond a bound are dropped, oldest first, with a count.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from rxnet.cli.usage import usage

if TYPE_CHECKING:
    from loguru import Record

LEVELS: Final = {
    "error": "ERROR",
    "warning": "WARNING",
    "warn": "WARNING",
    "info": "INFO",
    "debug": "DEBUG",
    "trace": "TRACE",
}
_PRIORITIES: Final = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "SUCCESS": 6, "INFO": 6, "DEBUG": 7, "TRACE": 7}
"""Of syslog, as systemd reads them from the start of a line (sd-daemon(3))."""
_MOST: Final = 10_000


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own; `write` never waits."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        self.broken = False
        """Nobody reads any more."""
        self._thread = threading.Thread(target=self._run, name=f"rxnet {name}", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue a line, which ends with a newline."""
        with self._changed:
            if len(self._lines) >= _MOST:
                self._lines.popleft()
                self._dropped += 1
            self._lines.append(line)
            self._changed.notify()

    def close(self, limit: float = 1.0) -> int:
        """Write what is queued, within a limit of seconds; returns how many lines were dropped so far."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(limit)
        return self._dropped

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing)
                if not self._lines:
                    return
                text = "".join(self._lines)
                self._lines.clear()
            try:
                _write_all(self._descriptor, text.encode("utf-8", "backslashreplace"))
            except OSError:
                self.broken = True
                return


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view[:65536]) :]


def parse_level(text: str | None) -> str:
    """The level for `--log-level`.

    :raises Failure: if there is none of that name.
    """
    if text is None:
        return "INFO"
    level = LEVELS.get(text.lower())
    if level is None:
        raise usage(f"--log-level {text!r} is none of error, warning, info, debug, trace")
    return level


def open_log(level: str, environment: Mapping[str, str] = os.environ) -> LineWriter:
    """Send everything that is logged to stderr, one line a message."""
    from rxnet.log import logger

    writer = LineWriter(2, "log")
    journal = is_journal(2, environment)
    colours = not journal and has_colours(environment)
    logger.remove()
    logger.enable("rxnet")
    form = _journal_form if journal else _colour_form if colours else _plain_form
    # Without diagnose: it would print the values of variables, keys among them.
    logger.add(writer.write, level=level, format=form, colorize=colours, backtrace=False, diagnose=False)
    return writer


def silence_log() -> None:
    """Send nothing that the library logs anywhere: a command that prints its result needs no log."""
    from rxnet.log import logger

    logger.remove()


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether a descriptor leads to the systemd journal (systemd.exec(5), JOURNAL_STREAM)."""
    named = environment.get("JOURNAL_STREAM", "")
    with contextlib.suppress(OSError):
        found = os.fstat(descriptor)
        return stat.S_ISSOCK(found.st_mode) and named == f"{found.st_dev}:{found.st_ino}"
    return False


def has_colours(environment: Mapping[str, str]) -> bool:
    """Whether the log may be coloured (no-color.org)."""
    return sys.stderr.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def _escape(text: str) -> str:
    """One line: control characters, newlines among them, become blanks."""
    return "".join(c if c.isprintable() else " " for c in text)


def _message(record: Record) -> str:
    """The message; of an exception only its kind and text, a traceback only where it was asked for (level debug)."""
    record["extra"]["line"] = _escape(record["message"])
    error: Any = record["exception"]
    if error is not None and error.type is not None:
        record["extra"]["line"] += _escape(f": {error.type.__name__}: {error.value}")
    return "{extra[line]}\n"


def _plain_form(record: Record) -> str:
    return "{time:YYYY-MM-DD HH:mm:ss.SSS} {level: <7} " + _message(record)


def _colour_form(record: Record) -> str:
    return "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> " + _message(record)


def _journal_form(record: Record) -> str:
    # The backslash keeps loguru from taking <4> for the name of a colour.
    return f"\\<{_PRIORITIES.get(record['level'].name, 6)}>" + _message(record)
