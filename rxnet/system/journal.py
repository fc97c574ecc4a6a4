"""The write-ahead journal of changes to the host: what must be taken back when nobody is left to do it.

    record(...)  ──► on the disk ──► the change is made ──► ... ──► the change is taken back ──► done(id)
                                          │ crash
                                          ▼
                                  next start, `rxnet cleanup`: undo_all()

An entry says how to recognise what was made (a process by its start time, an interface by its index), because between
crash and clean-up the same name or number may have come to belong to somebody else. Whoever makes a new kind of change
registers how to undo it; undoing is idempotent, for a crash may come between a change and its `done`.

The file has one JSON object a line: `{"id", "kind", "fields", "boot", "at"}`, `{"update", "fields"}`, `{"done"}`. It
and the lock beside it are private (0600, in a directory where nobody else may write). No secrets in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from rxnet.errors import ConfigError
from rxnet.files import lock_directory, open_private, problem, write_private
from rxnet.log import logger

FILE: Final = "changes.jsonl"

_UNDO_LIMIT: Final = 10.0
"""Seconds for one entry."""
_COMPACT: Final = 1 << 16
"""Bytes; a longer file is rewritten with the pending entries alone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A change that was recorded and not taken back."""

    id: int
    kind: str
    fields: Mapping[str, Any]
    """How to recognise and undo it: texts, numbers, truth values."""
    boot: str = field(default_factory=lambda: boot_id())
    """Of the run of the machine in which it was made."""
    at: float = field(default_factory=lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
    """Seconds since that boot, suspend included."""

    @property
    def same_boot(self) -> bool:
        """False: the machine was restarted since; processes, interfaces, routes and rules of then are gone."""
        return self.boot == boot_id()

    def __str__(self) -> str:
        return " ".join([self.kind, *(f"{name}={value}" for name, value in self.fields.items())])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry."""

    entry: Entry | None
    """None: a line of the file that cannot be read."""
    undone: bool
    """False: it stays in the journal."""
    text: str
    """For people."""


Undo = Callable[[Entry], Awaitable[str]]
"""Undoes a change and says in a few words what it did. Raises if the change is still there."""


class Journal:
    """The journal of one state directory. Holds its lock from `open` to `close`; a context manager does both.

    :param undoers: how to undo each kind; `undo.UNDOERS` has those that rxnet makes.
    """

    def __init__(self, directory: Path, undoers: Mapping[str, Undo]) -> None:
        self.path = directory / FILE
        self._directory = directory
        self._undoers = dict(undoers)
        self._pending: dict[int, Entry] = {}
        self._unreadable: list[str] = []
        self._next = 1
        self._lock = contextlib.ExitStack()
        self._file = -1

    def __enter__(self) -> Journal:
        if self._file < 0:
            self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Take the lock and read what an earlier process left.

        :raises DirectoryInUse: a live process holds the lock.
        :raises ConfigError: the directory, or a file in it, cannot be used.
        """
        if self._file >= 0:
            raise RuntimeError("the journal is open already")
        self._lock.enter_context(lock_directory(self._directory, "rxnet"))
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back; the file stays. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._lock.close()

    def register(self, kind: str, undo: Undo) -> None:
        """Add a kind of change."""
        self._undoers[kind] = undo

    # -- around a change -------------------------------------------------------------------------------------------

    def record(self, *, kind: str, **fields: Any) -> int:
        """Write down a change about to be made; returns its id. On the disk when this returns (blocks some ms).

        :raises ConfigError: it cannot be written; then the change must not be made.
        """
        entry = Entry(self._next, kind, dict(fields))
        self._append(_written(entry), durable=True)
        self._pending[entry.id] = entry
        self._next += 1
        return entry.id

    def update(self, id: int, **fields: Any) -> None:
        """Add what became known only while the change was made, such as the number of a process.

        :raises ConfigError: it cannot be written.
        """
        entry = self._pending[id]
        self._append({"update": id, "fields": fields}, durable=True)
        self._pending[id] = replace(entry, fields={**entry.fields, **fields})

    def done(self, id: int) -> None:
        """The change has been taken back. A failure to write this down is no failure: undoing twice does no harm."""
        if self._pending.pop(id, None) is None:
            return
        with contextlib.suppress(ConfigError):
            self._append({"done": id}, durable=False)
        if not self._pending or os.fstat(self._file).st_size > _COMPACT:
            self._compact()

    def pending(self) -> tuple[Entry, ...]:
        """What was recorded and not taken back, oldest first."""
        return tuple(self._pending.values())

    # -- after a crash ---------------------------------------------------------------------------------------------

    async def undo_all(self) -> tuple[Outcome, ...]:
        """Undo what is pending, newest first. One that fails, or is of an unknown kind, stays and stops no other."""
        outcomes = [Outcome(None, True, f"unreadable line dropped: {line}") for line in self._unreadable]
        self._unreadable.clear()
        for entry in reversed(self.pending()):
            outcomes.append(await self._undo(entry))
            logger.debug("{}: {}", entry, outcomes[-1].text)
        self._compact()
        return tuple(outcomes)

    async def _undo(self, entry: Entry) -> Outcome:
        undo = self._undoers.get(entry.kind)
        if undo is None:
            return Outcome(entry, False, f"this version does not know changes of the kind {entry.kind!r}: kept")
        try:
            async with asyncio.timeout(_UNDO_LIMIT):
                text = await undo(entry)
        except TimeoutError:
            return Outcome(entry, False, f"not undone within {_UNDO_LIMIT:g} s: kept")
        except Exception as error:  # whatever one kind does wrong, the others are still to be undone
            return Outcome(entry, False, f"not undone ({error}): kept")
        self.done(entry.id)
        return Outcome(entry, True, text)

    # -- the file --------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        self._file = open_private(self.path, os.O_APPEND)
        try:
            content = self._content()
        except OSError as error:
            raise ConfigError(f"cannot use {self.path}: {problem(error)}") from None
        # A last line without its end was being written when the power went: the change was not made.
        lines, _, _torn = content.rpartition(b"\n")
        self._pending, self._unreadable = _read(lines.split(b"\n") if lines else [])
        self._next = max(self._pending, default=0) + 1
        if content:
            self._compact()

    def _content(self) -> bytes:
        with open(self._file, "rb", closefd=False) as file:
            return file.read()

    def _append(self, line: Mapping[str, Any], *, durable: bool) -> None:
        if self._file < 0:
            raise RuntimeError("the journal is not open")
        content = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, content) != len(content):
                raise OSError("no space left on device")
            if durable:
                os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line would spoil the next one
                os.ftruncate(self._file, size)
            raise ConfigError(
                f"cannot write {self.path}: {problem(error)}; no change to the host is made without a note of it"
            ) from None

    def _compact(self) -> None:
        """Rewrite the file with what is pending. If that fails the old file stays, which says the same."""
        if not self._pending:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
            return
        content = b"".join(json.dumps(_written(entry)).encode() + b"\n" for entry in self.pending())
        try:
            write_private(self.path, content)
            old, self._file = self._file, open_private(self.path, os.O_APPEND)
            os.close(old)
        except (ConfigError, OSError) as error:
            logger.debug("the journal stays as long as it is: {}", error)


def _written(entry: Entry) -> dict[str, Any]:
    return {"id": entry.id, "kind": entry.kind, "fields": entry.fields, "boot": entry.boot, "at": entry.at}


def _read(lines: list[bytes]) -> tuple[dict[int, Entry], list[str]]:
    """The pending entries, and the lines that say nothing known (cut to 80 characters)."""
    pending: dict[int, Entry] = {}
    unreadable = []
    for line in lines:
        try:
            _apply(json.loads(line), pending)
        except (ValueError, KeyError, TypeError, RecursionError):
            unreadable.append(repr(line.decode(errors="replace"))[:80])
    return pending, unreadable


def _apply(line: Any, pending: dict[int, Entry]) -> None:
    if "done" in line:
        pending.pop(line["done"], None)
    elif "update" in line:
        entry = pending.get(line["update"])
        if entry is not None:
            pending[entry.id] = replace(entry, fields={**entry.fields, **line["fields"]})
    else:
        entry = Entry(int(line["id"]), str(line["kind"]), dict(line["fields"]), str(line["boot"]), float(line["at"]))
        pending[entry.id] = entry


def boot_id() -> str:
    """Names this run of the machine (random(4), /proc/sys/kernel/random/boot_id)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
