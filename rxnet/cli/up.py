"""`rxnet up --foreground`: connect this host and stay connected until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rxnet.cli.call import socket_path
from rxnet.cli.failure import Failure, exit_code
from rxnet.cli.logs import LineWriter, open_log, parse_level
from rxnet.cli.main import complain
from rxnet.cli.neighbours import demand_interface
from rxnet.cli.paths import Paths
from rxnet.cli.prepare import Prepared, demand_free, paths_of, prepare, take_setup_key
from rxnet.cli.usage import Command, usage
from rxnet.daemon.control import clear_stale
from rxnet.errors import RxnetError

_LAST: Final = 1.0
"""Seconds for each of the things that are still to be done at the end."""


def run(command: Command) -> int:
    """Connect; see docs/cli.md."""
    key = take_setup_key(command, os.environ)  # first: no child process shall inherit it
    level = parse_level(command.text("--log-level"))
    if not command.flag("--foreground"):
        raise usage(
            "rxnet runs in the background under a service manager only: have that run `rxnet up --foreground`, "
            "or add --foreground here"
        )
    paths, socket = paths_of(command, os.environ), socket_path(command)
    demand_free(paths)
    clear_stale(socket)
    prepared = prepare(command, paths, key, os.environ)
    with _writers(level, with_events=command.flag("--json")) as (log, out):
        try:
            code = _run(prepared, paths, socket, log, out, debug=level in ("DEBUG", "TRACE"))
        except (Failure, RxnetError) as error:
            log.close(_LAST)
            complain(str(error))
            code = exit_code(error)
    _leave_hanging_threads(code)
    return code


@contextlib.contextmanager
def _writers(level: str, *, with_events: bool) -> Iterator[tuple[LineWriter, LineWriter | None]]:
    log = open_log(level)
    out = LineWriter(1, "events") if with_events else None
    try:
        yield log, out
    finally:
        for writer in (out, log):
            if writer is not None:
                writer.close(_LAST)


def _run(
    prepared: Prepared, paths: Paths, socket: Path, log: LineWriter, out: LineWriter | None, *, debug: bool
) -> int:
    from rxnet.cli.cleanup import clean_before_start
    from rxnet.cli.foreground import Foreground

    clean_before_start(paths.state)
    demand_interface(prepared.config.interface)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(Foreground(prepared, socket, log, out, debug=debug).run())
    finally:
        _close(loop)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Close the loop without waiting for what cannot be cancelled, such as a name lookup in a thread."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(Exception):
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_LAST))
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    asyncio.set_event_loop(None)


def _leave_hanging_threads(code: int) -> None:
    """Python waits at exit for every thread; one that hangs in a name lookup would hold us up for its time-out."""
    deadline = time.monotonic() + _LAST
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                os._exit(code)
