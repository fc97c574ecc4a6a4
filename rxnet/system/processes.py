"""Processes that an earlier life of ours left behind: recognise them for certain, then end them."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from rxnet.errors import RxnetError

_PATIENCE = 2.0
"""Seconds after SIGTERM and after SIGKILL."""


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0: there is none (proc(5), /proc/pid/stat, field 22)."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def find_process(arguments: list[str], namespace: str, since: float, within: float = 60.0) -> int:
    """The process with these arguments and network namespace that started in a span of time; 0: there is none.

    :param since: seconds since boot; a process that started earlier, or later than `within` seconds after it, is
        somebody else's.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    for pid in _processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
            if [word.decode(errors="replace") for word in words] != arguments:
                continue
            here = os.readlink(f"/proc/{pid}/ns/net") == namespace
        except OSError:
            continue
        if here and since - 1 / ticks <= start_time(pid) / ticks <= since + within:
            return pid
    return 0


def namespace_exists(namespace: str) -> bool:
    """Whether a process is in this network namespace, or it is kept by a name (ip-netns(8)), as far as we can see."""
    for pid in _processes():
        try:
            if os.readlink(f"/proc/{pid}/ns/net") == namespace:
                return True
        except OSError:
            continue
    try:
        with os.scandir("/run/netns") as names:
            return any(f"net:[{name.stat().st_ino}]" == namespace for name in names)
    except OSError:
        return False


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


async def end_process(pid: int, started: int) -> bool:
    """End the process `pid` if it is the one that started at `started` (clock ticks); False: it is gone already.

    :raises RxnetError: it does not end.
    :raises PermissionError: it is another user's.
    """
    try:
        handle = os.pidfd_open(pid)
    except OverflowError:
        return False
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):  # EINVAL: not a number of a process, or that of a thread
            return False
        raise
    try:
        # The handle is of whoever has the number now, and stays his: the comparison holds for the signals below.
        if started <= 0 or start_time(pid) != started:
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                signal.pidfd_send_signal(handle, number)
            except ProcessLookupError:
                return True
            if await _ended(handle):
                return True
        raise RxnetError(f"process {pid} does not end")
    finally:
        os.close(handle)


async def _ended(handle: int) -> bool:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(_PATIENCE):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
    return True
