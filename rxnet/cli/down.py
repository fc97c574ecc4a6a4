"""`rxnet down`: stop the running rxnet and wait until the host is as it was."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator
from typing import Final

from rxnet.cli.call import connected, socket_path
from rxnet.cli.failure import Exit, Failure
from rxnet.cli.usage import Command

_DOWN = "/daemon.DaemonService/Down"
DOWN_LIMIT: Final = 20.0
"""Seconds for the answer, which comes when the interface is gone."""
END_LIMIT: Final = 10.0
"""Seconds for the process to end after it."""


def run(command: Command) -> int:
    """Stop it; see docs/cli.md."""
    with connected(socket_path(command)) as daemon, watched(daemon.process) as process:
        from rxnet.wire import daemon_pb2 as wire

        daemon.call(_DOWN, wire.DownRequest(), wire.DownResponse, DOWN_LIMIT)
        if not ended(process, END_LIMIT):
            raise Failure(
                Exit.UNFINISHED,
                f"rxnet (process {daemon.process}) is disconnected but has not ended in {END_LIMIT:g} s",
            )
    print("Disconnected")
    return Exit.OK


@contextlib.contextmanager
def watched(process: int) -> Iterator[int | None]:
    """Hold on to a process, so that its number cannot come to mean another one; None if we cannot see it."""
    descriptor = None
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(process) if process > 0 else None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def ended(descriptor: int | None, limit: float) -> bool:
    """Wait until the process has ended; True also if there is none that we can see."""
    if descriptor is None:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(limit * 1000))
