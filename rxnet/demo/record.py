"""What a demo has made, on disk, so that whoever comes after a killed one can remove it.

Each run has a directory `/run/rxnet-demo/PID` (0700) with its record, its logs and its hosts' files. A run is over when
no process has its id and start time any more; what it made is removed then, unless it was told to keep it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rxnet.errors import DeviceError
from rxnet.files import problem

HOME: Final = Path("/run/rxnet-demo")
_RECORD: Final = "record.json"
_GONE_LIMIT: Final = 3.0


@dataclass(frozen=True, slots=True)
class Record:
    """One run. `namespaces` are those it makes, written down before it makes them."""

    pid: int
    started: int
    """Clock ticks from boot to the start of the process (proc(5), starttime)."""
    namespaces: tuple[str, ...]
    kept: bool = False

    @property
    def alive(self) -> bool:
        """Whether the process that made it still runs."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none."""
    try:
        # The command's name may hold blanks and parentheses: count from its end.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def open_run(namespaces: Iterable[str]) -> Path:
    """Make the directory of this process's run and write the record.

    :raises DeviceError: if it cannot be made.
    """
    pid = os.getpid()
    directory = HOME / str(pid)
    try:
        HOME.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700)
        write(directory, Record(pid, start_time(pid) or 0, tuple(namespaces)))
    except OSError as error:
        raise DeviceError(f"the demo cannot use {directory}: {problem(error)}") from None
    return directory


def write(directory: Path, record: Record) -> None:
    """Write the record, replacing an older one at once."""
    new = directory / f".{_RECORD}"
    new.write_text(json.dumps(asdict(record)))
    new.replace(directory / _RECORD)


def keep(directory: Path) -> None:
    """Mark the run as one that shall outlive its process."""
    found = read(directory)
    if found is not None:
        write(directory, Record(found.pid, found.started, found.namespaces, kept=True))


def read(directory: Path) -> Record | None:
    """The record of a run; None if there is none that makes sense."""
    try:
        found = json.loads((directory / _RECORD).read_text())
        names = tuple(str(name) for name in found["namespaces"])
        return Record(int(found["pid"]), int(found["started"]), names, bool(found["kept"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def runs() -> Iterator[tuple[Path, Record | None]]:
    """All runs that left a directory."""
    with contextlib.suppress(FileNotFoundError):
        for directory in sorted(HOME.iterdir()):
            if directory.name.isdigit():
                yield directory, read(directory)


def remove_dead() -> list[int]:
    """Remove what killed demos left; returns their process ids. Kept ones and live ones stay."""
    removed = []
    for directory, record in runs():
        if record is not None and not record.alive and not record.kept:
            remove(directory, record.namespaces)
            removed.append(record.pid)
        elif record is None and start_time(int(directory.name)) is None:
            shutil.rmtree(directory, ignore_errors=True)  # killed before it wrote anything, so before it made anything
    return removed


def remove_kept() -> list[int]:
    """Remove all runs whose process is over, the kept ones too."""
    removed = []
    for directory, record in runs():
        if record is not None and not record.alive:
            remove(directory, record.namespaces)
            removed.append(record.pid)
    return removed + remove_dead()


def remove(directory: Path, namespaces: Iterable[str]) -> list[str]:
    """End every process in the namespaces, delete them and the directory; returns what could not be removed."""
    left = [name for name in namespaces if not _remove_namespace(name)]
    if not left:
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            HOME.rmdir()  # the last one puts out the light
    return left


def _remove_namespace(name: str) -> bool:
    if not (Path("/run/netns") / name).exists():
        return True
    deadline = time.monotonic() + _GONE_LIMIT
    while pids := processes_in(name):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=10)
    return not (Path("/run/netns") / name).exists()


def processes_in(namespace: str) -> list[int]:
    """The processes that live in a network namespace."""
    done = subprocess.run(["ip", "netns", "pids", namespace], check=False, capture_output=True, text=True, timeout=10)
    return [int(word) for word in done.stdout.split()]
