"""Posture checks: what management wants to know about files and processes of this host (management document, 3.4)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence

from rxnet.management.codec import FileState


def running_programs() -> frozenset[str]:
    """Paths of the executables of all processes that we may look at."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.add(os.readlink(f"/proc/{name}/exe"))
            except OSError:
                continue  # gone, a kernel thread, or none of our business
    return frozenset(found)


def look_at(path: str, running: frozenset[str]) -> FileState:
    """Answer about one path. Paths of other operating systems simply do not exist here."""
    try:
        os.stat(path)
        exists = True
    except (OSError, ValueError):  # ValueError: the path contains NUL
        exists = False
    return FileState(path, exists, path in running)


async def look_at_all(
    paths: Sequence[str],
    limit: float,
    *,
    look: Callable[[str, frozenset[str]], FileState] = look_at,
    programs: Callable[[], frozenset[str]] = running_programs,
) -> tuple[FileState, ...]:
    """Answer about all paths, in order, within `limit` seconds; what was not found out by then counts as absent.

    A path may lie on a network file system that hangs. Such a thread cannot be stopped: it is a daemon, so that it
    does not hold up the end of the process either.
    """
    if not paths:
        return ()
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    found: list[FileState] = []

    def work() -> None:
        try:
            running = programs()
            for path in paths:
                found.append(look(path, running))  # noqa: PERF401  # others read it while it grows
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=work, name="rxnet-posture", daemon=True).start()
    try:
        async with asyncio.timeout(limit):
            await done.wait()
    except TimeoutError:
        pass
    known = tuple(found)
    return known + tuple(FileState(path, False, False) for path in paths[len(known) :])
