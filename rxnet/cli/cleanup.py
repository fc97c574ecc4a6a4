"""`rxnet cleanup`: take back what a killed run left on this host, as its journal says."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from rxnet.cli.failure import Exit
from rxnet.cli.logs import silence_log
from rxnet.cli.main import complain
from rxnet.cli.prepare import demand_free, paths_of
from rxnet.cli.usage import Command
from rxnet.system.journal import FILE, Outcome


def run(command: Command) -> int:
    """Clean up; see docs/cli.md."""
    silence_log()
    paths = paths_of(command, os.environ)
    demand_free(paths)
    outcomes = clean(paths.state) if paths.state.exists() else ()
    for outcome in outcomes:
        if outcome.undone:
            print(_text(outcome))
        else:
            complain(_text(outcome))
    if not outcomes:
        print(f"nothing to clean up in {paths.state}")
    return Exit.OK if all(outcome.undone for outcome in outcomes) else Exit.UNFINISHED


def clean(state: Path) -> tuple[Outcome, ...]:
    """Undo everything that the journal of a state directory holds.

    :raises ConfigError: if the directory is in use or cannot be used.
    """
    from rxnet.system.undo import open_journal

    async def undo() -> tuple[Outcome, ...]:
        journal = open_journal(state)
        try:
            return await journal.undo_all()
        finally:
            journal.close()

    return asyncio.run(undo())


def clean_before_start(state: Path) -> None:
    """Take back what an earlier run left, before anything looks at the host; what resists is only told.

    :raises ConfigError: if the journal cannot be used.
    """
    try:
        if not (state / FILE).stat().st_size:
            return
    except OSError:
        return
    from rxnet.log import logger

    for outcome in clean(state):
        level = "INFO" if outcome.undone else "WARNING"
        logger.log(level, "left by an earlier run: {}", _text(outcome))


def forced(state: str, code: int) -> int:
    """The end of an `up` that could not end gracefully; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # impatience would only leave more behind
    silence_log()
    try:
        outcomes = clean(Path(state))
    except Exception as error:  # nobody is left to tell it to
        complain(f"could not clean up: {error}; run `rxnet cleanup`")
        return code
    for outcome in outcomes:
        if not outcome.undone:
            complain(f"{_text(outcome)}; run `rxnet cleanup`")
    return code


def _text(outcome: Outcome) -> str:
    return f"{outcome.entry}: {outcome.text}" if outcome.entry else outcome.text
